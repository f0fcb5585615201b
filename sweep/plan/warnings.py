"""What a plan would do that its user can hardly want: a line each, with the key that ends it.

Nothing here is refused: each may be meant. What cannot be meant is an error of `trainers.config` or `sweep.config`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sweep.axes import INERT_AXES, Axis, Point, holds, value_at
from sweep.config import SweepConfig
from sweep.search.trials import PlannedTrial
from trainers.config import AttackConfig, DataConfig, TrialConfig, leaves
from trainers.data.sources import Shape
from trainers.fields import number_text, plural
from trainers.presets import PRESETS

#: The published length and its milestones, whose shares of the training are proposed for others. [DEAT]
_EPOCHS, _MILESTONES = 110, (100, 105)

#: Pixels that TrivialAugment moves an image by, at most: for images of 32 x 32. [Mueller, Hutter, ICCV 2021, Table 1]
_MOVED = 32


class Warned(NamedTuple):
    """What is odd, and the setting that ends it."""

    text: str
    key: str
    instead: str = ""
    """What ends it where the key is an axis, which a setting would end too; empty: it is none."""

    def line(self) -> str:
        """Both in one line."""
        return f"{self.text}; {self.instead or f'set {self.key}'}"


def warnings(
    config: SweepConfig,
    planned: Sequence[PlannedTrial],
    shapes: Mapping[DataConfig, Shape],
    all_known: bool = True,
) -> tuple[Warned, ...]:
    """What is odd about a sweep.

    Args:
        config: the sweep.
        planned: all its trials, or examples where they are not known yet.
        shapes: of their data, as far as known.
        all_known: whether there are no examples among the trials, which cannot be counted.
    """
    groups: dict[str, list[tuple[Warned, Point]]] = {}
    points: dict[str, list[PlannedTrial]] = defaultdict(list)
    for planned_one in planned:
        points[json.dumps(planned_one.point)].append(planned_one)
    first = [of_point[0] for of_point in points.values()]  # no seed makes a trial odd
    trials = [one.config for one in first]
    for trial, of_point in zip(trials, points.values(), strict=True):
        for one in _of_trial(trial, shapes.get(trial.data)):
            groups.setdefault(one.key.partition("=")[0], []).extend([(one, of_point[0].point)] * len(of_point))
    counted = (_of_how_many(group, len(planned), all_known) for group in groups.values())
    kept = (one._replace(instead=_keeping(group, config)) for one, group in zip(counted, groups.values(), strict=True))
    return (
        *kept,
        *_decay(trials),
        *_measures(trials),
        *_networks(trials),
        *_unread(config, first),
        *_answered_by_some(config),
        *_of_order(config),
    )


def _answered_by_some(config: SweepConfig) -> Iterator[Warned]:
    """A question, or several seeds, are there for claims and figures; early stopping leaves trials out of both."""
    rule = "race" if config.race is not None else config.stopping and config.stopping.name
    if rule is None or not (config.question or len(config.seeds) > 1):
        return
    from analysis.frames.pruned import BIAS  # which loads pandas

    asks = "question asks for claims and figures" if config.question else "several seeds are for claims and figures"
    text = f"{asks}, and early stopping leaves the trials out of them that {rule} ends: {BIAS}"
    key = "race" if config.race is not None else "stopping"
    yield Warned(text, f"{key}=null for what is to be claimed, or sweep launch --resume-pruned at the end")


def _of_order(config: SweepConfig) -> Iterator[Warned]:
    """That a deterministic search is one only as far as early stopping, which hangs on the order of results, is."""
    if config.search.deterministic and (config.stopping is not None or config.race is not None):
        yield Warned(
            "search.deterministic: early stopping decides by the order of results, so that points are the same given "
            "the same decisions only",
            "stopping=null" if config.race is None else "race=null",
        )


def _of_how_many(group: Sequence[tuple[Warned, Point]], trials: int, all_known: bool) -> Warned:
    """The first of a group of trials, and how many they are, where not all."""
    first, _ = group[0]
    if len(group) == trials:
        return first
    many = f"{len(group)} of {trials} trials" if all_known else "where it is drawn"
    return first._replace(text=f"{first.text} ({many})")


def _keeping(group: Sequence[tuple[Warned, Point]], config: SweepConfig) -> str:
    """The ways out of a warning without the end of an axis; empty where none of the keys to set is one."""
    ways, on_axis = [], False
    for way in group[0][0].key.split(", or "):
        setting, _, value = way.partition("=")
        key = setting.removeprefix("trial.")
        drawn = list(dict.fromkeys(_plain(point[key]) for _, point in group if key in point))
        on_axis |= bool(drawn)
        ways.append(_other_values(key, config.space[key], drawn, value) if drawn else f"set {way}")
    return ", or ".join(ways) if on_axis else ""


def _other_values(key: str, axis: Axis, drawn: Sequence[str], value: str) -> str:
    if axis.is_range:
        return f"narrow space.{key}, which has {drawn[0]}"
    if set(map(_plain, axis.extremes())) <= set(drawn):
        return f"take other values in space.{key}, such as {value}"
    return f"leave {' and '.join(drawn)} out of space.{key}"


def _of_trial(trial: TrialConfig, shape: Shape | None) -> Iterator[Warned]:
    for check in _CHECKS:
        yield from check(trial)
    if shape is not None and trial.batch_size >= shape.train_images:
        fewer = 2 ** max(0, int(math.log2(shape.train_images / 10)))
        yield Warned(
            f"one step an epoch: batch_size {trial.batch_size} takes all {shape.train_images} training images",
            f"trial.batch_size={fewer}",
        )
    if shape is not None and trial.data.policy == "trivialaugment" and min(shape.height, shape.width) < _MOVED:
        yield Warned(
            f"trivialaugment moves images by up to {_MOVED} pixels, and these have {shape.height} x {shape.width}: "
            "some are empty then, and keep their label",
            "trial.data.policy=randaugment",
        )


def _milestones(trial: TrialConfig) -> Iterator[Warned]:
    schedule, epochs = trial.schedule, trial.epochs
    missed = [epoch for epoch in schedule.milestones if epoch >= epochs]
    if schedule.name != "piecewise" or not missed or schedule.factor == 1 or _as_published(trial):
        return
    falls = "never falls" if len(missed) == len(schedule.milestones) else "falls less often than written"
    shares = [round(epochs * epoch / _EPOCHS) for epoch in _MILESTONES]
    fit = 0 < shares[0] < shares[1] < epochs
    yield Warned(
        f"the learning rate {falls}: schedule.milestones {list(schedule.milestones)} of {plural(epochs, 'epoch')}",
        f"trial.schedule.milestones={shares}, or trial.schedule.name=constant"
        if fit
        else "trial.schedule.name=constant",
    )


def _as_published(trial: TrialConfig) -> bool:
    """Whether length and milestones are the preset's: TRADES's code names some that its 76 epochs do not reach."""
    preset = PRESETS[trial.preset].values if trial.preset else {}
    here = trial.epochs, list(trial.schedule.milestones)
    return here == tuple(preset[key][0] for key in ("epochs", "schedule.milestones") if key in preset)


def _late(trial: TrialConfig) -> Iterator[Warned]:
    """What begins, or is measured, after the last epoch."""
    epochs, some = trial.epochs, max(1, trial.epochs // 10)
    rise = trial.schedule.warmup_epochs
    if trial.schedule.name != "one_cycle" and rise >= epochs:
        text = f"the learning rate never reaches optimizer.lr: it rises over {rise:g} of {plural(epochs, 'epoch')}"
        yield Warned(text, f"trial.schedule.warmup_epochs={some if some < epochs else 0}")
    for key in ("radius", "step_size"):
        if (rise := getattr(trial.attack, f"{key}_warmup")) > epochs:
            text = f"attack.{key} never reaches its value: it rises over {rise:g} of {plural(epochs, 'epoch')}"
            yield Warned(text, f"trial.attack.{key}_warmup={some if some < epochs else 0}")
    if missed := [epoch for epoch in trial.attack.tau_milestones if epoch >= epochs]:
        text = f"tau grows less often than written: attack.tau_milestones {missed} of {plural(epochs, 'epoch')}"
        yield Warned(text, f"trial.attack.tau_milestones={[e for e in trial.attack.tau_milestones if e < epochs]}")
    if trial.weights.name == "awp" and (trial.weights.warmup or 0) >= epochs:
        yield Warned(
            f"AWP never begins: it waits for {trial.weights.warmup} of {plural(epochs, 'epoch')}",
            "trial.weights.warmup=0",
        )
    if (every := trial.dynamics.every or 0) > epochs:
        text = f"dynamics are measured before training and at its end alone: every {every} of {plural(epochs, 'epoch')}"
        yield Warned(text, f"trial.dynamics.every={some}")
    if trial.evaluation.every >= epochs > 1:
        text = (
            f"accuracies are measured at the end alone, every {trial.evaluation.every} of {epochs} epochs: whether "
            "they had been better before (robust overfitting) cannot be seen"
        )
        yield Warned(text, f"trial.evaluation.every={some}")


def _attacks(trial: TrialConfig) -> Iterator[Warned]:
    """Attacks whose steps do not suit their ball: the training's, and the evaluation's where it differs."""
    measures = trial.evaluation_attack()
    if trial.attack.steps:
        yield from _steps("attack", trial.attack)
    same = (measures.radius, measures.step_size) == (trial.attack.radius, trial.attack.step_size)
    if not (same and measures.steps == trial.attack.steps):
        yield from _steps("evaluation", measures)
    if measures.radius == 0:
        yield Warned("robust accuracy is the clean one: evaluation.radius is 0", "trial.evaluation.radius=8/255")
    if trial.attack.norm == "l2" and trial.attack.radius == AttackConfig().radius:
        text = "an l_2 ball of radius 8/255 hardly holds another image: that is the radius of l_inf"
        yield Warned(text, "trial.attack.radius=128/255")


def _steps(part: str, attack: AttackConfig) -> Iterator[Warned]:
    radius, step, steps = attack.radius, attack.step_size, attack.replays or attack.steps
    many = "steps" if attack.replays is None else "replays"
    key = f"trial.{part}.step_size={2.5 * radius / steps:.4g}"  # [Madry et al., ICLR 2018, Section 5]
    if attack.replays is not None:
        key = f"trial.{part}.step_size={number_text(radius)}"  # [Shafahi et al., NeurIPS 2019, Algorithm 1]
    if steps * step < radius * (1 - 1e-9):
        yield Warned(
            f"PGD cannot go from an image to the edge of its ball: {part}.{many} {steps} times {part}.step_size "
            f"{step:.4g} is less than the radius, {radius:.4g}",
            key,
        )
    elif step > 2 * radius > 0:
        yield Warned(f"one step crosses the whole ball: {part}.step_size {step:.4g}, radius {radius:.4g}", key)


#: A learning rate of AdamW, whose step is about that long for every weight, from which on one step is as long as most
#: weights of a layer of some hundred inputs are. [own]
_LARGE = 0.03


def _adamw(trial: TrialConfig) -> Iterator[Warned]:
    """SGD's learning rate, under AdamW, whose step is about that long for every weight."""
    lr = trial.optimizer.lr
    if trial.optimizer.name == "adamw" and lr >= _LARGE:
        text = f"AdamW moves every weight by about {lr:g} at each step, its optimizer.lr"
        yield Warned(text, "trial.optimizer.lr=0.001")  # torch's default


