"""rich's console for text of others: none of it is markup, and a terminal obeys none of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from trainers.visible import visible


class PlainConsole(Console):
    """What every command prints tables with; the console's own colours and moves of the cursor stay what they are."""

    def __init__(self, file: IO[str], width: int | None = None) -> None:
        """A console that writes to the file.

        Args:
            file: of text.
            width: in columns; None: the terminal's.
        """
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text as wide as it will be shown."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The way out of all that is printed, of what is no plain text before, too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
