"""What is read: in a terminal, in Markdown, in LaTeX; and numbers as files.

sheet         the one way to print a table: in the terminal, as Markdown, as LaTeX
trials        trials, epochs, correlations, one trial, the summary of a launch
comparison    two trials beside each other
curve         curves over epochs in plain characters
columns       whatever columns of a frame are asked for
claims        the ledger as text
literature    what others published that bears on the claims
methods       the comparison of methods
ratio         what `sweep ratio` prints
theory        what `sweep theory` prints
evaluations   attacks on trained networks
checks        whether a network's gradients can be trusted
importance    which hyperparameter matters
pareto        the front of several objectives
proxies       whether short runs order the points as full ones do
images        what each image says: worst classes, agreement of attacks; bits as files
settings      what trials were set to, as it is shown: presets, and the axes of every trial that reads them
export        CSV, JSON and parquet, each number given back exactly
"""
