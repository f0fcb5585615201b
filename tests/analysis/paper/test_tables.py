"""Tables 2, 3 and 4 worked out from the points, what goes beyond them, and the same as text."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame
from scipy import stats

from analysis import figures
from analysis.estimates.correlations import METHODS
from analysis.frames import published
from analysis.paper import parts, sheets
from analysis.paper import printed as printed_paper
from analysis.paper import tables as paper_tables
from analysis.plots.plan import Data

NAMES = [table.name for table in sheets.TABLES]


@pytest.fixture(scope="module")
def study() -> Data:
    return parts.published_data()


@pytest.fixture(scope="module")
def third(study: Data) -> DataFrame:
    return paper_tables.table3(study)


@pytest.fixture(scope="module")
def fourth(study: Data) -> DataFrame:
    return paper_tables.table4(study).set_index("model.name")


@pytest.fixture(scope="module")
def directory(new_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of both methods at five learning rates, on digits."""
    run = new_run(tmp_path_factory.mktemp("run"))
    rng = np.random.default_rng(0)
    for name in ("sgd", "deat"):
        for lr in (0.05, 0.1, 0.2, 0.4, 0.8):
            for seed in range(3):
                value = 0.5 + 0.05 * np.log10(lr) + 0.01 * (name == "deat") + 0.001 * rng.standard_normal()
                point = {"optimizer__name": name, "optimizer__lr": lr}
                run.whole(f"{name}-{lr}-{seed}", [value], seed=seed, config={"data.name": "digits"}, **point)
    run.close()
    return Path(run.directory)


@pytest.fixture(scope="module")
def both(directory: Path) -> Data:
    """Those trials beside the published study."""
    return figures.load(directory, published=True)


@pytest.fixture(scope="module")
def tables(both: Data) -> dict[str, DataFrame]:
    """Every table of both."""
    return {table.name: table.frames(both)[table.name] for table in sheets.TABLES}


def text(name: str, frame: DataFrame, ending: str) -> str:
    table = next(table for table in sheets.TABLES if table.name == name)
    return table.texts[ending](frame)


def test_senet_has_every_printed_entry_of_tables_3_and_4(third: DataFrame, fourth: DataFrame) -> None:
    senet = third[(third["model.name"] == "senet18") & third["printed"].notna()]
    assert len(senet) == 6
    assert (senet["estimate"].round(3) == senet["printed"]).all()
    pearson = senet.dropna(subset=["printed_p"])
    assert [f"{p:.1e}" for p in pearson["p_value"]] == ["1.4e-04", "2.4e-05"]
    row = fourth.loc["senet18"]
    found = (round(100 * row["estimate"], 3), f"{row['p_value']:.2e}", row["n_cells"], row["printed"])
    assert found == (1.213, "2.11e-09", 23, 0.0121)


@pytest.mark.parametrize(("model", "worst", "gain"), [("preact_resnet18", 0.0128, 1.207), ("vgg19", 0.0150, 1.076)])
def test_the_other_networks_have_them_nearly(
    third: DataFrame, fourth: DataFrame, model: str, worst: float, gain: float
) -> None:
    rows = third[(third["model.name"] == model) & third["printed"].notna()]
    assert rows["difference"].abs().max() == pytest.approx(worst, abs=5e-5)
    assert 100 * fourth.loc[model, "estimate"] == pytest.approx(gain, abs=5e-4)


def test_p_values_printed_beside_pearson_give_the_number_of_points() -> None:
    table = published.numbers("table3").dropna(subset=["pgd_at_p"])
    found = {
        row["model.name"]: {
            printed_paper.implied_n(row["pgd_at"], row["pgd_at_p"]),
            printed_paper.implied_n(row["deat"], row["deat_p"]),
        }
        for row in table.to_dict("records")
    }
    assert found == {"preact_resnet18": {27}, "senet18": {23}, "vgg19": {24}}


