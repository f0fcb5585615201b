"""From one config file to finished trials: the roof, with the command line.

    config   YAML -> SweepConfig, checked
    space    axes -> points
    search   which point next: a list, or Optuna
    plan     wanted trials, those already finished, what they will cost
    runner   trials through Ray Tune or in this process; signals; the only writer of records
    screen   the live table
    cli      the command `sweep`
"""
