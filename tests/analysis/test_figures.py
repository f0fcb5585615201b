import itertools

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from analysis import figures
from analysis.estimates.correlations import correlation
from analysis.estimates.intervals import line
from analysis.figures import PLANS, Data, draw, load, products
from analysis.frames.trials import load_epochs, load_trials
from analysis.plots import (
    accuracy_epoch,
    accuracy_lr,
    accuracy_ratio,
    dynamics,
    methods,
    pareto,
    robustness_radius,
    surface,
)
from analysis.plots.style import looks
from sweep.cli import main
from sweep.search.optuna_importance import optuna_importance
from trainers.errors import UserError


def sweep_of_k(run):
    for index, (k1, k2) in enumerate([(k1, k2) for k1 in (0.0, 1.0) for k2 in (0.5, 0.8)]):
        point = {"optimizer__name": "deat", "optimizer__k1": k1, "optimizer__k2": k2}
        run.whole(f"t{index}", [0.3, 0.4 + 0.01 * k1], **point)


PAPER = ("table2", "table3", "table4", "shift", "own_best")


def test_every_figure_the_data_allow_is_written_thrice_and_the_others_say_why(ratio_run, tmp_path):
    drawing = draw(ratio_run.directory, tmp_path / "out", evaluator=optuna_importance)
    drawn = {plan.name for plan in PLANS} - {"surface_k1_k2", "methods", "robustness_radius"}
    drawn |= {"figure2", "figure4", "figure5"}
    drawn -= {plan.name for plan in dynamics.PLANS}
    expected = {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf", "csv")}
    tables = {"claims.csv", "correlations.csv", "paired_difference_cells.csv"}
    tables |= {f"{name}.{kind}" for name in PAPER for kind in ("csv", "md", "tex")}
    others = {"accuracy_ratio_lines.csv", "ratio_surface_cells.csv", "figure4_shift.csv", "manifest.json"}
    assert {path.name for path in drawing.written} == expected | tables | others
    assert all(path.stat().st_size > 0 for path in drawing.written)
    assert drawing.skipped == {
        "surface_k1_k2": "needs completed trials of deat with 2 to 40 values of optimizer.k1 or optimizer.k2",
        "methods": "needs three methods, each with a cell that validation chose",
        "robustness_radius": robustness_radius.PLAN.needs,
        "pareto": pareto.PLAN.needs,
        **{plan.name: plan.needs for plan in dynamics.PLANS},
    }


@pytest.mark.slow
def test_texts_are_the_same_every_time(ratio_run):
    first, second = (products(load(ratio_run.directory, evaluator=optuna_importance))[0] for _ in range(2))
    assert [product.texts for product in first] == [product.texts for product in second]
    assert sum(name.endswith(".csv") for product in first for name in product.texts) > 10


@pytest.fixture
def no_pictures(monkeypatch):
    """Numbers alone are written: pictures take most of the time."""
    monkeypatch.setattr(figures, "_paint", lambda *given: [])


def test_k_surface_is_drawn_once_k1_or_k2_varies_and_the_rest_is_skipped(run, tmp_path):
    sweep_of_k(run)
    drawing = draw(run.directory, tmp_path / "out", evaluator=optuna_importance)
    assert {path.stem for path in drawing.written} == {
        "claims",
        "surface_k1_k2",
        "accuracy_epoch",
        "importance",
        "manifest",
    }
    assert "accuracy_lr" in drawing.skipped
    assert drawing.skipped["table2"] == "needs completed trials of PGD-AT and DEAT of one network and batch size"


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (
            "diverged",
            "needs a completed trial to draw, and all 2 diverged (train_robust_loss is nan in epoch 1), which stays so "
            "when launched again; add smaller values of optimizer.lr to the config and launch that: tried were 5 to 50",
        ),
        (
            "interrupted",
            "needs a completed trial to draw, got 0 of 2 (1 diverged, 1 interrupted); launch the sweep again: it goes "
            "on where it stopped",
        ),
        (
            "cancelled",
            "needs a completed trial to draw, got 0 of 2 (1 diverged, 1 cancelled); launch the sweep again with "
            "--again: it goes on where it stopped",
        ),
        (
            "failed",
            "needs a completed trial to draw, got 0 of 2 (1 diverged, 1 failed): 1 trial failed: train_robust_loss is "
            "nan in epoch 1; sweep show DIR b says more, and where its log is; launch the sweep again once that is "
            "mended",
        ),
    ],
)
def test_no_completed_trial_says_what_is_the_matter_and_the_way_out(run, tmp_path, outcome, message):
    for name, lr, ended in (("a", 5.0, "diverged"), ("b", 50.0, outcome)):
        run.trial(name, optimizer__lr=lr)
        run.start(name)
        run.outcome(name, ended, epochs=0, reason="train_robust_loss is nan in epoch 1")
    with pytest.raises(UserError) as error:
        draw(run.directory, tmp_path / "out")
    assert str(error.value) == f"{run.directory}: {message}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["file", "file/out", "folder"])
