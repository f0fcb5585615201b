"""What a step takes on a GPU, and whether it is right there: every section in a process of its own, within a budget.

    python benchmarks/gpu.py --out DIR                     all sections
    python benchmarks/gpu.py --out DIR --sections env,modes --budget 300
    python benchmarks/gpu.py --tiny                        every section at toy size, on a CPU
    python benchmarks/gpu.py --report DIR                  what DIR/results.jsonl says, as Markdown

A section is killed at its limit, with all its processes; what it wrote by then stays. In DIR: results.jsonl, a line a
result, with card, versions, commit and command; log.txt; two junit files; kernels.txt; a trace of the eager and of the
best mode; study/, records and checkpoints of the study. DIR is not emptied: a second run adds to the first. Compiled
code is kept in TORCHINDUCTOR_CACHE_DIR where that is set, else in a new folder.

It needs of the package's dependencies torch, torchvision, numpy, scipy, pydantic, curvlinops-for-pytorch and pytest.
Exit status: 0, all sections ran and their checks held; 1, not so; 2, it cannot run at all.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "benchmarks"):  # a card's machine has the checkout, and no installed package
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

#: Sections in their order: where each is, and what it may take, s.
SECTIONS: dict[str, tuple[str, float]] = {
    "env": ("card.arithmetic:env", 90),
    "tests": ("card.gpu_tests:tests", 110),
    "usual": ("card.speed:usual", 45),
    "starts": ("card.starting:starts", 80),
    "modes": ("card.speed:modes", 230),
    "equality": ("card.equality:equality", 70),
    "evaluation": ("card.standing:evaluation", 110),
    "side_by_side": ("card.together:side_by_side", 110),
    "profile": ("card.profiling:profile", 45),
    "networks": ("card.speed:networks", 60),
    "several": ("card.several:several", 240),
    "study": ("card.study:study", 600),
}
#: What a section starts in processes of its own.
JOBS = {
    "start": "card.starting:start",
    "deterministic": "card.speed:deterministic",
    "worker": "card.several:worker",
    "neighbour": "card.together:neighbour",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; the exit status."""
    chosen = _parser().parse_args(arguments)
    if chosen.report:
        from card.report import markdown

        print(markdown(chosen.report))
        return 0
    try:
        _check(chosen)
    except ValueError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    if chosen.job:
        return _job(chosen)
    if chosen.section:
        return _section(chosen)
    from card.driver import Driver

    return Driver(chosen, SECTIONS, Path(__file__)).run(_names(chosen.sections))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    default = Path("runs") / f"gpu-{time.strftime('%Y%m%d-%H%M%S')}"
    parser.add_argument("--out", type=Path, default=default, help="folder of the results; default %(default)s")
    parser.add_argument("--sections", default="all", help=f"by comma, or all: {', '.join(SECTIONS)}")
    parser.add_argument("--without", default="", help="sections to leave out, by comma")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds of all sections together")
    parser.add_argument(
        "--tiny", action="store_true", help="every section at toy size on a CPU: its numbers say nothing"
    )
    parser.add_argument("--data", type=Path, help="folder with train/ and test/, or an archive of one; default: noise")
    parser.add_argument("--commit", help="of the code, where git cannot say")
    parser.add_argument("--report", type=Path, metavar="DIR", help="prints what a run found, and runs nothing")
    parser.add_argument("--limits", default="", help="seconds of single sections: modes=240,study=100")
    for name in ("--section", "--seconds", "--command", "--job"):  # of a section's own process
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="?", help=argparse.SUPPRESS)
    return parser


def _check(chosen: argparse.Namespace) -> None:
    """Raises ValueError, in one line, where nothing can run."""
    if unknown := set(_names(chosen.sections) + _names(chosen.without)) - set(SECTIONS):
        raise ValueError(f"--sections: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if chosen.data is not None and not chosen.data.exists():
        raise ValueError(
            f"--data {chosen.data}: must be a folder or an archive, and is not there; leave it out for noise"
        )
    import torch

    if not chosen.tiny and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; --tiny runs every section at toy size on a CPU")


def _names(text: str) -> list[str]:
    return list(SECTIONS) if text == "all" else [name for name in text.split(",") if name]


def _function(place: str):  # type: ignore[no-untyped-def]
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _setting(chosen: argparse.Namespace, section: str):  # type: ignore[no-untyped-def]
    from card.setting import Setting

    seconds = float(chosen.seconds or math.inf)
    return Setting(section, chosen.out, chosen.tiny, chosen.data, seconds, chosen.commit, chosen.command or "")


def _section(chosen: argparse.Namespace) -> int:
    """One section, in this process; its checks are read from the results."""
    _function(SECTIONS[chosen.section][0])(_setting(chosen, chosen.section))
    return 0


def _job(chosen: argparse.Namespace) -> int:
    """One job; what it found is the last line printed."""
    print(json.dumps(_function(JOBS[chosen.job])(_setting(chosen, chosen.job), **json.loads(chosen.arguments))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
