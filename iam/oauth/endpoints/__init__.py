"""The protocol's endpoints: one file each, every one a function of request, state and now."""
