"""The four slots and the step."""
