"""The ledger of claims: what is asked, how it is measured, what the study answers.

questions   each claim in words, with the cells and trials that it needs
registration  what was written down before the first trial: claims, margins, seeds, trials
audit       what of that was kept
study       the trials that a ledger is made of, with what their records say besides
blocks      an effect's cells, by seed: what is compared within one seed
effects     how each question is measured
evidence    an estimate and how far off it may be; intervals that hold however many seeds one looks at
ledger      each claim with its effect, interval and verdict
literature  what others published that bears on the claims
meaning     what a verdict means, in a plain sentence
"""