def test_output_that_cannot_be_written_is_a_user_error(ratio_run, tmp_path, where):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "correlations.csv").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"--output .*/{where}: cannot be written: .*; give a folder that can"):
        draw(ratio_run.directory, tmp_path / where)


def test_band_is_the_t_interval_with_the_variance_pooled_over_a_curve(ratio_trials):
    rows = accuracy_lr.accuracy_by_lr(ratio_trials, "last_test_robust")
    curve = rows[(rows["method"] == "DEAT") & (rows["batch_size"] == 128)]
    variances = curve.groupby("optimizer.lr")["value"].var()
    half = stats.t.ppf(0.975, 6) * np.sqrt(variances.mean() / 3)
    assert (curve["high"] - curve["mean"]).to_numpy() == pytest.approx(np.full(9, half))


def test_diverged_trials_are_in_the_numbers_of_the_lr_figure_and_failed_ones_are_not(ratio_trials):
    failed = ratio_trials.head(2).assign(outcome="failed", trial_id=["f0", "f1"])
    rows = accuracy_lr.accuracy_by_lr(pd.concat([ratio_trials, failed], ignore_index=True), "last_test_robust")
    lost = rows[rows["outcome"] == "diverged"]
    assert len(rows) == 54
    assert len(lost) == 3
    assert lost["mean"].isna().all()
    assert (lost["n"] == 0).all()


def test_single_seeds_have_no_band(ratio_trials):
    rows = accuracy_lr.accuracy_by_lr(ratio_trials[ratio_trials["seed"] == 0], "last_test_robust")
    assert rows["low"].isna().all()
    assert rows["mean"].notna().sum() == 17


def test_seeds_that_are_all_equal_give_no_band_of_no_width(frame_of):
    cells = [{"optimizer.lr": lr, "batch_size": 32, "seed": seed} for lr in (0.1, 0.2) for seed in range(3)]
    frame = frame_of([{**cell, "last_test_robust": 0.1} for cell in cells])
    rows = accuracy_lr.accuracy_by_lr(frame, "last_test_robust")
    assert rows["mean"].to_numpy() == pytest.approx(0.1)
    assert rows["low"].isna().all()
    assert "all its trials are equal" in accuracy_lr.band(rows)


def test_many_batch_sizes_share_one_panel(frame_of):
    frame = frame_of([{"batch_size": 2**k, "optimizer.lr": 0.1 * k, "last_test_robust": 0.1} for k in range(1, 9)])
    assert set(accuracy_lr.accuracy_by_lr(frame, "last_test_robust")["batch_size"]) == {"all"}


def test_ratio_lines_are_least_squares_in_the_logarithm_with_correlations_of_the_ratio_and_of_its_logarithm(frame_of):
    rng = np.random.default_rng(0)
    frame = frame_of(
        [
            {"optimizer.lr": lr, "seed": seed, "last_test_robust": 0.5 + 0.04 * np.log10(lr) + 0.1 * rng.random()}
            for lr in (0.01, 0.03, 0.1, 0.3, 1.0)
            for seed in range(3)
        ]
    )
    lines = accuracy_ratio.ratio_lines(frame, "last_test_robust")
    x, y = np.log10(frame["lr_batch_ratio"].to_numpy()), frame["last_test_robust"].to_numpy()
    expected = line(x, y, np.linspace(x.min(), x.max(), 50))
    assert lines["lr_batch_ratio"].to_numpy() == pytest.approx(np.geomspace(10 ** x.min(), 10 ** x.max(), 50))
    for name, values in zip(("fit", "low", "high"), expected, strict=True):
        assert lines[name].to_numpy() == pytest.approx(values)
    first = lines.iloc[0]
    assert (first["n"], first["ratio_claim"]) == (15, "")
    for name in ("pearson", "spearman"):
        found = correlation(frame, "lr_batch_ratio", "last_test_robust", name)
        assert tuple(first[[name, f"{name}_low", f"{name}_high"]]) == (found.estimate, found.low, found.high)
    found = correlation(frame.assign(log=np.log10(frame["lr_batch_ratio"])), "log", "last_test_robust", "pearson")
    assert first["pearson_log10"] == pytest.approx(found.estimate)
    assert (first["pearson_log10_low"], first["pearson_log10_high"]) == pytest.approx((found.low, found.high))
    rows = accuracy_ratio.accuracy_by_ratio(frame, "last_test_robust")
    answered = lines.assign(ratio_claim="undecided")
    promised = [
        "answer over seeds" in accuracy_ratio.caption(rows, one, "last_test_robust") for one in (lines, answered)
    ]
    assert promised == [False, True]


