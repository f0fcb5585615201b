"""The study on real images: its images, its trials while a machine is free, its records and its page.

    python benchmarks/study.py images NPZ data/exact    an npz of exact pixels as DIR/train/CLASS/ and DIR/test/CLASS/
    python benchmarks/study.py images NPZ data/exact_as_jpeg --jpeg 75    the same images as JPEG of quality 75
    python benchmarks/study.py run [RUN...]             the study at small scale, until it is done or stopped
    python benchmarks/study.py keep                     what runs/study/ has of records, into benchmarks/study/
    python benchmarks/study.py draw                     its figures there, with the published points beside
    python benchmarks/study.py page                     the tables of docs/study.md, study_again.md, study_dynamics.md

Images of cifar10-jpeg75 are to lie in data/jpeg75: mkdir -p data/jpeg75 && tar -xf ARCHIVE -C data/jpeg75 --strip 1
`run` goes on with what is kept, in stints of `python -m trainers`, each run's in turn; SIGTERM ends it clean. A
registered run needs a checkout of its commit. For a card see configs/study/card.yaml.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
RUNS, KEPT, PAGES = (
    Path("runs/study"),
    Path("benchmarks/study"),
    (Path("docs/study.md"), Path("docs/study_again.md"), Path("docs/study_dynamics.md")),
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: Whether DEAT's weight decay is its own, of SGD's coupled one.
COUPLING = "optimizer.decoupled_weight_decay"
#: Of each run at small scale: its config, what of it is set, and the minutes of a stint. In the order of a round.
SMALL: dict[str, tuple[str, tuple[str, ...], float]] = {
    "small": ("small.yaml", (), 60),
    "dynamics_small": ("dynamics_small.yaml", (), 15),
    "controls": ("small_controls.yaml", (), 15),
    "controls_exact": (
        "small_controls.yaml",
        (
            "trial.data.root=data/exact",
            "space.attack.batch_norm=[eval]",
            "space.optimizer.decoupled_weight_decay=[true]",
        ),
        15,
    ),
    "small_again": ("small.yaml", ("seeds=[4,5,6,7,8,9,10,11]",), 60),
}
#: All runs, as the page shows them, with the command whose output it shows; of a registered one `sweep audit`'s too.
SHOWN = {
    **dict.fromkeys(("small", "small_again", "card", "exact", "full_length"), "claims"),
    **dict.fromkeys(("dynamics_small", "dynamics"), "theory"),
}
#: What is changed of DEAT - SGD at small scale, one thing at a time: where, by the frame's columns and its accuracy.
CONTROLS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("nothing", "controls", {}, "last_test_robust"),
    ("exact pixels in place of JPEG's", "controls_exact", {}, "last_test_robust"),
    ("batch norm in training mode while attacking", "controls", {"attack.batch_norm": "train"}, "last_test_robust"),
    ("DEAT's weight decay coupled, as SGD's", "controls", {COUPLING: False}, "last_test_robust"),
    ("the best epoch by validation, not the last", "controls", {}, "best_test_robust"),
)
#: Figures that the page shows of a run, by its command: robust accuracy by learning rate and by learning rate / batch
#: size, published points beside them; or what was measured around the decay.
PICTURES = {"claims": ("figure4", "accuracy_ratio"), "theory": ("dynamics_decay",)}
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
    asked.add_parser("run").add_argument("names", nargs="*", default=list(SMALL), metavar="RUN")
    for name in ("keep", "draw", "page"):
        asked.add_parser(name)
    chosen = parser.parse_args(arguments)
    if chosen.command == "images":
        written(chosen.npz, chosen.folder, chosen.jpeg)
        return 0
    if chosen.command == "run":
        return run(chosen.names)
    return {"keep": keep, "draw": draw, "page": page}[chosen.command]()


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


def run(names: Sequence[str]) -> int:
    """Rounds of stints over runs of `SMALL` until each is done; a trial that fails ends the round, and the study."""
    left = [name for name in names if _listed(name)]
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
    """Takes up what is kept of a run, and writes the list of its trials where there is none; whether one is left."""
    from sweep.config_file import load

    config, values, _ = SMALL[name]
    place, kept = ROOT / RUNS / name, ROOT / KEPT / name
    root = load(ROOT / "configs/study" / config, values).trial.data.root
    if root is not None and not (ROOT / root).exists():
        sys.exit(f"study.py: {name}: {root}: is not there; benchmarks/study.py says how it comes there")
    _refuse_other_code(name)
    for file in FILES:
        if (kept / file).exists() and not (place / file).exists():
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / file, place / file)
    if not (place / "trials.jsonl").exists():
        given = [word for value in values for word in ("--set", value)]
        out = ["--out", str(RUNS / name), "--trials-file", str(RUNS / name / "trials.jsonl")]
        if code := _python("sweep", "plan", f"configs/study/{config}", *given, *out):
            sys.exit(code)
    return _left(name)


def _refuse_other_code(name: str) -> None:
    """Trials of a registered run are trained by the code that was registered."""
    from trainers.provenance import code_version

    path = ROOT / KEPT / name / "registration.json"
    registered = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if registered and registered["code_version"] != code_version():
        commit = registered["commit"][:8]
        sys.exit(
            f"study.py: {name}: registered with code {registered['code_version']}, and this is {code_version()}; train "
            f"it in a checkout of commit {commit} (git worktree add ../study {commit}), or give other runs by name"
        )


def _left(name: str) -> bool:
    from trainers.record import finished, read

    wanted = {json.loads(line)["trial"]["trial_id"] for line in _lines(ROOT / RUNS / name / "trials.jsonl")[1:]}
    if not (ROOT / RUNS / name / "records.jsonl").exists():
        return True
    ended: dict[str, Any] = {}
    epochs: defaultdict[str, set[int]] = defaultdict(set)  # of trials too that had ended when the list was written
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
    """Copies what is kept of each run; records that do not go on from those that are kept are refused."""
    for place in sorted(path.parent for path in (ROOT / RUNS).glob("*/records.jsonl")):
        kept = ROOT / KEPT / place.name
        for name in FILES:
            if (kept / name).exists() and not _goes_on(kept / name, place / name):
                sys.exit(f"study.py: {place / name}: does not go on from {kept / name}, which is kept; nothing copied")
        kept.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if (place / name).exists():
                shutil.copyfile(place / name, kept / name)
        print(f"{KEPT / place.name}: {_about(kept)}")
    return 0


def _goes_on(kept: Path, new: Path) -> bool:
    """Whether a file is there and is the kept one, or, of records, begins with it."""
    if kept.name == "environment.json":
        return True
    return new.exists() and new.read_bytes().startswith(kept.read_bytes())


def page() -> int:
    """Fills the blocks of the pages: `<!-- study NAME -->` to `<!-- end -->`."""
    for path in (ROOT / one for one in PAGES):
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
    decay = _decay(place) if SHOWN[name] == "theory" else ""
    return f"\n{_about(ROOT / place)}\n\n{decay}```console\n{said}\n```\n\n{_drawn(place)}"


def _decay(place: Path) -> str:
    """A row a method: what test robust accuracy does after the learning rate's first decay, and the gap at the end.

    Means over the seeds with 95 % t intervals; the accuracy before the decay is that of the last epoch before it.
    """
    from scipy.stats import ttest_1samp

    from analysis.frames.trials import load_epochs

    epochs = load_epochs(ROOT / place)
    epochs = epochs[epochs["outcome"] == "completed"].set_index(["method", "seed"])
    first = epochs["lr"].groupby(level=[0, 1]).transform("first")
    before = epochs.loc[epochs["lr"] == first, "test_robust"].groupby(level=[0, 1]).last()
    last = epochs.groupby(level=[0, 1]).last()
    rows = ["| method | n | after the decay | train - test at the end |", "|---|---|---|---|"]
    for method in dict.fromkeys(epochs.index.get_level_values(0)):
        columns = [(last["test_robust"] - before)[method], (last["train_robust"] - last["test_robust"])[method]]
        cells = " | ".join(_interval(ttest_1samp(100 * one, 0), 100 * one) for one in columns)
        rows.append(f"| {method} | {len(columns[0])} | {cells} |")
    return "Robust accuracy, percentage points:\n\n" + "\n".join(rows) + "\n\n"


def _controls() -> str:
    """A row a control: DEAT - SGD at equal learning rates, by seed, and what the control changes of it.

    Each has a 95 % t interval over the seeds, which the runs share; p values are Holm's over the changes.
    """
    from scipy.stats import ttest_1samp
    from statsmodels.stats.multitest import multipletests

    if not all((ROOT / KEPT / name / "records.jsonl").exists() for _, name, _, _ in CONTROLS):
        return "\nNot measured yet.\n\n"
    gains = [_gains(name, where, y) for _, name, where, y in CONTROLS]
    seeds = sorted(set.intersection(*(set(gain.index) for gain in gains)))  # of which every run has all its trials
    gains = [gain.loc[seeds] for gain in gains]
    changes = [ttest_1samp(gain - gains[0], 0) for gain in gains[1:]]
    adjusted = multipletests([one.pvalue for one in changes], method="holm")[1]
    rows = ["| changed | DEAT - SGD | what the change adds | p (Holm) |", "|---|---|---|---|"]
    rows.append(f"| {CONTROLS[0][0]} | {_interval(ttest_1samp(gains[0], 0), gains[0])} | | |")
    for (changed, *_), gain, change, p in zip(CONTROLS[1:], gains[1:], changes, adjusted, strict=True):
        own, added = _interval(ttest_1samp(gain, 0), gain), _interval(change, gain - gains[0])
        rows.append(f"| {changed} | {own} | {added} | {p:.2g} |")
    where = "".join(f"\n`{name}`: {_about(ROOT / KEPT / name)}\n" for name in dict.fromkeys(one[1] for one in CONTROLS))
    return "\n" + "\n".join(rows) + f"\n\nn = {len(seeds)} seeds.\n" + where + "\n"


def _gains(name: str, where: dict[str, Any], y: str) -> Any:
    """DEAT - SGD of each seed, percentage points, mean over the learning rates at which every trial has ended."""
    from analysis.frames.trials import load_trials

    trials = load_trials(ROOT / KEPT / name)
    trials = trials[trials["outcome"] == "completed"]
    own: dict[str, Any] = {"attack.batch_norm": "eval", COUPLING: True} | where
    for key in own.keys() & set(trials):
        trials = trials[trials[key].eq(own[key]) | trials[key].isna()]  # SGD has no coupling to choose
    table = trials.pivot_table(index="seed", columns=["optimizer.lr", "optimizer.name"], values=y).dropna()
    means = table.T.groupby(level="optimizer.name").mean()
    return 100 * (means.loc["deat"] - means.loc["sgd"])


def _interval(test: Any, values: Any) -> str:
    low, high = test.confidence_interval()
    return f"{values.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def _drawn(place: Path) -> str:
    """The figures of a run that the page shows, published points beside its own where the paper has such a figure."""
    shown = [name for name in PICTURES[SHOWN[place.name]] if (ROOT / place / "figures" / f"{name}.png").exists()]
    if not shown:
        return ""
    captions = json.loads((ROOT / place / "figures" / "manifest.json").read_text(encoding="utf-8"))["captions"]
    rows = [f"![{name}](../{place}/figures/{name}.png)\n\n{captions[name]}\n\n" for name in shown]
    return f"`{' '.join(_drawing(place))}`:\n\n{''.join(rows)}"


def _drawing(place: Path) -> list[str]:
    return ["sweep", "figures", str(place), *(["--published"] if SHOWN[place.name] == "claims" else [])]


def draw() -> int:
    """Draws the figures of each kept run of which the page shows any."""
    for place in sorted(path.parent.relative_to(ROOT) for path in (ROOT / KEPT).glob("*/records.jsonl")):
        if place.name in SHOWN and (code := _python(*_drawing(place))):
            return code
    return 0


def _said(command: str, place: Path) -> str:
    """What a command prints of a run, or why there is nothing to say yet."""
    words = [sys.executable, "-m", "sweep", command, str(place)]
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
    of["launch"] = [one for one in of["launch"] if "versions" in one]  # a merge is no launch
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
