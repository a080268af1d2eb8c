"""Putting the service somewhere: the demonstration here, production by the notes in this folder."""
