"""What the token endpoint can exchange: one file a grant."""
