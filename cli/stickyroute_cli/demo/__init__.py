"""The demo application: shows its pod, its session and what just happened."""