def test_random_search_is_no_grid(frame_of):
    rng = np.random.default_rng(0)
    frame = frame_of(
        [
            {"optimizer.lr": rng.random(), "batch_size": batch, "last_test_robust": 0.5}
            for batch in (32, 64, 128, 256)
            for _ in range(4)
        ]
    )
    assert surface.grid(frame, "optimizer.lr", "batch_size", "last_test_robust").empty


def test_axis_that_is_not_swept_stands_as_fixed(run):
    for index, k1 in enumerate((0.0, 1.0)):
        run.whole(f"t{index}", [0.3], optimizer__name="deat", optimizer__k1=k1)
    rows = surface.deat_grid(load_trials(run.directory), "last_test_robust")
    assert rows["optimizer.k2"].tolist() == ["fixed", "fixed"]
    assert rows["optimizer.k1"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("values", "drawn"), [(40, True), (41, False)])
def test_an_axis_of_more_values_than_a_page_holds_is_no_grid(values, drawn, frame_of):
    points = [{"optimizer.name": "deat", "optimizer.k1": k1 / values} for k1 in range(values)]
    frame = frame_of([{**point, "last_test_robust": 0.5} for point in points])
    assert surface.deat_grid(frame, "last_test_robust").empty != drawn


def test_epoch_curves_are_those_of_the_cell_that_validation_chose(ratio_run):
    trials, epochs = load_trials(ratio_run.directory), load_epochs(ratio_run.directory)
    rows = accuracy_epoch.accuracy_by_epoch(Data(trials, epochs, "last_test_robust"))
    assert rows.groupby(["optimizer.name", "split"]).size().to_dict() == {
        (optimizer, split): 3 for optimizer in ("deat", "sgd") for split in ("train", "test")
    }
    assert (rows["n"] == 3).all()
    deat = rows[(rows["optimizer.name"] == "deat") & (rows["split"] == "test") & (rows["epoch"] == 3)]
    best = trials[(trials["optimizer.name"] == "deat") & (trials["optimizer.lr"] == 0.2)]
    expected = best.groupby("batch_size")["last_test_robust"].mean().max()
    assert deat["mean"].item() == pytest.approx(expected)


def test_epoch_figure_does_not_choose_by_the_test_set(run, tmp_path):
    for index, lr in enumerate((0.1, 0.2)):
        run.trial(f"t{index}", optimizer__lr=lr)
        run.start(f"t{index}")
        run.epoch(f"t{index}", 1, val_robust=None, test_robust=0.4 + lr)
        run.outcome(f"t{index}", epochs=1)
    assert "needs the sweep's metric of validation" in draw(run.directory, tmp_path / "out").skipped["accuracy_epoch"]


def test_of_trials_that_were_measured_once_there_is_no_figure_by_epoch(run):
    for optimizer, lr in itertools.product(("sgd", "deat"), (0.1, 0.2)):
        run.trial(name := f"{optimizer}{lr}", optimizer__name=optimizer, optimizer__lr=lr)
        run.start(name)
        run.epoch(name, 1)  # without a measurement
        run.epoch(name, 2, lr, test_clean=0.9, train_robust=0.8)
        run.outcome(name)
    by_epoch = ("accuracy_epoch", "figure2", "figure5")
    made, skipped = products(load(run.directory), [*by_epoch, "figure4"])
    assert [one.name for one in made] == ["figure4"]
    assert set(skipped) == set(by_epoch)
    assert all("at two epochs" in skipped[name] for name in by_epoch)


