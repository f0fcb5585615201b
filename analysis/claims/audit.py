"""An audit: what of a registration was kept, by what the run's own files say.

Nothing here can tell of somebody who writes all files anew: only hashes that were deposited elsewhere can.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from analysis.claims.ledger import CONFIDENCE, Claim, ledger
from analysis.claims.registration import HASH_FILE, UNTIL_DECIDED, Registration
from analysis.claims.study import Study, decided_by
from analysis.frames.chain import Checked
from trainers.fields import plural
from trainers.record import merged
from trainers.record.linked import NOTED, as_written

#: Trials, lines or keys that a check names.
_NAMED = 4

_NONE_BEGAN = "no trial has begun"

#: By how much a number may differ that is worked out anew on another machine.
_ROUNDING = 1e-6

#: Outcomes that are a trial's result; the others leave a hole.
_RESULTS = ("completed", "diverged", "superseded")
#: Those that a launch writes, after which it writes no more of the trial, and the kinds of what it writes of one.
_LASTING, _TRAINED = ("completed", "diverged"), ("start", "resume", "epoch", "dynamics", "outcome")
#: And where a registered rule ends trials early, or gives some points no more seeds.
_ENDED_BY_RULE = ("pruned", "never_started")


@dataclass(frozen=True)
class Check:
    """One line of the card."""

    name: str
    kept: bool | None
    """None: what is there cannot tell."""
    said: str


@dataclass(frozen=True)
class Found:
    """What an audit looks at."""

    registration: Registration
    study: Study
    records: Sequence[Mapping[str, Any]]
    """Those that are believed: `but_early_epochs`."""
    files: Sequence[Checked]
    changed_keys: Sequence[str] | None
    """Of the config, those that are no longer as registered; None: the run has no config yet."""
    hash_beside: str | None = None
    """What `analysis.claims.registration.HASH_FILE` says."""
    deposited: str | None = None
    """SHA-256 of the registration, from where it was deposited."""
    records_deposited: Collection[str] = ()
    """SHA-256 that a file of records had at an earlier time."""
    published: Sequence[Mapping[str, Any]] | None = None
    """Lines of the ledger as they were printed, `sweep claims --json`."""

    @cached_property
    def outcomes(self) -> dict[str, str]:
        """Of each trial in the records."""
        trials = self.study.trials
        return dict(zip(trials["trial_id"], trials["outcome"], strict=True))

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        """The records of a kind."""
        return [record for record in self.records if record["record"] == kind]

    @cached_property
    def launches(self) -> list[Mapping[str, Any]]:
        """Those of the records."""
        return _each_once(self.of_kind("launch"))

    @property
    def open_ended(self) -> bool:
        """Whether seeds are added until a claim is decided."""
        return self.registration.stopping.get("rule") == UNTIL_DECIDED


def audited(found: Found) -> tuple[Check, ...]:
    """Every check, in the order of the card."""
    return tuple(check(found) for check in _CHECKS)


def _check(name: str, faults: Iterable[str], otherwise: str) -> Check:
    """Not kept where there is a fault."""
    told = "; ".join(filter(None, faults))
    return Check(name, not told, told or otherwise)


def _some(what: str, names: Collection[Any]) -> str:
    """`what: 1, 2, 3, ...`; empty where there is none."""
    shown = ", ".join(map(str, list(names)[:_NAMED]))
    return f"{what}: {shown}{f', ... ({len(names)})' if len(names) > _NAMED else ''}" if names else ""


def _launches(number: int) -> str:
    return f"{number} launch{'' if number == 1 else 'es'}"


def _registration(found: Found) -> Check:
    """The file is the one that was deposited, and that launches found."""
    own, launches = found.registration.sha256, _that_began(found.records)
    without = sum(NOTED not in one for one in launches)
    other = list(dict.fromkeys(str(one[NOTED])[:12] for one in launches if one.get(NOTED, own) != own))
    faults = [
        _other(own, found.deposited, "it was deposited as"),
        _other(own, found.hash_beside, f"{HASH_FILE} says"),
        _some("edited: launches found another one", other),
        f"{_launches(without)} found none" if without else "",
    ]
    where = "as deposited" if found.deposited else "give --hash with the deposited one, which alone cannot be rewritten"
    return _check("registration", faults, f"as {_launches(len(launches))} found it; {where}")


def _that_began(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The launches that began a trial: after one that began none a study may still be registered, or anew."""
    began: dict[int, Mapping[str, Any]] = {}
    launch: Mapping[str, Any] | None = None
    for record in records:
        if record["record"] == "launch":
            launch = record
        elif record["record"] == "start" and launch is not None:
            began[id(launch)] = launch
    return _each_once(began.values())


