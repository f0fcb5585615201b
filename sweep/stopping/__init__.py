"""Which trials end before all their epochs are trained, and by which rule.

config      `stopping` of a sweep: the rule and its options
decisions   what a rule says of a run's records, read in order
strata      which trials are compared with each other
pruners     Optuna's pruners, a study for each stratum
"""
