"""The paper: its figures, tables and printed numbers."""
