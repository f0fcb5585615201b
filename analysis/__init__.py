"""What the records say: frames, fits with intervals, surfaces and figures. Never torch, ray or optuna.

frame         records.jsonl -> a row a trial, a row an epoch
cells         trials that differ by their seed alone: groups, means, the best one by validation
coefficients  Pearson, Spearman and Kendall of many weighted resamples at once
fits          correlations with bootstrap intervals; paired differences of two methods
lines         a least-squares line with its confidence band
surfaces      mean accuracy on a grid of two hyperparameters, diverged cells kept
numbers       the numbers behind each figure, frame -> frame
figures       those numbers as PNG and PDF, with the CSV beside them
tables        the same values as text
"""