def _each_once(launches: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each launch once: a merge takes it in again with what it has begun since."""
    return list({as_written(one): one for one in launches}.values())


def _other(own: str, said: str | None, whose: str) -> str:
    return "" if said in (None, own) else f"edited: {whose} {str(said)[:12]}..., and it is {own[:12]}..."


def _before_the_first_trial(found: Found) -> Check:
    moment, starts = found.registration.moment, [one["time"] for one in found.of_kind("start") if "time" in one]
    early = sum(time < moment for time in starts)
    faults = [
        f"registered {_when(moment)}, and {plural(early, 'trial')} began before, the first {_when(min(starts))}"
        if early
        else "a trial was begun by a launch that had not found this registration"
        if found.study.late
        else ""
    ]
    first = f", the first trial {_when(min(starts))}" if starts else ", and no trial has begun"
    return _check("registered before the first trial", faults, f"registered {_when(moment)}{first}")


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%F %T UTC")


def _config(found: Found) -> Check:
    if found.changed_keys is None:
        if any(_keeps_config(one) for one in found.of_kind("launch")):
            return Check("config", False, "sweep.yaml, which the launch wrote, is gone: restore it")
        stints = "; `python -m trainers` writes none, and `sweep plan --trials-file` does" if found.launches else ""
        return Check("config", None, f"no launch has written sweep.yaml here{stints}")
    return _check("config", [_some("changed", found.changed_keys)], "every key that bears on numbers is as registered")


def _keeps_config(launch: Mapping[str, Any]) -> bool:
    """Whether it has written the run's sweep.yaml: one that was merged did so elsewhere, if at all."""
    others = ("python -m trainers", "sweep merge")
    return "merged" not in launch and not str(launch.get("command")).startswith(others)


def _questions(found: Found) -> Check:
    """Nothing is asked besides, unless it is said."""
    asked = found.registration.claims
    decided = dict.fromkeys(str(decided_by(one).get("claim")) for one in found.launches if decided_by(one))
    faults = [_some("added: launches were to decide", [name for name in decided if name not in asked])]
    said = _some("registered", asked) or "none is registered"
    if found.published is not None:
        judged = [one for one in found.published if one["verdict"] != "not measured"]
        added = [one["name"] for one in judged if one["name"] not in asked]
        bare = [one["name"] for one in judged if one["name"] in added and one.get("registered") != "found afterwards"]
        own = found.registration.accuracy
        printed = {one["name"] for one in found.published if one.get("y", own) == own}
        left_out = [name for name in asked if name not in printed]
        faults += [_some("added, and not marked as found afterwards", dict.fromkeys(bare)), _some("left out", left_out)]
        said += f"; {_some('marked as found afterwards', dict.fromkeys(added))}" if added else ""
    return _check("questions", faults, said)


def _margins(found: Found) -> Check:
    margin = plural(float(f"{100 * found.registration.margin:g}"), "percentage point")
    own = f"{margin}, {100 * found.registration.time_margin:g} % of time"
    if found.published is None:
        return Check("margins", None, f"registered: {own}; a printed ledger is checked with --claims FILE")
    changed = {
        str(one["name"]): f"{one['name']} {one['threshold']:g} in place of {asked['threshold']:g}"
        for one in found.published
        if (asked := found.registration.claims.get(one["name"])) and one["threshold"] != asked.get("threshold")
    }
    return _check("margins", [_some("changed", changed.values())], own)


def _alpha(found: Found) -> Check:
    own, ours = found.registration.alpha, 1 - CONFIDENCE
    decided = [
        one["name"]
        for one in found.published or ()
        if one["verdict"] in ("supported", "contradicted") and not (one.get("p_holm") or 0.0) < own
    ]
    faults = [
        "" if math.isclose(own, ours) else f"changed: registered {own:g}, and this version judges at {ours:g}",
        _some(f"changed: decided though p (Holm) is not below {own:g}", dict.fromkeys(decided)),
    ]
    return _check("alpha", faults, f"{own:g}")


def _seeds(found: Found) -> Check:
    trials = found.study.trials
    begun = set(map(int, trials.loc[trials["outcome"] != "never_started", "seed"]))
    registered = set(found.registration.seeds)
    if not begun:
        return Check("seeds", None, _NONE_BEGAN)
    if not found.open_ended:
        faults = [_some("dropped", sorted(registered - begun)), _some("added", sorted(begun - registered))]
        return _check("seeds", faults, ", ".join(map(str, found.registration.seeds)))
    order = _order(found.registration, begun)
    furthest = max((order.index(seed) for seed in begun if seed in order), default=-1)
    faults = [_some("dropped", [seed for seed in order[:furthest] if seed not in begun])]
    faults.append(_some("added out of turn", sorted(begun - set(order))))
    return _check("seeds", faults, f"{plural(len(begun), 'seed')} in turn")


def _order(registration: Registration, begun: Collection[int]) -> list[int]:
    """Seeds as launches until a claim is decided take them: the registered ones, then the next integers."""
    first = max(registration.seeds) + 1
    return [*registration.seeds, *range(first, first + len(begun))]


def _trials(found: Found) -> Check:
    if set(found.outcomes.values()) <= {"never_started"}:
        return Check("trials", None, _NONE_BEGAN)
    config, registered = found.registration.config, found.registration.trials
    results = (*_RESULTS, *(_ENDED_BY_RULE if config.get("stopping") or config.get("race") else ()))
    wanted = found.outcomes if registered is None else registered
    holes = {name: found.outcomes.get(name, "never_started") for name in wanted}
    holes = {name: outcome for name, outcome in holes.items() if outcome not in results}
    added = [name for name, outcome in found.outcomes.items() if outcome != "never_started" and name not in wanted]
    counts = ", ".join(f"{number} {outcome}" for outcome, number in Counter(holes.values()).items())
    faults = [_some(f"left out, without a result ({counts})", holes), _some("added", added)]
    faults.append(_some("run again, or given other lines, after they had a result", _given_more(found.records)))
    said = f"all {len(wanted)} have a result" if wanted else "none yet"
    return _check("trials", faults, said if registered is not None else f"{said}; they were not known beforehand")


def _given_more(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of trials of which something stands behind their result: no launch writes that unless it runs them again.

    Such a line counts in place of an earlier one, and at the end of a file it breaks no link.
    """
    ended: set[str] = set()
    more: dict[str, None] = {}
    for record in records:
        if (name := record.get("trial_id")) in ended and record["record"] in _TRAINED:
            more[str(name)] = None
        if record["record"] == "outcome" and record["outcome"] in _LASTING:
            ended.add(str(name))
    return list(more)


def but_early_epochs(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What an audit looks at: the records, of epochs those alone that stand behind a result of their trial."""
    ended: set[str] = set()
    kept = []
    for record in records:
        if record["record"] != "epoch" or record["trial_id"] in ended:
            kept.append(record)
        if record["record"] == "outcome" and record["outcome"] in _LASTING:
            ended.add(record["trial_id"])
    return kept


def _stopping(found: Found) -> Check:
    rule, claim = found.registration.stopping, found.registration.stopping.get("claim")
    launches, faults = found.launches, []
    deciding = [decided_by(one) for one in launches if decided_by(one)]
    if not found.open_ended:
        claims = dict.fromkeys(str(one.get("claim")) for one in deciding)
        faults += [_some("changed: launches added seeds to decide", claims)]
    else:
        own = [one for one in launches if not str(one.get("command")).startswith("sweep merge")]
        plain = sum(not decided_by(one) for one in own)
        most = max((float(one.get("budget_hours") or 0) for one in deciding), default=0.0)
        hours = float(rule.get("budget_hours") or 0)
        faults += [
            f"changed: {_launches(plain)} did not stop by it" if plain > 0 else "",
            f"changed: {most:g} h of trials, registered were {hours:g} h" if most > hours else "",
            _peeked(found, str(claim)),
        ]
    taken_up = [name for one in launches for name in one.get("taken_up", ())]
    faults.append(_some("changed: pruned trials were taken up again", taken_up))
    return _check("stopping rule", faults, f"{rule.get('rule')}{f': {claim}' if claim else ''}")


def _peeked(found: Found, claim: str) -> str:
    """That seeds were added though the claim was decided, in words."""
    trials = found.study.trials
    completed = set(map(int, trials.loc[trials["outcome"] == "completed", "seed"]))
    order = [seed for seed in _order(found.registration, completed) if seed in completed]
    for n in range(max(1, len(found.registration.choosers)), len(order)):
        part = replace(found.study, trials=trials[trials["seed"].isin(order[:n])])
        lines = ledger(part, y=found.registration.accuracy, only=claim, **_chosen(found))
        if lines and all(line.verdict in ("supported", "contradicted") for line in lines):
            return f"went on after seed {order[n - 1]} had decided {claim}: seeds {', '.join(map(str, order[n:]))}"
    return ""


def _chosen(found: Found) -> dict[str, Any]:
    return {"metric": found.registration.metric, "mode": found.registration.mode}


def _choice(found: Found) -> Check:
    """Best cells are chosen by the registered metric of validation."""
    own = (found.registration.metric, found.registration.mode)
    others = {
        f"{one['metric']} ({one.get('mode')})": None
        for one in found.launches
        if "metric" in one and (one["metric"], one.get("mode")) != own
    }
    return _check("what best cells are chosen by", [_some("changed", others)], f"{own[0]} ({own[1]})")


def _test_images(found: Found) -> Check:
    """No attack read the test images while trials were still to come."""
    ends = [one["time"] for one in found.of_kind("outcome") if "time" in one]
    read = [one for one in found.of_kind("evaluation") if one.get("split") == "test" and "time" in one]
    last = max(ends, default=math.inf)
    early = [one for one in read if one["time"] < last]
    attacks = ", ".join(dict.fromkeys(str(one["attack"]) for one in early))
    trials = len({one["trial_id"] for one in early})
    faults = [f"read before the last trial had ended: {attacks} on {plural(trials, 'trial')}" if early else ""]
    return _check("test images read before the decision", faults, "no evaluation read them before the last trial ended")


def _code(found: Found) -> Check:
    own, starts, launches = found.registration.code_version, found.of_kind("start"), found.launches
    others = Counter(str(one.get("code_version")) for one in starts if one.get("code_version") != own)
    dirty = sum(one.get("dirty") is True for one in launches) if found.registration.dirty is False else 0
    faults = [
        f"changed: {', '.join(f'{n} of {len(starts)} starts by {version}' for version, n in others.items())}, "
        f"registered was {own}"
        if others
        else "",
        f"{_launches(dirty)} had changes that are in no commit" if dirty else "",
        f"but the sources that train have the registered hash at each of {plural(len(starts), 'start')}"
        if dirty and starts and not others
        else "",
    ]
    return _check("code", faults, own)


def _records(found: Found) -> Check:
    """The links among the records hold, and every line is as it was written."""
    faults = [fault for file in found.files for fault in _faults(file)]
    missing = set(found.records_deposited) - {one for file in found.files for one in file.deposited}
    faults.append(_some("edited: no file begins with what was deposited as", sorted(one[:12] for one in missing)))
    others = [file.name for file in found.files if found.records_deposited and file.lines and not file.deposited]
    faults.append(_some("begin with none of the deposited hashes", others))
    faults.append(_some("edited: lines in another file than their trial's start", _away_from_their_start(found.files)))
    if not found.files:
        return _check("records", faults, "none yet")
    links, loose = (sum(values) for values in zip(*((f.links, f.lines - f.held) for f in found.files), strict=True))
    said = f"{plural(links, 'link')} hold; {plural(loose, 'line')} behind the last one that no link holds"
    hashes = ", ".join(f"{file.name} {file.sha256}" for file in found.files)
    return _check("records", faults, f"{said}; to deposit: {hashes}")


def _away_from_their_start(files: Sequence[Checked]) -> list[str]:
    """The ids of trials of which an epoch or a result stands in another file than the start before it, or behind none.

    One launch writes all of them into one file; a line in a file of its own breaks no link.
    """
    place = {id(record): number for number, file in enumerate(files) for record in file.records}
    began: dict[str, int] = {}
    away: dict[str, None] = {}
    for record in merged([file.records for file in files]):
        kind, here = record["record"], place[id(record)]
        measured = kind in ("epoch", "dynamics") or (kind == "outcome" and record["outcome"] in _LASTING)
        if kind == "start":
            began[record["trial_id"]] = here
        elif measured and began.get(record["trial_id"]) != here:
            away[record["trial_id"]] = None
    return list(away)


def _faults(file: Checked) -> list[str]:
    between = f"between lines {file.held} and {file.broken}" if file.held else f"before line {file.broken}"
    return [
        f"{file.name}: edited: a line was changed, removed, added or moved {between}" if file.broken else "",
        _some(f"{file.name}: edited: lines that are not as they were written", file.damaged),
        _some(f"{file.name}: edited: lines without their link", file.unlinked),
        f"{file.name}: not one link" if file.lines and not file.links else "",
    ]


def _ledger(found: Found) -> Check:
    """A printed ledger says what the records say."""
    if found.published is None:
        return Check("printed ledger", None, "a printed one, `sweep claims DIR --json`, is checked with --claims FILE")
    own = found.registration.accuracy
    lines = {
        _key(asdict(line), own): line for y in _about(found) for line in ledger(found.study, y=y, **_chosen(found))
    }
    differing = [
        f"{one['name']} ({key})" for one in found.published if (key := _differs(one, lines.get(_key(one, own))))
    ]
    printed = {_key(one, own) for one in found.published}
    partly = {(name, y) for name, _, _, y in printed if name in found.registration.claims}
    left_out = {f"{name} ({network})" for name, network, of, y in lines.keys() - printed if (name, y) in partly}
    faults = [_some("differs from the records", dict.fromkeys(differing)), _some("lines left out", sorted(left_out))]
    return _check("printed ledger", faults, f"{plural(len(found.published), 'line')} as the records say")


def _about(found: Found) -> list[str]:
    """The accuracies that printed lines are about: the registered one, or others (`sweep claims --metric`)."""
    named = [one.get("y", found.registration.accuracy) for one in found.published or ()]
    return list(dict.fromkeys(named))


def _key(line: Mapping[str, Any], accuracy: str) -> tuple[str, ...]:
    """What a line of the ledger is found by; `accuracy`: of one that does not say what it is about."""
    return line["name"], line["network"], line["of"], str(line.get("y", accuracy))


def _differs(printed: Mapping[str, Any], ours: Claim | None) -> str:
    """The first key of a printed line that the records do not give; empty: it gives all."""
    if ours is None:
        return "no such line"
    for key in ("verdict", "n", "registered"):
        if printed.get(key, "") != getattr(ours, key):
            return key
    for key in ("estimate", "low", "high", "p_holm"):
        value, own = printed.get(key), getattr(ours, key)
        value = float(value) if isinstance(value, int | float) else math.nan
        if math.isfinite(value) != math.isfinite(own) or abs(value - own) > _ROUNDING * max(1.0, abs(own)):
            return key
    return ""


_CHECKS: tuple[Callable[[Found], Check], ...] = (
    *(_registration, _before_the_first_trial, _config, _questions, _margins, _alpha, _seeds, _trials, _stopping),
    *(_choice, _test_images, _code, _records, _ledger),
)
