"""What of the user's own files would be imported in place of robustsweep's or a library's."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path


def hiding() -> str:
    """What of the user's hides a package of ours, or a library, as PYTHONPATH can have it; nothing if nothing does."""
    ours = Path(__file__).resolve().parents[1]
    for name in ("trainers", "analysis"):
        spec = find_spec(name)
        places = [str(ours)] if spec is None else spec.submodule_search_locations or [str(spec.origin)]
        if Path(places[0]).resolve() != ours / name:
            return (
                f"{places[0]}: hides the package {name} of robustsweep; rename it, or take its folder out of "
                "PYTHONPATH, where an empty part means the working folder"
            )
    here = Path.cwd()
    if here in map(Path, map(os.path.abspath, sys.path)):  # as of `python -m`, or where a part of PYTHONPATH is empty
        from trainers.own.source import LIBRARIES  # now that trainers is ours

        for name in sorted(LIBRARIES):
            place = next((one for one in (here / f"{name}.py", here / name / "__init__.py") if one.is_file()), None)
            if place is not None and here.name not in ("site-packages", "dist-packages"):
                return f"{place}: hides the library {name}; rename it, or take the working folder out of PYTHONPATH"
    return ""
