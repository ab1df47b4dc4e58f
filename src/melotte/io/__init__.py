"""The users' files: one small reader a format."""
