"""Which trials end before all their epochs are trained, and by which rule.

config      `stopping` of a sweep: the rule and its options
decisions   what a rule says of a run's records, read in order
strata      which trials are compared with each other
pruners     Optuna's pruners, a study for each stratum
race_config `race` of a sweep
race        points and their seeds: which points get no more of them
seed_race   the same by an e-process for each pair of points
fail_fast   whether the first trials fail alike
one_sided   how strongly seeds speak for a mean above 0
"""
