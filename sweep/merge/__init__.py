"""Takes into one run directory what was run of its sweep elsewhere.

command   the command
run       what is taken, and how it comes there
"""
