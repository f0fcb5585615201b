"""Ever stronger attacks on a trained network, up to AutoAttack.

rungs        the attacks' names and strengths; no torch, so that whoever reads them need not wait for it
survivors    clean, FGSM, PGD and CW: which images stay right
autoattack   APGD and AutoAttack, through the package pyautoattack
checks       whether gradients can be trusted: the field's checks for masked ones
trained      a trained network from its checkpoint, with its data in a fixed order
bits         what a record says of each image of a split
"""
