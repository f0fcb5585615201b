"""From one config file to finished trials: the roof, with the command line.

config           YAML -> SweepConfig, checked
yaml_text        YAML text <-> plain values: no number that readers of YAML disagree on
space            axes -> points
search           which trial next: the interface, and lists known beforehand
optuna_search    which trial next, learnt from what came back
progress         what a run's records come to
plan             wanted trials, those already finished, what they will cost
preset_lines     what of its trials differs from the presets
cost             what it will take: counted FLOPs and a named rate, memory, disk
plan_warnings    what of it can hardly be meant, with the key that ends it
journal          a run directory while a launch holds it; the only writer of records
trial            one trial as a process runs it
ray_connection   a Ray to run on: a cluster, or a local one
ray_tune         trials through Ray Tune
bell             tells its trials to write their checkpoints, when the launch stops
runner           a launch, through Ray Tune or in this process
evaluation_plan  which trained networks, attacks and images, and what of it is recorded
chunk            one chunk of images of an evaluation as a process runs it
ray_pool         jobs on Ray by processes that stay, such as those chunks
evaluation       an evaluation, through Ray or in this process
decide           launches seed after seed until a claim is decided
signals          Ctrl-C and SIGTERM
screen           the live table
narrow           tables in the width there is
streams          stdout and stderr that end no command
cli              the command `sweep`: what runs
reading          the same: what reads
"""
