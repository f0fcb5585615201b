"""Data larger than memory, made ready before trials read them.

command     `sweep data`: prepare, check
prepare     how far it is, and what came of it, in words
"""
