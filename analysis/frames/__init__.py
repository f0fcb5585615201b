"""Records as tidy frames: a row a trial, an epoch, an evaluation, a measurement.

log           a run's records as they are read: of a long one the epochs as columns, the other records as they stand
columns       the epochs' lines as columns, and how a log is parsed into them
merged        the logs of several files as one
history       what has become of each trial, folded once for the frames and for a launch's progress
identity      a trial's method, its value on every axis, and which trials are one
trials        records.jsonl -> a row a trial, a row an epoch
chain         links among a registered run's records, each of which holds all that stood before it
companion     what is kept beside a long log, so that only what is new is parsed
names         what columns, metrics and methods are called, and the units of columns
recipes       what recipes add to a method's name, such as its activation or augmentation
cells         trials that differ by their seed alone: groups, means, the best one by validation
conditions    axes across which accuracies are not comparable
budgets       which completed trials are pooled: of one number of epochs, measured alike
failed        why trials failed, in a line
pruned        trials that early stopping ended, and what is biased without them
strata        which cells are compared with each other
replayed      runs that were drawn from a response surface, which no reader takes for measured ones
notes         what users wrote of trials
pareto        several objectives: the cells that no other one beats in all of them
evaluations   attacks on trained networks: a row each, with Wilson's interval
images        of the same, and of the last epoch of training, which images stay right
bits          the same as a column of the trials: beside an accuracy the bits whose mean it is
checks        whether a trained network's gradients can be trusted: a row a check
overfitting   which trials only the weak attack was learnt by, that they were trained on
dynamics      what was measured along a run, and what the theory makes of it
published     the published study in the layout of a run
arithmetic    how trials were computed: engine, versions, processor
"""
