"""Here only because the real wheel has a command that lives in it."""
