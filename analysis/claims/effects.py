"""What each claim of the ledger is about, as one number a replicate: a contrast of cells, seed by seed.

Cells at one seed share their first weights and the order of their images, and neighbouring learning rates are hardly
independent experiments: within a seed the cells are averaged, and only seeds are replicates. Where there is one seed,
the cells stand in for it, and no verdict can be read from them: what the seed does to all cells is in the effect, and
not in its interval. Published cells are means over seeds, and stand in for them with a verdict, as in the paper.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, MultiIndex, Series

from analysis.claims.blocks import (
    BEGAN,
    EPOCH_SECONDS,
    LAUNCH,
    OWN,
    OWN_DECAY,
    Block,
    Effect,
    NotMeasured,
    Options,
    Pair,
    of_any_seed,
    published_settings,
    with_counterpart,
)
from analysis.claims.evidence import Evidence, of_range, of_regression, of_values
from analysis.estimates import designs
from analysis.estimates.crossed import BOTH
from analysis.frames.cells import candidate_cells, codes, enough_seeds, measured, rows_by_number, several
from analysis.frames.cells import own_best as each_at_its_best
from analysis.frames.names import named, short
from analysis.frames.trials import axes
from analysis.theory.deat import normaliser
from trainers.fields import plural

Array = NDArray[np.float64]

#: Of the order in which trials began: further apart, and a load that grows or falls meanwhile is the larger part of
#: the difference. By turns they are 1/3 apart or less; one optimizer after the other, 1/2 and more.
_APART = 0.4

#: How far an effective learning rate or weight decay may be off, relative: configs write them in four digits.
_SAME = 0.005

#: How near to dependent on the others a column of a design may be, relative, before its coefficient means nothing.
_COLLINEAR = 1e-9

_SELF_CHOSEN = (
    "the same seeds chose each method's best cell, which flatters the method with more cells near its best; other "
    "seeds have to decide: by --chosen-by-seed, or `sweep launch CONFIG --decide deat_own_best`"
)
_TEST_CHOSEN = "test accuracies chose the best cells, so they cannot judge them too"

_ONE_SEED = (
    "there is one seed, whose chance all cells share, so that cells cannot stand in for seeds; run a second seed"
)
_ONE_CONFIRMS = "one seed alone is left to compare, as the others chose the best cells; run a further one"


def ratio(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """Slope of one method's robust accuracy on log10(lr / batch), within what else is varied: a fraction a decade."""
    if designs.one_ratio(trials):
        varied = several(trials["optimizer.lr"]) or several(trials["batch_size"])
        return NotMeasured(designs.ONE_RATIO if varied else "neither the learning rate nor the batch size is varied")
    block = Block.of(trials, options.y)
    effect = _slope(block, "lr_batch_ratio", 0, "slope on log10(lr / batch)", options)
    if isinstance(effect, NotMeasured):
        return effect
    return replace(effect, caveat=_not_yet_the_ratio(effect.trials))


