"""Clients that nobody here wrote, against the running service."""

from tests.live import service

__all__ = ["service"]
