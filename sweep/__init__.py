"""From one config file to finished trials: the roof, with the command line.

cli           the command `sweep`: what runs
group         the group of all commands: what a mistake ends with, how a help ends
reports       the same: what reads
slurm         the same: jobs of Slurm
__main__      python -m sweep
api           the same from Python: a config, its plan, a launch
hiding        files of the user's that would hide a package of ours, or a library
data          data larger than memory, made ready before trials read them
demo          `sweep demo`: a small sweep that the package brings, launched and drawn
init          examples to start one's own sweep from
register      what a study asks, written down before its first trial
departures    in what a config is not as it was registered
config        SweepConfig: what a sweep is
config_file   YAML and `--set` -> SweepConfig, checked
yaml_text     YAML text <-> plain values: no number that readers of YAML disagree on
objectives    what a sweep chooses by
axes          what is varied
where         constraints on points, in a small language of their own
own_code      a user's own code: its sources, and a process of its own in which it is tried
stopping      which trials end early, and by which rule
search        points and trials: grid, draws, Sobol, Optuna
progress      what a run's records come to
submitted     the code and the config of a launch that comes later, as they are now
submitted_main what runs them
share         of several launches in one directory, the trials that one of them runs
trials_file   what a plan leaves to run as a file, for `python -m trainers`
plan          wanted trials, those already finished, what they will cost
storage       a run in an object store, and the folder of this machine that stands for it
run           a launch while it runs, through Ray Tune or in this process
completion    completion on TAB, for bash, zsh and fish
rerun         trials that the next launch trains anew
note          what users write of trials
control       set, pause, resume, cancel: what is asked of launches while they run
watchers      who is told of a sweep while it runs: trackers, and a command of the user's
trackers      the trackers: each reads a run's records and shows its trials
evaluate      attacks on trained networks
merge         what was run elsewhere, taken into one directory
export        trained networks as files for other programs
decide        launches seed after seed until a claim is decided
narrow        tables in the width there is
streams       stdout and stderr that end no command
plain_console text of others printed as it is: no markup, nothing that a terminal obeys

What a user imports stands in __all__: `from sweep import launch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.api import Outcome, launch, load_config, plan_of
    from sweep.config import SweepConfig as Config

__all__ = ["Config", "Outcome", "launch", "load_config", "plan_of"]


def __getattr__(name: str) -> Any:
    """Found when it is asked for: the commands that read a run need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("sweep.config").SweepConfig if name == "Config" else getattr(import_module("sweep.api"), name)
