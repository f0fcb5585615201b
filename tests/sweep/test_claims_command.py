"""`sweep claims` and the options of `sweep launch` that go with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis.claims.ledger import ledger
from analysis.claims.literature import findings
from analysis.claims.questions import NAMES
from analysis.claims.study import load_study, published
from analysis.tables.claims import claims_text
from analysis.tables.literature import findings_text
from sweep.cli import main

Cli = Callable[..., Result]


@pytest.fixture
def cli() -> Cli:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def said(result: Result) -> str:
    """The one line on stderr of a command that was given wrong input."""
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    return line


def test_the_published_ledger_names_every_claim_and_exits_with_0(cli: Cli) -> None:
    result = cli("claims", "--published")
    assert result.exit_code == 0
    assert [line.partition(":")[0] for line in result.stdout.splitlines() if line.startswith(NAMES)] == list(NAMES)
    assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_ledger_of_a_narrow_terminal_says_the_same(width: int) -> None:
    claims = ledger(published())
    text = claims_text(claims, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.split() == claims_text(claims).split()


def test_an_effect_in_no_percentage_points_has_its_unit_and_the_legend_says_so() -> None:
    text = claims_text(ledger(load_study(Path(__file__).parents[2] / "benchmarks" / "study" / "small")))
    assert [line.split("]")[1].split()[0] for line in text.splitlines() if " seeds  " in line].count("%") == 1
    assert "  small_cnn                 -8.39 [-27.94, +16.45] %     4 seeds" in text
    assert "where a % stands behind it, of training time, in % more;" in " ".join(text.split())
    assert "where a %" not in " ".join(claims_text(ledger(published(), only="ratio")).split())


def test_json_is_the_same_ledger(cli: Cli) -> None:
    rows = json.loads(cli("claims", "--published", "--json").stdout)
    assert {row["name"] for row in rows} == set(NAMES)
    assert {row["verdict"] for row in rows} == {"supported", "undecided", "not measured"}


def test_what_others_published_stands_below_the_published_ledger(cli: Cli) -> None:
    text = cli("claims", "--published").stdout
    assert text == f"{claims_text(ledger(published()))}\n{findings_text(findings())}"
    rows = json.loads(cli("claims", "--published", "--json").stdout)
    others = [row for row in rows if "source" in row]
    assert rows[-len(others) :] == others
    assert len(others) == len(findings())


def test_either_a_run_or_the_published_study(cli: Cli, tmp_path: Path) -> None:
    expected = "sweep: claims: give either a run's DIR or --published, and not both"
    assert said(cli("claims")) == expected
    assert said(cli("claims", tmp_path, "--published")) == expected


def test_a_folder_that_is_no_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "not a run directory" in said(cli("claims", tmp_path))


def test_margins_are_in_points_and_percent(cli: Cli) -> None:
    rows = json.loads(cli("claims", "--published", "--json", "--margin", "2", "--time-margin", "10").stdout)
    thresholds = {row["name"]: row["threshold"] for row in rows}
    assert thresholds["ratio_only"] == thresholds["k1_k2"] == pytest.approx(0.02)
    assert thresholds["no_extra_time"] == pytest.approx(1.1)


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_margin_or_a_budget_that_is_not_finite_is_refused(
    value: str, cli: Cli, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    deciding = ("--decide", "ratio", "--budget-hours", value)
    for words in (
        *(("claims", "--published", name, value) for name in ("--margin", "--time-margin")),
        *(("register", sweep_file(), "--out", tmp_path, name, value) for name in ("--margin", "--time-margin")),
        *((command, sweep_file(), "--out", tmp_path, *deciding) for command in ("register", "launch")),
    ):
        told = f"sweep: Invalid value for '{words[-2]}': '{value}' is not a finite number; "
        assert said(cli(*words)).startswith(told)


def test_a_claim_needs_its_hours(cli: Cli, sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    words = ("launch", sweep_file(), "--out", tmp_path / "run")
    assert "--decide: needs --budget-hours too" in said(cli(*words, "--decide", "ratio"))
    assert not (tmp_path / "run").exists()


def test_a_claim_that_does_not_exist_is_refused(cli: Cli, sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    result = cli("launch", sweep_file(), "--out", tmp_path / "run", "--decide", "ratoi", "--budget-hours", "1")
    assert "did you mean 'ratio'?" in said(result)


def test_a_launch_that_decides_is_known_to_the_ledger(
    cli: Cli, sweep_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = [str(sweep_file()), "--out", str(out), "--serial", "--decide", "deat_equal_lr", "--budget-hours", "0.5"]
    monkeypatch.setattr(sys, "argv", ["sweep", "launch", *words])
    monkeypatch.setattr("sweep.decide._hours_left", lambda plans: float(plans[0].size > 4))  # the first seed is free
    result = cli("launch", *words)
    assert result.exit_code == 0, result.output
    assert "of 0.5 h" in result.stdout
    text = cli("claims", out).stdout
    assert "confidence sequence" in text


def test_of_a_run_without_a_trial_nothing_is_measured_and_the_methods_are_none(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").touch()
    lines = json.loads(cli("claims", tmp_path, "--json").stdout)
    assert {(line["verdict"], line["note"]) for line in lines} == {("not measured", "no trials")}
    assert json.loads(cli("methods", tmp_path, "--format", "json").stdout)["methods"] == []


def test_the_published_ledger_needs_neither_torch_nor_statsmodels() -> None:
    code = (
        "import sys; from sweep.cli import main; main(['claims', '--published'], standalone_mode=False); "
        "print([name for name in ('torch', 'ray', 'optuna', 'statsmodels', 'sklearn', 'matplotlib') "
        "if name in sys.modules])"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert text.splitlines()[-1] == "[]"