def _data(trial: TrialConfig) -> Iterator[Warned]:
    """Extra images of which no whole one is in a batch, or beside which none of the data set's own is."""
    data, size = trial.data, trial.batch_size
    lacking = {0: "an extra image", size: "an image of the data set's own"}.get(round(data.extra_fraction * size))
    if data.reads_extra and lacking:
        text = f"no batch has {lacking}: extra_fraction {data.extra_fraction:g} of batch_size {size}"
        yield Warned(text, "trial.data.extra_fraction=0.7")


_CHECKS: tuple[Callable[[TrialConfig], Iterable[Warned]], ...] = (_milestones, _late, _attacks, _adamw, _data)


def _decay(trials: Sequence[TrialConfig]) -> Iterator[Warned]:
    """DEAT beside SGD, no control among the trials: by their mean steps, the weights decay at different rates."""
    deat = [one.optimizer for one in trials if one.optimizer.name == "deat" and one.optimizer.weight_decay]
    sgd = [one.optimizer for one in trials if one.optimizer.name == "sgd" and one.optimizer.weight_decay]
    controlled = not all(one.decoupled_weight_decay for one in deat) or len({one.weight_decay for one in sgd}) > 1
    if not deat or not sgd or controlled or any(one.momentum or one.decoupled_weight_decay for one in sgd):
        return
    times = math.hypot(1 + deat[0].k1, deat[0].k1)
    yield Warned(
        "DEAT and SGD differ in two ways here, and a difference in accuracy may come from either: DEAT's steps are "
        f"noisier, and for the length of its steps its weight decay is {times:.3g} times as strong; "
        "configs/controls.yaml tells the two apart, and equal decay avoids the question",
        "trial.optimizer.decoupled_weight_decay=false",
    )


