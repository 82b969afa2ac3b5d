"""Kubernetes objects to snapshot and statuses, pure."""
