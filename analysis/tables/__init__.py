"""What is read in a terminal, in Markdown, in LaTeX."""
