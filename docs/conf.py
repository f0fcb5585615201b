"""How the documentation site is built: `make docs`, into build/docs."""

from __future__ import annotations

import os
import re
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
highlight_language = "none"
smartquotes = False  # options begin with --

html_theme = "furo"
html_title = "robustsweep"

autodoc_typehints = "none"  # the docstrings say what goes in and out, with its unit
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Names that docstrings put in one pair of backticks are shown as code, whether or not they are in the reference.
default_role = "code"
# Docstrings raise it without its module; it has its place in the reference.
nitpick_ignore = [("py:exc", "UserError")]

#: Files that pages link to, so that the links hold in a checkout too, and the page that the site makes of each.
MADE_OF = {
    "trainers/config/__init__.py": "config",
    "trainers/presets.py": "presets",
    "sweep/cli.py": "commands",
    "trainers/record/forms.py": "records",
    "analysis/frames/trials.py": "frames",
    "analysis/__init__.py": "python",
}

_LINK = re.compile(r"(`[^`\n]*`|^```.*?^```$)|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)", re.M | re.S)
_NOTHING_ELSE = re.compile(r"\[[^\]]*\]\((\S+\.md)\)\s*")


def setup(app: Sphinx) -> None:
    """The pages that are made of the code are written before any is read, and links are made those of a site."""
    app.connect("builder-inited", lambda app: write(HERE / "reference"))
    app.connect("source-read", _read)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    """A page that is nothing but a link to a file of the checkout is that file."""
    page = HERE / f"{docname}.md"
    instead = _meant(page)
    text = source[0] if instead is None else instead.read_text(encoding="utf-8")
    folder = page.parent if instead is None else instead.parent
    source[0] = _LINK.sub(lambda link: _on_site(link, folder, page.parent), text)


def _meant(page: Path) -> Path | None:
    """The file that a page stands for."""
    link = _NOTHING_ELSE.fullmatch(page.read_text(encoding="utf-8"))
    return None if link is None else (page.parent / link[1]).resolve()


def _on_site(link: re.Match[str], folder: Path, of_page: Path) -> str:
    """A link as the site has it: what is no page of it can be downloaded, or is the page that is made of it.

    Args:
        link: found in the text; code is left as it is.
        folder: from which the link leads.
        of_page: from which it leads on the site.
    """
    path, hash_sign, anchor = (link["to"] or "#").partition("#")
    if not path or "://" in path:
        return link[0]
    there = (folder / path).resolve()
    there = next((page for page in HERE.glob("*.md") if _meant(page) == there), there)
    if (made := MADE_OF.get(os.path.relpath(there, HERE.parent))) is not None:
        there = HERE / "reference" / f"{made}.md"
    to = os.path.relpath(there, of_page)
    if link["image"] or there.is_relative_to(HERE):
        return f"{link['image']}[{link['text']}]({to}{hash_sign}{anchor})"
    text = link["text"].replace("`", "")
    return f"{{download}}`{text} <{to}>`" if there.is_file() else text
