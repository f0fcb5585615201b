"""The commands that read runs.

rows      a row a trial, epoch, evaluation, check or image: results, images
trial     one trial, or two beside each other: show, compare
importance  which hyperparameter matters
proxy     whether short runs order the points as full ones do
report    one HTML page of a run
audit     what a run kept of its registration
answers   what a run says: methods, ratio, claims, theory, figures
filters   which rows, in which order, and which of their columns
options   arguments and options that several of them have
page      those that say for what pictures are drawn
status    how far a run is
serve     a page that follows a run
dashboard Optuna's dashboard of a run, on
optuna_storage  a study of Optuna's made of its records
follow    both are made anew as the records grow
localhost and shown on this machine alone, to who has a token
output    where their answers go: the terminal, or a file
"""
