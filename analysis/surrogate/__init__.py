"""The open response surface: what runs measured, as one table, and accuracy with its error between what was run.

table     records of runs -> a row an epoch, each training once; the Parquet file
process   a Gaussian process of one metric at one epoch
surface   the processes of one setting: what accuracy is to be expected at a point, and what a trial there might give
fits      which settings have a surface, the processes' hyperparameters, and how well held-out cells are told
"""
