"""Adversarial training of one network: the ground floor, which knows nothing of sweeps or of Ray.

    config      TrialConfig: every hyperparameter, its default, unit and source; trial_id
    errors      UserError: one line for what only the user can mend
    data        data sets as uint8 tensors on the device; augmentation; seeded order; validation split
    models      the networks
    attacks     PGD in the l_inf and l_2 ball, FGSM its one-step case
    optimizers  SGD and DEAT
    schedules   the learning rate over the epochs
    step        the one training step
    engine      how a step runs fast: precision, memory format, frozen parameters
    evaluate    clean and robust accuracy of a split
    record      records.jsonl: epochs and outcomes, one writer, a reader that forgives a torn last line
    loop        train(config, report, resume): the one loop
"""
