"""A merge: what DIR lacks of the trials that others have, and how it comes there."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from analysis.claims import registration
from analysis.frames.evaluations import key
from analysis.frames.replayed import refuse_replay, surrogate_in
from sweep.progress import Progress, TrialProgress
from sweep.run.directory import CONFIG_FILE, MERGE, RunLock, clean, refuse_other_name, sweep_name, write_whole
from sweep.run.screen import counts_line
from trainers.errors import UserError
from trainers.fields import plural
from trainers.files import checkpoint_path, why, write
from trainers.identity import hashed
from trainers.own import snapshot
from trainers.plain_file import plain
from trainers.provenance import code_version
from trainers.record import METRICS, RECORDS_FILE, RecordFile, known_kinds, line, merged, no_run, read, record_files
from trainers.record.form import Damaged, record_on
from trainers.record.linked import CHAIN, LINKED, NOTED, REGISTRATION_FILE, Chain, as_written, registered

Record: TypeAlias = Mapping[str, Any]

#: What of a trial's records is its training, and what was measured of its weights afterwards.
_TRAINED = ("start", "resume", "epoch", "dynamics", "outcome")
_EVALUATED = ("evaluation", "check")

#: By how much what is taken is later than all that was there, s: times are written to the millisecond.
_LATER = 0.001

#: Trials, or places, that a line names.
_NAMED = 3


def merge_runs(directory: Path, others: Sequence[Path], *, checkpoints: bool, command: str) -> list[str]:
    """Does what `sweep merge` does; killed at any moment, it is whole once it is done again.

    Checkpoints and users' own code come first, each file as a whole; the records are written in one move at last.

    Args:
        directory: of the run that takes them; made, if it is not there.
        others: run directories, or files of records.
        checkpoints: whether they come too.
        command: that the user typed, for the records.

    Returns:
        What was done, in lines.

    Raises:
        UserError: one of them is no run, or of another sweep, or its trials are not what their ids say; nothing is
            changed then.
    """
    refuse_replay(directory)
    elsewhere = [_Elsewhere.of(path) for path in others]
    for one in elsewhere:
        if directory.exists() and one.folder.samefile(directory):
            raise UserError(f"{one.path}: is of the run that it would be merged into; give another run")
        for folder in (directory, *(other.folder for other in elsewhere)):
            refuse_other_name(folder, sweep_name(one.folder), "merge runs of one sweep")
    with RunLock(directory, MERGE) as lock:
        clean(directory)
        here = _Here(read(directory) if record_files(directory) else [])
        for one in elsewhere:
            here.refuse_other_metric(one)
        said = [text for one in elsewhere for text in here.take(one)]
        lock.check()
        for one, trials in zip(elsewhere, here.copies, strict=True):
            _copy(one, directory, trials if checkpoints else {})
            if (theirs := registered(one.folder)) not in (None, registered(directory)):
                said.append(f"{one.path}: is registered as {theirs}, and {directory} otherwise: the card will say so")
        if here.taken:
            lines = here.lines(command, registered(directory))
            lock.check()
            _append(directory, lines)
    known = here.progress.current()
    done = sum(trial.finished or trial.pruned for trial in known)
    left = max(len(known), here.progress.size) - done  # also those that no record tells of yet
    more = f"; `sweep launch` runs what is left: {left}" if left else ""
    return [*said, f"{directory}: {counts_line(here.progress, False)}{more}"]


@dataclass
class _Elsewhere:
    """A run, or one of its files, that is read and never written."""

    path: Path
    """As the user gave it."""
    folder: Path
    records: list[dict[str, Any]]
    damaged: list[str]
    """Where lines are that are passed over."""

    @classmethod
    def of(cls, path: Path) -> _Elsewhere:
        """Reads it.

        Raises:
            UserError: it is no run; or a trial's config is not what its id is the hash of.
        """
        files = [path] if path.is_file() else record_files(path)
        if not files:
            raise no_run(path)
        damaged: list[str] = []
        records = merged([_records(file, damaged) for file in files])
        if (version := surrogate_in(records)) is not None:
            raise UserError(f"{path}: was replayed on response surface {version}: only what was measured is merged")
        for record in records:
            if record["record"] == "trial" and (name := hashed(record["config"])) != record["trial_id"]:
                raise UserError(
                    f"{path}: trial {record['trial_id']}: its config is that of a trial {name}: it was changed; delete "
                    "its line, and it is passed over"
                )
        return cls(path, path.parent if path.is_file() else path, records, damaged)


def _records(path: Path, damaged: list[str]) -> list[dict[str, Any]]:
    """The lines of a file that can be believed; a launch's say where it was, and what that file held."""
    try:
        os.close(plain(str(path), os.O_RDONLY))
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    origin = {"from": str(path.absolute()), "sha256": hashlib.sha256(content).hexdigest()}
    lines = content.split(b"\n")
    records = []
    for number, text in enumerate(lines, start=1):
        if text.strip():
            try:
                records.append(record_on(text))
            except Damaged:
                if number < len(lines):  # the last one is torn
                    damaged.append(f"{path.name}:{number}")
    kinds = known_kinds(path, records)
    return [{"merged": origin, **one} if one["record"] == "launch" else one for one in kinds]


