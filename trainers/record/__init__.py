"""records.jsonl: what a sweep writes down, one JSON object a line, appended by one writer.

A launch that runs share i of N of the trials appends to records.iofN.jsonl instead. All files are read as one log.

Ten kinds, told apart by the key `record`:

    launch   a start of the sweep: time, command, commit, dirty, code_version, versions, metric, mode, size (trials in
             all), wanted (ids of those that are known already; Optuna's later points follow as trial records), decides
             (None, or of a launch until a claim is decided: claim, budget_hours, choosing_seeds; older code wrote none)
             and, of a share of the trials, shard (such as 1/4; size and wanted are the whole sweep's) and, where there
             are records of shares, after (a time later than all that it had read); one that `sweep merge` took in has
             merged (from, its file; sha256, of that file then); one that leaves out trials that were cancelled, pruned
             or short of memory has left_out (their ids), one that takes pruned trials up again taken_up (theirs), one
             of --budget-hours has budget_hours, one of search.start_from has start_from (run -> ids of its trials that
             the search knows), one that a plan came before has forecast (trials; seconds, of all of them one after
             another), one of a registered run has registration (its SHA-256), one that was replayed on a response
             surface has surrogate (the surface's version)
    trial    a planned trial: trial_id, number, config (its identity), point (its value on every axis), seed
    start    a trial begins or goes on: trial_id, time, host, device, code_version, arithmetic (of
             `trainers.provenance`; lacking where older code wrote it), workers (that train it together; lacking: one)
             and, where another process of it had died, died (how, in words)
    resume   a ResumeRecord, behind a start whose newest checkpoint was not gone on from, or that goes on from another
             trial's end
    epoch    an EpochRecord
    dynamics a DynamicsRecord
    outcome  an OutcomeRecord; of a trial that a stopping rule ended, a PrunedRecord
    evaluation  an EvaluationRecord with its time
    check    a CheckRecord with its time
    note     a NoteRecord with its time

The last key of a line is `crc`, the CRC-32 of its bytes before `,"crc":` in 8 hex digits; older code wrote none. A line
changed by hand needs none either: delete it from that line.

Of a registered run a launch, outcome, evaluation or check has chain too: see `linked`.

An epoch or its dynamics may stand twice (a trial without a usable checkpoint ran it again): the last line counts.

kinds   the records, and when a trial's are complete
form    a line that is read: its checksum, and whether it is believed
forms   by kind what each key of a line holds
rules   what a value may be
file    the file: RecordFile writes it, `read` reads it
linked  that of a registered run, whose lines say what it held before them
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.record.file import (
        RECORDS_FILE,
        RecordFile,
        at_the_end,
        has_records,
        known_kinds,
        line,
        merged,
        no_run,
        only_trial,
        parsed,
        read,
        read_file,
        record_files,
        runs_in,
        written,
    )
    from trainers.record.form import UNKNOWN
    from trainers.record.kinds import (
        FINISHED,
        LONGEST_NOTE,
        METRICS,
        REQUIRED,
        SPENT,
        CheckRecord,
        DynamicsRecord,
        EpochRecord,
        EvaluationRecord,
        NoteRecord,
        OutcomeName,
        OutcomeRecord,
        PrunedRecord,
        Record,
        ResumeRecord,
        begins_anew,
        dynamics_record,
        epoch_record,
        finished,
        spent,
    )
    from trainers.record.rules import is_id

_ROOMS = {
    "CheckRecord": "kinds",
    "DynamicsRecord": "kinds",
    "EpochRecord": "kinds",
    "EvaluationRecord": "kinds",
    "FINISHED": "kinds",
    "LONGEST_NOTE": "kinds",
    "METRICS": "kinds",
    "NoteRecord": "kinds",
    "OutcomeName": "kinds",
    "OutcomeRecord": "kinds",
    "PrunedRecord": "kinds",
    "RECORDS_FILE": "file",
    "REQUIRED": "kinds",
    "Record": "kinds",
    "RecordFile": "file",
    "ResumeRecord": "kinds",
    "SPENT": "kinds",
    "UNKNOWN": "form",
    "at_the_end": "file",
    "dynamics_record": "kinds",
    "epoch_record": "kinds",
    "begins_anew": "kinds",
    "finished": "kinds",
    "has_records": "file",
    "is_id": "rules",
    "known_kinds": "file",
    "line": "file",
    "merged": "file",
    "no_run": "file",
    "only_trial": "file",
    "parsed": "file",
    "read": "file",
    "read_file": "file",
    "record_files": "file",
    "runs_in": "file",
    "spent": "kinds",
    "written": "file",
}

__all__ = [
    "FINISHED",
    "LONGEST_NOTE",
    "METRICS",
    "RECORDS_FILE",
    "REQUIRED",
    "SPENT",
    "UNKNOWN",
    "CheckRecord",
    "DynamicsRecord",
    "EpochRecord",
    "EvaluationRecord",
    "NoteRecord",
    "OutcomeName",
    "OutcomeRecord",
    "PrunedRecord",
    "Record",
    "RecordFile",
    "ResumeRecord",
    "at_the_end",
    "begins_anew",
    "dynamics_record",
    "epoch_record",
    "finished",
    "has_records",
    "is_id",
    "known_kinds",
    "line",
    "merged",
    "no_run",
    "only_trial",
    "parsed",
    "read",
    "read_file",
    "record_files",
    "runs_in",
    "spent",
    "written",
]


def __getattr__(name: str) -> Any:
    """Found when it is asked for, as every package's names are."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"trainers.record.{_ROOMS[name]}"), name)
