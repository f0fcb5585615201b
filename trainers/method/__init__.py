"""A method is a choice in each of four slots, over which one step runs.

attacks      slot 1, where in the ball: PGD in the l_inf and l_2 ball, FGSM its one-step case, FAT's early stop
adversary    the same for a training step: PGD anew for each batch, or Free-AT's perturbation that is carried
objectives   slot 2, what is descended: natural, PGD-AT, TRADES, MART, AVMixup, and S2O's term
weights      slot 3, around which weights: AWP
optimizers   slot 4, which update: SGD, DEAT and AdamW
step         the one training step, over the four slots
batch_norm   which images its running statistics are of
schedules    the learning rate over the epochs
averaging    EMA and SWA weights beside the raw ones
"""
