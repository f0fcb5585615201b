"""What the records say: frames, fits with intervals, surfaces and figures. Never imports torch, ray or optuna.

    frame     records.jsonl -> a row a trial, a row an epoch
    fits      correlations with bootstrap intervals; paired differences of two methods
    surfaces  mean accuracy on a grid of two hyperparameters, diverged cells kept
    figures   the paper's kind of figures, PNG and PDF, with the numbers behind them as CSV
    tables    the same values as text
"""
