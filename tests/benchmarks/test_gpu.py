"""benchmarks/gpu.py: its sections run, within their limits, and its report says what they found."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/gpu.py"
SECTIONS = (
    "env",
    "tests",
    "usual",
    "starts",
    "modes",
    "equality",
    "evaluation",
    "side_by_side",
    "profile",
    "networks",
    "several",
    "study",
)


@pytest.fixture
def card(monkeypatch):
    """Imports a module of benchmarks/card."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(f"card.{name}")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)


@pytest.mark.slow
def test_every_section_runs_at_toy_size_and_its_results_come_back(tmp_path, card):
    done = run("--tiny", "--out", tmp_path, "--commit", "abc")
    assert done.returncode == 0, done.stdout + (tmp_path / "log.txt").read_text()
    rows = card("setting").read(tmp_path)
    assert [row["section"] for row in rows if row["name"] == "section"] == list(SECTIONS)
    for row in rows:
        assert row["commit"] == "abc"
        assert row["tiny"]
        assert "--tiny" in row["command"]
        assert not {"error", "skipped"} & set(row)
    assert {row["card"] for row in rows if row["name"] != "section"} == {"cpu"}
    assert len(list(tmp_path.iterdir())) <= 8
    assert len(done.stdout.splitlines()) <= len(SECTIONS) + 60
    records = [json.loads(line) for line in (tmp_path / "study/records.jsonl").read_text().splitlines()]
    kinds = ["launch", *["trial"] * 4, *["start", "epoch", "outcome"] * 4]
    assert [record["record"] for record in records] == kinds
    said = run("--report", tmp_path)
    assert said.returncode == 0
    assert said.stdout.startswith("**At toy size on a CPU: these numbers say nothing.**")
    assert "What did not run" not in said.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_in_a_line_what_can_be_run(tmp_path):
    done = run("--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == "gpu.py: torch sees no GPU here; --tiny runs every section at toy size on a CPU\n"
    assert not (tmp_path / "out").exists()


def test_an_unknown_section_is_refused():
    done = run("--tiny", "--sections", "env,mode")
    assert done.returncode == 2
    assert done.stderr.startswith("gpu.py: --sections: no section mode; there are env, tests,")


HANGS = """
import pathlib, subprocess, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
if sys.argv[2] == "hangs":
    (out / "results.jsonl").open("a").write('{"section": "hangs", "name": "first"}\\n')
    child = subprocess.Popen(["sleep", "300"])
    (out / "child").write_text(str(child.pid))
    child.wait()
"""


def driver(card, tmp_path, budget=math.inf, tiny=True):
    script = tmp_path / "script.py"
    script.write_text(HANGS)
    chosen = argparse.Namespace(
        limits="hangs=2", out=tmp_path, commit="abc", budget=budget, without="", tiny=tiny, data=None
    )
    return card("driver").Driver(chosen, {"hangs": ("", 100.0), "ends": ("", 100.0)}, script)


def test_a_section_is_killed_at_its_limit_with_its_children_and_what_it_wrote_stays(card, tmp_path, capsys):
    assert driver(card, tmp_path).run(["hangs", "ends"]) == 1
    rows = card("setting").read(tmp_path)
    assert [(row["section"], row["name"]) for row in rows] == [
        ("hangs", "first"),
        ("hangs", "section"),
        ("ends", "section"),
    ]
    assert rows[1]["error"] == "killed at its limit of 2 s"
    assert rows[2]["ok"]
    child = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split()[2] == "Z"
    assert "ERROR killed at its limit of 2 s" in capsys.readouterr().out


def test_what_no_longer_fits_the_budget_is_skipped_and_told(card, tmp_path, capsys):
    assert driver(card, tmp_path, budget=5, tiny=False).run(["ends"]) == 1
    (row,) = card("setting").read(tmp_path)
    assert row["skipped"] == "5 s of the budget left"
    assert "SKIPPED 5 s of the budget left" in capsys.readouterr().out


def test_sections_that_end_well_give_exit_status_0(card, tmp_path):
    assert driver(card, tmp_path).run(["ends"]) == 0


def test_an_error_in_one_measurement_is_a_result_and_the_next_goes_on(card, tmp_path):
    setting = card("setting").Setting("env", tmp_path, tiny=True)
    with setting.measuring("one"):
        raise ValueError("bad\nvery")
    setting.write("two", value=math.nan, long=1 / 3)
    one, two = card("setting").read(tmp_path)
    assert (one["error"], one["ok"]) == ("ValueError: bad", False)
    assert (two["value"], two["long"]) == (None, 0.333333)


def test_a_torn_last_line_is_left_out(card, tmp_path):
    (tmp_path / "results.jsonl").write_text('{"section": "env", "name": "a"}\n{"section"')
    assert card("setting").read(tmp_path) == [{"section": "env", "name": "a"}]


def test_a_measurement_that_does_not_fit_the_seconds_left_is_skipped(card, tmp_path):
    setting = card("setting").Setting("modes", tmp_path, seconds=10)
    assert setting.fits("short", 5)
    setting_write = []
    object.__setattr__(setting, "write", lambda name, **values: setting_write.append((name, values)))
    assert not setting.fits("long", 20)
    assert setting_write == [("long", {"skipped": "needs 20 s, 10 s left"})]


def test_useful_work_of_pgd10_is_23_forward_passes(card, tmp_path):
    setting = card("setting").Setting("modes", tmp_path)
    values = {"device": "cpu"}
    config = card("trials").trial(setting, values)
    tiny = card("trials").images(card("setting").Setting("modes", tmp_path, tiny=True), 4, size=32)
    assert card("speed").useful_flops(config, tiny) == pytest.approx(23 * 1.11e9, rel=0.01)  # published: 25.55 GFLOP


def test_a_summary_has_the_median_the_range_and_the_epoch_of_383_steps(card):
    found = card("trials").summary([30.0, 10.0, 20.0])
    assert (found["ms"], found["ms_min"], found["ms_max"]) == (20.0, 10.0, 30.0)
    assert found["epoch_seconds"] == pytest.approx(7.66)


def test_the_ratio_of_pairs_is_their_geometric_mean_with_a_t_interval(card):
    found = card("speed").ratio([2.0, 8.0, 4.0], [1.0, 1.0, 1.0])
    assert found["ratio"] == pytest.approx(4)
    half = 4.302653 * math.log(2) / math.sqrt(3)  # t of 2 degrees of freedom; the logs' deviation is log 2
    assert math.log(found["high"] / 4) == pytest.approx(half, rel=1e-5)
    assert found["low"] * found["high"] == pytest.approx(16)


def test_overlapping_kernels_keep_the_card_busy_once(card):
    events = [
        {"name": "a", "ts": 0, "dur": 3000},
        {"name": "b", "ts": 1000, "dur": 1000},
        {"name": "a", "ts": 9000, "dur": 3000},
    ]
    found = card("profiling").busy(events)
    assert found == pytest.approx({"kernels_a_step": 1, "busy_ms_a_step": 2, "wall_ms_a_step": 4, "busy_share": 0.5})
    first = card("profiling").top(events)[0]
    assert (first["name"], first["ms"]) == ("a", 2)
    assert first["share"] == pytest.approx(6 / 7)


def test_too_large_a_trace_comes_back_with_the_cards_events_alone(card, tmp_path, monkeypatch):
    profiling = card("profiling")
    events = [{"ph": "X", "cat": cat, "name": os.urandom(500).hex()} for cat in ["kernel"] + 50 * ["cpu_op"]]
    whole = profiling.written(tmp_path / "t.gz", events)
    monkeypatch.setattr(profiling, "LARGEST", whole - 1)
    assert profiling.written(tmp_path / "t.gz", events) < whole / 10


def test_the_difference_of_two_networks_counts_buffers_too(card):
    one, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    assert card("equality").difference(one, other) == 0
    other.num_batches_tracked += 3
    assert card("equality").difference(one, other) == 3


def test_an_archive_of_images_is_unpacked_once(card, tmp_path, monkeypatch):
    study = card("study")
    monkeypatch.setattr(study, "UNPACKED", tmp_path / "unpacked")
    for split in ("train", "test"):
        (tmp_path / "jpeg" / split).mkdir(parents=True)
    with tarfile.open(tmp_path / "images.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "jpeg", "jpeg")
    folder = study._folder(tmp_path / "images.tar.xz")
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]
    (folder / "mark").touch()
    assert study._folder(tmp_path / "images.tar.xz") / "mark" == folder / "mark"
    assert (folder / "mark").exists()
    assert study._folder(tmp_path / "jpeg") == tmp_path / "jpeg"
    with pytest.raises(FileNotFoundError, match=r"must hold train/ and test/"):
        study._folder(tmp_path / "jpeg" / "train")


JUNIT = """<testsuites><testsuite errors="0" failures="1" skipped="1" tests="4">
<testcase classname="tests.a" name="test_b"><failure message="RuntimeError: no&#10;more">...</failure></testcase>
<testcase classname="tests.a" name="test_c"/></testsuite></testsuites>"""


def test_failed_gpu_tests_are_named_with_their_reason(card, tmp_path):
    report = tmp_path / "junit.xml"
    report.write_text(JUNIT)
    assert card("gpu_tests").failures(report) == [("tests.a::test_b", "RuntimeError: no")]
    assert card("gpu_tests").counts(report) == {"passed": 2, "failed": 1, "left_out": 1}


@pytest.mark.slow
def test_tests_that_take_too_long_are_interrupted_and_what_they_found_is_kept(card, tmp_path):
    (tmp_path / "test_it.py").write_text("import time\ndef test_a(): pass\ndef test_b(): time.sleep(100)\n")
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", str(tmp_path)]
    started = time.monotonic()
    assert card("gpu_tests")._status(command, 6) == pytest.ExitCode.INTERRUPTED
    assert time.monotonic() - started < 60
    assert card("gpu_tests").counts(report)["passed"] == 1


def rows(*found):
    about = {"commit": "abc", "command": "python benchmarks/gpu.py", "time": "2026-01-02 03:04:05", "tiny": False}
    about |= {"card": "NVIDIA H100", "driver": "580", "torch": "2.11", "cuda": "13.0", "cudnn": 91000}
    return [{**about, **dict(zip(("section", "name"), row[:2], strict=True)), **row[2]} for row in found]


RESULTS = rows(
    ("env", "product", {"rate": 700.0}),
    ("usual", "true fp32", {"epoch_seconds": 80.0}),
    ("modes", "compile bf16", {"epoch_seconds": 5.1, "ms": 13.3, "ms_min": 13.0, "ms_max": 14.0, "repeats": [13.3]}),
    ("modes", "whole epochs", {"epoch_seconds": 5.0, "share": 0.36}),
    ("modes", "DEAT against SGD", {"ratio": 1.02}),
    ("starts", "start, warm", {"first": {"to_five_steps": 9.0}, "second": {"to_five_steps": 1.5}}),
    ("evaluation", "evaluation fp32", {"share_of_training": 0.4, "total": 2.0}),
    ("evaluation", "evaluation bf16", {"share_of_training": 0.14, "total": 0.7}),
    ("side_by_side", "large, 2 by processes", {"trial_epochs_an_hour": 900.0}),
    ("side_by_side", "large, 2 by streams", {"trial_epochs_an_hour": 1200.0}),
    ("equality", "sgd, graph against eager", {"weights": 0.0, "loss": 0.0, "bit_equal": True}),
    ("networks", "vgg16", {"error": "RuntimeError: no", "ok": False}),
    ("study", "sgd, seed 0", {"skipped": "needs 60 s, 3 s left"}),
)


def test_the_report_has_goals_and_predictions_beside_outcomes(card, tmp_path):
    for row in RESULTS:
        card("setting").append(tmp_path, row)
    lines = card("report").markdown(tmp_path).splitlines()
    assert lines[0] == (
        "NVIDIA H100; driver 580, torch 2.11, cuda 13.0, cudnn 91000; commit abc; `python benchmarks/gpu.py`; "
        "2026-01-02 03:04:05"
    )
    for line in (
        "| an epoch of 49,000 images, alone, s | at most 5.5 | 5 | yes |",
        "| a trial-epoch with two side by side, s | at most 3.2 | 3 | yes |",
        "| the usual loop's epoch (true fp32) over ours | at least 10 | 16 | yes |",
        "| share of the measured bf16 rate that is useful work, alone | at least 0.35 | 0.36 | yes |",
        "| the same with two | at least 0.50 | 0.6 | yes |",
        "| DEAT's time over SGD's | at most 1.01 | 1.02 | no |",
        "| evaluation over training | at most 0.15 | 0.14 | yes |",
        "| checkpoint, as far as training waits for it, over training | at most 0.02 | not measured |  |",
        "| bf16, Inductor, CUDA graph | 4.2-5.5 | 5.1 |",
        "| modes | compile bf16 | 13.3 | 13-14 | 1 | 5.1 |  | 0 |",
        "| sgd, graph against eager | 0 | 0 | yes |",
        "| networks | vgg16 | RuntimeError: no |",
        "| study | sgd, seed 0 | needs 60 s, 3 s left |",
    ):
        assert line in lines


def test_the_table_begins_with_what_failed_or_was_left_out(card):
    lines = card("report").table(RESULTS)
    assert lines[0].startswith("networks     vgg16")
    assert "ERROR RuntimeError: no" in lines[0]
    assert "SKIPPED needs 60 s, 3 s left" in lines[1]
    assert len(lines) == len(RESULTS)


def test_the_best_engine_is_the_fastest_that_was_used_as_asked(card, tmp_path):
    setting = card("setting").Setting("networks", tmp_path, tiny=True)
    assert card("speed").best_engine(setting) == "eager"
    for engine, ms, ok in (("eager", 20.0, True), ("graph", 15.0, True), ("compile", 9.0, False)):
        row = {"section": "modes", "name": engine, "engine": engine, "precision": "bf16", "ms": ms, "ok": ok}
        card("setting").append(tmp_path, row)
    assert card("speed").best_engine(setting) == "graph"
