"""How the documentation site is built: `make docs`, into build/docs."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from reference_pages import write  # noqa: E402

project = "robustsweep"
author = "The authors of robustsweep"
release = version = version_of("robustsweep")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
exclude_patterns = ["_*"]
highlight_language = "none"
smartquotes = False  # options begin with --

html_theme = "furo"
html_title = "robustsweep"
html_static_path: list[str] = []

autodoc_typehints = "none"  # the docstrings say what goes in and out, with its unit
autodoc_member_order = "bysource"
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Names that docstrings put in one pair of backticks are shown as code, whether or not they are in the reference.
default_role = "code"


def setup(app: Sphinx) -> None:
    """Writes the pages that are made of the code, before any page is read."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference"))