@dataclass
class _Here:
    """What the directory has, and what is added to it."""

    records: Sequence[Record]
    progress: Progress = field(init=False)
    taken: list[Record] = field(default_factory=list)
    """Records to be added, in their order."""
    copies: list[dict[str, bool]] = field(default_factory=list)
    """Of each other run the trials whose checkpoints come, and whether they replace what is here."""

    def __post_init__(self) -> None:
        self.progress = Progress.of(self.records)
        self._latest = self.progress.latest
        self._epochs = _epochs(self.records)
        self._chunks = {_chunk(one) for one in self.records if one["record"] in _EVALUATED}
        self._classes = dict(_classes(self.records))
        self._launches = _last_launch(self.records)
        self._known = {as_written(one) for one in self.records if one["record"] == "launch"}

    def refuse_other_metric(self, other: _Elsewhere) -> None:
        """The last launches of both chose by the same metric.

        Raises:
            UserError: they did not.
        """
        last = _last_launch(other.records)
        mine, theirs = ({_names_of(one) for one in each} for each in (self._launches, last))
        if mine and theirs and mine.isdisjoint(theirs):
            own, its = *mine, *theirs
            raise UserError(f"{other.path}: its metric is {its}, and here it is {own}; merge runs of one sweep")
        self._launches += last

    def take(self, other: _Elsewhere) -> list[str]:
        """Adds what is better there; what is said of it."""
        there, epochs = Progress.of(other.records), _epochs(other.records)
        trials = [(trial, self.progress.trials.get(name)) for name, trial in there.trials.items()]
        better = {trial.id for trial, mine in trials if _is_better(trial, mine)}
        both = [(trial, mine) for trial, mine in trials if mine is not None and trial.finished and mine.finished]
        same = {trial.id for trial, mine in both if _ended(trial, epochs) == _ended(mine, self._epochs)}
        odd = [trial.id for trial, mine in both if trial.id not in same and trial.code_version == mine.code_version]
        fitting = self._new([one for one in other.records if self._fits(one, better, same)])
        chunks = sum(one["record"] in _EVALUATED for one in fitting)
        if any(one["record"] != "launch" for one in fitting):
            self._add(fitting, other.records)
        self._epochs |= {name: epochs.get(name, {}) for name in better}
        self.copies.append(dict.fromkeys(better, True) | dict.fromkeys(same, False))
        said = f"{other.path}: {plural(len(better), 'trial')} taken, {len(same)} here already"
        said += f", {plural(chunks, 'chunk')} of evaluations" if chunks else ""
        if other.damaged:
            said += f"; {plural(len(other.damaged), 'damaged line')} passed over: {_names(other.damaged)}"
        if odd:
            said += f"; the same code gave other numbers there, and kept is what is here: {_names(odd)}"
        return [said]

    def _new(self, records: Sequence[Record]) -> list[Record]:
        """The records without launches that are here and began nothing of these: of a file that was merged before."""
        new: list[Record] = []
        launch: Record | None = None
        for record in records:
            if record["record"] != "launch":
                new += [record] if launch is None else [launch, record]
                launch = None
            elif (known := as_written(record)) in self._known:
                launch = record
            else:
                self._known.add(known)
                new.append(record)
                launch = None
        return new

    def _fits(self, record: Record, better: set[str], same: set[str]) -> bool:
        name = record.get("trial_id")
        match record["record"]:
            case "launch":
                return True
            case "trial":
                return name in better and name not in self.progress.trials
            case kind if kind in _TRAINED:
                return name in better
            case "note":
                return (name in better or name in self.progress.trials) and record not in self.records
            case _:
                return name in better | same and _chunk(record) not in self._chunks

    def _add(self, records: Sequence[Record], with_all: Sequence[Record]) -> None:
        used = {trial.number for trial in self.progress.trials.values()}
        theirs = dict(_classes(with_all))
        for record in records:
            if record["record"] == "trial" and record["trial_id"] not in self.progress.trials:
                number = record["number"] if record["number"] not in used else max(used) + 1
                used.add(number)
                record = {**record, "number": number}
            elif record["record"] in _EVALUATED:
                self._chunks.add(_chunk(record))
            self.taken.append(_with_classes(record, theirs, self._classes))
            self.progress.add(record)

    def lines(self, command: str, registered: str | None) -> list[Record]:
        """All that is added, the merge itself at last: as a launch that wants what the last of each run wanted."""
        first = self._launches[0] if self._launches else {}
        wanted = list(dict.fromkeys(name for one in self._launches for name in one["wanted"]))
        known = _started_from(self._launches)
        # an older version names none
        strata = next(({"strata": one["strata"]} for one in self._launches if "strata" in one), {})
        own: Record = {
            "record": "launch",
            "command": command,
            "decides": None,
            "code_version": code_version(),
            **{name: first[name] for name in ("metric", "mode", "objectives") if name in first},
            **strata,
            "size": max([len(wanted), *(one["size"] for one in self._launches)]),
            "wanted": wanted,
            **({"start_from": known} if known else {}),
            **({NOTED: registered} if registered else {}),
            "time": round(time.time(), 3),
        }
        self.progress.add(own)
        before = {key: value for key, value in own.items() if key != NOTED}  # who began them found none
        added = [*self.taken, own] if self.taken[0]["record"] == "launch" else [before, *self.taken, own]
        # among several files they come after all that is there, whatever the clocks of those machines said
        return [{**added[0], "after": round(self._latest + _LATER, 3)}, *added[1:]]


