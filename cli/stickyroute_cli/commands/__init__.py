"""One module for each command; its function bears the module's name."""
