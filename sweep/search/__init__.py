"""Points and trials: which combinations of hyperparameters are run.

points          axes -> points: every combination, draws, a Sobol sequence
admission       which points `where` lets in
given           points that run first, by hand
inputs          what trials read that lies in files, named by content
trials          points and seeds -> trials; lists known beforehand
optuna_search   which trial next, learnt from what came back
checks          what every trial would fail with, said before any is run
"""
