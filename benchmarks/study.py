"""The study on real images: its images, its trials while a machine is free, its records and its page.

    python benchmarks/study.py images NPZ data/exact    an npz of exact pixels as DIR/train/CLASS/ and DIR/test/CLASS/
    python benchmarks/study.py images NPZ data/exact_as_jpeg --jpeg 75    the same images as JPEG of quality 75
    python benchmarks/study.py run                      the study at small scale, until it is done or stopped
    python benchmarks/study.py keep                     what runs/study/ has of records, into benchmarks/study/
    python benchmarks/study.py draw                     its figures there, with the published points beside
    python benchmarks/study.py page                     the tables of docs/study.md, from benchmarks/study/

Images of cifar10-jpeg75 are to lie in data/jpeg75: mkdir -p data/jpeg75 && tar -xf ARCHIVE -C data/jpeg75 --strip 1
`run` trains in stints of `python -m trainers`, each run's in turn; SIGTERM ends it clean, and the same command goes on.
For a card see configs/study/card.yaml.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
RUNS, KEPT, PAGE = Path("runs/study"), Path("benchmarks/study"), Path("docs/study.md")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: Of each run at small scale: its config, what of it is set, and the minutes of a stint. In the order of a round.
SMALL: dict[str, tuple[str, tuple[str, ...], float]] = {
    "small": ("small.yaml", (), 60),
    "dynamics_small": ("dynamics_small.yaml", (), 15),
    "control": ("small_controls.yaml", (), 15),
    "control_exact": ("small_controls.yaml", ("trial.data.root=data/exact",), 15),
    "control_batch_norm": ("small_controls.yaml", ("trial.attack.batch_norm=train",), 15),
    "control_coupled": ("small_controls.yaml", ("trial.optimizer.decoupled_weight_decay=false",), 15),
    "small_again": ("small.yaml", ("seeds=[4,5,6,7,8,9,10,11]",), 60),
}
#: All runs, as the page shows them, with the command whose output it shows; of a registered one `sweep audit`'s too.
SHOWN = {
    **dict.fromkeys(("small", "small_again", "card", "exact", "full_length"), "claims"),
    **dict.fromkeys(("dynamics_small", "dynamics"), "theory"),
}
#: One control at a time of DEAT's gain at small scale: what is changed, the run, its claim, and what else is asked.
CONTROLS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("as registered", "small", "deat_equal_lr", ()),
    ("the best epoch, not the last", "small", "deat_equal_lr", ("--metric", "best_test_robust")),
    ("SGD with DEAT's effective lr and weight decay", "small", "not_weight_decay", ()),
    ("fewer settings, other images, as JPEG", "control", "deat_equal_lr", ()),
    ("these images with their exact pixels", "control_exact", "deat_equal_lr", ()),
    ("batch norm in training mode while attacking", "control_batch_norm", "deat_equal_lr", ()),
    ("DEAT's weight decay coupled, as SGD's", "control_coupled", "deat_equal_lr", ()),
)
#: Of its figures, those that the page shows: robust accuracy by learning rate, and by learning rate / batch size.
PICTURES = ("figure4", "accuracy_ratio")
#: Files of a run that are kept: no weights, and no trials' list.
FILES = ("records.jsonl", "sweep.yaml", "environment.json", "registration.json", "registration.sha256")


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what is asked for; the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    asked = parser.add_subparsers(dest="command", required=True)
    images = asked.add_parser("images")
    images.add_argument("npz", type=Path, metavar="NPZ")
    images.add_argument("folder", type=Path, metavar="DIR")
    images.add_argument("--jpeg", type=int, metavar="QUALITY")
    for name in ("run", "keep", "draw", "page"):
        asked.add_parser(name)
    chosen = parser.parse_args(arguments)
    if chosen.command == "images":
        written(chosen.npz, chosen.folder, chosen.jpeg)
        return 0
    return {"run": run, "keep": keep, "draw": draw, "page": page}[chosen.command]()


def written(npz: Path, folder: Path, quality: int | None) -> None:
    """Exact pixels (N, H, W, 3), uint8, with labels (N,) of `CLASSES`, as PNG files, or as JPEG of a quality."""
    import numpy as np
    from PIL import Image

    with np.load(npz) as arrays:
        for split in ("train", "test"):
            for number, (pixels, label) in enumerate(zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)):
                place = folder / split / CLASSES[int(label)] / f"{number:05d}.{'jpg' if quality else 'png'}"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place, quality=quality or 75)  # of which a PNG has none


def run() -> int:
    """Rounds of stints over `SMALL` until each run is done; a trial that fails ends the round, and the study."""
    for images in ("jpeg75", *(("exact_as_jpeg", "exact") if "control" in SMALL else ())):
        if not (ROOT / "data" / images).exists():
            sys.exit(f"study.py: data/{images}: is not there; benchmarks/study.py says how it comes there")
    left = [name for name in SMALL if _listed(name)]
    while left:
        for name in list(left):
            place, minutes = RUNS / name, SMALL[name][2]
            command = ["trainers", str(place / "trials.jsonl"), "--records", str(place / "records.jsonl")]
            if (code := _python(*command, "--minutes", f"{minutes:g}")) != 0:
                return code
            if not _left(name):
                left.remove(name)
    return 0


def _listed(name: str) -> bool:
    """Writes the list of a run's trials where there is none; whether one of them is left."""
    config, values, _ = SMALL[name]
    if not (ROOT / RUNS / name / "trials.jsonl").exists():
        given = [word for value in values for word in ("--set", value)]
        out = ["--out", str(RUNS / name), "--trials-file", str(RUNS / name / "trials.jsonl")]
        if code := _python("sweep", "plan", f"configs/study/{config}", *given, *out):
            sys.exit(code)
    return _left(name)


