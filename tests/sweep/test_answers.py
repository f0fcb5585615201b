"""One question, one answer: all outputs of one run, parsed, have one number for one name and one verdict a claim."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis import figures
from analysis.claims.questions import NAMES
from sweep.cli import main
from trainers.record import EpochRecord, OutcomeRecord, RecordFile


class Answer(NamedTuple):
    """What an output says of a claim of one network and method, as it prints it: points, or points a decade."""

    estimate: str
    low: str
    high: str
    n: str
    p_holm: str
    verdict: str


#: (claim, network and method) to what each output says.
Said = dict[tuple[str, str], dict[str, Answer]]

NUMBERS = r"(?P<estimate>[+-]\S+) \[(?P<low>\S+), (?P<high>\S+)\]"
SENTENCE = re.compile(
    rf"(?:(?P<whose>[^:]+): )?{NUMBERS} [a-z% ]+, n = (?P<n>\d+) \w+, p \(Holm\) (?P<p_holm>\S+): (?P<verdict>\w+)"
)
ROW = re.compile(rf"  (?P<whose>\S.*?)  +{NUMBERS}  +(?P<n>\d+) \w+  +(?P<p_holm>\S+)  +(?P<verdict>[a-z]+)$")


def write(directory: Path, seeds: int) -> None:
    """A run of SGD and DEAT over learning rates, batch sizes and seeds, whose accuracy bends with lr / batch."""
    directory.mkdir()
    file, rng = RecordFile(directory), np.random.default_rng(3)
    grid = list(itertools.product(("sgd", "deat"), (0.02, 0.1, 0.5), (16, 32, 64), range(seeds)))
    names = [f"t{number:03}" for number in range(len(grid))]
    wanted = {"time": 0.0, "command": "sweep launch c.yaml", "code_version": "a", "size": len(grid), "wanted": names}
    file.append("launch", wanted)
    for number, (name, (optimizer, lr, batch, seed)) in enumerate(zip(names, grid, strict=True)):
        config = {"model": {"name": "small_cnn"}, "epochs": 1, "optimizer": {"name": optimizer, "lr": lr}}
        config |= {"batch_size": batch, "data": {"name": "digits"}}
        point = {"optimizer.name": optimizer, "optimizer.lr": lr, "batch_size": batch}
        file.append("trial", {"trial_id": name, "number": number, "config": config, "point": point, "seed": seed})
        file.append(
            "start", {"trial_id": name, "time": 0.0, "host": "h", "device": "cpu", "code_version": "a", "epoch": 0}
        )
        x = np.log10(lr / batch)
        robust = 0.6 + 0.06 * x - 0.01 * (seed + 1) * np.log10(lr) - 0.02 * (optimizer == "deat") * (1 + seed % 3)
        values = dict(zip(("test", "val", "train"), robust + 0.01 * rng.standard_normal(3), strict=True))
        numbers = {f"{split}_robust": float(value) for split, value in values.items()}
        numbers |= {f"{split}_clean": float(value) + 0.3 for split, value in values.items()}
        file.append("epoch", EpochRecord(name, 1, lr, seconds=1.0 + 0.1 * rng.random(), **numbers))
        file.append("outcome", OutcomeRecord(name, "completed", "", 1))
    file.close()


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)], ids=["two seeds", "four seeds"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading only."""
    directory = tmp_path_factory.mktemp("answers") / "run"
    write(directory, request.param)
    return directory


