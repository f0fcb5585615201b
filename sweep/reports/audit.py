"""The command `audit`: what a run kept of its registration."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.options import METRICS, PATH
from sweep.reports.output import console
from sweep.streams import echo

if TYPE_CHECKING:
    from analysis.claims.audit import Check, Found
    from analysis.claims.registration import Registration

#: What `--claims` must have of each line: text, and numbers, of which a JSON file has none in place of NaN.
_TEXTS, _NUMBERS = ("name", "network", "of", "verdict"), ("threshold", "p_holm")

_SIGNS = {True: "kept", False: "NOT KEPT", None: "unchecked"}

_SHA256 = 64

#: Bytes of the longest ledger that is read.
_LONGEST = 1 << 24


def _hash(option: str, text: str) -> str:
    """A SHA-256 in small letters."""
    from trainers.errors import UserError

    if len(text) != _SHA256 or set(text.lower()) - set("0123456789abcdef"):
        raise UserError(f"{option}: must be the 64 hex digits of a SHA-256, got {text!r}; sha256sum FILE prints them")
    return text.lower()


@click.command(
    epilog=examples(
        "sweep audit runs/ratio",
        "sweep audit runs/ratio --hash 5f70bf18a08660ba...    # as deposited",
        "sweep audit runs/ratio --claims ratio.json    # of `sweep claims --json`",
    )
)
@click.argument("directory", metavar="DIR", type=PATH)
@click.option("--hash", "deposited", metavar="SHA256", help="The hash of the registration, as it was deposited.")
@click.option(
    "--records",
    metavar="SHA256",
    multiple=True,
    help="The hash of a file of records, as it was deposited at some time: the file must still begin so. May be given "
    "several times.",
)
@click.option("--claims", "printed", type=PATH, metavar="FILE", help="Check a ledger too: `sweep claims DIR --json`.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
def audit(
    directory: Path, deposited: str | None, records: tuple[str, ...], printed: Path | None, as_json: bool
) -> None:
    """Show what was kept of a registration (`sweep register`), and what was not.

    Exit code 0: all was kept; 1: something was not; 2: there is nothing to audit.
    """
    from analysis.claims.audit import audited
    from analysis.frames.replayed import refuse_replay
    from analysis.tables.export import json_text
    from sweep.run.screen import say

    deposited = deposited and _hash("--hash", deposited)
    records = tuple(_hash("--records", one) for one in records)
    refuse_replay(directory)
    found = _found(directory, deposited, records, printed)
    checks = audited(found)
    if as_json:
        echo(json_text({"sha256": found.registration.sha256, "checks": checks}), nl=False)
    else:
        say(console(), "\n".join(_card(directory, found, checks)))
    sys.exit(int(any(check.kept is False for check in checks)))


def _card(directory: Path, found: Found, checks: tuple[Check, ...]) -> Iterator[str]:
    yield f"audit of {directory}, whose registration has the SHA-256"
    yield found.registration.sha256
    width = max(len(check.name) for check in checks)
    yield from (f"  {_SIGNS[check.kept]:<9}  {check.name:<{width}}  {check.said}" for check in checks)
    broken = [check.name for check in checks if check.kept is False]
    asked = "docs/registering.md says what each line asks for"
    yield f"not kept: {', '.join(broken)}; {asked}" if broken else "kept, as far as the run's own files can tell"


def _found(directory: Path, deposited: str | None, records: tuple[str, ...], printed: Path | None) -> Found:
    """What there is to look at.

    Raises:
        UserError: there is no registration, or a file cannot be read.
    """
    from analysis.claims import registration as registrations
    from analysis.claims.audit import Found, but_early_epochs
    from analysis.claims.study import study_of
    from analysis.frames.chain import checked
    from trainers.errors import UserError
    from trainers.record import merged, no_run, record_files, runs_in
    from trainers.record.linked import NOTED, REGISTRATION_FILE

    files = [checked(path, records) for path in record_files(directory)]
    log = _of_known_trials(merged([file.records for file in files])) if files else []
    registration = registrations.read(directory)
    if registration is None:
        found = dict.fromkeys(str(one[NOTED]) for one in log if NOTED in one)
        if not files and runs_in(directory):
            raise no_run(directory)
        gone = f"; its launches found one, of SHA-256 {', '.join(found)}: restore that" if found else ""
        way_out = (
            gone or f"; before its first trial, `sweep register CONFIG --out {shlex.quote(str(directory))}` makes one"
        )
        raise UserError(f"{directory}: has no {REGISTRATION_FILE}{way_out}")
    beside = directory / registrations.HASH_FILE
    return Found(
        registration,
        study_of(log, registration),
        but_early_epochs(log),
        files,
        _changed(registration, directory),
        hash_beside=beside.read_text(encoding="utf-8", errors="replace").split(" ")[0] if beside.is_file() else None,
        deposited=deposited,
        records_deposited=records,
        published=None if printed is None else _printed(printed),
    )


def _of_known_trials(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records without those of a trial whose own line does not stand before them: it was removed, or damaged."""
    known: set[str] = set()
    kept = []
    for record in records:
        if record["record"] == "trial":
            known.add(record["trial_id"])
        if record.get("trial_id") is None or record["trial_id"] in known:
            kept.append(record)
    return kept


def _changed(registration: Registration, directory: Path) -> list[str] | None:
    """The keys of the run's config that are not as registered; None: it has no config yet."""
    import yaml

    from sweep.run.directory import CONFIG_FILE
    from sweep.yaml_text import LONGEST, parsed
    from trainers.errors import UserError
    from trainers.plain_file import bounded

    path = directory / CONFIG_FILE
    try:
        now = parsed(bounded(path, LONGEST).decode())
    except FileNotFoundError:
        return None
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}; restore it") from None
    from sweep.departures import changed_keys

    return changed_keys(registration, now)


def _printed(path: Path) -> list[dict[str, Any]]:
    from trainers.errors import UserError
    from trainers.plain_file import bounded

    try:
        lines = json.loads(bounded(path, _LONGEST), parse_int=float)  # of 400 digits it is infinite
    except OSError as error:
        raise UserError(f"--claims {path}: must be a file that you may read: {error.strerror}; mend that") from None
    except (ValueError, RecursionError):
        lines = None
    if not isinstance(lines, list) or not all(map(_is_line, lines)):
        raise UserError(f"--claims {path}: must be what `sweep claims DIR --json` printed; print it anew")
    return lines


def _is_line(one: Any) -> bool:
    if not isinstance(one, dict) or not all(isinstance(one.get(key), str) for key in _TEXTS):
        return False
    if one.get("y", METRICS[0]) not in METRICS:
        return False
    numbers = (one.get(key, "") for key in _NUMBERS)
    return one.get("threshold") is not None and all(
        value is None or isinstance(value, int | float) for value in numbers
    )