def _started_from(launches: Iterable[Record]) -> dict[str, list[str]]:
    """Run of `search.start_from` -> ids of its trials that any of the launches knew."""
    known: dict[str, list[str]] = {}
    for one in launches:
        for place, names in one.get("start_from", {}).items():
            known[place] = sorted({*known.get(place, ()), *names})
    return known


def _names_of(launch: Record) -> str:
    """What a launch chose by, in words."""
    return ", ".join(one["name"] for one in launch.get("objectives", ())) or str(launch.get("metric"))


def _last_launch(records: Sequence[Record]) -> list[Record]:
    return [one for one in records if one["record"] == "launch"][-1:]


def _names(of: Sequence[str]) -> str:
    return ", ".join(of[:_NAMED]) + (", ..." if len(of) > _NAMED else "")


def _ended(trial: TrialProgress, epochs: Mapping[str, Mapping[int, Any]]) -> list[Any]:
    """What a finished trial measured, by epoch."""
    return [trial.outcome, *(epochs[trial.id][epoch] for epoch in range(1, trial.end["epochs"] + 1))]


def _is_better(there: TrialProgress, here: TrialProgress | None) -> bool:
    """Whether a trial is to be taken: what is finished here stays, and of two that are not the one that is further."""
    if here is None:
        return there.begun
    return not here.finished and (there.finished or there.epoch > here.epoch)


