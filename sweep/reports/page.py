"""Options that say for what pictures are drawn: a paper's column or page, its letters, its names."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.reports.options import Command, Finite

#: In cm; less holds no panel, more no page.
_NARROWEST, _WIDEST = 4.0, 100.0


def _width(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """`column`, `page` or a number of centimetres, in cm."""
    from analysis.plots.page import WIDTHS

    if value is None:
        return None
    try:
        width = WIDTHS[value] if value in WIDTHS else float(value)
    except ValueError:
        width = float("nan")
    if not _NARROWEST <= width <= _WIDEST:
        between = f"from {_NARROWEST:g} to {_WIDEST:g}"
        raise click.BadParameter(f"{value!r} is neither column, page nor a number of centimetres {between}")
    return width


def page_options(command: Command) -> Command:
    """--width, --font-size and --names."""
    width = click.option(
        "--width",
        callback=_width,
        metavar="column|page|CM",
        help="Width of each picture: a column or the page of ACM's two columns (8.47, 17.79 cm), or so many cm; "
        "captions then stand in manifest.json alone [default: as wide as suits, with its caption below].",
    )
    font = click.option(
        "--font-size",
        type=Finite(4, 24),
        default=9.0,
        metavar="PT",
        help="Size of the letters, in points [default: 9].",
    )
    names = click.option(
        "--names",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="YAML of names in the data and what pictures call them, such as `small_cnn: Small CNN`.",
    )
    return width(font(names(command)))


def names_of(path: Path) -> dict[str, str]:
    """What pictures call the names of the data.

    Raises:
        UserError: the file is no such mapping.
    """
    import yaml

    from trainers.errors import UserError

    try:
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        known = None
    pairs = known.items() if isinstance(known, dict) else [(None, None)]
    if not all(isinstance(text, str) and text for pair in pairs for text in pair):
        raise UserError(
            f"--names {path}: must be a YAML mapping of names to names, a line each as `small_cnn: Small CNN`; "
            "numbers and empty names are none (put a number in quotes)"
        )
    return dict(pairs)
