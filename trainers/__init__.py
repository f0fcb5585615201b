"""Adversarial training of one network: the ground floor, which knows nothing of sweeps or of Ray.

config         TrialConfig: every hyperparameter, its default, unit and source
presets        what each paper's code sets, with sources
fields         the kinds of value that configs are made of
identity       trial_id: a hash of what of a config can change the numbers
errors         UserError: one line for what only the user can mend
sources        digits and the official archives as uint8 arrays
image_folder   a folder of images, decoded once; tiny_imagenet: its layout
data           data sets as tensors on the device: validation split, seeded batches
augmentation   crops and flips of a whole batch at once
randomness     generators seeded from (seed, epoch, purpose)
models         the networks
attacks        PGD in the l_inf and l_2 ball, FGSM its one-step case     slot 1: where in the ball
objectives     natural, PGD-AT, TRADES, MART, AVMixup, and S2O's term    slot 2: what is descended
weights        AWP                                                       slot 3: around which weights
optimizers     SGD and DEAT                                              slot 4: which update
batch_norm     which images its running statistics are of
schedules      the learning rate over the epochs
averaging      EMA and SWA weights beside the raw ones
step           the one training step, over the four slots
engine         how a step runs fast: precision, memory format, frozen parameters, compiling
stepper        steps one after another: eager, or captured once as a CUDA graph and replayed
training       a trial's network, optimizer and data, and one pass over its images
memory         which errors say that memory was short
cards          a process and its GPU: the memory it may take and gives back, whether it still answers
evaluate       clean and robust accuracy of a split, while training
dynamics       curvature, gradient noise and straight lines, measured along a run
ladder         clean, FGSM, PGD, CW, APGD, AutoAttack on a trained network
autoattack     the last two, through the package pyautoattack
trained        a trained network from its checkpoint, with its data in a fixed order
record         records.jsonl: epochs, dynamics, outcomes, evaluations, one writer; a reader that forgives a torn line
files          files that are whole at every moment
checkpoint     a trial's one file, written beside its training: where it stands, and the weights that are kept
provenance     which code, versions and machine numbers come from
lock           one process at a time
unseen         what is published of data that are not here
counting       what a trial takes before it is run: FLOPs, memory, files, and how fast this machine is
loop           train(config, report, resume): the one loop

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