def _left(name: str) -> bool:
    from trainers.record import finished, read

    wanted = {json.loads(line)["trial"]["trial_id"] for line in _lines(ROOT / RUNS / name / "trials.jsonl")[1:]}
    if not (ROOT / RUNS / name / "records.jsonl").exists():
        return True
    ended, epochs = {}, {one: set() for one in wanted}
    for record in read(ROOT / RUNS / name):
        if record["record"] == "outcome":
            ended[record["trial_id"]] = record
        elif record["record"] == "epoch":
            epochs[record["trial_id"]].add(record["epoch"])
    return not all(finished(ended.get(one, {}), epochs[one]) for one in wanted)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _python(module: str, *words: str) -> int:
    """Runs a module of this checkout to its end; a signal meanwhile goes to it, and one that comes later ends this."""
    child = subprocess.Popen([sys.executable, "-m", module, *words], cwd=ROOT)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, frame: child.send_signal(number)) for number in numbers}
    code = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return code


def keep() -> int:
    """Copies what is kept of each run."""
    for place in sorted(path.parent for path in (ROOT / RUNS).glob("*/records.jsonl")):
        (ROOT / KEPT / place.name).mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if (place / name).exists():
                shutil.copyfile(place / name, ROOT / KEPT / place.name / name)
        print(f"{KEPT / place.name}: {_about(ROOT / KEPT / place.name)}")
    return 0


