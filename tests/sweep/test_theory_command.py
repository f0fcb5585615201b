"""`sweep theory`: a config or a run, and what a user can get wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweep.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"


def theory(*words: object) -> Result:
    return CliRunner().invoke(main, ["theory", *map(str, words)])


def test_a_config_is_enough_and_nothing_of_it_needs_to_have_run() -> None:
    answer = theory(CONFIGS / "dynamics_digits.yaml", "--format", "json")
    assert answer.exit_code == 0
    said = json.loads(answer.stdout)
    assert [row["method"] for row in said["predicted"]] == ["PGD-AT", "PGD-AT-AWP", "DEAT"]
    assert said["predicted"][2]["mean_step"] == pytest.approx(5**-0.5)
    assert said["along"] == said["beside"] == []


def test_an_axis_that_is_drawn_stands_there_with_its_ends(yaml_file: Callable[[str], Path]) -> None:
    text = """
        name: a
        trial: {data: {name: digits}, model: {name: small_cnn}}
        space:
          optimizer.name: [sgd, deat]
          optimizer.lr: {loguniform: [0.01, 1]}
          batch_size: {choice: [32, 128]}
          optimizer.k1: {uniform: [0, 2], when: {optimizer.name: deat}}
        search: {name: optuna, n_trials: 5}
    """
    rows = json.loads(theory(yaml_file(text), "--format", "json").stdout)["predicted"]
    assert {(row["optimizer.lr"], row["batch_size"]) for row in rows} == {
        (lr, b) for lr in (0.01, 1) for b in (32, 128)
    }
    assert [{row["optimizer.k1"] for row in rows if row["method"] == name} for name in ("PGD-AT", "DEAT")] == [
        {None}, {0, 2},
    ]  # fmt: skip


def test_set_changes_the_config() -> None:
    answer = theory(CONFIGS / "dynamics_digits.yaml", "--set", "trial.optimizer.k1=3", "--format", "json")
    assert json.loads(answer.stdout)["predicted"][2]["optimizer.k1"] == 3


def test_a_run_gives_what_its_config_gives(undisturbed: Path) -> None:
    of_run, of_config = (
        json.loads(theory(study, "--format", "json").stdout)["predicted"]
        for study in (undisturbed, undisturbed / "sweep.yaml")
    )
    assert of_run == of_config


def test_a_narrow_terminal_gets_lines_of_its_width(undisturbed: Path) -> None:
    from rich.console import Console

    from analysis.estimates.theory_check import theory_check
    from analysis.tables.theory import theory_view
    from sweep.run.screen import print_whole
    from trainers.record import read

    screen = Console(width=80, force_terminal=True, color_system=None, record=True)
    print_whole(screen, theory_view(theory_check(read(undisturbed))))
    assert max(len(line.rstrip()) for line in screen.export_text().splitlines()) <= 80


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "sweep: nowhere: neither a run nor a config; give a launch's --out, or a YAML file"),
        (["."], "sweep: .: not a run directory: it has no records.jsonl; give the --out of a launch"),
        (
            [CONFIGS / "demo.yaml", "--set", "trial.optimizer.weight_dekay=1"],
            "sweep: --set trial.optimizer.weight_dekay: unknown key; did you mean 'weight_decay'?",
        ),
    ],
)
def test_a_mistake_is_one_line(words: list[object], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = theory(*words)
    assert (answer.exit_code, answer.stderr) == (2, f"{line}\n")


def test_a_run_without_a_trial_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").touch()
    answer = theory(tmp_path)
    assert answer.exit_code == 2
    assert answer.stderr == (
        f"sweep: {tmp_path}: has no trial yet, of which theory could say anything; give the sweep's config\n"
    )


def test_set_is_refused_beside_a_run(undisturbed: Path) -> None:
    answer = theory(undisturbed, "--set", "trial.epochs=3")
    assert answer.exit_code == 2
    assert answer.stderr == (
        f"sweep: --set trial.epochs=3: changes a config, and {undisturbed} is a run; leave it out, or give a config\n"
    )


def test_it_does_without_torch_and_ray() -> None:
    command = (
        "from sweep.cli import main; main(standalone_mode=False); import sys; print({'torch', 'ray'} & {*sys.modules})"
    )
    words = [sys.executable, "-c", command, "theory", str(CONFIGS / "demo.yaml")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.endswith("set()\n")
