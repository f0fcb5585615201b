"""Completion on TAB: the command that prints a shell's script, and what run directories and trials there are."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from sweep.group import COMPLETING, examples
from sweep.streams import echo


@click.command(
    epilog=examples(
        "sweep completion bash > ~/.local/share/bash-completion/completions/sweep",
        "sweep completion zsh > ~/.zfunc/_sweep     # a folder of fpath",
        "sweep completion fish > ~/.config/fish/completions/sweep.fish",
    )
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print what has a shell complete `sweep` on TAB.

    It completes commands, options and their values, the folders of runs, and the ids of a run's trials. It needs bash
    from 4.4 on.
    """
    script = get_completion_class(shell)
    assert script is not None
    echo(script(click.get_current_context().find_root().command, {}, "sweep", COMPLETING).source(), nl=False)


def runs(beginning: str) -> list[CompletionItem[str]]:
    """Run directories that begin so, two folders down at most; where there is none, the shell looks for folders."""
    start = glob.escape(beginning)
    found = {str(Path(path).parent) for deep in ("*", "*/*") for path in glob.iglob(f"{start}{deep}/records*.jsonl")}
    return [CompletionItem(name) for name in sorted(found)] or [CompletionItem(beginning, type="dir")]


def trials(directory: Path | None, beginning: str) -> list[CompletionItem[str]]:
    """The trials of a run whose ids begin so, each with its point and seed; none of what is no run."""
    from analysis.frames.log import read_records
    from trainers.errors import UserError
    from trainers.visible import in_line

    if directory is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            records = read_records(directory, replays=True)
        except UserError:
            return []
    points = {one["trial_id"]: {**one["point"], "seed": one["seed"]} for one in records if one["record"] == "trial"}
    words = {name: " ".join(f"{key}={value}" for key, value in point.items()) for name, point in points.items()}
    return [CompletionItem(name, help=in_line(text, 100)) for name, text in words.items() if name.startswith(beginning)]
