"""Learned keys with mode Store: what this process knows of them, and the fleet's Valkey behind it."""
