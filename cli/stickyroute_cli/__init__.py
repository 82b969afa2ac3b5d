"""The stickyroute command."""
