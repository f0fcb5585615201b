"""Until a claim is decided: which trials, in which order, when it stops, and that it goes on."""

from __future__ import annotations

import io
import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from analysis.claims.blocks import Effect, Options
from analysis.claims.effects import not_weight_decay
from analysis.claims.ledger import Claim, ledger
from analysis.claims.questions import NAMES
from analysis.claims.study import Study, load_study, study_of
from analysis.frames.trials import load_trials
from sweep import decide as module
from sweep.config import ResourcesConfig, SweepConfig
from sweep.decide import Design, Run, decide, trial_seconds
from sweep.plan.plan import Plan, plan
from sweep.progress import Progress
from sweep.run import cluster, nodes, ray_packing, ray_tune, ray_watch
from sweep.run.journal import Journal
from sweep.run.trial import run_trial, trial_values
from sweep.search.trials import fixed_points
from trainers.errors import UserError
from trainers.record import OutcomeRecord, PrunedRecord, RecordFile, read

Tiny = Callable[..., SweepConfig]

RATIO = {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.2, 0.4], "batch_size": [16, 32, 64]}
CONTROLS = {
    "optimizer.name": ["sgd", "deat"],
    "optimizer.lr": [0.1, 0.2236, 0.5],
    "optimizer.weight_decay": {"grid": [5.0e-4, 1.118e-3], "when": {"optimizer.name": "sgd"}},
    "optimizer.k1": {"grid": [0.0, 1.0], "when": {"optimizer.name": "deat"}},
}
CONSTANTS = {
    "optimizer.name": ["sgd", "deat"],
    "optimizer.k1": {"grid": [0.0, 1.0], "when": {"optimizer.name": "deat"}},
    "optimizer.k2": {"grid": [0.2, 0.8], "when": {"optimizer.name": "deat"}},
}
#: A learning rate at which nothing is learnt, and one at which much is: decided within a few seeds.
CLEAR = {"optimizer.lr": [1.0e-5, 0.3]}

#: Of the sweep in conftest.py, without the batch size, so that it may be an axis.
TRIAL = {
    "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 10, "test_per_class": 5},
    "model": {"name": "small_cnn"},
    "epochs": 2,
    "attack": {"radius": 0.05, "step_size": 0.04, "steps": 1},
    "evaluation": {"steps": 1},
}
NOTHING = Study(study_of([]).trials)


def run(config: SweepConfig, directory: Path, claim: str = "deat_equal_lr", hours: float = 1.0) -> tuple[int, str]:
    text = io.StringIO()
    console = Console(file=text, width=200)
    command = f"sweep launch tiny.yaml --decide {claim} --budget-hours {hours}"
    code = decide(config, directory, console, claim=claim, hours=hours, command=command, serial=True, debug=True)
    return code, text.getvalue()


def points(design: Design, seeds: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    return [point for part in design.parts(seeds, NOTHING) for point in fixed_points(part)]


def looks(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("seed ")]


def starts(directory: Path) -> list[str]:
    return [record["trial_id"] for record in read(directory) if record["record"] == "start"]


@pytest.mark.parametrize(
    ("claim", "space", "key"),
    [
        ("k1_k2", RATIO, "optimizer.k1 is not varied"),
        ("ratio_only", CONTROLS, "the batch size is not varied"),
        ("not_weight_decay", RATIO, "the controls were not run"),
        ("deat_equal_lr", {"optimizer.lr": [0.1, 0.2]}, "no trial of deat"),
        ("ratio", {"optimizer.name": ["sgd", "deat"]}, "neither the learning rate nor the batch size is varied"),
    ],
)
def test_a_claim_that_the_config_cannot_measure_is_refused_in_one_line(
    claim: str, space: Any, key: str, tiny: Tiny
) -> None:
    with pytest.raises(UserError, match=rf"^--decide {claim}: {key}[^\n]*; take a config such as configs/\S+$"):
        Design(tiny(trial=TRIAL, space=space), claim)


def test_only_a_grid_has_the_same_cells_for_every_seed(tiny: Tiny) -> None:
    config = tiny(search={"name": "random", "n_trials": 3})
    with pytest.raises(UserError, match=r"needs search\.name: grid"):
        Design(config, "deat_equal_lr")


def test_an_unknown_claim_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="no such claim"):
        Design(tiny(), "deat")


