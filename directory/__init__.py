"""The directory: who is there, and is this password right. A leaf: it knows nothing of the service."""