@pytest.mark.parametrize(("launched", "lr"), [({}, 0.1), ({"metric": "val_robust_loss", "mode": "min"}, 0.2)])
def test_figures_command_chooses_cells_by_the_sweeps_own_metric(run, tmp_path, no_pictures, launched, lr):
    launch = {"time": 0.0, "command": "sweep launch", "code_version": "abc", "size": 0, "wanted": []}
    run._file.append("launch", launch | launched)
    for objective, rate in itertools.product(("pgd_at", "trades", "mart"), (0.1, 0.2)):
        name = f"{objective}{rate}"
        run.trial(name, objective__name=objective, optimizer__lr=rate)
        run.start(name)
        for epoch in (1, 2):
            run.epoch(name, epoch, 0.5 - rate, val_robust_loss=1 - rate, train_robust=0.5)
        run.outcome(name)
    answer = CliRunner().invoke(main, ["figures", str(run.directory), "--output", str(tmp_path / "out")])
    assert answer.exit_code == 0, (answer.output, answer.exception)
    for figure in ("methods", "accuracy_epoch"):
        assert set(pd.read_csv(tmp_path / "out" / f"{figure}.csv")["optimizer.lr"]) == {lr}


def test_figure_numbers_read_back_from_csv_are_those_drawn(ratio_run, tmp_path, no_pictures):
    draw(ratio_run.directory, tmp_path / "out")
    back = pd.read_csv(tmp_path / "out" / "surface_lr_batch.csv")
    trials = load_trials(ratio_run.directory)
    expected = surface.grid(trials, "optimizer.lr", "batch_size", "last_test_robust")
    pd.testing.assert_frame_equal(back, expected, check_dtype=False, check_exact=True)


def test_panels_of_a_surface_share_their_cells_lr_across_and_batch_up():
    cells = [("PGD-AT", 0.1, 32), ("PGD-AT", 0.1, 64), ("PGD-AT", 0.3, 32), ("PGD-AT", 0.3, 128), ("DEAT", 0.3, 64)]
    rows = pd.DataFrame(
        [
            {
                "model.name": "m",
                "method": name,
                "lr": lr,
                "batch": batch,
                "mean": lr + batch / 1000,
                "n": 1,
                "diverged": 0,
            }
            for name, lr, batch in cells
        ]
    )
    figure = surface.heat_map(rows, "last_test_robust", x="lr", y="batch")
    sgd, deat = figure.axes[:2]
    assert [text.get_position() for text in deat.texts] == [(1, 1)]
    assert [text.get_position() for text in sgd.texts] == [(0, 0), (0, 1), (1, 0), (1, 2)]
    assert sgd.texts[-1].get_text() == "42.8\nn = 1"
    assert [text.get_text() for text in sgd.get_xticklabels()] == ["0.1", "0.3"]
    assert [text.get_text() for text in sgd.get_yticklabels()] == ["32", "64", "128"]
    assert (sgd.get_xlabel(), sgd.get_ylabel()) == ("lr", "batch")
    np.testing.assert_allclose(sgd.images[0].get_array().filled(0), [[13.2, 33.2], [16.4, 0], [0, 42.8]])
    assert sgd.images[0].origin == "lower"


def product(**values):
    """Every combination, keys with `__` for the dot."""
    keys = [key.replace("__", ".") for key in values]
    return [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values.values())]


def sweep_of_methods(run, objectives=("pgd_at", "trades", "mart"), batches=(32,), lrs=(0.1, 0.2)):
    points = product(
        objective__name=list(objectives), weights__name=["none", "awp"], optimizer__name=["sgd", "deat"],
        optimizer__lr=list(lrs), batch_size=list(batches), seed=[0, 1],
    )  # fmt: skip
    for number, point in enumerate(points):
        seed, gain = point.pop("seed"), 0.03 * (point["weights.name"] == "awp")
        axis = {key.replace(".", "__"): value for key, value in point.items()}
        value = 0.4 + gain + 0.02 * objectives.index(point["objective.name"]) + 0.001 * (number % 5)
        run.whole(f"t{number}", [value - 0.1, value], seed=seed, **axis)


