"""A launch while it runs."""
