"""What a trial's epoch will take, from two real training steps and one evaluation batch made here on random images.

Images and labels are random, for what a step takes does not hang on them. All else is the trial's: network, method,
optimizer, precision, augmentation, batch sizes, and on a GPU the captured step; a compiled one is faster still.
"""

from __future__ import annotations

import math
import resource
import time
from typing import NamedTuple

import torch

from trainers import evaluate
from trainers.config import TrialConfig
from trainers.data.batches import Split
from trainers.data.sets import Data
from trainers.data.sources import Shape
from trainers.engine import device_of, float32_products
from trainers.own.stage import stage
from trainers.randomness import generator
from trainers.training import Training

#: Steps that are timed at once, and the seconds until which they are made again where they are quick.
_STEPS, _SECONDS = 2, 0.3

#: Passes of so many steps before one is timed: on a GPU an eager step and a capture for each of DEAT's averages.
_WARM = {"cpu": 1, "cuda": 2}


class Probe(NamedTuple):
    """What was measured.

    Attributes:
        seconds: of a mean epoch, evaluation included.
        memory: bytes that the process held at its fullest, on the GPU or else of the host, all images counted.
    """

    seconds: float
    memory: float


def probe(config: TrialConfig, shape: Shape, threads: int, gpu: bool) -> Probe:
    """Measures one trial; in a process of its own, whose memory is then the trial's.

    Args:
        config: resolved.
        shape: of its data.
        threads: that torch uses, as for the trial.
        gpu: on a GPU, else on the CPU.

    Raises:
        UserError: there is no GPU.
    """
    torch.set_num_threads(threads)
    device = device_of("cuda" if gpu else "cpu")
    engine = "graph" if gpu and config.engine in ("auto", "compile") else "eager" if not gpu else config.engine
    config = config.model_copy(update={"device": str(device), "engine": engine})
    data = _random(config, shape, device)
    with stage("two training steps"):
        training = Training.begin(config, data)
        step = _step_seconds(training)
    with stage("an evaluation batch"), float32_products("fp32"):
        clean, robust = _evaluation_seconds(training)
    return Probe(_epoch_seconds(config, shape, step, clean, robust), _memory(device) + _missing(data, shape))


def _random(config: TrialConfig, shape: Shape, device: torch.device) -> Data:
    """So many images as two steps and an evaluation batch take, without more than there are."""

    def split(images: int) -> Split:
        pixels = torch.randint(0, 256, (images, shape.channels, shape.height, shape.width), dtype=torch.uint8)
        return Split(pixels.to(device), (torch.arange(images) % shape.classes).to(device))

    trained = min(config.batch_size, shape.train_images)
    held_out = split(max(1, min(config.evaluation.batch_size, max(shape.val_images, shape.test_images))))
    moments = (0.5,) * shape.channels, (0.25,) * shape.channels
    name, mark = config.data.name, config.data.fingerprint or ""
    return Data(split(_STEPS * trained), held_out, held_out, shape.classes, *moments, name, mark)


def _step_seconds(training: Training) -> float:
    """Of one training step of a whole batch, as the method is in the last epoch: the fewest of some passes."""
    last, device = training.config.epochs - 1, training.engine.device
    for _ in range(_WARM[device.type]):
        training.epoch(last)
    seconds: list[float] = []
    while not seconds or (sum(seconds) < _SECONDS and len(seconds) < 10):
        started = time.perf_counter()
        training.epoch(last)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / (_STEPS * (training.config.attack.replays or 1))


def _evaluation_seconds(training: Training) -> tuple[float, float]:
    """Of an image as it is, and attacked."""
    config, device, split = training.config, training.engine.device, training.data.val
    model = training.model.eval()

    def clean() -> object:
        return evaluate.clean(model, split, config.evaluation.batch_size, training.engine)

    def robust() -> object:
        return evaluate.robust(model, split, config, training.engine, generator(device, 0))

    seconds = []
    for run in (clean, robust):
        if device.type == "cuda":
            run()  # which loads kernels
        started = time.perf_counter()
        run()
        _wait(device)
        seconds.append((time.perf_counter() - started) / len(split.labels))
    return seconds[0], seconds[1]


def _epoch_seconds(config: TrialConfig, shape: Shape, step: float, clean: float, robust: float) -> float:
    """Of a mean epoch: all its steps, and its evaluation, which not every epoch has."""
    settings, networks = config.evaluation, 1 if config.averaging.name == "none" else 2
    steps = math.ceil(shape.train_images / config.batch_size) * (config.attack.replays or 1)
    held_out: int = sum(getattr(shape, f"{name}_images") for name in settings.splits if name != "train")
    evaluation = networks * held_out * (clean + robust)
    if "train" in settings.splits:
        evaluation += shape.train_images * clean
    return steps * step + evaluation * math.ceil(config.epochs / settings.every) / config.epochs


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        beside = total - free - torch.cuda.memory_reserved(device)  # CUDA's own, and what others hold
        return float(torch.cuda.max_memory_reserved(device) + beside)
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # Linux counts in KiB


def _missing(data: Data, shape: Shape) -> float:
    """Bytes of the images that the trial holds and this process did not."""
    if shape.mapped:
        return 0.0
    all_images = shape.train_images + shape.val_images + shape.test_images + shape.extra_images
    return float(max(0, all_images - len(data.train.labels) - len(data.val.labels)) * shape.pixels)
