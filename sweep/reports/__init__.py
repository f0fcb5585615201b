"""The commands that read runs.

rows      a row a trial, epoch, evaluation, check or image: results, images
trial     one trial, or two beside each other: show, compare
importance  which hyperparameter matters
proxy     whether short runs order the points as full ones do
answers   what a run says: methods, ratio, claims, theory, figures
filters   which rows, in which order, and which of their columns
options   arguments and options that several of them have
output    where their answers go: the terminal, or a file
"""
