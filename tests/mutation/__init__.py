"""Take one rule out at a time, and see its test fail: `python -m tests.mutation`."""
