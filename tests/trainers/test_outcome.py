"""What the process of a trial says of its beginning, to one that has not loaded torch."""

from __future__ import annotations

import pickle
import subprocess
import sys

import torch
from small import tiny

from trainers.outcome import start_of


def test_who_is_told_that_a_trial_starts_need_not_load_torch() -> None:
    """Its version is a string of a class of torch's own: to unpickle that took the launch a second and a half."""
    said = pickle.dumps(start_of("0123456789ab", tiny(), torch.device("cpu")))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)['arithmetic']['torch'], 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], input=said, capture_output=True, check=True)
    assert told.stdout.decode().split() == [torch.__version__, "False"]
