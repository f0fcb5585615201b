"""The script of a job: what bash makes of it, with a stand-in for the sweep, and for `scontrol`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.run.cluster import OBJECT_STORE
from sweep.slurm import script as module
from sweep.slurm.request import Request
from sweep.slurm.script import script
from trainers.errors import UserError

HOSTILE = 'a b\'s "c" $(touch broken) `touch broken`; touch broken & é @out@ \\ %j *'

#: What stands in for Slurm's: it writes down that it was called, and does as it is told.
SCONTROL = '#!/bin/bash\necho "$*" >> "$CALLS"\nexit "${SCONTROL_EXIT:-0}"\n'

Write = Callable[..., Path]


def text(directory: Path, launch: list[str], **values: Any) -> str:
    request = Request(**{"name": "s", "cpus": 2} | values)
    shares = [12 // request.array] * request.array if request.array else []
    return script(request, launch, directory, 12, ["sweep", "slurm", "c.yaml", "--set", f"name={HOSTILE}"], shares)


@pytest.mark.parametrize("values", [{}, {"array": 4}, {"nodes": 3, "gpus": 2}], ids=str)
def test_bash_and_shellcheck_take_it_whatever_paths_are_called(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "job.sh"
    python, config = f"/venv/{HOSTILE}/python", f"/home/{HOSTILE}/c.yaml"
    launch = [python, f"{tmp_path / HOSTILE}/code/program", "launch", config, "--out", str(tmp_path / HOSTILE)]
    file.write_text(text(tmp_path / HOSTILE, launch, **values))
    subprocess.run(["bash", "-n", file], check=True)
    assert not re.search("@[a-z_]+@", file.read_text().replace("@out@", ""))  # no name was left to fill in
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--exclude=SC2016", file], check=True)  # words that a node's bash is to expand


def test_a_character_that_cannot_be_seen_is_refused(tmp_path: Path) -> None:
    for hidden in ("new\nline", "\x1b[31m", "\u202e", "\udcff", "tab\t"):
        with pytest.raises(UserError, match="cannot be seen in a job's script"):
            text(tmp_path / hidden, ["python", "program", "launch", "c.yaml"])


def test_what_is_asked_of_slurm_comes_before_the_first_command(tmp_path: Path) -> None:
    """sbatch reads no further."""
    lines = text(tmp_path, ["python", "program", "launch", "c.yaml"], time="1:00:00").splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert max(options) < first
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --signal=B:USR1@60"} <= set(lines)


def test_steps_get_all_of_the_jobs_environment_whatever_the_job_was_told_to_export(tmp_path: Path) -> None:
    """By SLURM_EXPORT_ENV, which sbatch sets of --export, srun would leave out the token that Ray asks for."""
    assert "srun --overlap --export=ALL " in text(tmp_path, ["python", "program", "launch", "c.yaml"], nodes=2)


def test_the_object_store_of_a_job_is_that_of_a_local_ray() -> None:
    assert module.OBJECT_STORE == OBJECT_STORE


class Job:
    """A script that runs as Slurm runs it, with a sweep that does what a test says."""

    def __init__(self, folder: Path, sweep: str, **values: Any) -> None:
        self.folder, self.out = folder, folder / "run of a user's"
        self.out.mkdir()
        (folder / "bin").mkdir()
        (folder / "bin" / "scontrol").write_text(SCONTROL)
        (folder / "bin" / "scontrol").chmod(0o755)
        (folder / "sweep.sh").write_text(sweep)
        launch = ["bash", str(folder / "sweep.sh"), "launch", "c d.yaml", "--out", str(self.out)]
        (folder / "job.sh").write_text(text(self.out, launch, **values))

    def start(self, **environment: str) -> subprocess.Popen[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        known = {"PATH": path, "CALLS": str(self.folder / "calls"), "OUT": str(self.out), "SLURM_JOB_ID": "7"}
        return subprocess.Popen(
            ["bash", str(self.folder / "job.sh")],
            env=os.environ | known | environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        process = self.start(**environment)
        output = process.communicate(timeout=30)[0]
        return process.returncode, output

    @property
    def asked(self) -> list[str]:
        """Of scontrol."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


def once_it_runs(job: Job) -> None:
    deadline = time.monotonic() + 30
    while not (job.out / "runs").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


EPOCH = """echo '{"record":"epoch","trial_id":"1"}' >> "$OUT/records.jsonl"\n"""
#: A sweep that records an epoch, waits for the signal, and writes for some time before it ends as `sweep launch` does.
STOPPED = f"""told() {{ sleep 0.3
{EPOCH}echo $1 >> "$OUT/told"; exit 130; }}
trap 'told USR1' USR1; trap 'told TERM' TERM
touch "$OUT/runs"; for i in $(seq 1000); do sleep 0.05; done
"""


