"""The paper's own figures, tables and printed numbers, of any study or of two beside each other.

parts     what of a study the paper compares: one network, one batch size, PGD-AT and DEAT
figures   Figures 2, 4 and 5: numbers and drawing
tables    Tables 2, 3 and 4 worked out anew, and what goes beyond them
sheets    the same as Markdown and LaTeX
printed   what the paper prints that its own numbers do not give
"""
