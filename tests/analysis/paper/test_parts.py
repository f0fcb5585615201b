"""The paper's parts, settings and curves, from the published numbers, an own run, or both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import figures
from analysis.frames import published
from analysis.paper import figures as figures_paper
from analysis.paper import figures as paper_plans
from analysis.paper import parts
from analysis.paper.figures import FIGURE2, FIGURE5
from analysis.plots.plan import OWN, PUBLISHED, Data


def sweep(run: Any, model: str = "small_cnn", batches: Any = (128,), rates: Any = (0.05, 0.1, 0.2, 0.4), seeds: int = 2,
          **config: Any) -> None:  # fmt: skip
    """PGD-AT and DEAT at each learning rate; the accuracy rises with it, and DEAT's by 0.01 more."""
    for name in ("sgd", "deat"):
        for batch in batches:
            for lr in rates:
                for seed in range(seeds):
                    value = 0.5 + 0.05 * np.log10(lr) + 0.01 * (name == "deat") + 0.002 * seed
                    trial_id = f"{name}{batch}-{lr}-{seed}" + "".join(map(str, config.values()))
                    base = {"data.name": "digits", "model.name": model, "epochs": 3, **config}
                    point = {"optimizer__name": name, "optimizer__lr": lr, "batch_size": batch}
                    run.whole(
                        trial_id,
                        [*[value - 0.1] * (base["epochs"] - 2), value - 0.05, value],
                        seed=seed,
                        config=base,
                        **point,
                    )


def drawn(data: Data, name: str) -> Figure:
    plan = next(plan for plan in paper_plans.PLANS if plan.name == name)
    return plan.render(plan.frames(data), data.metric)


def caption(data: Data, name: str) -> str:
    plan = next(plan for plan in paper_plans.PLANS if plan.name == name)
    return plan.captioned(data, plan.frames(data))


@pytest.fixture(scope="module")
def study() -> Data:
    return parts.published_data()


def test_published_figure_4_holds_each_point_as_it_was_read_off(study: Data) -> None:
    rows = figures_paper.figure4(study)
    back = rows.pivot_table(index="optimizer.lr", columns=["model.name", "method"], values="mean")
    table = published.numbers("figure4").set_index("lr")
    for network, model in published.NETWORKS.items():
        for column, method in (("PGD", "PGD-AT"), ("DEAT", "DEAT")):
            np.testing.assert_allclose(100 * back[model, method], table[f"{network}_{column}"], atol=1e-9)


def test_published_curves_are_those_of_figures_2_and_5(study: Data) -> None:
    second, fifth = (figures_paper.curves(study, figure) for figure in (FIGURE2, FIGURE5))
    assert set(second["optimizer.lr"]) == {0.3}
    assert set(second["model.name"]) == {"vgg19", "senet18"}
    assert set(second["accuracy"]) == {"clean", "robust"}
    assert fifth.groupby("model.name")["optimizer.lr"].unique().map(list).to_dict() == {
        "preact_resnet18": [0.25],
        "senet18": [0.2],
        "vgg19": [0.03],
    }
    assert set(fifth.groupby(["model.name", "method", "split"]).size()) == {110}
    vgg = fifth[(fifth["model.name"] == "vgg19") & (fifth["method"] == "DEAT") & (fifth["split"] == "train")]
    np.testing.assert_allclose(100 * vgg["mean"], published.numbers("figure5")["VGG_DEAT_train"])


def test_published_panels_name_network_data_and_learning_rate(study: Data) -> None:
    titles = [axes.get_title() for axes in drawn(study, "figure5").axes]
    assert titles == [
        "PreActResNet-18, batch 128\nCIFAR-10 (published), lr 0.25",
        "SENet-18, batch 128\nCIFAR-10 (published), lr 0.2",
        "VGG-19, batch 128\nCIFAR-10 (published), lr 0.03",
    ]
    texts = [text.get_text() for axes in drawn(study, "figure4").axes for text in axes.texts]
    assert [text[:8] for text in texts] == ["c = 2.18", "c = 1.76", "c = 1.49"]


def test_another_network_has_panels_of_its_own_beside_the_published_ones(run: Any) -> None:
    sweep(run)
    data = figures.load(run.directory, published=True)
    for name, panels in (("figure2", 3), ("figure4", 4), ("figure5", 4)):
        figure = drawn(data, name)
        titles = [axes.get_title() for axes in figure.axes]
        assert len(titles) == panels
        assert titles[0].startswith("small_cnn, batch 128\ndigits (own)")
        assert all("CIFAR-10 (published)" in title for title in titles[1:])


