"""Which endpoint a request goes to, and why: pure decisions."""
