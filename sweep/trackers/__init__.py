"""Trackers: each a reader of a run's records, in a process of its own, that shows every trial as a run.

command     the command `sweep sync`
process     the process beside a launch
feed        what the records say and the tracker has not been sent yet, sent
updates     what is sent of one trial at a time, and how a tracker is made
tail        the lines that are new in a run's records
cursor      DIR/trackers/NAME.jsonl: what a tracker has been sent
tensorboard event files
mlflow      a server, or a file of SQLite
wandb       Weights & Biases
trackio     a database of this user's
"""
