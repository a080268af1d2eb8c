"""The protocol as plain values and pure functions: no framework, no clock, no I/O."""