def test_many_methods_have_a_panel_a_family_with_a_curve_an_optimizer(run):
    sweep_of_methods(run)
    trials, epochs = load_trials(run.directory), load_epochs(run.directory)
    frames = {plan.name: plan.frames(Data(trials, epochs, "last_test_robust")) for plan in PLANS}
    for name in ("accuracy_lr", "accuracy_ratio", "accuracy_epoch"):
        plan = next(plan for plan in PLANS if plan.name == name)
        titles = [axes.get_title() for axes in plan.render(frames[name], "last_test_robust").axes]
        families = ["PGD-AT", "PGD-AT-AWP", "TRADES", "TRADES-AWP", "MART", "MART-AWP"]
        n = 4 if name == "accuracy_epoch" else 8
        assert titles == [f"{family} (n = {n} trials)" for family in families]


def test_methods_that_were_each_tried_at_one_ratio_of_their_own_are_drawn_without_lines(frame_of):
    rates = {"sgd": 0.1, "deat": 0.3}
    frame = frame_of(
        [
            {"optimizer.name": name, "optimizer.lr": lr, "seed": seed, "last_test_robust": 0.5 + seed / 10}
            for name, lr in rates.items()
            for seed in range(2)
        ]
    )
    frame["method"] = frame["optimizer.name"].map({"sgd": "PGD-AT", "deat": "DEAT"})
    rows = accuracy_ratio.accuracy_by_ratio(frame, "last_test_robust")
    lines = accuracy_ratio.ratio_lines(frame, "last_test_robust")
    assert (len(rows), len(lines)) == (4, 0)
    assert accuracy_ratio.accuracy_ratio(rows, lines, "last_test_robust").axes


def test_few_methods_share_a_panel_in_colours_of_their_own(run):
    sweep_of_methods(run, objectives=("trades",))
    rows = accuracy_lr.accuracy_by_lr(load_trials(run.directory), "last_test_robust")
    figure = accuracy_lr.accuracy_lr(rows, "last_test_robust")
    (axes,) = figure.axes
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [f"{name} (n = 4)" for name in ("TRADES", "TRADES, DEAT", "TRADES-AWP", "TRADES-AWP, DEAT")]
    assert len({line.get_color() for line in axes.lines}) == 4


def test_looks_of_pgd_at_and_deat_are_the_same_in_every_company():
    alone, among = looks(["PGD-AT", "DEAT"]), looks(["PGD-AT", "DEAT", "TRADES", "MART"])
    assert {name: among[name] for name in alone} == alone
    assert len({look.colour for look in among.values()}) == len({look.marker for look in among.values()}) + 1 == 4
    crowd = looks([f"{objective}{end}" for objective in ("PGD-AT", "TRADES", "MART") for end in ("", ", DEAT")])
    assert crowd["MART"].colour == alone["PGD-AT"].colour
    assert crowd["MART, DEAT"].colour == alone["DEAT"].colour


def test_too_many_curves_are_numbers_without_a_picture(run):
    sweep_of_methods(run, objectives=("pgd_at", "trades", "mart", "avmixup"), batches=(8, 16, 32, 64, 128), lrs=(0.1,))
    made, skipped = products(load(run.directory))
    assert skipped["accuracy_ratio"] == "needs at most 64 curves or surfaces, to be read, and has 80"
    product = next(product for product in made if product.name == "accuracy_ratio")
    assert "accuracy_ratio.csv" in product.texts
    assert product.picture is None


def test_dot_plot_has_the_most_robust_method_at_the_top(run, tmp_path):
    sweep_of_methods(run)
    made, _ = products(load(run.directory))
    product = next(product for product in made if product.name == "methods")
    assert figures._write(product, tmp_path) == [tmp_path / "methods.csv"]
    assert figures._paint(product, tmp_path) == [tmp_path / f"methods.{ending}" for ending in ("png", "pdf")]
    rows = methods.methods(load(run.directory))
    robust, clean = methods.draw_methods(rows).axes
    assert [text.get_text() for text in robust.get_yticklabels()] == rows["method"].tolist()
    assert rows["method"].iloc[0].startswith("MART-AWP")
    assert robust.yaxis_inverted()
    assert all(text.get_text().startswith("lr 0.") for text in clean.get_yticklabels())
    marked = [line.get_xdata()[0] for line in robust.lines if line.get_marker() == "o"]
    assert marked == pytest.approx((100 * rows["robust"]).tolist())