def page() -> int:
    """Fills the blocks of the page: `<!-- study NAME -->` to `<!-- end -->`."""
    path = ROOT / PAGE
    text = re.sub(
        r"(<!-- study (\w+) -->\n).*?(<!-- end -->)",
        lambda block: f"{block[1]}{_block(block[2])}{block[3]}",
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    path.write_text(text, encoding="utf-8")
    return 0


def _block(name: str) -> str:
    if name == "controls":
        return _controls()
    place = KEPT / name
    if not (ROOT / place / "records.jsonl").exists():
        return "\nNot measured yet.\n\n"
    commands = [SHOWN[name], *(["audit"] if (ROOT / place / "registration.json").exists() else [])]
    said = "\n\n".join(f"$ sweep {command} {place}\n{_said(command, place)}" for command in commands)
    return f"\n{_about(ROOT / place)}\n\n```console\n{said}\n```\n\n{_drawn(place)}"


def _controls() -> str:
    """A row a control: DEAT - SGD as its claim judges it."""
    rows = ["| | run | claim | DEAT - SGD, percentage points | seeds | verdict |", "|---|---|---|---|---|---|"]
    for changed, name, claim, asked in CONTROLS:
        place, effect = KEPT / name, "not measured yet | |"
        if (ROOT / place / "records.jsonl").exists():
            lines = json.loads(_said("claims", place, "--json", *asked))
            (one,) = (line for line in lines if line["name"] == claim)
            ends = [one[end] for end in ("estimate", "low", "high")]
            points = (
                "no interval" if None in ends else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * end for end in ends))
            )
            effect = f"{points} | {one['n']} | {one['verdict']}"
        rows.append(f"| {changed} | `{' '.join([str(place), *asked])}` | {claim} | {effect} |")
    runs = [place for name in SMALL if (place := ROOT / KEPT / name).exists() and name.startswith("control")]
    where = "".join(f"\n`{place.name}`: {_about(place)}\n" for place in runs if (place / "records.jsonl").exists())
    return "\n" + "\n".join(rows) + "\n\nEach by `sweep claims RUN`; in brackets 95 % intervals.\n" + where + "\n"


def _drawn(place: Path) -> str:
    """The figures of a run that the page shows, published points beside its own where the paper has such a figure."""
    shown = [name for name in PICTURES if (ROOT / place / "figures" / f"{name}.png").exists()]
    if not shown:
        return ""
    captions = json.loads((ROOT / place / "figures" / "manifest.json").read_text(encoding="utf-8"))["captions"]
    rows = [f"![{name}](../{place}/figures/{name}.png)\n\n{captions[name]}\n\n" for name in shown]
    return f"`sweep figures {place} --published`:\n\n{''.join(rows)}"


def draw() -> int:
    """Draws the figures of each kept run of which the page shows any."""
    for place in sorted(path.parent.relative_to(ROOT) for path in (ROOT / KEPT).glob("*/records.jsonl")):
        if place.name in SHOWN and (code := _python("sweep", "figures", str(place), "--published")):
            return code
    return 0


def _said(command: str, place: Path, *asked: str) -> str:
    """What a command prints of a run, or why there is nothing to say yet."""
    words = [sys.executable, "-m", "sweep", command, str(place), *asked]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).rstrip()


def _about(place: Path) -> str:
    """How far a run is, and where it ran: hardware, versions, commits, commands, in a line."""
    from trainers.record import read

    records = read(place)
    of = {kind: [one for one in records if one["record"] == kind] for kind in ("launch", "start", "epoch", "outcome")}
    states = Counter({one["trial_id"]: one["outcome"] for one in of["outcome"]}.values())
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    seconds = sum(one["seconds"] + one["evaluation_seconds"] for one in of["epoch"])
    cpu = json.loads((place / "environment.json").read_text())["cpu"] if (place / "environment.json").exists() else ""
    where = _each(cpu if one["device"] == "cpu" else one["device"] for one in of["start"])
    versions = _each(f"torch {one['versions'].get('torch')}" for one in of["launch"])
    code = _each(f"{str(one['commit'])[:8]}{' with changes' if one['dirty'] else ''}" for one in of["launch"])
    commands = _each(f"`{one['command']}`" for one in of["launch"])
    size = of["launch"][-1]["size"]
    how_far = f"{size} trials, {ended}; {seconds / 3600:.2f} h of training and evaluation on {where}"
    return f"{how_far}; {versions}; commit {code}; {commands}."


def _each(words: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, words)))


if __name__ == "__main__":
    sys.exit(main())
