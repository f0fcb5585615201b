"""several: images on the disk, random resized crops, networks at 224 pixels, and one trial on two cards."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from card.setting import Setting
from card.speed import best_engine
from card.starting import answer, job
from card.trials import Timer, free, images, summary, trial
from trainers.data.batches import Split, cropped, random_crops
from trainers.data.mapped import Mapped
from trainers.data.resized import random_boxes, resized
from trainers.data.sets import Data
from trainers.workers import found, joined, opened

#: Networks of configs/imagenet.yaml: images of a batch on one card, and attack steps.
NETWORKS = {"torchvision:resnet50": (64, 3), "timm:vit_small_patch16_224": (64, 2)}
#: Seconds that a worker waits for the other, its imports and compiling included.
PATIENCE = 140.0


def several(setting: Setting) -> None:
    """All of it, one after another."""
    for name, needs, measure in (
        ("images on the card and on the disk", 60, _disk),
        ("random resized crop", 5, _crop),
        *((f"{name}, 224 pixels", 30, functools.partial(_network, name=name)) for name in NETWORKS),
        ("two workers", 60, _two),
    ):
        if setting.fits(name, needs):
            with setting.measuring(name):
                setting.write(name, **measure(setting))
            free(setting)


def _disk(setting: Setting) -> dict[str, Any]:
    """A step with images on the card, and in a mapped file, in turns."""
    config = trial(setting, {"engine": best_engine(setting)})
    data = images(setting, setting.pick(60, 2) * config.batch_size)
    with TemporaryDirectory() as folder:
        far = data._replace(train=_mapped(data, Path(folder)))
        timers = Timer(setting, config, data), Timer(setting, config, far)
        for _ in range(setting.pick(5, 1)):
            for timer in timers:
                timer.repeat()
    card, disk = (timer.values() for timer in timers)
    ratio = disk["ms"] / card["ms"]
    both = {f"{key}, disk": disk[key] for key in ("repeats", "ms", "ms_min", "ms_max")}
    return {**card, **both, "ratio": ratio, "ok": card["ok"] and disk["ok"] and timers[0].losses == timers[1].losses}


def _mapped(data: Data, folder: Path) -> Split:
    """Its training images, in a file."""
    assert isinstance(data.train.images, torch.Tensor)
    np.save(folder / "images.npy", data.train.images.cpu().numpy())
    return Split(Mapped([np.load(folder / "images.npy", mmap_mode="r")]), data.train.labels)


def _crop(setting: Setting) -> dict[str, Any]:
    """A batch of 256 pixels to 224 by random resized crops; beside it, padded crops at 224."""
    count, kept, given = setting.pick((256, 256, 224), (4, 16, 12))
    pixels = torch.randint(256, (count, 3, kept, kept), dtype=torch.uint8, device=setting.device)
    boxes = random_boxes(count, (kept, kept), 0.08, setting.device, seed=0, epoch=0)
    crops = random_crops(count, setting.device, seed=0, epoch=0)
    middle = pixels[:, :, :given, :given].contiguous()
    ms = _milliseconds(setting, lambda: resized(pixels, boxes, (given, given)))
    found = {key: value for key, value in summary(ms).items() if key != "epoch_seconds"}  # of CIFAR-10's images
    return {**found, "padded_ms": summary(_milliseconds(setting, lambda: cropped(middle, crops)))["ms"]}


def _milliseconds(setting: Setting, once: Callable[[], object]) -> list[float]:
    found, repeats = [], setting.pick(20, 1)
    for _ in range(setting.pick(6, 2)):
        setting.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            once()
        setting.synchronize()
        found.append(1000 * (time.perf_counter() - started) / repeats)
    return found[1:]


def _network(setting: Setting, name: str) -> dict[str, Any]:
    """A step at 224 pixels, captured but not compiled, which takes too long here."""
    size, steps = NETWORKS[name]
    if setting.tiny:
        name, size = "small_cnn", 8
    values = {
        "model": {"name": name},
        "batch_size": size,
        "attack": {"steps": steps},
        "engine": setting.pick("graph", "eager"),
    }
    config = trial(setting, values)
    data = images(setting, setting.pick(12, 2) * size, val=size, test=size, size=setting.pick(224, 8))
    found = Timer(setting, config, data).repeat(setting.pick(3, 1)).values()
    found.pop("epoch_seconds")  # of CIFAR-10's images
    return {**found, "images_a_second": 1000 * size / found["ms"]}


def _two(setting: Setting) -> dict[str, Any]:
    """Two workers, a card each, against one, at the same batch in all; at toy size on the CPU."""
    if not setting.tiny and torch.cuda.device_count() < 2:
        return {"left_out": f"needs 2 cards, {torch.cuda.device_count()} here"}
    alone = answer(job(setting, "worker", rank=0, size=1, port=0))
    store = opened("127.0.0.1", 2)
    workers = [job(setting, "worker", rank=rank, size=2, port=store.port) for rank in range(2)]
    both, _ = [answer(one) for one in workers]
    return {**both, "alone_ms": alone["ms"], "efficiency": alone["ms"] / (2 * both["ms"])}


def worker(setting: Setting, rank: int, size: int, port: int) -> dict[str, Any]:
    """What `_two` starts: eager steps of a network, by one of so many workers."""
    device = torch.device("cpu") if setting.tiny else torch.device("cuda", rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    config = trial(setting, {"engine": "eager", "device": str(device)})
    data = images(setting, setting.pick(20, 2) * config.batch_size)

    def timed(timer: Timer) -> dict[str, Any]:
        return timer.repeat(setting.pick(3, 1)).values()

    if size == 1:
        return timed(Timer(setting, config, data))
    with joined(found("127.0.0.1", port, size), rank, size, device, PATIENCE) as workers:
        return timed(Timer(setting, config, data, workers))
