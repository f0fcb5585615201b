"""Points and trials: which combinations of hyperparameters are run.

points          axes -> points: every combination, draws, a Sobol sequence
admission       which points `where` lets in
given           points that run first, by hand
inputs          what trials read that lies in files, named by content
trials          points and seeds -> trials; lists known beforehand
listed          the points of a combination of grid axes as far as they can be listed, and examples
optuna_search   which trial next, learnt from what came back
stratum         its points at one combination of the grid axes: given out, and still to end
passed_over     why trials of other runs tell it nothing
study           Optuna's study of a stratum: asked, told, rebuilt
samplers        Optuna's samplers by name, and what each can search
parameters      axes as Optuna's parameters
optuna_importance  how much each axis matters, by Optuna's evaluators
checks          what every trial would fail with, said before any is run
"""
