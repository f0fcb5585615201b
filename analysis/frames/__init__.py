"""Records as tidy frames: a row a trial, an epoch, an evaluation, a measurement.

trials        records.jsonl -> a row a trial, a row an epoch
names         what columns, metrics and methods are called, and the units of columns
cells         trials that differ by their seed alone: groups, means, the best one by validation; one budget
evaluations   attacks on trained networks: a row each, with Wilson's interval
dynamics      what was measured along a run, and what the theory makes of it
published     the published study in the layout of a run
arithmetic    how trials were computed: engine, versions, processor
"""
