"""MLflow: a real server, asked by MLflow's own client what it was sent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults_harness import until
from recorded import append, launch, run, trials_of

from sweep.config import SweepConfig
from sweep.trackers.cursor import cursor_path
from sweep.trackers.feed import Count, Feed
from sweep.watchers import TrackerConfig

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow  # to import MLflow takes seconds, and its server some more

Tiny = Callable[..., SweepConfig]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of this test's own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    log = open(folder / "log", "w")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, cwd=folder, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    until(answers, "the server answers")
    yield address
    os.killpg(process.pid, 15)
    process.wait()
    log.close()


def sync(directory: Path, **options: Any) -> Count:
    with Feed.opened(directory, TrackerConfig(name="mlflow", **options), "test") as one:
        return one.look()


def runs(uri: str, experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [(metric.step, metric.value) for metric in MlflowClient(uri).get_metric_history(run_id, name)]


def test_each_trial_is_a_run_with_its_axes_metrics_by_epoch_and_outcome(
    server: str, tiny: Tiny, tmp_path: Path
) -> None:
    trials = trials_of(tiny())
    (tmp_path / "sweep.yaml").write_text("name: whole\n")
    append(tmp_path, [*launch(trials), *run(trials[0], 2), *run(trials[1], 1, "failed"), *run(trials[2], 1, None)])
    assert sync(tmp_path, uri=server) == Count(3, 4)
    assert sync(tmp_path, uri=server) == Count(0, 0)
    known = {run.info.run_name: run for run in runs(server, "whole")}
    assert {name: run.info.status for name, run in known.items()} == {
        trials[0].id: "FINISHED",
        trials[1].id: "FAILED",
        trials[2].id: "RUNNING",
    }
    first = known[trials[0].id]
    assert first.data.params == {"optimizer.name": "sgd", "optimizer.lr": "0.1", "seed": "0"}
    assert (first.data.tags["outcome"], first.data.tags["sweep"]) == ("completed", "whole")
    assert history(server, first.info.run_id, "val_robust") == [(1, 0.1), (2, 0.2)]


def test_what_came_since_goes_into_the_same_run(server: str, tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    (tmp_path / "sweep.yaml").write_text("name: longer\n")
    *lines, outcome = run(trials[0], 1, "interrupted")
    append(tmp_path, [*launch(trials), *lines, {**outcome, "reason": "SIGINT"}])
    sync(tmp_path, uri=server)
    assert runs(server, "longer")[0].data.tags["reason"] == "SIGINT"
    append(tmp_path, run(trials[0], 2)[2:])
    sync(tmp_path, uri=server)
    (only,) = runs(server, "longer")
    assert only.info.status == "FINISHED"
    assert (only.data.tags["outcome"], only.data.tags["reason"]) == ("completed", "")
    assert history(server, only.info.run_id, "val_robust") == [(1, 0.1), (2, 0.2)]


def test_a_process_that_was_killed_before_it_noted_what_it_sent_leaves_nothing_twice(
    server: str, tiny: Tiny, tmp_path: Path
) -> None:
    trials = trials_of(tiny())
    (tmp_path / "sweep.yaml").write_text("name: killed\n")
    append(tmp_path, [*launch(trials), *run(trials[0], 2)])
    sync(tmp_path, uri=server)
    token, _ = cursor_path(tmp_path, "mlflow").read_text().splitlines(keepends=True)
    cursor_path(tmp_path, "mlflow").write_text(token)
    assert sync(tmp_path, uri=server) == Count(1, 2)
    (only,) = runs(server, "killed")
    assert history(server, only.info.run_id, "val_robust") == [(1, 0.1), (2, 0.2)]


def test_without_a_server_runs_are_in_a_file_of_the_runs_own(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    append(tmp_path, [*launch(trials := trials_of(tiny())), *run(trials[0], 1)])
    sync(tmp_path, project="mine")
    file = tmp_path / "trackers" / "mlflow" / "mlflow.db"
    assert [one.info.run_name for one in runs(f"sqlite:///{file}", "mine")] == [trials[0].id]