@pytest.mark.parametrize("code", [0, 1, 2, 130, 137])
def test_what_ended_by_itself_is_not_run_again(code: int, tmp_path: Path) -> None:
    job = Job(tmp_path, f"{EPOCH}exit {code}\n")
    assert job.run()[0] == code
    assert job.asked == []


def test_the_launch_gets_its_words_as_they_are(tmp_path: Path) -> None:
    job = Job(tmp_path, 'printf "%s\\n" "$@" > "$OUT/words"\n')
    assert job.run()[0] == 0
    assert (job.out / "words").read_text().splitlines() == ["launch", "c d.yaml", "--out", str(job.out)]


def test_words_in_the_run_directory_are_told_by_it(tmp_path: Path) -> None:
    out, odd = tmp_path / "run of a user's", "odd $name's"
    launch = ["python", f"{out}/{odd}", "launch", f"{out}s/c.yaml", "--out", str(out)]
    words = script(Request("s", cpus=1), launch, out, 1, []).partition("launch=(")[2].partition("\n)")[0].split("\n")
    assert '    --out "$out"' in words
    assert f'    "$out"/{shlex.quote(odd)}' in words
    shown = ["bash", "-c", f'out=$1; printf "%s\\n" {" ".join(words)}', "bash", str(out)]
    assert subprocess.run(shown, capture_output=True, text=True, check=True).stdout.splitlines() == launch


def test_each_job_of_an_array_has_its_share_and_its_own_records_and_asks_for_itself_alone(tmp_path: Path) -> None:
    """The last of an array has the array's own number for SLURM_JOB_ID, which Slurm takes for all of its jobs."""
    sweep = 'printf "%s\\n" "$@" > "$OUT/words"\n' + EPOCH.replace("records", "records.3of4") + "exit 3\n"
    job = Job(tmp_path, sweep, array=4)
    assert job.run(SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_JOB_ID="7")[0] == 0
    assert (job.out / "words").read_text().splitlines()[-2:] == ["--shard", "3/4"]
    assert job.asked == ["requeue 7_3"]


def test_near_the_limit_the_sweep_is_told_and_waited_for_and_the_job_runs_again(tmp_path: Path) -> None:
    job = Job(tmp_path, STOPPED)
    process = job.start()
    once_it_runs(job)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert (job.out / "told").read_text() == "USR1\n"
    assert job.asked == ["requeue 7"]


def test_a_second_word_from_slurm_while_the_sweep_stops_cuts_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, STOPPED)
    process = job.start()
    once_it_runs(job)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)  # the shell alone: it hands that on to nobody
    assert process.wait(30) == 0
    assert (job.out / "told").read_text() == "USR1\n"


def test_after_scancel_or_a_preemption_the_script_waits_for_the_sweep_and_asks_for_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, STOPPED)
    process = job.start()
    once_it_runs(job)
    pid = int(subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout)
    for told in (process.pid, pid):  # as Slurm does, all of them
        os.kill(told, signal.SIGTERM)
    assert process.wait(30) == 130
    assert (job.out / "told").read_text() == "TERM\n"
    assert job.asked == []


def test_a_job_that_records_no_epoch_is_not_run_again_for_ever(tmp_path: Path) -> None:
    job = Job(tmp_path, "exit 3\n")
    (job.out / "records.jsonl").write_text('{"record":"epoch"}\n{"record":"outcome"}\n')
    code, output = job.run()
    assert code == 3
    assert job.asked == []
    assert output.startswith("not run again: this time no epoch was recorded")


def test_where_slurm_refuses_to_run_it_again_the_user_is_told_what_to_do(tmp_path: Path) -> None:
    job = Job(tmp_path, f"{EPOCH}exit 3\n")
    code, output = job.run(SCONTROL_EXIT="1")
    assert code == 3
    said = "Slurm does not run this job again, unless squeue shows it; submit it once more: it goes on\n"
    assert output == said


def test_told_before_the_sweep_has_begun_nothing_is_started(tmp_path: Path) -> None:
    job = Job(tmp_path, 'touch "$OUT/runs"\n')
    file = tmp_path / "job.sh"
    file.write_text(file.read_text().replace("before=$(progress)", "before=$(progress); kill -USR1 $$"))
    code, output = job.run()
    assert (code, output[:13]) == (130, "not run again")
    assert not (job.out / "runs").exists()


def test_the_words_are_told_in_a_comment_of_one_line(tmp_path: Path) -> None:
    line = text(tmp_path, ["python", "program", "launch", "c.yaml"]).splitlines()[2]
    assert line == f"# Written by: sweep slurm c.yaml --set {shlex.quote(f'name={HOSTILE}')}"
