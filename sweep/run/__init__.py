"""A launch while it runs: who holds the directory, where trials run, what is shown.

launch      from a checked config to ended trials, whatever ends it
capacity    what this machine has for one, and the line that refuses it
ways        through Ray Tune, in one process beside this one, or in this one
contradictions options of it that do not go together
directory   a run directory: its files, its lock, whose it is
lock        how it is held: by one for itself, or by shares of a sweep together
soft_lock   the same where the storage has no flock
journal     the only writer of records
budget      which trials still fit into --budget-hours
replay      a launch on the open response surface, on which nothing is trained
trial       one trial as a process runs it
workers     the other workers of a trial, as its first one sees them
worker      what one of them does
worker_processes they are processes of this machine, for a serial launch
ray_workers they are Ray actors
packing     which trial next, with how much of a card
preemption  whether a trial was preempted, by Slurm's word or Ray's
seats       the places on the nodes, and which of them are free
cluster     a Ray to run on: a cluster, or a local one
nodes       what its nodes have, and whether trials can run on each
roster      nodes that come and go meanwhile
waiting     for nodes that are not there yet, also for those that an autoscaler brings
ray_packing `packing` on these nodes
placing     trials on these nodes and no others
ray_tune    trials through Ray Tune
ray_watch   whether Ray is still there
ray_guard   a small process that ends what a killed launch leaves of its local Ray
requests    what users ask of it while it runs: files in DIR/requests
steering    does it
outside     records that commands write while nobody holds the run
ray_steering the same, of trials through Ray
child       the process of a serial launch
bound       processes that end with the one that starts them
hung        how long an epoch may take, and what ends a process that hangs
bell        tells its trials to write their checkpoints, when the launch stops
signals     Ctrl-C, SIGTERM and their like, and a Ray that has gone
screen      the live table
tracking    the processes of its trackers
notices     the user's own command that tells somebody how it goes
"""