def test_seeds_are_the_configs_one_by_one_and_then_the_next_integers(tiny: Tiny) -> None:
    blocks = Design(tiny(trial=TRIAL, seeds=[3, 1]), "deat_equal_lr").blocks()
    assert list(itertools.islice(blocks, 4)) == [(3,), (3, 1), (3, 1, 4), (3, 1, 4, 5)]


def test_best_cells_are_chosen_by_all_the_configs_seeds_at_once(tiny: Tiny) -> None:
    blocks = Design(tiny(seeds=[0, 1, 2]), "deat_own_best").blocks()
    assert list(itertools.islice(blocks, 2)) == [(0, 1, 2), (0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("claim", "space", "size"),
    [
        ("ratio", RATIO, 18),
        ("ratio_only", RATIO, 18),
        ("deat_equal_lr", RATIO, 18),
        ("no_extra_time", RATIO, 6),  # at one learning rate
        ("deat_equal_lr", CONTROLS, 6),  # k1 and weight decay as published
        ("not_weight_decay", CONTROLS, 4),  # 0.2236 and 0.5 of DEAT, 0.1 and 0.2236 of SGD
        ("k1_k2", CONSTANTS, 4),
    ],
)
def test_just_the_cells_that_enter_the_claim_are_run(claim: str, space: Any, size: int, tiny: Tiny) -> None:
    assert len(points(Design(tiny(trial=TRIAL, space=space), claim))) == size


def test_the_controls_are_the_matched_ones(tiny: Tiny) -> None:
    found = points(Design(tiny(trial=TRIAL, space=CONTROLS), "not_weight_decay"))
    assert [(p["optimizer.name"], p["optimizer.lr"]) for p in found] == [
        ("sgd", 0.1),
        ("sgd", 0.2236),
        ("deat", 0.2236),
        ("deat", 0.5),
    ]
    assert {p.get("optimizer.weight_decay") for p in found} == {1.118e-3, None}


def test_the_verdict_comes_at_the_first_look_that_decides(tiny: Tiny, tmp_path: Path) -> None:
    code, text = run(tiny(trial=TRIAL, space=CLEAR), tmp_path, "ratio")
    *before, last = looks(text)
    assert code == 0
    assert "supported" in last
    assert all("undecided" in look for look in before)
    assert len(before) >= 2  # two seeds never decide
    assert f"decided after seed {len(before)}" in text
    claim = next(claim for claim in ledger(load_study(tmp_path)) if claim.name == "ratio")
    assert (claim.sequential, claim.verdict, claim.n) == (True, "supported", len(before) + 1)


def test_the_same_command_again_repeats_nothing_and_says_the_same(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(trial=TRIAL, space=CLEAR)
    first = run(config, tmp_path, "ratio")[1]
    records = (tmp_path / "records.jsonl").read_bytes()
    assert looks(run(config, tmp_path, "ratio")[1])[-1] == looks(first)[-1]
    assert (tmp_path / "records.jsonl").read_bytes() == records


def test_no_seed_is_begun_that_would_take_more_than_is_left_and_more_hours_go_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "trial_seconds", lambda records, claim: 180.0 * kinds(records, "outcome"))
    monkeypatch.setattr(module, "_hours_left", lambda plans: 0.05 * sum(plan.left for plan in plans))
    config = tiny(trial=TRIAL, space={"optimizer.name": ["sgd", "deat"]})
    code, text = run(config, tmp_path, hours=0.25)
    assert code == 0
    assert [look.partition(":")[0] for look in looks(text)] == ["seed 0", "seed 1"]
    assert "stopped: seed 2 would take 0.1 h, and 0.05 h are left" in text
    begun = starts(tmp_path)
    text = run(config, tmp_path, hours=0.31)[1]
    assert [look.partition(":")[0] for look in looks(text)] == ["seed 0", "seed 1", "seed 2"]
    assert starts(tmp_path)[: len(begun)] == begun
    assert (len(begun), len(starts(tmp_path))) == (4, 6)


def kinds(records: list[dict[str, Any]], kind: str) -> int:
    """How many records of a kind."""
    return sum(record["record"] == kind for record in records)


def test_hours_are_of_the_epochs_that_launches_to_decide_this_claim_recorded() -> None:
    epoch = {"record": "epoch", "seconds": 3.0, "evaluation_seconds": 1.0}
    launches = [{"record": "launch", "command": f"sweep launch c{words}"} for words in ("", " --decide ratio", " -h")]
    plain, deciding, other = launches
    records = [plain, epoch, deciding, epoch, epoch, other, epoch, deciding, epoch]
    assert trial_seconds(records, "ratio") == 12.0
    assert trial_seconds(records, "k1_k2") == 0.0


def test_seeds_that_are_there_are_the_first_looks_and_cost_no_hours(
    tiny: Tiny, launch: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    launch(tiny(trial=TRIAL, space=CLEAR, seeds=[0, 1, 2]), tmp_path, serial=True)
    assert trial_seconds(read(tmp_path), "ratio") == 0.0
    begun = starts(tmp_path)
    code, text = run(tiny(trial=TRIAL, space=CLEAR), tmp_path, "ratio")
    assert code == 0
    assert [look.partition(":")[0] for look in looks(text)][:3] == ["seed 0", "seed 1", "seed 2"]
    assert starts(tmp_path)[: len(begun)] == begun
    assert all("; 0 of 1 h" in look for look in looks(text)[:3])


def test_an_interrupted_run_exits_with_130_and_goes_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, add = 0, Progress.add

    def count(progress: Progress, record: dict[str, Any], place: int = 0) -> None:
        nonlocal seen
        add(progress, record, place)
        seen += record["record"] == "outcome"
        if seen == 3 and record["record"] == "outcome":
            signal.raise_signal(signal.SIGINT)

    config = tiny(trial=TRIAL, space=CLEAR)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "add", count)
        code, text = run(config, tmp_path, "ratio")
    assert code == 130
    assert "interrupted: seed 0 is not whole; the same command goes on" in text
    assert run(config, tmp_path, "ratio")[0] == 0
    assert (load_trials(tmp_path)["outcome"] == "completed").all()


def test_interrupted_between_two_launches_it_exits_with_130_too(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.decide._look", lambda *arguments: signal.raise_signal(signal.SIGTERM))
    code, text = run(tiny(trial=TRIAL, space=CLEAR), tmp_path, "ratio")
    assert code == 130
    assert "stopped by SIGTERM; the same command goes on" in text


def test_one_ray_is_started_for_all_launches_and_is_gone_at_the_end(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def connected(*where: Any) -> Iterator[None]:
        if events:
            yield
            return
        events.append("up")
        yield
        events.append("down")

    def run_trials(journal: Journal, resources: ResourcesConfig, *how: Any) -> None:
        events.append("launch")
        while (trial := journal.next()) is not None:
            run_trial(trial.id, trial_values(trial.config, resources), journal.directory, 1, journal.take)

    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(ray_watch, "watched", lambda *asked: nullcontext())
    monkeypatch.setattr(ray_packing, "packing_of", lambda *asked: SimpleNamespace(largest=None))
    monkeypatch.setattr(ray_packing, "packing_lines", lambda packing: ())
    monkeypatch.setattr(ray_tune, "run", run_trials)
    monkeypatch.setattr(nodes, "most_at_once", lambda *asked: 1)
    monkeypatch.setattr(nodes, "check_nodes", lambda *asked: [])
    config, console = tiny(trial=TRIAL, space=CLEAR), Console(file=io.StringIO())
    assert decide(config, tmp_path, console, claim="ratio", hours=1.0, command="sweep launch --decide ratio") == 0
    launches = events[1:-1]
    assert events == ["up", *launches, "down"]
    assert launches == ["launch"] * len(launches)
    assert len(launches) > 2


def test_a_failed_trial_stops_it_with_1(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("trainers.loop.train", broken)
    code, text = run(tiny(trial=TRIAL), tmp_path)
    assert code == 1
    assert "a trial failed or lacks memory: seed 0 is not whole; the same command goes on" in text


@pytest.mark.parametrize(
    ("code", "why"), [(1, "a trial failed or lacks memory"), (3, "Ray is gone"), (130, "interrupted")]
)
def test_a_launch_that_did_not_end_its_trials_ends_it_with_its_exit_code_and_reason(
    code: int, why: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Launch, "run", lambda launch: code)
    assert run(tiny(trial=TRIAL), tmp_path) == (
        code,
        "one trial first: without an epoch measured nobody knows what the others cost\n"
        f"{why}: seed 0 is not whole; the same command goes on\n",
    )


def test_a_trial_that_needs_more_memory_than_there_is_stops_it_with_1_each_time_and_is_not_run_again(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*args: Any, **options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("trainers.loop.train", short_of_memory)
    for _ in range(2):
        code, text = run(tiny(trial=TRIAL), tmp_path)
        assert code == 1
        assert "1 trial is out_of_memory for good" in text
        assert "a trial failed or lacks memory: seed 0 is not whole; the same command goes on" in text
        assert len(starts(tmp_path)) == 1


def scripted(monkeypatch: pytest.MonkeyPatch, *script: tuple[tuple[str, int], ...]) -> Run:
    """Looks that find, one after another, these lines: verdict and replicates of each network; nothing is run."""
    asked = iter(script)

    def look(design: Design, directory: Path, records: Any, plans: Any) -> tuple[Claim, ...]:
        lines = enumerate(next(asked))
        return tuple(
            Claim("deat_equal_lr", "", f"network {number}", "", verdict, "fraction", n=n, estimate=0.1)
            for number, (verdict, n) in lines
        )

    def run(part: SweepConfig) -> int:
        raise AssertionError("nothing is left to run")

    monkeypatch.setattr(module, "_planned", lambda design, directory, seeds: ([], []))
    monkeypatch.setattr(module, "_look", look)
    monkeypatch.setattr(module, "claims_text", lambda claims, width: "the verdict")
    return run


def seeds_looked_at(tiny: Tiny, directory: Path, run: Run) -> list[str]:
    """The seeds after which the script was looked at, and the last words before the verdict."""
    text = io.StringIO()
    design = Design(tiny(trial=TRIAL, seeds=[7]), "deat_equal_lr")
    assert module._seed_after_seed(design, directory, Console(file=text, width=200), 1.0, run) == 0
    *lines, said, verdict = text.getvalue().splitlines()
    assert verdict == "the verdict"
    return [*dict.fromkeys(line.partition(":")[0] for line in lines), said]


YES, NO, OPEN, UNKNOWN = "supported", "contradicted", "undecided", "not measured"


def test_it_is_decided_once_every_line_is(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [(OPEN, 2), (OPEN, 2)], [(YES, 3), (OPEN, 3)], [(OPEN, 4), (NO, 4)], [(YES, 5), (UNKNOWN, 5)]
    run = scripted(monkeypatch, *map(tuple, looks), ((YES, 6), (NO, 6)))
    assert seeds_looked_at(tiny, tmp_path, run) == [*(f"seed {n}" for n in (7, 8, 9, 10, 11)), "decided after seed 11"]


def test_it_is_given_up_once_no_undecided_line_has_grown_for_three_seeds_in_a_row(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows in a line that is decided already decides nothing."""
    grown = [(YES, 1), (OPEN, 1)], [(YES, 2), (OPEN, 1)], [(YES, 3), (OPEN, 1)], [(YES, 3), (OPEN, 2)]
    idle = [(YES, 4), (OPEN, 2)], [(YES, 5), (OPEN, 2)], [(YES, 6), (OPEN, 2)]
    run = scripted(monkeypatch, *map(tuple, grown), *map(tuple, idle))
    said = "stopped: 3 seeds in a row added nothing, their trials being left out of the claim"
    assert seeds_looked_at(tiny, tmp_path, run) == [*(f"seed {n}" for n in range(7, 14)), said]


def test_no_hours_are_spent_to_learn_what_a_seed_costs_once_they_are_used_up(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted(monkeypatch)
    unknown = plan(tiny(trial=TRIAL), [], "abc")
    monkeypatch.setattr(module, "_planned", lambda design, directory, seeds: ([], [unknown]))
    monkeypatch.setattr(module, "trial_seconds", lambda records, claim: 3601.0)
    text = io.StringIO()
    design = Design(tiny(trial=TRIAL), "deat_equal_lr")
    assert module._seed_after_seed(design, tmp_path, Console(file=text, width=200), 1.0, run) == 0
    assert text.getvalue() == "stopped: seed 0 would take a time not known yet, and 0 h are left\n"


def test_what_is_run_to_learn_a_cost_is_one_unfinished_trial_of_a_network_that_nothing_is_known_of(tiny: Tiny) -> None:
    space = {"model.name": ["small_cnn", "preact_resnet18"], "optimizer.lr": [0.1, 0.2]}
    config = tiny(trial={key: value for key, value in TRIAL.items() if key != "model"}, space=space, seeds=[4, 5])
    found = plan(config, [], "abc")
    wanted = found.search.known()
    measured = next(trial for trial in wanted if trial.config.model.name == "small_cnn")
    epoch = {
        "record": "epoch",
        "trial_id": measured.id,
        "epoch": 1,
        "lr": 0.1,
        "seconds": 1.0,
        "evaluation_seconds": 0.0,
    }
    records = [{"record": "trial", **measured.record(0)}, epoch]
    for known, network in (([], "small_cnn"), (records, "preact_resnet18")):
        (one,) = plan(module._unmeasured([found], known), [], "abc").search.known()
        assert one == next(trial for trial in wanted if trial.config.model.name == network)


def test_a_look_is_by_the_sweeps_own_metric_at_the_trials_of_its_plans_alone(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Study, dict[str, Any]]] = []
    monkeypatch.setattr(module, "ledger", lambda study, **options: asked.append((study, options)))
    config = tiny(trial=TRIAL, metric="val_robust_loss", mode="min")
    found = plan(config, [], "abc")
    module._look(Design(config, "deat_equal_lr"), tmp_path, [], [found])
    ((study, options),) = asked
    assert options == {"metric": "val_robust_loss", "mode": "min", "only": "deat_equal_lr"}
    assert study.launched == {"deat_equal_lr": frozenset(trial.id for trial in found.search.known())}


def test_hours_left_are_those_of_the_parts_that_are_to_run_and_unknown_where_one_of_them_is(tiny: Tiny) -> None:
    def part(left: int, seconds: float | None) -> Plan:
        found = plan(tiny(trial=TRIAL), [], "abc")
        return replace(found, finished=found.size - left, trial_seconds=seconds)

    assert module._hours_left([part(1, 1800.0), part(2, 3600.0)]) == 1.5
    assert module._hours_left([part(1, 1800.0), part(0, None)]) == 0.5
    assert module._hours_left([part(1, 1800.0), part(1, None)]) is None
    assert module._hours_left([part(0, 0.0)]) == 0


def test_a_claim_whose_trials_all_diverge_is_given_up(tiny: Tiny, tmp_path: Path) -> None:
    space = {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [1e30]}
    code, text = run(tiny(trial=TRIAL, space=space), tmp_path)
    assert code == 0
    assert "seeds in a row added nothing" in text
    assert len(looks(text)) == module._PATIENCE + 1


def test_new_seeds_run_just_the_cells_that_validation_chose(
    tiny: Tiny, launch: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    config = tiny(trial=TRIAL, space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.01, 0.3]}, seeds=[0, 1])
    launch(config, tmp_path, serial=True)
    means = load_trials(tmp_path).groupby(["optimizer.name", "optimizer.lr"])["last_val_robust"].mean()
    parts = Design(config, "deat_own_best").parts((0, 1, 2), load_study(tmp_path))
    assert [part.seeds for part in parts] == [(2,), (2,)]
    assert [fixed_points(part) for part in parts] == [
        [{"optimizer.name": name, "optimizer.lr": means[name].idxmax()}] for name in ("sgd", "deat")
    ]


def test_with_one_cell_a_method_the_seeds_after_the_configs_own_confirm(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(trial=TRIAL, space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1]}, seeds=[0, 1])
    text = run(config, tmp_path, "deat_own_best")[1]
    first, second, third = looks(text)[:3]
    assert "those to confirm them are still to run" in first
    assert "n = 1" in second
    assert "n = 2" in third
    claim = next(claim for claim in ledger(load_study(tmp_path)) if claim.name == "deat_own_best")
    assert (claim.n, load_study(tmp_path).choosers) == (len(looks(text)) - 1, frozenset({0, 1}))
    decides = {"claim": "deat_own_best", "budget_hours": 1.0, "choosing_seeds": [0, 1]}
    launches = [record for record in read(tmp_path) if record["record"] == "launch"]
    assert [launch["decides"] for launch in launches] == [decides] * len(launches)


def test_each_network_runs_its_own_best_cell_and_no_other(tiny: Tiny) -> None:
    networks = {"model.name": ["small_cnn", "preact_resnet18"]}
    space = {**networks, "optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.2]}
    design = Design(tiny(trial={k: v for k, v in TRIAL.items() if k != "model"}, space=space), "deat_own_best")
    cells = design._cells.drop(columns="point")
    best = (cells["model.name"] == "small_cnn") == (cells["optimizer.lr"] == 0.1)
    found = [fixed_points(part) for part in design.parts((0, 1), Study(cells.assign(last_val_robust=best * 0.5)))]
    assert [(point["model.name"], point["optimizer.lr"]) for (point,) in found] == [
        *[("small_cnn", 0.1)] * 2,
        *[("preact_resnet18", 0.2)] * 2,
    ]


def test_the_narrowed_cells_of_the_controls_are_enough_to_measure_them(tiny: Tiny) -> None:
    design = Design(tiny(trial=TRIAL, space=CONTROLS), "not_weight_decay")
    cells = design.asked.cells(design._cells)
    effect = not_weight_decay(cells.drop(columns="point"), Options(sequential=True))
    assert isinstance(effect, Effect)
    assert (effect.evidence.n, len(effect.trials)) == (2, len(cells))


def test_controls_that_were_there_in_part_are_decided_with_what_was_there(
    tiny: Tiny, launch: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(tiny(trial=TRIAL, space={**CONTROLS, "optimizer.name": ["sgd"]}, seeds=[0, 1, 2]), tmp_path, serial=True)
    monkeypatch.setattr(module, "_hours_left", lambda plans: float(plans[0].left))  # none for SGD's, which are there
    text = run(tiny(trial=TRIAL, space=CONTROLS, seeds=[0, 1, 2]), tmp_path, "not_weight_decay", hours=0.5)[1]
    assert [f"n = {n} seed" in look for n, look in enumerate(looks(text), start=1)] == [True] * 3
    claim = next(claim for claim in ledger(load_study(tmp_path)) if claim.name == "not_weight_decay")
    assert (claim.n, claim.n_trials, claim.sequential) == (3, 12, True)


def test_times_that_an_ordinary_launch_took_are_passed_over(
    tiny: Tiny, launch: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(trial=TRIAL, space={"optimizer.name": ["sgd", "deat"]}, seeds=[0, 1, 2, 3, 4, 5])
    launch(config, tmp_path, serial=True)
    monkeypatch.setattr(module, "trial_seconds", lambda records, claim: 3600.0 * (kinds(records, "outcome") - 12))
    monkeypatch.setattr(module, "_hours_left", lambda plans: float(sum(plan.left for plan in plans)))
    text = run(config, tmp_path, "no_extra_time", hours=4.5)[1]
    assert "seeds 0, 1, 2, 3, 4, 5" in text
    assert [look.partition(":")[0] for look in looks(text)] == ["seed 6", "seed 7"]
    assert "so far one optimizer's trials began before the other's" in looks(text)[0]
    assert "run --decide" not in text
    assert "n = 2" in looks(text)[1]


def test_times_are_decided_by_trials_that_take_turns_and_begin_each_with_the_other_optimizer(tiny: Tiny) -> None:
    design = Design(tiny(trial=TRIAL, space=RATIO), "no_extra_time")
    orders = []
    for seeds in ((0,), (0, 1)):
        (part,) = design.parts(seeds, NOTHING)
        trials = plan(part, [], "code").search.known()
        orders.append([trial.config.optimizer.name for trial in trials if trial.seed == seeds[-1]])
    half = len(orders[0]) // 2
    assert orders == [["sgd", "deat"] * half, ["deat", "sgd"] * half]


def test_without_any_epoch_measured_one_trial_is_run_before_hours_are_compared(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(trial=TRIAL, space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.2, 0.4]})
    text = run(config, tmp_path, hours=1e-9)[1]
    assert len(starts(tmp_path)) == 1
    assert "one trial first" in text
    assert "stopped: seed 0 would take" in text


def test_every_claim_has_a_config_that_can_decide_it(tiny: Tiny) -> None:
    spaces = dict.fromkeys(NAMES, RATIO) | {"not_weight_decay": CONTROLS, "k1_k2": CONSTANTS}
    for claim, space in spaces.items():
        assert points(Design(tiny(trial=TRIAL, space=space), claim))


def test_the_trial_that_is_to_be_measured_first_is_none_that_was_cancelled(tiny: Tiny) -> None:
    config = tiny(trial=TRIAL, space=CLEAR)
    first, *_ = plan(config, [], "code").search.known()
    cancelled = vars(OutcomeRecord(first.id, "cancelled", "by `sweep cancel`", 0))
    records = [
        {"record": "trial", **first.record(0), "time": 1.0},
        {"record": "outcome", **cancelled, "time": 2.0},
    ]
    (trial,) = plan(module._unmeasured([plan(config, records, "code")], records), [], "code").search.known()
    assert trial.id != first.id


def test_trials_that_were_pruned_are_asked_to_be_taken_up_again_first(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(trial=TRIAL, space={"optimizer.name": ["sgd", "deat"]}, seeds=[0, 1])
    trial = plan(config, [], "abc").search.known()[0]
    with closing(RecordFile(tmp_path)) as file:
        file.append("trial", trial.record(0))
        file.append(
            "outcome", PrunedRecord(trial.id, "pruned", "by asha", 1, rung=1, rank=2, of=2, share=0.5, by="asha")
        )
    with pytest.raises(UserError, match=rf"1 trial that the claim needs was pruned.*{trial.id}.*--resume-pruned"):
        run(config, tmp_path)