def _epochs(records: Iterable[Record]) -> dict[str, dict[int, tuple[Any, ...]]]:
    """Of each trial what each epoch measured, by its last line."""
    measured: dict[str, dict[int, tuple[Any, ...]]] = {}
    for record in records:
        if record["record"] == "epoch":
            values = tuple(record.get(name) for name in METRICS)
            measured.setdefault(record["trial_id"], {})[record["epoch"]] = values
    return measured


def _chunk(record: Record) -> tuple[Any, ...]:
    """What a chunk of an evaluation or a check is told by."""
    return (*key(record), record.get("draws"), record["first"], record["images"])


def _splits(record: Record) -> Iterator[Record]:
    """The parts of a record that have a split's images."""
    if isinstance(splits := record.get("right"), Mapping):
        yield from splits.values()
    elif record.get("fingerprint") is not None:
        yield record


def _classes(records: Iterable[Record]) -> Iterator[tuple[str, Any]]:
    for record in records:
        for part in _splits(record):
            if part.get("classes") is not None:
                yield part["fingerprint"], part["classes"]


def _with_classes(record: Record, theirs: Mapping[str, Any], here: dict[str, Any]) -> Record:
    """The record with its splits' classes where no record here has them: they stand in one record of a fingerprint."""

    def full(part: Record) -> Record:
        name = part["fingerprint"]
        bare = {each: value for each, value in part.items() if each != "classes"}
        if name in here or name not in theirs:
            return bare
        here[name] = theirs[name]
        return {**bare, "classes": theirs[name]}

    if isinstance(splits := record.get("right"), Mapping):
        return {**record, "right": {name: full(part) for name, part in splits.items()}}
    return full(record) if record.get("fingerprint") is not None else record


def _copy(other: _Elsewhere, directory: Path, trials: Mapping[str, bool]) -> None:
    """Checkpoints, users' own code, and what a run has none of: config, registration."""
    for name, replaces in trials.items():
        source, place = checkpoint_path(other.folder, name), checkpoint_path(directory, name)
        if source.is_file() and (replaces or not place.exists()):
            _copy_whole(source, place)
    for source in sorted((other.folder / snapshot.FOLDER).glob("*.zip")):
        if not (place := directory / snapshot.FOLDER / source.name).exists():
            _copy_whole(source, place)
    for name in (registration.HASH_FILE, REGISTRATION_FILE, CONFIG_FILE):
        if (source := other.folder / name).is_file() and not (directory / name).exists():
            write_whole(directory / name, source.read_text(encoding="utf-8"))


def _copy_whole(source: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)

    def copied(part: Path) -> None:
        shutil.copyfile(source, part)

    _written(place, copied)


def _append(directory: Path, records: Iterable[Record]) -> None:
    """Adds lines to a run's records, in one move."""
    RecordFile(directory).close()  # which cuts a torn line off
    path, linked = directory / RECORDS_FILE, registered(directory) is not None

    def extended(part: Path) -> None:
        shutil.copyfile(path, part)
        chain = Chain(part)
        with part.open("ab") as file:
            for record in records:
                values = {key: value for key, value in record.items() if key != CHAIN}  # which was of another file
                if linked and record["record"] in LINKED:
                    file.flush()
                    values[CHAIN] = chain.link()
                file.write(line(record["record"], values).encode())

    _written(path, extended)


def _written(place: Path, content: Callable[[Path], object]) -> None:
    try:
        write(place, content)
    except OSError as error:
        raise UserError(f"{place}: {why(error, place)}; mend that: the same command goes on") from None
