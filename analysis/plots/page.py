"""What a picture is made for: how wide it is, how large its letters are, what things are called in it."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from trainers.visible import visible

_FORMULAS = MathTextParser("path")

#: In cm: a column and the whole width of ACM's two columns, in which [DEAT] is printed (acmart, sigconf).
WIDTHS = {"column": 8.47, "page": 17.79}

_CM = 1 / 2.54

#: In points; what the sizes of panels are made for.
FONT_SIZE = 9.0

#: A panel may be drawn in this share of the width that suits it.
_NARROWEST = 0.52

#: A panel that gets narrower gets lower too, down to this share of its height.
_LOWEST = 0.62

#: Letters of small print an inch, at `FONT_SIZE`.
_LETTERS = 18


#: The same of titles and labels of axes, and by how much these may be longer than the panel's side.
_LETTERS_OF_A_LABEL = 14
_OVER = 1.2


#: Stands for a space at which no line ends; no text holds it, for it could not be drawn.
_NO_BREAK = "\0"


class Page(NamedTuple):
    """For what a picture is made."""

    width: float | None = None
    """cm; none: as wide as suits its panels, with its caption below, to be looked at."""
    font_size: float = FONT_SIZE
    """Points."""
    names: Mapping[str, str] = MappingProxyType({})
    """Names in the data to those in the picture and its caption."""

    @property
    def larger(self) -> float:
        """Its letters, as a multiple of those that the sizes of panels are made for."""
        return self.font_size / FONT_SIZE

    def across(self, wanted: int, panel: float) -> int:
        """How many panels stand side by side, of as many as are wanted.

        Args:
            wanted: in a row.
            panel: the width that suits one, inches.
        """
        if self.width is None:
            return wanted
        return max(1, min(wanted, int(_CM * self.width / (_NARROWEST * panel * self.larger))))

    def size(self, across: int, down: float, panel: tuple[float, float], frame: float = 0.7) -> tuple[float, float]:
        """Width and height of a picture, inches.

        Args:
            across: panels side by side.
            down: panels below each other.
            panel: width and height that suit one, inches.
            frame: height of what else there is, such as the legend.
        """
        natural = max(across * panel[0], 4.8) + 0.4
        width = natural if self.width is None else _CM * self.width
        share = min(1.0, max(_LOWEST, width / natural))
        return width, share * down * panel[1] + frame * self.larger

    def letters(self, inches: float) -> int:
        """How many letters of small print a line has."""
        return max(10, int(_LETTERS * inches / self.larger))

    def named(self, text: str) -> str:
        """The text with the picture's names in the place of the data's, whole words alone.

        >>> Page(names={"PGD-AT": "Madry", "small_cnn": "CNN"}).named("small_cnn: PGD-AT, PGD-AT-AWP")
        'CNN: Madry, PGD-AT-AWP'
        """
        if not self.names:
            return text
        known = "|".join(re.escape(name) for name in sorted(self.names, key=len, reverse=True))
        return re.sub(rf"(?<![\w+-])(?:{known})(?![\w+-])", lambda found: self.names[found[0]], text)

    def written(self, figure: Figure) -> None:
        """Gives all texts of a figure the picture's names, in letters that can be drawn; breaks those of its panels."""
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            if isinstance(axis.get_major_locator(), FixedLocator):  # its labels are written when drawn
                places = list(axis.get_majorticklocs())
                texts = axis.get_major_formatter().format_ticks(places)
                if (shown := [visible(self.named(text)) for text in texts]) != texts:
                    axis.set_ticks(places, shown)
        for text in figure.findobj(Text):
            assert isinstance(text, Text), "asked for"
            text.set_text(self.named(text.get_text()))
            make_legible(text)
        for axes in figure.axes:
            for one, room in ((axes.title, inches(axes)), (axes.xaxis.label, inches(axes))):
                one.set_text(self.broken(one.get_text(), _OVER * room))
            axes.yaxis.label.set_text(self.broken(axes.get_ylabel(), _OVER * inches(axes, up=True)))

    def broken(self, text: str, room: float) -> str:
        r"""A title or label broken into lines where it is longer than so many inches, never within a formula or name.

        >>> Page().broken("trace of the Hessian ($a b c$)", 1.0)
        'trace of the\nHessian\n($a b c$)'
        """
        letters = max(8, int(_LETTERS_OF_A_LABEL * room / self.larger))
        whole = re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(" ", _NO_BREAK), text)
        fill = functools.partial(textwrap.fill, width=letters, break_long_words=False, break_on_hyphens=False)
        return "\n".join(map(fill, whole.split("\n"))).replace(_NO_BREAK, " ")


def make_legible(text: Text) -> None:
    """Makes it a text that can be drawn: a name from records can hold anything.

    Control characters become their escapes; what is no formula of matplotlib's is no formula.
    """
    text.set_text(visible(text.get_text()))
    try:
        for line in text.get_text().split("\n") if "$" in text.get_text() else ():
            _FORMULAS.parse(line)
    except ValueError:
        text.set_parse_math(False)


def inches(axes: Axes, *, up: bool = False) -> float:
    """About how wide a panel will be drawn, or how high."""
    figure, box = axes.get_figure(root=True), axes.get_position()
    assert figure is not None, "made by subplots"
    return float(box.height * figure.get_figheight() if up else box.width * figure.get_figwidth())


#: To be looked at.
PAGE = Page()