def _measures(trials: Sequence[TrialConfig]) -> Iterator[Warned]:
    """Trials that are evaluated by different attacks."""
    attacks = [vars(one.evaluation_attack()) | {"restarts": one.evaluation.restarts} for one in trials]
    for key in ("norm", "radius", "step_size", "steps", "restarts"):
        values = list(dict.fromkeys(_plain(attack[key]) for attack in attacks))
        if len(values) > 1:
            part = "attack" if key == "norm" else "evaluation"
            text = f"robust accuracies do not compare: trials are evaluated at {key} {', '.join(values)}"
            yield Warned(text, f"trial.{part}.{key}={values[0]}")


def _networks(trials: Sequence[TrialConfig]) -> Iterator[Warned]:
    """Presets that bring different networks."""
    by_preset: dict[str, set[str]] = defaultdict(set)
    for one in trials:
        if one.preset is not None:
            by_preset[one.preset].add(one.model.name)
    if len({frozenset(names) for names in by_preset.values()}) > 1:
        names = sorted(set().union(*by_preset.values()))
        text = f"accuracies of different networks do not compare: the presets train {', '.join(names)}"
        yield Warned(text, f"trial.model.name={names[0]}")


def _unread(config: SweepConfig, trials: Sequence[PlannedTrial]) -> Iterator[Warned]:
    """Keys of `trial` that were set, and that no trial reads."""
    ours, default = config.trial.model_dump(), TrialConfig().model_dump()
    read = [one.identity for one in trials]
    for key in leaves(config.given):
        if not holds(default, key):  # an option of the user's own code, which refuses what it does not read
            continue
        value = value_at(ours, key)
        inert = key == "preset" or key in INERT_AXES or key in config.space
        if inert or value == value_at(default, key) or _is_read(key, ours, read):
            continue
        part = key.split(".")[0]
        parts = [one.get(part) for one in read]  # of batch_norm, which is no part, there is none where it is not read
        names = " and ".join(dict.fromkeys(str(one.get("name") if isinstance(one, Mapping) else None) for one in parts))
        why = f" (its name: {names})" if "None" not in names and part != "data" else ""
        yield Warned(f"trial.{key}={value} is read by no trial{why}", f"trial.{key}={_plain(value_at(default, key))}")


def _is_read(key: str, ours: Mapping[str, Any], read: Sequence[Mapping[str, Any]]) -> bool:
    if key in ("attack.radius", "attack.step_size") and value_at(ours, f"evaluation.{key.split('.')[1]}") is None:
        return True  # by the evaluation
    if key in ("model.activation", "model.fine_tune"):
        return True  # a network that has none refuses it; named by content
    if key == "data.extra":
        key = "data.extra_fingerprint"  # it is in the id by its content
    if ours["schedule"]["name"] == "piecewise" and key in ("schedule.milestones", "schedule.factor"):
        return True  # or not reached, which has a line of its own
    if ours["weights"]["name"] == "awp" and key in ("weights.name", "weights.gamma", "weights.warmup"):
        return True
    return any(holds(one, key) for one in read)


def _plain(value: Any) -> str:
    return "null" if value is None else number_text(value) if isinstance(value, float) else str(value)
