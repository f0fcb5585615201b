"""Adversarial training of one network: the ground floor, which knows nothing of sweeps or of Ray.

config         TrialConfig: every hyperparameter, its default, unit and source
presets        what each paper's code sets, with sources
fields         the kinds of value that configs are made of
identity       trial_id: a hash of what of a config can change the numbers
errors         UserError: one line for what only the user can mend
visible        text of others on its way to a screen
loop           train(config, report, resume): the one loop
running        a trial while it trains, and what its checkpoint holds of it
training       a trial's network, optimizer and data, and one pass over its images
own            a user's own network, data or method: its source, its snapshot, its options
method         the four slots, and the step over them
data           data sets as tensors on the device
models         the networks
evaluate       clean and robust accuracy of a split, while training
dynamics       curvature, gradient noise and straight lines, measured along a run
ladder         ever stronger attacks on a trained network, up to AutoAttack
engine         how a step runs fast: precision, memory format, frozen parameters, compiling
stepper        steps one after another: eager, or captured once as a CUDA graph and replayed
side_by_side   several trials in one process
workers        several processes of one trial
crew           what they tell each other: go on, the end, what one raised
sync_batch_norm  batch norm over a batch that they share
process        what is one for the whole process, such as who may draw from a generator
hardware       what this host has for trials: GPUs and memory
memory         which errors say that memory was short
cards          a process and its GPU: the memory it may take and gives back, whether it still answers
seeds          numbers from what a draw is for
randomness     generators seeded from (seed, epoch, purpose)
rehearsal      a user's own code tried on the CPU, before anything starts
probe          what an epoch will take, from two steps made here
record         records.jsonl: epochs, dynamics, outcomes, evaluations, one writer; a reader that forgives a torn line
checkpoint     a trial's file, written beside its training: where it stands, and the weights that are kept
stint          some minutes of work on a list of trials, without a sweep
__main__       the command for that, `python -m trainers`
trial_list     such a list: one file, which a plan writes
outcome        how a trial begins and ends, as its records say it
archive        such a file, which ends with a hash of itself
resuming       from which file a trial goes on: the newest that is whole and its own
longer         from which shorter trials a longer one goes on, and what it takes of them
files          files that are whole at every moment
plain_file     files that are nothing but files: no pipe, no device, no link
lock           one process at a time
machine        which machine a process runs on, and whether another of that machine still lives
blanked        text without its secrets
provenance     which code, versions and machine numbers come from
counting       what a trial takes before it is run: FLOPs, memory, files, and how fast this machine is

What a user imports: trainers.load(RUN, TRIAL), a trained network; trainers.images(RUN, TRIAL), what it was tested on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.ladder.trained import images, load

__all__ = ["images", "load"]


def __getattr__(name: str) -> Any:
    """These import torch, and so are found when they are asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trainers.ladder import trained

    return getattr(trained, name)
