"""What the records say: frames, fits with intervals, surfaces and figures. Never torch, ray or optuna.

slots         a method: the choice in the four slots of the training step, and its name
frame         records.jsonl -> a row a trial, a row an epoch
cells         trials that differ by their seed alone: groups, means, the best one by validation
coefficients  Pearson, Spearman and Kendall of many weighted resamples at once
fits          correlations with bootstrap intervals
differences   two methods at equal hyperparameters: paired differences and their test
blocks        methods x seeds: standard errors with the noise's variance pooled over methods
seeds         one metric of several methods by seed: means and differences with their intervals
methods       each method at its own best cell against a baseline; the effect of each slot
evaluations   attacks on trained networks: a row each, with Wilson's interval
lines         a least-squares line with its confidence band
surfaces      mean accuracy on a grid of two hyperparameters, diverged cells kept
plotted       the numbers behind each figure, frame -> frame
styles        how methods are told apart: colours, markers, panels
panels        one panel of each figure, numbers -> axes
dots          the dot plot of methods
figures       PNG and PDF with the CSV beside them
words         how columns are called in pictures and tables
method_tables the comparison of methods as text, CSV, JSON and Markdown
tables        the same values as text
published     the published study in the layout of a run
theory        closed forms and solves on a quadratic risk, tested against the recursions themselves
plans         what a figure is: its numbers, its drawing, what it needs
views         one trial, and epochs row by row, as text
"""