@pytest.fixture(scope="module")
def outputs(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Command to what it printed; `summary` is what a launch prints at its end; `folder` is that of the figures."""
    folder = tmp_path_factory.mktemp("figures")
    commands = {
        "claims": ("claims", run),
        "claims json": ("claims", run, "--json"),
        "results": ("results", run),
        "ratio": ("ratio", run),
        "ratio json": ("ratio", run, "--format", "json"),
        "methods": ("methods", run),
        "methods json": ("methods", run, "--format", "json"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_paint", lambda *given: [])
        found = {name: printed(*words) for name, words in commands.items()}
        printed("figures", run, "--output", folder)
    return {**found, "folder": str(folder)}


def printed(*words: object) -> str:
    answer = CliRunner().invoke(main, list(map(str, words)))
    assert answer.exit_code == 0, (answer.output, answer.exception)
    return answer.stdout


def of_text(text: str) -> Iterator[tuple[str, str, Answer]]:
    """Claim, network and method, and what stands there, of each line below the head of a claim."""
    claim = ""
    for line in (line.removeprefix("- ") for line in text.splitlines()):
        if head := re.match(rf"({'|'.join(NAMES)}): ", line):
            claim = head[1]
        for found in filter(None, (SENTENCE.match(line.strip()), ROW.match(line))):
            values = found.groupdict()
            yield claim, values.pop("whose") or "", Answer(**values)


def of_records(rows: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, Answer]]:
    """The same of the fields of JSON or CSV, rounded as people read them."""
    for row in rows:
        if row["verdict"] != "not measured" and not pd.isna(row["low"]):  # without one the text says so
            shift = row["unit"] == "ratio"
            points = [f"{100 * (float(row[name]) - shift):+.2f}" for name in ("estimate", "low", "high")]
            p = row["p_holm"]
            shown = "none" if p is None or math.isnan(p) else "1" if p == 1 else f"{p:.2g}"
            whose = ", ".join(part for part in (row["network"], row["of"]) if isinstance(part, str) and part)
            yield row["name"], whose, Answer(*points, str(row["n"]), shown, row["verdict"])


@pytest.fixture(scope="module")
def said(outputs: dict[str, str]) -> Said:
    folder = Path(outputs["folder"])
    found: Said = defaultdict(dict)
    parsed = {name: list(of_text(outputs[name])) for name in outputs if not name.endswith(("json", "folder"))}
    parsed["claims json"] = list(of_records(json.loads(outputs["claims json"])))
    for name in ("ratio json", "methods json"):
        parsed[name] = list(of_records(json.loads(outputs[name]).get("claims", [])))
    tables = [pd.read_csv(path) for path in folder.glob("claims.csv")]
    parsed["claims.csv"] = [answer for table in tables for answer in of_records(table.to_dict("records"))]
    lines = pd.read_csv(folder / "accuracy_ratio_lines.csv").drop_duplicates(["model.name", "method"])
    heads = [f"{row['model.name']}, {row['method']}: {row.get('ratio_claim')}" for row in lines.to_dict("records")]
    parsed["accuracy_ratio_lines.csv"] = list(of_text("\n".join(["ratio: ", *heads])))
    for output, answers in parsed.items():
        for claim, whose, answer in answers:
            found[claim, whose][output] = answer
    return found


def test_every_output_says_the_same_of_each_claim(said: Said) -> None:
    different = {name: answers for name, answers in said.items() if len(set(answers.values())) > 1}
    assert different == {}


def test_every_output_that_speaks_of_a_claim_was_read(said: Said) -> None:
    everywhere = {"claims", "claims json", "claims.csv", "results"}
    ratio = everywhere | {"ratio", "ratio json"}
    expected = {
        **{("ratio", f"small_cnn, {name}"): ratio | {"accuracy_ratio_lines.csv"} for name in ("PGD-AT", "DEAT")},
        **{("ratio_only", f"small_cnn, {name}"): ratio for name in ("PGD-AT", "DEAT")},
        ("deat_equal_lr", "small_cnn"): everywhere,
        ("deat_own_best", "small_cnn"): everywhere | {"methods", "methods json"},
    }
    assert {name: set(answers) - {"ratio json"} for name, answers in said.items() if name in expected} == {
        name: outputs - {"ratio json"} for name, outputs in expected.items()
    }
    assert all("ratio json" in answers for answers in said.values())  # the whole ledger is in it


def test_nothing_else_is_printed_as_the_difference_of_deat_and_pgd_at(outputs: dict[str, str]) -> None:
    texts = "\n".join(text for name, text in outputs.items() if name != "folder")
    assert not re.search(r"DEAT - (PGD-AT|SGD)[^\n]*\bp = ", texts)
    assert not (Path(outputs["folder"]) / "paired_difference.csv").exists()
    rows = json.loads(outputs["methods json"])["methods"]
    assert {row["verdict"] for row in rows} == {"baseline", "undecided"}
    assert {row["p_methods"] for row in rows} == {None}  # the ledger has none either


#: What a launch to decide deat_own_best records: in older code, whose choosing seeds are told by its trials, and now.
DECIDES = [
    {"command": "sweep launch c.yaml --decide deat_own_best"},
    {"decides": {"claim": "deat_own_best", "budget_hours": 1.0, "choosing_seeds": [0, 1, 2]}},
]


@pytest.mark.parametrize("decides", DECIDES)
def test_methods_of_a_run_that_decided_its_best_cells_give_the_ledgers_line(
    decides: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    write(out, 6)
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    points = {line["trial_id"]: (line["seed"], line["point"]) for line in lines if line["record"] == "trial"}
    best = {"optimizer.lr": 0.5, "batch_size": 16}
    choosing = [name for name, (seed, _) in points.items() if seed < 3]
    added = [name for name, (seed, point) in points.items() if seed > 2 and best.items() <= point.items()]
    launch = lines[0] | decides | {"wanted": choosing}
    kept = [line for line in lines[1:] if line["trial_id"] in {*choosing, *added}]
    ends = [{**launch, "wanted": [name for name in added if points[name][1]["optimizer.name"] == side]}
            for side in ("sgd", "deat")]  # fmt: skip
    (out / "records.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in [launch, *kept, *ends]))
    (claim,) = [row for row in json.loads(printed("claims", out, "--json")) if row["name"] == "deat_own_best"]
    assert (claim["n"], claim["sequential"]) == (3, True)
    (deat,) = [r for r in json.loads(printed("methods", out, "--format", "json"))["methods"] if r["method"] == "DEAT"]
    keys = (("difference", "estimate"), ("difference_low", "low"), ("difference_high", "high"), ("n", "n"))
    assert [deat[here] for here, _ in keys] == [claim[there] for _, there in keys]
    text = printed("methods", out)
    ((_, _, answer),) = of_text(text)
    assert f"{answer.estimate} [{answer.low}, {answer.high}]" in next(x for x in text.splitlines() if "│ DEAT" in x)


def test_other_views_are_said_to_be_such_wherever_they_stand(outputs: dict[str, str]) -> None:
    assert "a description of these trials, not a test over seeds" in outputs["results"]
    assert outputs["ratio"].index("ratio_only") < outputs["ratio"].index("Other views of the same trials")
    for name in ("table3", "table4"):
        text = (Path(outputs["folder"]) / f"{name}.md").read_text()
        assert "a description, not a test over seeds; the answers are those of `sweep claims`" in text
    headers = re.findall(r"^┃.*┃$", outputs["ratio"] + outputs["methods"], re.MULTILINE)
    assert headers
    assert not [line for line in headers if "p (Holm)" in line]  # which is the ledger's


def test_a_correlation_is_one_number_with_one_interval_in_launch_csv_and_figure(
    run: Path, outputs: dict[str, str]
) -> None:
    folder = Path(outputs["folder"])
    table: dict[tuple[str, str, str], str] = {}
    for row in pd.read_csv(folder / "correlations.csv").to_dict("records"):
        shown = f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]".replace("[nan, nan]", "[no interval]")
        table[row["method"], row["x"], row["coefficient"]] = shown
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in outputs["results"].splitlines() if "│" in line
    ]
    rows = [row for row in cells if len(row) == 7]
    assert {(row[0], row[1]) for row in rows} == {key[:2] for key in table}
    for method, x, *coefficients in (row[:5] for row in rows):
        assert coefficients == [table[method, x, name] for name in ("pearson", "spearman", "kendall")]
    plan = next(plan for plan in figures.PLANS if plan.name == "accuracy_ratio")
    data = figures.load(run)
    said = plan.captioned(data, plan.frames(data))
    for method in ("DEAT", "PGD-AT"):
        rho = table[method, "lr_batch_ratio", "spearman"]
        (claim,) = [c for c in data.claims if (c.name, c.of) == ("ratio", method)]
        assert re.search(
            rf"{method} \(n = \d+ trials\): r = [^,]+, [^,]+, ρ = {re.escape(rho)}; .*{claim.verdict}", said
        )


def test_a_launch_ends_with_the_lines_of_the_ledger(
    undisturbed: Path, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    launched = printed("launch", sweep_file(), "--out", out, "--serial")
    ledger = {
        (claim, whose): answer for claim, whose, answer in of_records(json.loads(printed("claims", out, "--json")))
    }
    ended = {(claim, whose): answer for claim, whose, answer in of_text(launched)}
    assert {name for name, _ in ledger} >= {"deat_equal_lr"}
    assert ended == ledger
    assert "at one batch size this is the learning rate, not yet the ratio" in " ".join(launched.split())
