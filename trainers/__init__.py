"""Adversarial training of one network: the ground floor, which knows nothing of sweeps or of Ray.

config        TrialConfig: every hyperparameter, its default, unit and source; trial_id
errors        UserError: one line for what only the user can mend
sources       digits and the official archives as uint8 arrays; image_folder: a folder of images, decoded once
data          data sets as tensors on the device: validation split, seeded batches
augmentation  crops and flips of a whole batch at once
randomness    generators seeded from (seed, epoch, purpose)
models        the networks
attacks       PGD in the l_inf and l_2 ball, FGSM its one-step case
optimizers    SGD and DEAT
schedules     the learning rate over the epochs
step          the one training step
engine        how a step runs fast: precision, memory format, frozen parameters
evaluate      clean and robust accuracy of a split
record        records.jsonl: epochs and outcomes, one writer, a reader that forgives a torn last line
provenance    which code, versions and machine numbers come from
lock          one process at a time
loop          train(config, report, resume): the one loop
"""
