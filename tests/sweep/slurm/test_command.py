"""The command `sweep slurm`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sweep.cli import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def slurm(sweep_file: Callable[..., Path], tmp_path: Path) -> Callable[..., Result]:
    """`sweep slurm` of the tiny sweep, with these options and values."""

    def run(*options: str, **values: Any) -> Result:
        words = ["slurm", str(sweep_file(**values)), "--out", str(tmp_path / "the run"), *options]
        return CliRunner().invoke(main, words)

    return run


def words_of(script: str) -> list[str]:
    """Those of the launch, `$out` in them as the script says it."""
    (out,) = shlex.split(script.partition("\nout=")[2].partition("\n")[0])
    return [word.replace("$out", out) for word in shlex.split(script.partition("launch=(")[2].partition("\n)")[0])]


def test_it_prints_a_script_of_an_array_that_bash_takes(slurm: Callable[..., Result], tmp_path: Path) -> None:
    done = slurm("--array", "4", "--time", "1:00:00", "--partition", "low", "--sbatch=--mem=8G")
    assert done.exit_code == 0, done.output
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    assert {"#SBATCH --array=1-4", "#SBATCH --time=1:00:00", "#SBATCH --mem=8G"} <= set(done.stdout.splitlines())
    trials = re.search("4 trials left to run, as an array of 4 jobs, with (.+) of them each", done.stdout)
    assert trials is not None
    assert sum(map(int, trials[1].split(", "))) == 4
    words = words_of(done.stdout)
    assert words[2] == "launch"
    assert words[-4:] == ["--out", str(tmp_path / "the run"), "--shard", "$SLURM_ARRAY_TASK_ID/4"]


def test_jobs_of_an_array_that_will_have_no_trial_are_told(slurm: Callable[..., Result]) -> None:
    done = slurm("--array", "40")
    assert done.exit_code == 0
    assert re.fullmatch(r"sweep: --array 40: 3[6-9] jobs of it will have no trial; ask for fewer\n", done.stderr)
    assert re.search("an array of 40 jobs, with 0 to [1-4] of them each", done.stdout)


@pytest.mark.parametrize("options", [(), ("--array", "40"), ("--submit",)])
def test_no_job_is_asked_for_where_nothing_is_left_to_run(
    options: tuple[str, ...], slurm: Callable[..., Result], finished: Path
) -> None:
    done = slurm(*options, "--time", "30", "--out", str(finished))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"sweep: {finished}: no trial is left to run, of 4 (sweep status {finished}); ask for more of them, such as "
        "more seeds, or give another --out\n"
    )
    assert slurm("--time", "30", "--out", str(finished), seeds=[0, 1]).stdout


def test_without_a_time_limit_its_line_is_there_to_be_filled_in(slurm: Callable[..., Result]) -> None:
    assert "\n##SBATCH --time=" in slurm().stdout
    assert "##SBATCH" not in slurm("--time", "1:00:00").stdout


def test_the_launch_of_the_script_runs_what_was_submitted(slurm: Callable[..., Result], tmp_path: Path) -> None:
    """Its code and its config, and not those of an hour later."""
    program = words_of(slurm("--set", "trial.epochs=7").stdout)[:4]
    slurm("--set", "trial.epochs=8")
    shown = subprocess.run(
        [*program[:2], "plan", program[3], "--no-data"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert shown.stdout.startswith("tiny: 4 trials")
    assert "epochs: 7" in Path(program[3]).read_text()


def test_follow_code_takes_both_as_they_are_then(slurm: Callable[..., Result], tmp_path: Path) -> None:
    words = words_of(slurm("--follow-code", "--set", "trial.epochs=7").stdout)
    assert words[1:5] == ["-P", "-m", "sweep", "launch"]
    assert words[5:] == [str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "the run"), "--set", "trial.epochs=7"]
    assert not (tmp_path / "the run").exists()


@pytest.mark.parametrize(
    ("options", "values", "says"),
    [
        (("--nodes", "2", "--array", "3"), {}, "--nodes: is of one job, and the jobs of an --array have a node each"),
        (("--gres", "gpu", "--gpus-per-task", "1"), {}, "--gres: says the GPUs too"),
        (("--gpus-per-task", "1"), {}, "--gpus-per-task 1: trials take no GPU"),
        (("--time", "1"), {}, "--time 1: is 60 s"),
        (("--account", "two words"), {}, "--account 'two words': must be one word"),
        (("--array", "2"), {"search": {"name": "optuna", "n_trials": 3}},
         "--array: search.name is optuna, whose next point depends on all results"),
        (("--array", "2"), {"stopping": {"name": "asha"}}, "--array: stopping is asha, which compares all trials"),
        (("--array", "2"), {"race": {}, "seeds": [0, 1, 2]}, "--array: race compares all trials, so that one launch"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_exit_2_and_leaves_nothing(
    options: tuple[str, ...], values: dict[str, Any], says: str, slurm: Callable[..., Result], tmp_path: Path
) -> None:
    done = slurm(*options, **values)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"sweep: {says}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "the run").exists()


def test_what_idles_is_told_beside_the_script(slurm: Callable[..., Result]) -> None:
    done = slurm("--cpus-per-task", "16")
    assert done.exit_code == 0
    assert done.stderr == "sweep: --cpus-per-task 16: trials use 2 of them at a time, for max_concurrent is 2\n"
    assert done.stdout.startswith("#!/bin/bash\n")


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a stand-in for sbatch on the path, of these lines of bash."""

    def put(lines: str) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / "bin" / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    return put


def test_submit_keeps_the_script_in_the_run_and_says_what_sbatch_says(
    slurm: Callable[..., Result], sbatch: Callable[[str], None], tmp_path: Path
) -> None:
    sbatch('bash -n "$1" && echo "Submitted batch job 12"')
    done = slurm("--submit")
    assert done.exit_code == 0, done.output
    run = tmp_path / "the run"
    assert (
        done.stdout
        == f"Submitted batch job 12\nis it running: squeue --me; how far: sweep status {shlex.quote(str(run))}\n"
    )
    assert (run / "job.sh").read_text().startswith("#!/bin/bash\n")


def test_what_sbatch_refuses_is_one_line_with_its_reason(
    slurm: Callable[..., Result], sbatch: Callable[[str], None]
) -> None:
    sbatch('echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1')
    done = slurm("--submit", "--partition", "nowhere")
    assert done.exit_code == 2
    assert "sbatch: error: invalid partition specified: nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_submit_where_there_is_no_sbatch_says_what_to_do(
    slurm: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = slurm("--submit")
    assert done.exit_code == 2
    assert done.stderr.startswith("sweep: --submit: there is no sbatch here")