def test_a_run_alone_is_not_called_own(run: Any) -> None:
    sweep(run)
    alone, beside = (figures.load(run.directory, published=published) for published in (False, True))
    for name in ("figure2", "figure4", "figure5"):
        (axes,) = drawn(alone, name).axes
        assert axes.get_title().split("\n")[1].split(",")[0] == "digits"
        assert "; line: mean over seeds" in caption(alone, name)
        assert "; own: mean over seeds" in caption(beside, name)


def test_the_same_network_and_batch_size_share_a_panel_the_published_one_hollow(run: Any) -> None:
    sweep(run, model="vgg19")
    data = figures.load(run.directory, published=True)
    figure = drawn(data, "figure4")
    shared = figure.axes[0]
    assert shared.get_title() == "VGG-19, batch 128\ndigits (own), CIFAR-10 (published)"
    hollow = [line.get_markerfacecolor() == "white" for line in shared.lines]
    dashed = [line.get_linestyle() == "--" for line in shared.lines]
    assert hollow == dashed
    assert sum(hollow) == 2
    assert len(shared.lines) == 4
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["PGD-AT", "DEAT", "own", "published"]
    assert "not to be compared" in caption(data, "figure4")


def test_same_network_at_another_batch_size_does_not_share_a_panel(run: Any) -> None:
    sweep(run, model="vgg19", batches=(64,))
    titles = [axes.get_title() for axes in drawn(figures.load(run.directory, published=True), "figure4").axes]
    assert [title.partition("\n")[0] for title in titles if "VGG" in title] == ["VGG-19, batch 64", "VGG-19, batch 128"]


def test_own_curves_are_at_the_learning_rate_that_validation_chose_for_pgd_at(run: Any) -> None:
    sweep(run)
    rows = figures_paper.curves(figures.load(run.directory), FIGURE5)
    assert set(rows["optimizer.lr"]) == {0.4}
    assert set(rows["chosen"]) == {"PGD-AT's best by val_robust"}
    assert set(rows["n"]) == {2}
    last = rows[(rows["epoch"] == 3) & (rows["method"] == "DEAT") & (rows["split"] == "test")]
    value = 0.51 + 0.05 * np.log10(0.4)
    assert last[["low", "mean", "high"]].to_numpy()[0] == pytest.approx([value, value + 0.001, value + 0.002])


def test_budgets_are_never_pooled_and_what_is_left_out_is_counted(run: Any) -> None:
    sweep(run, epochs=3)
    sweep(run, epochs=9, rates=(0.05, 0.1))
    run.trial("late", optimizer__name="sgd", optimizer__lr=0.8, config={"data.name": "digits", "epochs": 3})
    run.start("late")
    data = figures.load(run.directory)
    (part,) = parts.parts(data)
    assert set(part.trials["planned_epochs"]) == {3}
    assert len(part.trials) == 16
    assert part.left_out == {"unfinished": 1, "another budget": 8}
    assert set(figures_paper.figure4(data)["left_out"]) == {"8 another budget, 1 unfinished"}


def test_of_several_k1_the_one_with_most_completed_trials_stands_for_deat(run: Any) -> None:
    for k1, rates in ((1.0, (0.1, 0.2, 0.4)), (3.0, (0.1, 0.2))):
        for lr in rates:
            config = {"data.name": "digits", "optimizer.k1": k1}
            point = {"optimizer__name": "deat", "optimizer__lr": lr, "optimizer__k1": k1}
            run.whole(f"deat{lr}{k1}", [0.4, 0.5], config=config, **point)
            if k1 == 1:
                run.whole(f"sgd{lr}", [0.4, 0.5], config=config, optimizer__name="sgd", optimizer__lr=lr)
    (part,) = parts.parts(figures.load(run.directory))
    assert part.left_out == {"another optimizer.k1": 2}
    assert set(part.trials["optimizer.k1"].dropna()) == {1.0}
    assert len(part.trials) == 6


def test_run_without_deat_has_none_of_the_comparisons(run: Any) -> None:
    for lr in (0.1, 0.2):
        run.whole(f"t{lr}", [0.3, 0.4], optimizer__lr=lr)
    data = figures.load(run.directory)
    assert parts.parts(data) == []
    assert figures_paper.figure4(data).empty
    assert set(figures_paper.curves(data, FIGURE2)["study"]) == {OWN}
    assert {study.study for study in parts.studies(figures.load(run.directory, published=True))} == {OWN, PUBLISHED}


def test_a_legend_explains_c_where_one_is_drawn_and_nowhere_else(study: Data, run: Any) -> None:
    sweep(run, rates=(0.1, 0.2))  # too few to find a c
    for data, told in ((study, True), (figures.load(run.directory), False)):
        figure = drawn(data, "figure4")
        assert any("c = " in text.get_text() for axes in figure.axes for text in axes.texts) == told
        assert ("c: DEAT(lr)" in caption(data, "figure4")) == told
