"""The commands that read runs.

rows      a row a trial, epoch, evaluation, check or image: results, images, show
importance  which hyperparameter matters
proxy     whether short runs order the points as full ones do
report    one HTML page of a run
answers   what a run says: methods, ratio, claims, theory, figures
options   arguments and options that several of them have
output    where their answers go: the terminal, or a file
"""
