"""Pictures: a figure a file."""
