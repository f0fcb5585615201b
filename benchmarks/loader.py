"""Does the loader keep up with a step, and what memory do trials take that read the same images from the disk?

    python benchmarks/loader.py > benchmarks/loader.json

`rates`, images a second, each a mean of `REPEATS` with its 95 % t interval: the loader alone, from a mapped file in the
page cache (`mapped SIZE`, and with random resized crops on this CPU, one thread); JPEGs of about ImageNet's mean size,
decoded to 256 pixels whenever they are read (`jpeg, THREADS`); and the training step of a small network here
(`step 64`). `needs`, what a card takes, from benchmarks/gpu/NOTES.md and the FLOPs counted in configs/imagenet.yaml.
`memory`, MiB, while 1, 2, 4
processes read the same file at once, each as a trial's loader does and then through the mapping, as an evaluation's
fingerprint does: a process's own (RssAnon), its share of what is mapped (RssFile) and what the node holds of it (Pss).
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import special

from trainers.config import TrialConfig
from trainers.data import batches
from trainers.data.batches import Split
from trainers.data.decoded import Decoded, Files
from trainers.data.image_folder import File
from trainers.data.mapped import Mapped
from trainers.data.sets import Data
from trainers.provenance import environment
from trainers.training import Training

REPEATS = 5
#: By size of the images kept, pixels: how many there are, and the batch size. Some 250 MB each.
FILES = {64: (20_000, 256), 256: (1_280, 128)}
#: Side that a network is given of images of 256 pixels.
GIVEN = {64: 64, 256: 224}
JPEGS = 60
#: Images a second that one H100 trains on: PreActResNet-18 by PGD-10 at 32 pixels, measured: 128 in 18.5 ms. The
#: others, estimated at its rate, 177 TFLOP/s, from FLOPs an image.
NEEDS = {
    "PreActResNet-18, 32 pixels, PGD-10, measured": 128 / 18.5e-3,
    "ResNet-50, 224 pixels, PGD-3, estimated": 177e12 / 89.7e9,
    "ResNet-50, 224 pixels, FGSM-RS, estimated": 177e12 / 57.0e9,
    "ViT-S, 224 pixels, PGD-2, estimated": 177e12 / 65.7e9,
}


def mapped(folder: Path, size: int, count: int) -> Split:
    """Random images of a file, written where it is not there."""
    path, shape = folder / f"{size}.npy", (count, 3, size, size)
    if not path.exists():
        draws = np.random.default_rng(size)
        np.save(path, draws.integers(0, 256, shape, np.uint8))
    given = None if GIVEN[size] == size else (GIVEN[size],) * 2
    return Split(Mapped([np.load(path, mmap_mode="r")]), torch.arange(count) % 10, given)


def repeated(once: Callable[[int], int], repeats: int) -> dict[str, Any]:
    """Images a second of what handles so many at each call, after one that is not counted; mean and 95 % t interval."""
    found = []
    for number in range(repeats + 1):
        started = time.perf_counter()
        count = once(number)
        found.append(count / (time.perf_counter() - started))
    counted = np.array(found[1:])
    half = special.stdtrit(repeats - 1, 0.975) * counted.std(ddof=1) / math.sqrt(repeats)
    mean = counted.mean()
    return {"images_a_second": [round(each) for each in (mean, mean - half, mean + half)], "n": repeats}


def loader_rates(folder: Path, share: float, repeats: int) -> dict[str, Any]:
    """The loader alone, and with crops made on the CPU."""
    found = {}
    for size, (count, batch_size) in FILES.items():
        split = mapped(folder, size, max(batch_size, int(share * count)))
        places = len(split.labels)
        parts = [slice(start, start + batch_size) for start in range(0, places, batch_size)]

        def alone(number: int, split: Split = split, parts: list[slice] = parts) -> int:
            order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(number))
            return sum(len(images) for images in split.gathered(order, parts))

        def cropped(number: int, split: Split = split, batch_size: int = batch_size) -> int:
            epoch = batches.batches(split, batch_size, augment=True, crop_scale=0.08, seed=0, epoch=number)
            return sum(len(labels) for _, labels in epoch)

        found[f"mapped {size}"] = repeated(alone, repeats)
        found[f"mapped {size}, random resized crops to {GIVEN[size]} on one thread"] = repeated(cropped, repeats)
    return found


def jpeg_rate(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Decoding to 256 pixels, of 500 x 375 pixels in about 110 kB: ImageNet's mean."""
    draws, sizes = np.random.default_rng(0), []
    for number in range(count):
        small = draws.integers(0, 256, (60, 80, 3), np.uint8)
        image = np.asarray(Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = (image + draws.normal(0, 9, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.jpg", quality=90)
        sizes.append((folder / f"{number}.jpg").stat().st_size)

    files = [File(f"{number}.jpg", f"{number}.jpg", size, 0, 0) for number, size in enumerate(sizes)]
    split = Split(Decoded(Files(folder, files, (3, 256, 256), 256, True)), torch.arange(count) % 10)

    def decode(_: int) -> int:
        return sum(len(images) for images in split.gathered(torch.arange(count), [slice(0, count)]))

    return {**repeated(decode, repeats), "bytes": round(float(np.mean(sizes)))}


def step_rate(repeats: int) -> dict[str, Any]:
    """Training of small_cnn by PGD-3 on images of 64 pixels, in memory, on one thread."""
    images = torch.randint(256, (64, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(64) % 10)
    data = Data(split, split, split, 10, (0.5,) * 3, (0.25,) * 3, "random", "random")
    values = {"data": {"fingerprint": "random"}, "model": {"name": "small_cnn"}, "batch_size": 64, "device": "cpu"}
    more = {"attack": {"steps": 3}, "optimizer": {"lr": 0.001}, "epochs": 1000, "schedule": {"name": "constant"}}
    training = Training.begin(TrialConfig.model_validate(values | more).resolved(), data)

    def epoch(number: int) -> int:
        training.epoch(number)
        return len(split.labels)

    return repeated(epoch, repeats)


def memory(folder: Path, trials: int) -> dict[str, Any]:
    """Of so many processes at once, MiB: the mean of each, and the sum of their shares of the node's."""
    command = [sys.executable, __file__, "--read", str(folder)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(trials)]
    try:
        for stage in ("loader", "mapping"):  # all are at it before any goes on
            for each in started:
                assert each.stdout is not None
                if each.stdout.readline().strip() != stage:
                    raise RuntimeError("a process that reads images has ended")
            for each in started if stage == "loader" else ():
                _tell(each)
        held = {"loader": [], "mapping": []}  # type: dict[str, list[dict[str, float]]]
        for each in started:
            _tell(each)
            assert each.stdout is not None
            for stage, found in json.loads(each.stdout.readline()).items():
                held[stage].append(found)
    finally:
        for each in started:
            each.kill()
            each.wait()
    return {
        stage: {
            **{key: round(float(np.mean([one[key] for one in each])), 1) for key in each[0]},
            "Pss of all": round(sum(one["Pss"] for one in each), 1),
        }
        for stage, each in held.items()
    }


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read(folder: Path) -> None:
    """What `memory` starts: reads all images by the loader, then through the mapping, and says what it holds."""
    pixels = np.load(folder / "256.npy", mmap_mode="r")
    split = mapped(folder, 256, len(pixels))
    for _ in batches.sequential(split, 128):
        pass
    held = {"loader": _held()}
    print("loader", flush=True)
    sys.stdin.readline()
    for start in range(0, len(pixels), 128):
        pixels[start : start + 128].copy()
    print("mapping", flush=True)
    sys.stdin.readline()
    print(json.dumps(held | {"mapping": _held()}), flush=True)
    sys.stdin.readline()


def _held() -> dict[str, float]:
    lines = [
        line for name in ("status", "smaps_rollup") for line in Path(f"/proc/self/{name}").read_text().splitlines()
    ]
    found: Mapping[str, str] = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key: int(found[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile", "Pss")}


def main() -> None:
    """Prints the record."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a few images: its numbers say nothing")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.read:
        read(chosen.read)
        return
    torch.set_num_threads(1)
    share, repeats = (0.02, 2) if chosen.tiny else (1.0, REPEATS)
    with TemporaryDirectory() as name:
        folder = Path(name)
        rates = loader_rates(folder, share, repeats)
        for threads in (2, 1):
            torch.set_num_threads(threads)
            rates[f"jpeg, {threads}"] = jpeg_rate(folder, 3 if chosen.tiny else JPEGS, repeats)
        rates["step 64"] = step_rate(repeats)
        held = {trials: memory(folder, trials) for trials in (1, 2, 4)}
        size = round((folder / "256.npy").stat().st_size / 2**20)
    about = {"question": str(__doc__).partition("\n")[0], "command": shlex.join(["python", *sys.argv]), **environment()}
    needs = {name: round(rate) for name, rate in NEEDS.items()}
    found = {"tiny": chosen.tiny, "rates": rates, "needs": needs, "file_mib": size, "memory": held}
    print(json.dumps(about | found, indent=1))


if __name__ == "__main__":
    main()
