"""The proxy under load for long: `make soak`."""
