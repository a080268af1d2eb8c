"""Tests that speak HTTP to the running service and import nothing of it."""

from tests.live import service

__all__ = ["service"]