@pytest.mark.parametrize(("model", "n", "p_value"), [("preact_resnet18", 27, "2.10e-09"), ("vgg19", 24, "7.46e-10")])
def test_supposed_points_give_the_printed_entries(model: str, n: int, p_value: str) -> None:
    points = printed_paper.supposed_points(model)
    assert len(points) == n
    printed = published.numbers("table3")
    printed = printed[printed["model.name"] == model].set_index("coefficient")
    tests = dict(zip(METHODS, (stats.pearsonr, stats.spearmanr, stats.kendalltau), strict=True))
    for name in ("pgd_at", "deat"):
        for coefficient, test in tests.items():
            assert test(points["lr"], points[name]).statistic == pytest.approx(printed.loc[coefficient, name], abs=1e-3)
        r = stats.pearsonr(points["lr"], points[name])
        assert r.pvalue == pytest.approx(printed.loc["pearson", f"{name}_p"], rel=0.02)
    gain = points["deat"] - points["pgd_at"]
    table = published.numbers("table4").set_index("model.name")
    assert round(gain.mean(), 2) == pytest.approx(table.loc[model, "gain"], abs=0.0051)
    assert f"{stats.ttest_1samp(gain, 0).pvalue:.2e}" == p_value == f"{table.loc[model, 'p']:.2e}"


def test_every_published_correlation_has_an_interval_around_it(third: DataFrame) -> None:
    assert len(third) == 3 * 2 * 4
    assert (third["low"] <= third["estimate"]).all()
    assert (third["estimate"] <= third["high"]).all()
    log = third[third["x"] == "log10_lr"]
    raw = third[(third["x"] == "optimizer.lr") & (third["coefficient"] == "pearson")]
    assert (log["estimate"].to_numpy() > raw["estimate"].to_numpy()).all()
    assert set(third["lr_from"]) == {0.006}


def test_table_2_keeps_the_number_that_is_drawn_and_says_which_is_printed(study: Data) -> None:
    rows = paper_tables.table2(study)
    written = text("table2", rows, "md")
    assert rows[["pgd_at_printed", "deat_printed"]].notna().to_numpy().sum() == 84
    off = rows[printed_paper.otherwise_printed(rows, "deat") | printed_paper.otherwise_printed(rows, "pgd_at")]
    assert off[["model.name", "optimizer.lr"]].to_numpy().tolist() == [["vgg19", 0.02]]
    assert "| **42.63†** |" in written
    assert "VGG-19, DEAT, lr 0.02: drawn in Figure 4; the paper's Table 2 prints 42.08" in written


def test_published_best_rates_are_said_to_be_chosen_by_the_test_set(study: Data) -> None:
    found = paper_tables.own_best(study)
    assert "chosen by the test set itself" in text("own_best", found, "md")
    rows = found.set_index("model.name")
    assert set(rows["chosen_by"]) == {"last_test_robust"}
    assert rows["low"].isna().all()
    assert rows[["pgd_at_lr", "deat_lr"]].to_numpy().tolist() == [[0.5, 0.5], [0.3, 0.3], [0.3, 0.35]]
    assert (100 * rows["difference"]).round(2).tolist() == [1.45, 2.07, 0.76]


def test_own_best_is_chosen_by_validation_and_not_by_test(run: Any) -> None:
    for name in ("sgd", "deat"):
        for lr, val, test in ((0.1, 0.6, 0.4), (0.2, 0.5, 0.5)):
            trial_id = f"{name}{lr}"
            run.trial(trial_id, optimizer__name=name, optimizer__lr=lr)
            run.start(trial_id)
            run.epoch(trial_id, 1, val_robust=val, test_robust=test)
            run.outcome(trial_id, epochs=1)
    (row,) = paper_tables.own_best(figures.load(run.directory)).to_dict("records")
    assert (row["pgd_at_lr"], row["deat_lr"], row["pgd_at"], row["deat"]) == (0.1, 0.1, 0.4, 0.4)
    assert row["chosen_by"] == "last_val_robust"
    assert (row["pgd_at_edge"], row["deat_edge"]) == (True, True)


