"""The demonstration: `make run`."""
