"""The command `sweep note`: what a user writes of a trial, kept in the run's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.control import by_whom
from sweep.group import examples
from sweep.reports.options import TRIAL, directory_argument
from sweep.streams import tell

if TYPE_CHECKING:
    from trainers.record import NoteRecord


#: Tags that one command adds and takes away, at most: what a launch is asked has an end (`sweep.run.requests`).
MOST_TAGS = 20


@click.command(
    epilog=examples(
        'sweep note runs/demo 3f2a "loss spikes at epoch 3"',
        "sweep note runs/demo 3f2a --tag odd --tag rerun",
        "sweep note runs/demo 3f2a --untag odd",
        'sweep note runs/demo 3f2a ""          # takes the note away',
        'sweep results runs/demo --where "tag.odd"',
    )
)
@directory_argument
@click.argument("trial_id", type=TRIAL)
@click.argument("text", metavar="[TEXT]", required=False)
@click.option("--tag", "tags", metavar="NAME", multiple=True, help="Tag to add, a word. Give it again for more.")
@click.option("--untag", "untags", metavar="NAME", multiple=True, help="Tag to take away. Give it again for more.")
def note(directory: Path, trial_id: str, text: str | None, tags: tuple[str, ...], untags: tuple[str, ...]) -> None:
    """Write a note or tags on a trial. A beginning of its id is enough.

    Both are kept in the run's records, also while a launch runs. `sweep results` and `sweep show` print them; tables
    written as files have them in the columns note and tags.
    """
    from analysis.frames.log import read_records
    from sweep.progress import Progress
    from sweep.storage.cache import shown
    from trainers.errors import UserError
    from trainers.record import NoteRecord, only_trial

    if text is None and not tags and not untags:
        raise UserError("note: needs a TEXT, a --tag or an --untag; give one of them")
    log = read_records(directory, replays=True)
    progress = Progress.of(log)
    trial = progress.trials[only_trial(shown(directory), progress.trials, trial_id)]
    written = _checked(NoteRecord(trial.id, None if text is None else text.strip(), tags, untags))
    if _write(directory, written, log, progress.latest):
        how = "written down"
    else:
        how = by_whom(directory, "writes it down", trial.id)
    tell(f"{trial.id} {trial.label()}: {_said(written)}; {how}")


def _checked(record: NoteRecord) -> NoteRecord:
    """The record, if it is one that can be read back.

    Raises:
        UserError: a tag is no name, or the note is too long.
    """
    from trainers.errors import UserError
    from trainers.record import LONGEST_NOTE
    from trainers.record.rules import CALLED, is_text
    from trainers.visible import brief

    for option, names in (("--tag", record.tags), ("--untag", record.untags)):
        if (wrong := next((name for name in names if not CALLED.holds(name)), None)) is not None:
            raise UserError(f"{option}: must be {CALLED.words}, got {brief(wrong)}; give such a word")
    if (tags := len(record.tags) + len(record.untags)) > MOST_TAGS:
        raise UserError(f"--tag: at most {MOST_TAGS} at once, got {tags}; give some of them by a second command")
    if len(record.note or "") > LONGEST_NOTE:
        raise UserError(
            f"note: must have at most {LONGEST_NOTE:,} characters, got {len(record.note or ''):,}; make it shorter"
        )
    if not is_text(record.note or ""):
        raise UserError(f"note: must be of whole characters, got {brief(record.note)}; write it anew")
    return record


def _write(directory: Path, record: NoteRecord, log: Sequence[Mapping[str, Any]], latest: float) -> bool:
    """Writes it down with what was asked before and never was; or asks the launch to, which is false."""
    from sweep.run import requests
    from sweep.run.outside import write_down
    from sweep.storage.asked import carried

    with carried(directory):
        waiting = requests.asked(directory).notes
        records: Sequence[dict[str, object]] = [*map(dict, waiting.values()), asdict(record)]
        written = write_down(directory, "sweep note", [{"record": "note", **one} for one in records], log, latest)
        for name in waiting if written else ():
            requests.taken(directory, name)
        if not written:
            requests.note(directory, record)
    return written


def _said(record: NoteRecord) -> str:
    """What changes, in words."""
    from trainers.visible import brief

    parts = [] if record.note is None else [f"note {brief(record.note)}" if record.note else "no note any more"]
    parts += [f"tag {', '.join(record.tags)}"] if record.tags else []
    parts += [f"no tag {', '.join(record.untags)} any more"] if record.untags else []
    return "; ".join(parts)