def test_own_trials_stand_with_their_spread_and_n(both: Data, tables: dict[str, DataFrame]) -> None:
    rows = tables["table2"]
    own = rows[rows["study"] == "own"]
    assert (own[["pgd_at_n", "deat_n"]] == 3).all(axis=None)
    cell = both.trials[(both.trials["method"] == "DEAT") & (both.trials["optimizer.lr"] == 0.2)]["last_test_robust"]
    row = own[own["optimizer.lr"] == 0.2].iloc[0]
    assert (row["deat"], row["deat_sd"]) == pytest.approx((cell.mean(), cell.std()))
    assert f"**{100 * cell.mean():.2f} ± {100 * cell.std():.2f} (3)**" in text("table2", rows, "md")


def test_own_tables_have_no_printed_numbers_and_count_all_learning_rates(
    both: Data, tables: dict[str, DataFrame]
) -> None:
    for rows in (tables["table3"], tables["table4"]):
        own = rows[rows["study"] == "own"]
        assert own["printed"].isna().all()
        assert set(own["lr_from"]) == {0.05}
    gain = tables["table4"].iloc[0]
    means = both.trials.groupby(["method", "optimizer.lr"])["last_test_robust"].mean()
    assert gain["estimate"] == pytest.approx((means["DEAT"] - means["PGD-AT"]).mean())
    assert (gain["n_cells"], gain["n_trials"]) == (5, 30)
    interval = stats.ttest_rel(means["DEAT"], means["PGD-AT"]).confidence_interval(0.95)
    assert (gain["low"], gain["high"]) == pytest.approx(tuple(interval))


def test_own_best_cells_are_compared_by_the_t_interval_paired_by_seed(both: Data, tables: dict[str, DataFrame]) -> None:
    row = tables["own_best"].iloc[0]
    at_best = both.trials[both.trials["optimizer.lr"] == row["deat_lr"]]
    by_seed = at_best.pivot_table(index="seed", columns="method", values="last_test_robust")
    assert (row["pgd_at_lr"], row["pgd_at_edge"], row["deat_edge"]) == (0.8, True, True)
    interval = stats.ttest_rel(by_seed["DEAT"], by_seed["PGD-AT"]).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


@pytest.mark.parametrize("name", NAMES)
def test_latex_is_balanced(tables: dict[str, DataFrame], name: str) -> None:
    for part in text(name, tables[name], "tex").split("% needs")[1:]:
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", part)
        for command in ("table", "tabular"):
            assert part.count(rf"\begin{{{command}}}") == part.count(rf"\end{{{command}}}") == 1
        assert [part.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
        lines = [line for line in part.splitlines() if line.endswith(r"\\")]
        for line in lines:
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d)\}", line)]
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            assert (sum(spans) if spans else cells) == len(columns), line
        bare = re.sub(r"\\[{}]", "", part)
        assert bare.count("{") == bare.count("}")
        assert not re.search(r"(?<!\\)[_#]", part)
        assert "%" not in re.sub(r"\\%", "", part.split("\n", 1)[1])
        assert part.isascii()


@pytest.mark.parametrize("name", NAMES)
def test_markdown_has_as_many_cells_in_every_line(tables: dict[str, DataFrame], name: str) -> None:
    for part in text(name, tables[name], "md").split("\n\n"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1


def test_notes_say_that_learning_rates_are_no_replicates_and_points_are_means(
    third: DataFrame, fourth: DataFrame
) -> None:
    for name, frame in (("table3", third), ("table4", fourth.reset_index())):
        written = text(name, frame, "md")
        assert "are not independent replicates" in written
        assert "each the mean of 3 runs" in written
    assert "the printed p belong to n = 27, drawn are 26" in text("table3", third, "md")


def test_trials_left_out_are_named_below_each_table(directory: Path, new_run: Any, tmp_path: Path) -> None:
    run = new_run(shutil.copytree(directory, tmp_path / "run"))
    run.trial("late", optimizer__name="deat", optimizer__lr=0.9, config={"data.name": "digits"})
    run.start("late")
    run.outcome("late", "failed", epochs=0)
    run.close()
    data = figures.load(run.directory)
    frames = {table.name: table.frames(data)[table.name] for table in sheets.TABLES}
    assert all("left out: 1 failed" in text(name, frame, "md") for name, frame in frames.items())
