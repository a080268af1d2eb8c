"""`make bench`: how fast the service is on this machine, next to what the machine itself can do. See docs/performance.md."""
