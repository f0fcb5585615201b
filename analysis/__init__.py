"""What the records say: frames, fits with intervals, surfaces and figures. Never torch, ray or optuna.

frame         records.jsonl -> a row a trial, a row an epoch
cells         trials that differ by their seed alone: groups, means, the best one by validation
coefficients  Pearson, Spearman and Kendall of many weighted resamples at once
fits          correlations with bootstrap intervals
differences   two methods at equal hyperparameters: paired differences and their test
lines         a least-squares line with its confidence band
surfaces      mean accuracy on a grid of two hyperparameters, diverged cells kept
plotted       the numbers behind each figure, frame -> frame
panels        one panel of each figure, numbers -> axes
figures       PNG and PDF with the CSV beside them
words         how columns and methods are called in pictures and tables
tables        the same values as text
views         one trial, and epochs row by row, as text
"""
