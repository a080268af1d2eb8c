"""The catalogue of rules, and the page that says which test holds which: `python -m tests.conformance`."""