def ratio_only(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """Slope of one method's robust accuracy on log10(lr) where lr / batch stays the same: 0 if the ratio is all.

    The model `ratio + lr` of `analysis.estimates.nested_models`, with the degree that the cells allow, fitted to each
    seed.
    """
    for axis in ("optimizer.lr", "batch_size"):
        if not several(trials[axis]):
            return NotMeasured(f"{_word(axis)} is not varied: along a constant ratio both must change")
    block = Block.of(trials, options.y)
    settings, degrees = _setting(block.trials), []
    for _, part in block.trials.groupby(settings):
        layout = designs.Layout.of(part, options.y)
        if why := designs.lacking(part, layout):
            return NotMeasured(why + " (at one setting of what else is varied)" * bool(settings.any()))
        degrees.append(designs.degree_of(layout))
    return _slope(block, "optimizer.lr", min(degrees, default=0), "slope on log10(lr) at constant lr / batch", options)


def equal_lr(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """DEAT minus SGD at equal hyperparameters, mean over cells: a fraction."""
    if lacking := _lacks_sides(trials):
        return NotMeasured(lacking)
    block = Block.of(published_settings(trials), options.y, pairs=_pairs)
    used = _momenta(block.trials)
    note = f"SGD has momentum {used}, DEAT none: at equal lr SGD's steps are longer" if used else ""
    return _paired(block, "DEAT - SGD, mean over equal cells", options, note)


def own_best(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """DEAT minus SGD, each at the learning rate and batch size that validation chose for it: a fraction.

    The seeds in which every cell was wanted choose, by their mean. Other seeds, if any, were added to confirm, and
    they alone are then counted: what chose a cell flatters it, and decides nothing. Among the trials may be diverged
    ones, whose cells are not chosen.
    """
    if lacking := _lacks_sides(trials[trials["outcome"] == "completed"]):
        return NotMeasured(lacking)
    trials = published_settings(trials)
    choosers = choosing_seeds(trials) if options.choosers is None else options.choosers
    candidates = np.isin(codes(trials, axes(trials)), candidate_cells(trials, options.metric, seeds=choosers).index)
    chose = set(Block.of(trials[candidates & trials["seed"].isin(choosers)], options.metric).table.columns)
    if not chose:
        return NotMeasured(f"{options.metric} was not measured: nothing but the test set could choose")
    best = each_at_its_best(trials, options.metric, mode=options.mode, choosers=choosers)
    block = Block.of(best.compared, options.y, most_cells=True, pairs=_family_pairs)
    note = f"other seeds ({len(chose)}), which are not counted here, chose the cells"
    untested = "" if options.sequential or block.table.shape[1] > 1 else _ONE_CONFIRMS
    if not block.pairs:
        if options.deciding:
            return NotMeasured("the seeds so far chose the cells; those to confirm them are still to run")
        block = Block.of(best.chose[best.chose["seed"].isin(chose)], options.y, most_cells=True, pairs=_family_pairs)
        untested = ""
        if trials.assign(cell=codes(trials, axes(trials))).groupby("method")["cell"].nunique().max() > 1:
            note, untested = "chosen and compared with the same seeds", _SELF_CHOSEN
        else:
            note = "each method has one cell, so that nothing was chosen"
    if "test" in options.metric:
        note, untested = "the test set chose the cells, as there is no other: both sides are too high", _TEST_CHOSEN
    how = "DEAT - SGD, each at its own best cell"
    note = "; ".join(filter(None, [note, _other_differences(block.cells)]))
    effect = _paired(block, how, options, note)
    if isinstance(effect, NotMeasured):
        return effect
    return replace(effect, untested=untested if untested == _ONE_CONFIRMS else effect.untested or untested)


def choosing_seeds(trials: DataFrame) -> frozenset[int]:
    """The seeds in which the most cells were wanted: by design, whatever became of the trials.

    Cells that were wanted with fewer than `analysis.frames.cells.enough_seeds` do not count: no best one is chosen of
    them.

    Args:
        trials: of one network, of any outcome.
    """
    wanted = published_settings(trials)
    wanted = wanted.assign(cell=codes(wanted, axes(wanted)))
    seeds = wanted.groupby("cell")["seed"].nunique()
    enough = seeds.index[seeds >= enough_seeds(seeds.to_numpy())]
    cells = wanted[wanted["cell"].isin(enough)].groupby("seed")["cell"].nunique()
    return frozenset(int(seed) for seed in cells.index[cells == cells.max()])


def not_weight_decay(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """DEAT minus the SGD that has its effective learning rate and weight decay: a fraction.

    With f = sqrt((1 + k1)^2 + k1^2), DEAT's mean step is that of lr / f, and its decoupled decay lr * w is that of
    SGD with weight decay f w at that learning rate. DEAT at k1 > 0, decoupled, as published.
    """
    if lacking := _lacks_sides(trials):
        return NotMeasured(lacking)
    if not any(of_any_seed(trials, matched_controls)):
        return NotMeasured(_why_no_control(trials))
    block = Block.of(trials, options.y, pairs=matched_controls)
    return _paired(block, "DEAT - SGD at lr / f, f times the weight decay", options)


def k1_k2(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """The largest difference of robust accuracy between two settings of k1 and k2: a fraction.

    Of the settings of the place (learning rate, batch size, ...) that has most of them, at all places that have those.
    """
    for axis in ("optimizer.k1", "optimizer.k2"):
        if axis not in trials or not several(trials[axis]):
            return NotMeasured(f"{_word(axis)} is not varied")
    block = Block.of(trials[trials["optimizer.name"] == "deat"], options.y)
    others = [a for a in axes(block.cells) if a not in ("optimizer.k1", "optimizer.k2") and several(block.cells[a])]
    placed = block.trials.assign(place=codes(block.trials, others))
    settings = placed.pivot_table(index=["optimizer.k1", "optimizer.k2"], columns=["place", "seed"], values=options.y)
    most = settings.notna().sum().sort_values(ascending=False, kind="stable").index[:1]
    settings = settings.dropna(subset=most).dropna(axis=1)
    if len(settings) == 1 and len(block.cells) > 1:
        return NotMeasured(f"no two settings of k1 and k2 were run at the same {' and '.join(others)}")
    means = np.asarray(settings.T.groupby(level="seed").mean().T, dtype=np.float64)
    if len(means) < 2 or means.shape[1] < 2:
        return NotMeasured("2 seeds of 2 settings are needed for a bound; run more seeds")
    law = "Bonferroni over pairs" if options.sequential else "studentized range"
    how = f"largest minus smallest mean of the cells; interval: {law}"
    used = MultiIndex.from_frame(placed[settings.columns.names]).isin(settings.columns)
    used &= MultiIndex.from_frame(placed[settings.index.names]).isin(settings.index)
    return Effect(of_range(means, sequential=options.sequential), "seed", how, block.trials[used])


def extra_time(trials: DataFrame, options: Options) -> Effect | NotMeasured:
    """Logarithm of DEAT's seconds of training an epoch over SGD's, at equal hyperparameters.

    Of trials that ran beside each other alone: another hour, or another launch, may have had a busier machine.
    """
    if lacking := _lacks_sides(trials):
        return NotMeasured(lacking)
    if EPOCH_SECONDS not in trials or not np.isfinite(trials[EPOCH_SECONDS]).any():
        return NotMeasured("no times are recorded")
    timed = measured(published_settings(trials), EPOCH_SECONDS)
    timed = timed[with_counterpart(timed, _pairs)]
    beside = timed[_beside_each_other(timed, options.deciding)]
    beside = beside[with_counterpart(beside, _pairs)]
    if len(timed) and beside.empty:
        if options.deciding:
            return NotMeasured("so far one optimizer's trials began before the other's; further seeds take turns")
        return NotMeasured(
            "DEAT's trials ran at another time than SGD's, and the machine may have been busier then; "
            "`sweep launch CONFIG --decide no_extra_time` runs them by turns"
        )
    block = Block.of(beside, EPOCH_SECONDS, pairs=_pairs)
    if _computed_otherwise(block.trials):
        return NotMeasured(
            "DEAT's trials were not computed as SGD's were; `sweep results --format csv` says how each was"
        )
    note = "trials that ran side by side shared a machine"
    if lone := len(timed) - len(beside):
        note += f"; {plural(lone, 'trial')} not compared, as the other optimizer's ran at another time"
    how = "log(DEAT / SGD) of the median epoch, mean over equal cells"
    return _paired(replace(block, table=block.table.transform(np.log)), how, options, note)


def _beside_each_other(trials: DataFrame, deciding: bool) -> NDArray[np.bool_]:
    """Which trials began, in the order of their launch, among trials of the other optimizer.

    A launch's seeds are looked at each by itself too, where they have several trials an optimizer. Where launches are
    to decide this claim, each seed has its own: one optimizer may then be the first, if the other is as often.

    Args:
        trials: n of both optimizers.
        deciding: whether launches are to decide this claim.
    """
    among = np.ones(len(trials), dtype=np.bool_)
    if BEGAN not in trials or trials.empty:
        return among
    by = "seed" if deciding else LAUNCH
    gaps = Series({key: _gap(rows) for key, rows in trials.groupby(by)}, dtype=np.float64)
    apart = gaps[gaps.abs() > _APART]
    in_turns = np.isfinite(apart).all() and abs(np.sign(apart).sum()) < min(2, len(apart))
    if not (deciding and in_turns):
        among &= ~trials[by].isin(apart.index).to_numpy(dtype=np.bool_)
    if deciding:
        return among
    for _, rows in trials.groupby([LAUNCH, "seed"]):
        if rows["optimizer.name"].value_counts().max() > 1 and abs(_gap(rows)) > _APART:
            among &= ~trials.index.isin(rows.index)
    return among


def _gap(trials: DataFrame) -> float:
    """How much later than SGD's DEAT's trials began: their mean ranks' difference, as a share of all ranks.

    Infinite where there are trials of one alone; 0 where it is not known when they began.
    """
    began = trials[BEGAN].astype(np.float64).dropna()
    means = began.rank().groupby(trials["optimizer.name"]).mean()
    if began.empty:
        return 0.0
    return math.inf if len(means) < 2 else float((means["deat"] - means["sgd"]) / (len(began) - 1))


def _computed_otherwise(trials: DataFrame) -> bool:
    """Whether one optimizer's trials ran in engines, versions or on processors that the other's did not."""
    if "arithmetic" not in trials:
        return False
    known = trials.dropna(subset="arithmetic").groupby("optimizer.name")["arithmetic"]
    return len(set(known.agg(frozenset))) > 1


def matched_controls(cells: DataFrame) -> list[Pair]:
    """Rows of DEAT, k1 > 0 and decoupled, each with the rows of SGD of its effective learning rate and weight decay.

    SGD without momentum, as published, Nesterov's too: with a momentum of mu its steps are those of about
    lr / (1 - mu), to the first order in lr [Smith, Kindermans, Ying, Le, ICLR 2018, section 4], so that it is no
    control but to that order.
    """
    lr, decay = cells["optimizer.lr"].to_numpy(dtype=np.float64), _own(cells, "optimizer.weight_decay")
    k1 = _own(cells, "optimizer.k1", published=1.0)
    factor = normaliser(k1)
    deat, plain = _like_sgd(cells), _without_momentum(cells)
    pairs: list[Pair] = []
    for rows in rows_by_number(codes(cells, [axis for axis in axes(cells) if not axis.startswith("optimizer.")])):
        controls = rows[plain[rows]]
        for row in rows[deat[rows]] if len(controls) else ():
            same = np.isclose(lr[controls], lr[row] / factor[row], rtol=_SAME)
            same &= np.isclose(decay[controls], decay[row] * factor[row], rtol=_SAME)
            if same.any():
                pairs.append(([int(row)], controls[same].tolist()))
    return sorted(pairs)


def _own(cells: DataFrame, key: str, published: float = np.nan) -> Array:
    """Each row's setting, of its config, of an axis, or as published where neither has it."""
    values = Series(np.nan, index=cells.index)
    for name in (OWN[key], key):
        values = values.fillna(cells[name].astype(np.float64)) if name in cells else values
    return np.asarray(values.fillna(published), dtype=np.float64)


def _without_momentum(cells: DataFrame) -> NDArray[np.bool_]:
    """Which rows are of SGD without momentum."""
    sgd = (cells["optimizer.name"] == "sgd").to_numpy(dtype=np.bool_)
    return np.asarray(sgd & (_own(cells, "optimizer.momentum", published=0.0) == 0))


def _other_differences(cells: DataFrame) -> str:
    """What else the two sides of a comparison differ in, of what both have."""
    deat = (cells["optimizer.name"] == "deat").to_numpy(dtype=np.bool_)
    compared = ("optimizer.name", "optimizer.lr", "optimizer.momentum", "batch_size")
    differing = []
    for axis in (name for name in axes(cells) if name not in compared):
        sides = [sorted(set(map(short, cells.loc[side, axis].dropna()))) for side in (deat, ~deat)]
        if all(sides) and sides[0] != sides[1]:
            differing.append(f"{axis} ({' and '.join(sides[0])} for DEAT, {' and '.join(sides[1])} for SGD)")
    differing += [f"momentum ({used} for SGD, none for DEAT)"] if (used := _momenta(cells)) else []
    return f"the sides differ also in {', '.join(differing)}" if differing else ""


def _momenta(trials: DataFrame) -> str:
    """The momenta that SGD was run with, but 0."""
    sgd = trials[trials["optimizer.name"] == "sgd"]
    return ", ".join(short(value) for value in np.unique(_own(sgd, "optimizer.momentum", published=0.0)) if value)


def _like_sgd(cells: DataFrame) -> NDArray[np.bool_]:
    """Which rows are of DEAT with k1 > 0 and decoupled decay, whose decay in SGD's terms is not its own."""
    deat = (cells["optimizer.name"] == "deat").to_numpy(dtype=np.bool_)
    decoupled = _own(cells, "optimizer.decoupled_weight_decay", published=1.0) != 0
    return np.asarray(deat & decoupled & (_own(cells, "optimizer.k1", published=1.0) > 0))


def _why_no_control(trials: DataFrame) -> str:
    """What keeps every SGD trial from being a control of DEAT's, trials of both being there."""
    if not _like_sgd(trials).any():
        return "DEAT was run with k1 0 or with coupled decay alone: the question is about its published form"
    if not _without_momentum(trials).any():
        used = _momenta(trials)
        return f"SGD was run with momentum {used} alone, whose steps are longer at its lr: a control has momentum 0"
    return "the controls were not run: no SGD trial has the learning rate and weight decay that DEAT acts like"


def _lacks_sides(trials: DataFrame) -> str:
    missing = [name for name in ("sgd", "deat") if name not in set(trials["optimizer.name"])]
    return f"no trial of {' and '.join(missing)}" if missing else ""


def _pairs(cells: DataFrame) -> list[Pair]:
    """Rows of DEAT with the rows of SGD that agree with them on all but the optimizer's own settings."""
    shared = [axis for axis in axes(cells) if axis == "optimizer.lr" or not axis.startswith("optimizer.")]
    shared += [OWN_DECAY] if OWN_DECAY in cells else []
    return _agreeing(cells, codes(cells, shared))


def _family_pairs(cells: DataFrame) -> list[Pair]:
    """Rows of DEAT with the rows of SGD of the same family of methods."""
    return _agreeing(cells, Series([named(str(name)).family for name in cells["method"]]).factorize()[0])


def _agreeing(cells: DataFrame, keys: NDArray[np.int64]) -> list[Pair]:
    """Rows of DEAT with the rows of SGD of the same key.

    Args:
        cells: n rows.
        keys: (n,), numbers from 0 in order of appearance.
    """
    sides = [np.asarray(cells["optimizer.name"] == name) for name in ("deat", "sgd")]
    pairs = [[rows[side[rows]].tolist() for side in sides] for rows in rows_by_number(keys)]
    return [(deat, sgd) for deat, sgd in pairs if deat and sgd]


def _paired(block: Block, how: str, options: Options, note: str = "") -> Effect | NotMeasured:
    """Mean over pairs of cells of their difference; replicates are the seeds, or of one seed the pairs."""
    if not block.pairs:
        return NotMeasured("no cell was run with both DEAT and SGD at the same seed")
    values, weights = np.asarray(block.table), np.zeros(len(block.table))
    gains = np.array([values[deat].mean(axis=0) - values[sgd].mean(axis=0) for deat, sgd in block.pairs])
    for deat, sgd in block.pairs:
        weights[deat] += 1 / len(deat) / len(block.pairs)
        weights[sgd] -= 1 / len(sgd) / len(block.pairs)
    if gains.shape[1] > 1 or options.sequential:
        evidence = _over_seeds(gains.mean(axis=0), block, weights, options)
        return Effect(
            evidence, "seed", f"{how}; interval: {_law(evidence)} over {evidence.holds}", block.compared, note
        )
    return _of_cells(
        Effect(of_values(gains[:, 0]), "cell", f"{how}; interval: t over cells", block.compared, note), options
    )


def _slope(block: Block, column: str, degree: int, how: str, options: Options) -> Effect | NotMeasured:
    """Coefficient of log10(column), each setting of whatever else is varied with a polynomial in log10(lr / batch)."""
    x, r = (np.log10(block.cells[name].to_numpy(dtype=np.float64)) for name in (column, "lr_batch_ratio"))
    groups = _setting(block.cells)
    centred = (r - r.mean()) / max(float(np.ptp(r)), _COLLINEAR) if len(r) else r
    left = _left_of(x, centred, groups, degree)
    if len(x) <= 1 or np.abs(left).max() <= max(_COLLINEAR, 1e-6 * np.ptp(x)):
        return NotMeasured("too few cells that differ in nothing else completed the same seeds for a slope")
    if block.table.shape[1] > 1 or options.sequential:
        weights = left / (left @ left)
        evidence = _over_seeds(weights @ np.asarray(block.table), block, weights, options)
        whose = "the seeds' slopes" + " and test images" * (evidence.holds == BOTH)
        return Effect(evidence, "seed", f"{how}; interval: {_law(evidence)} over {whose}", block.trials)
    powers = [(groups[:, None] == np.unique(groups)) * centred[:, None] ** power for power in range(degree + 1)]
    design = np.column_stack([x, *powers]).astype(np.float64)
    evidence = of_regression(design, np.asarray(block.table)[:, 0], 0)
    return _of_cells(Effect(evidence, "cell", f"{how}; interval: least squares over cells", block.trials), options)


def _over_seeds(values: Array, block: Block, weights: Array, options: Options) -> Evidence:
    """The mean over seeds of a sum of cells; for other test images too where there is a bit an image.

    Not where n was stopped at: further seeds look at the same images, and their error no number of seeds makes less.
    """
    if options.sequential:
        return of_values(values, sequential=True)
    return of_values(values, images=block.image_variance(weights))


def _of_cells(effect: Effect, options: Options) -> Effect:
    """An effect whose replicates are cells: of one seed no verdict can be read from it."""
    return effect if options.of_means else replace(effect, untested=_ONE_SEED)


def _setting(cells: DataFrame) -> NDArray[np.int64]:
    """The number of each row's setting of all axes but the learning rate and the batch size."""
    return codes(cells, [axis for axis in axes(cells) if axis not in ("optimizer.lr", "batch_size")])


def _left_of(x: Array, r: Array, groups: NDArray[np.int64], degree: int) -> Array:
    """What a polynomial in r of each group leaves of x: its weights in the least squares of both, but for their scale.

    Group by group, for of thousands of groups the whole design's matrix would take minutes [Frisch, Waugh 1933].

    Args:
        x, r, groups: (n,).
        degree: of the polynomials.
    """
    left = x.copy()
    for rows in rows_by_number(groups):
        if len(rows) <= degree + 1 and len(np.unique(r[rows])) == len(rows):
            left[rows] = 0.0  # the polynomial goes through them
        else:
            powers = np.vander(r[rows], degree + 1)
            left[rows] -= powers @ (np.linalg.pinv(powers) @ x[rows])
    return left


def _not_yet_the_ratio(trials: DataFrame) -> str:
    """What varies in the ratio's place, where only one of its two parts does, or both go together."""
    fixed = [axis for axis in ("batch_size", "optimizer.lr") if not several(trials[axis])]
    if not fixed:
        parts = np.log(trials[["optimizer.lr", "batch_size"]].to_numpy(dtype=np.float64))
        apart = np.linalg.matrix_rank(parts - parts.mean(axis=0), tol=_COLLINEAR) > 1
        return "" if apart else "the learning rate and the batch size vary only together: it may be either"
    varied = "optimizer.lr" if fixed == ["batch_size"] else "batch_size"
    return f"at one {_word(fixed[0])[4:]} this is {_word(varied)}, not yet the ratio"


def _law(evidence: Evidence) -> str:
    return "confidence sequence" if evidence.law == "sequence" else "t"


def _word(axis: str) -> str:
    return {"optimizer.lr": "the learning rate", "batch_size": "the batch size"}.get(axis, axis)
