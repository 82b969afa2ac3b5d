"""The proxy under hours of a life in minutes: `make soak`, `make slow`."""
