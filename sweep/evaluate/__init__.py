"""Attacks on trained networks."""
