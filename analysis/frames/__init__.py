"""Records as tidy frames."""
