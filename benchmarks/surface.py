"""Makes the open response surface from runs: analysis/surface_data/surface.parquet, and fits.json beside it.

    python benchmarks/surface.py runs/docs/* runs/study/small    # the folders of runs; minutes on two cores
    python benchmarks/surface.py --add runs/study/small          # beside what the table has already

Completed trials alone; a training that several runs have, once. benchmarks/stopping_curves.json is taken in too: its
trials were trained by the commit that benchmarks/stopping.json names. What the columns are stands in
analysis/surface_data/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from analysis.surrogate.fits import fits_of
from analysis.surrogate.table import read_table, rows, rows_of_run, table, write_table
from sweep.config_file import load
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned
from trainers.files import whole
from trainers.provenance import environment

BENCHMARKS = Path(__file__).parent
DATA = BENCHMARKS.parent / "analysis" / "surface_data"
CURVES = BENCHMARKS / "stopping_curves.json"

#: Of the recorded sweeps what each sets beside configs/stopping_digits.yaml, as benchmarks/stopping.py has it.
SWEEPS: dict[str, tuple[str, ...]] = {
    "piecewise": (),
    "one_cycle": ("trial.schedule.name=one_cycle", "trial.schedule.milestones=[]"),
}


def curves() -> Iterator[DataFrame]:
    """The recorded sweeps whose validation curves alone were kept."""
    config_path = BENCHMARKS.parent / "configs" / "stopping_digits.yaml"
    known, about = json.loads(CURVES.read_text()), json.loads((BENCHMARKS / "stopping.json").read_text())
    by = {"code_version": about["code_version"], "device": "cpu", "arithmetic": ""}
    for name, overrides in SWEEPS.items():
        config = load(config_path, overrides)
        configs = {one.id: one.identity for one in planned(config, fixed_points(config), fingerprints(config))}
        lines = [
            {"trial_id": trial, "epoch": epoch, "val_robust": value, **by}
            for trial, values in known[name].items()
            for epoch, value in enumerate(values, start=1)
        ]
        yield rows(f"stopping_digits_{name}", configs, DataFrame(lines))


def made(directories: Sequence[Path], add: bool) -> DataFrame:
    """The table of these runs, and of what it had before or of the recorded curves."""
    before = [read_table(DATA / "surface.parquet")] if add else list(curves())
    return table([*before, *(rows_of_run(directory) for directory in directories)])


def main() -> None:
    """Writes both files, and prints how well each surface tells cells that it has not seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--add", action="store_true")
    asked = parser.parse_args()
    where = environment()  # before a file is written, which would be a change beside the commit
    frame = made(asked.runs, asked.add)
    DATA.mkdir(exist_ok=True)
    with whole(DATA / "surface.parquet") as part:
        write_table(frame, part)
    command = shlex.join(["python", "benchmarks/surface.py", *sys.argv[1:]])
    about = {
        "command": command,
        **where,
        "sha256": hashlib.sha256((DATA / "surface.parquet").read_bytes()).hexdigest(),
        "trials": int(frame["trial_id"].nunique()),
        "studies": {str(name): int(n) for name, n in frame.groupby("study")["trial_id"].nunique().items()},
        "settings": fits_of(frame),
    }
    with whole(DATA / "fits.json") as part:
        part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    held = [
        {"setting": one["title"], "metric": metric, **quality}
        for one in about["settings"].values()
        for metric, quality in one["held_out"].items()
    ]
    print(pd.DataFrame(held).to_string(index=False))


if __name__ == "__main__":
    main()
