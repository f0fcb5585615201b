"""A registration: what a study asks and how it will be judged, written down before its first trial.

It is the file DIR/registration.json, whose SHA-256 is its name: launches note it in their records, and who deposits it
elsewhere can show later that nothing was chosen afterwards. [Nosek et al. 2018, The preregistration revolution, PNAS]
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from trainers.errors import UserError
from trainers.record.linked import NOTED
from trainers.record.linked import REGISTRATION_FILE as FILE
from trainers.record.linked import registration as written
from trainers.visible import encodable

#: Beside the registration: its SHA-256, as `sha256sum --check` takes it.
HASH_FILE = "registration.sha256"

#: How a line of the ledger came to be asked; empty: the run has no registration.
Mark = Literal["", "registered", "found afterwards"]

#: What `Registration.stopping` has under `rule`.
TO_THE_END, UNTIL_DECIDED = "every trial is run to its end", "seeds are added until a claim is decided"
BY_CONFIG = "the config's rules end trials, or leave seeds out"


@dataclass(frozen=True)
class Registration:
    """What was written down. Accuracies are fractions."""

    name: str
    """Of the sweep."""
    question: str
    time: str
    """When it was registered, ISO 8601."""
    claims: Mapping[str, Mapping[str, Any]]
    """Of each claim that is asked: statement, region and threshold (`analysis.claims.ledger.Claim`)."""
    margin: float
    time_margin: float
    alpha: float
    accuracy: str
    """What the claims are about, such as last_test_robust."""
    metric: str
    """Of validation, what best cells are chosen by."""
    mode: str
    choosers: tuple[int, ...]
    """Seeds that choose best cells and are not compared; none: all choose, and decide nothing."""
    stopping: Mapping[str, Any]
    """rule; of one until a claim is decided also claim and budget_hours."""
    seeds: tuple[int, ...]
    trials: tuple[str, ...] | None
    """Their ids; None: they are not known beforehand."""
    code_version: str
    commit: str | None
    dirty: bool | None
    config: Mapping[str, Any]
    """As the run's sweep.yaml has it."""
    sha256: str = ""
    """Of the file."""

    @property
    def moment(self) -> float:
        """`time` in s since 1970."""
        return datetime.fromisoformat(self.time).timestamp()

    def asks(
        self,
        name: str,
        region: str,
        threshold: float,
        *,
        accuracy: str,
        chosen_by: tuple[str, str],
        choosers: Collection[int] | None,
    ) -> bool:
        """Whether a line of the ledger is asked and judged as it was registered.

        Args:
            name: of the claim.
            region: where it holds.
            threshold: it holds that side of this.
            accuracy: what it is about.
            chosen_by: metric and mode that best cells are chosen by.
            choosers: seeds that chose them; None: it chooses none.
        """
        known = self.claims.get(name)
        return (
            known is not None
            and (known.get("region"), known.get("threshold")) == (region, threshold)
            and accuracy == self.accuracy
            and chosen_by == (self.metric, self.mode)
            and (choosers is None or set(choosers) == set(self.choosers))
        )


def text_of(registration: Registration) -> str:
    """The file: JSON with sorted keys, the same bytes for the same values."""
    values = {key: value for key, value in asdict(registration).items() if key != "sha256"}
    return encodable(json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def hash_of(text: bytes) -> str:
    """What a registration is named by: `sha256sum registration.json` says the same."""
    return hashlib.sha256(text).hexdigest()


def read(directory: Path) -> Registration | None:
    """A run's registration; None: it has none.

    Raises:
        UserError: the file cannot be read, or is no registration.
    """
    content = written(directory)
    if content is None:
        return None
    where = f"{directory / FILE}: must be as `sweep register` wrote it"
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{where}, and is no JSON; restore it") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}, and is no mapping; restore it")
    known = {field.name for field in fields(Registration)} - {"sha256"}
    if unknown := sorted(values.keys() - known):
        raise UserError(f"{where}: {unknown[0]}: unknown key; restore it")
    for key in sorted(known):
        if key not in values or not _RULES[key](values[key]):
            raise UserError(f"{where}: {key} is {'missing' if key not in values else 'no such value'}; restore it")
    listed = {key: tuple(values[key]) for key in ("choosers", "seeds")}
    trials = None if values["trials"] is None else tuple(values["trials"])
    return Registration(**{**values, **listed, "trials": trials}, sha256=hash_of(content))


def beforehand(registration: Registration, records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every trial was begun by a launch that had found this registration.

    Args:
        registration: of the run.
        records: of the run, in their order.
    """
    found = False
    for record in records:
        if record["record"] == "launch":
            found = record.get(NOTED) == registration.sha256
        elif record["record"] == "start" and not found:
            return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_claim(value: Any) -> bool:
    return _is_mapping(value) and _is_text(value.get("region")) and _is_number(value.get("threshold"))


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _are(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(one) is kind for one in value)


_RULES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "question", "accuracy", "metric", "mode", "code_version"), _is_text),
    **dict.fromkeys(("margin", "time_margin", "alpha"), _is_number),
    "config": _is_mapping,
    "stopping": lambda value: _is_mapping(value) and _is_number(value.get("budget_hours", 0)),
    "choosers": _are(int),
    "seeds": lambda value: _are(int)(value) and len(value) > 0,
    "claims": lambda value: _is_mapping(value) and all(map(_is_claim, value.values())),
    "time": _is_time,
    "trials": lambda value: value is None or _are(str)(value),
    "commit": lambda value: value is None or _is_text(value),
    "dirty": lambda value: value is None or isinstance(value, bool),
}
