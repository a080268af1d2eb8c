"""Two applications that delegate their sign-in. They import nothing of the service and share nothing with it."""
