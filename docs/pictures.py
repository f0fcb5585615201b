"""Draws every committed picture anew: `make docs-figures`, or `python docs/pictures.py NAME.png` for some.

Which run and which figure each picture is stands in `PICTURES`. A run that is not there is launched, and one that was
cut short goes on: 40 minutes for all of them, by what the pages say that each took on two cores. `pictures.json` beside
the pictures says of each what it came from, and a test holds the pictures against it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from analysis import figures, manifest
from analysis.paper.parts import published_data
from analysis.plots.plan import Data, Product
from sweep.reports.output import metric_of_run
from trainers.files import whole

DOCS = Path(__file__).parent
RUNS = DOCS.parent / "runs" / "docs"
MANIFEST = DOCS / "pictures.json"


class Picture(NamedTuple):
    """What a committed picture shows."""

    figure: str
    """Of `sweep figures`."""
    config: str = ""
    """Of its run, in configs/; empty: the published study."""
    metric: str = "last_test_robust"

    @property
    def run(self) -> Path | None:
        """Where its run lies; none: the published study."""
        return RUNS / Path(self.config).stem if self.config else None

    @property
    def commands(self) -> list[str]:
        """By which anybody draws it."""
        if not self.config:
            return ["sweep figures --published --output runs/published"]
        run = f"runs/docs/{Path(self.config).stem}"
        metric = "" if self.metric == "last_test_robust" else f" --metric {self.metric}"
        return [f"sweep launch configs/{self.config} --out {run}", f"sweep figures {run}{metric}"]


PICTURES: dict[str, Picture] = {
    "demo_ratio.png": Picture("accuracy_ratio", "demo.yaml"),
    "published_figure4.png": Picture("figure4"),
    "compare_digits.png": Picture("figure5", "paper/compare_digits.yaml"),
    "figure4_digits.png": Picture("figure4", "paper/figure4_digits.yaml"),
    "ratio_surface_digits.png": Picture("ratio_surface", "ratio_digits.yaml"),
    "k1_k2_digits.png": Picture("surface_k1_k2", "paper/k1_k2_digits.yaml"),
    "interactions_digits.png": Picture("variance_decomposition", "interactions_digits.yaml"),
    "natural_digits.png": Picture("accuracy_ratio", "paper/natural_digits.yaml", "last_test_clean"),
    "dynamics_decay.png": Picture("dynamics_decay", "dynamics_digits.yaml"),
    "dynamics_kurtosis.png": Picture("dynamics_kurtosis", "dynamics_digits.yaml"),
    "dynamics_quadratic.png": Picture("dynamics_quadratic", "dynamics_digits.yaml"),
    "methods.png": Picture("methods", "methods.yaml"),
}


def product_of(picture: Picture) -> tuple[Product, Data]:
    """The figure as `sweep figures` makes it, and what it was made from."""
    if picture.run is None:
        data = published_data(picture.metric)
    else:
        data = figures.load(picture.run, picture.metric, figures.ChosenBy(**metric_of_run(picture.run)))
    (product,), _ = figures.products(data, [picture.figure])
    return product, data


def described(picture: Picture, product: Product, data: Data) -> dict[str, Any]:
    """What the picture came from, without the picture itself."""
    known = manifest.described(data, picture.run, [product])
    return {
        "commands": picture.commands,
        "caption": product.caption,
        **{name: known[name] for name in ("code_version", "versions", "sources")},
        "numbers": known["figures"][picture.figure],
        "trials": known["trials"][picture.figure],
    }


def drawn(name: str) -> dict[str, Any]:
    """Draws a picture beside this file; returns what the manifest says of it."""
    picture = PICTURES[name]
    product, data = product_of(picture)
    (content,) = figures.painted(product, ["png"], caption=True)
    with whole(DOCS / name) as part:
        part.write_bytes(content)
    return described(picture, product, data) | {"picture": hashlib.sha256(content).hexdigest()}


def launch(config: str, run: Path) -> None:
    """Runs a sweep, or what is left of it."""
    command = [sys.executable, "-m", "sweep", "launch", str(DOCS.parent / "configs" / config), "--out", str(run)]
    subprocess.run(command, check=True)


def main(names: list[str]) -> None:
    """Draws these pictures; none named: all."""
    if unknown := set(names) - set(PICTURES):
        sys.exit(f"docs/pictures.py: {', '.join(sorted(unknown))}: no such picture; there are {', '.join(PICTURES)}")
    known = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.exists() else {}
    for name in names or PICTURES:
        if (run := PICTURES[name].run) is not None:
            launch(PICTURES[name].config, run)
        known[name] = drawn(name)
        with whole(MANIFEST) as part:
            part.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"docs/{name}: {known[name]['caption']}")


if __name__ == "__main__":
    main(sys.argv[1:])
