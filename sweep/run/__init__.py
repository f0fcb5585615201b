"""A launch while it runs: who holds the directory, where trials run, what is shown.

launch      through Ray Tune or in this process
directory   a run directory: its files, its lock, whose it is
journal     the only writer of records
trial       one trial as a process runs it
cluster     a Ray to run on: a cluster, or a local one
ray_tune    trials through Ray Tune
ray_watch   whether Ray is still there
ray_guard   a small process that ends what a killed launch leaves of its local Ray
bell        tells its trials to write their checkpoints, when the launch stops
signals     Ctrl-C and SIGTERM, and a Ray that has gone
screen      the live table
"""
