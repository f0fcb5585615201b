"""Whatever became of records.jsonl: a command reads it, or says in one line what is wrong, and writes nowhere else."""

from __future__ import annotations

import json
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from damage import damaged
from made_up import CHUNK, append
from pandas.testing import assert_frame_equal

from analysis.frames import log
from analysis.frames.trials import load_epochs, load_trials
from sweep.cli import main
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, CheckRecord, DynamicsRecord, NoteRecord, RecordFile, line, read

#: What reads records; {} is the run. What takes over a second stands in the second list.
COMMANDS = [
    *("status {}", "results {}", "results {} --epochs", "results {} --evaluations", "results {} --checks"),
    *("results {} --format csv", "results {} --epochs --format json", "results {} --checks --format csv"),
    *("show {} sgd160.10", "claims {}", "claims {} --json", "methods {}", "ratio {}", "theory {}"),
    *("images {}", "images {} --by-class", "images {} --agreement", "images {} --bits --format csv"),
    "export {} sgd160.10 --torch --out {}/x.pt",
]
#: Seconds that a command may take, however busy the machine is.
LONGEST = 120


@pytest.fixture
def texts(tmp_path: Path) -> list[bytes]:
    """The lines of a whole run, of every kind, without their checksums."""
    file = RecordFile(tmp_path)
    file.append("launch", {"time": 0.0, "size": 8, "wanted": [], "metric": "val_robust", "mode": "max"})
    for number in range(8):
        name, lr, seed = ("sgd", "deat")[number % 2], (0.1, 0.2)[number // 2 % 2], number // 4
        append(file, f"{name}16{lr}{seed}", number, name, lr, 16, seed)
    file.append("evaluation", CHUNK)
    numbers = {"batch_size": 16, "momentum": 0.0, "k1": None, "k2": None, "parameters": 9, "training_images": 64}
    sizes = {"images": 32, "robust": 0.5, "loss": 1.0, "gradient_squared": 1.0, "distance_squared": 1.0}
    of_each = {"eigenpairs": 1, "trace": 2.0, "trace_error": 0.1, "curvatures": (2.0, 1.0), "slopes": (0.1, 0.2)}
    noise = {"batches": 4, "batch_sizes": (16,), "noise_traces": (1.0,), "noise_trace_errors": (0.1,)}
    rows = {"variances": ((0.1, 0.2),), "kurtoses": ((0.0, 0.1),), "places": ((0.5,),) * 2, "rises": ((0.1,),) * 2}
    file.append("dynamics", DynamicsRecord("sgd160.10", 1, 0.1, **numbers, **sizes, **of_each, **noise, **rows))  # type: ignore[arg-type]
    count = {"right_under": {"FGSM": 5, "PGD": 4}, "against": 0, "in_favour": 1, "seconds": 1.0, "versions": {}}
    where = {"host": "h", "device": "cpu", "code_version": "abc"}
    ball = {"norm": "linf", "radius": 0.1}
    file.append("check", CheckRecord("sgd160.10", "last", False, "steps", ball, "test", 9, 0, 9, 8, **count, **where))  # type: ignore[arg-type]
    file.append("note", NoteRecord("sgd160.10", "odd", ("odd",)))
    file.close()
    records = [json.loads(text) for text in (tmp_path / RECORDS_FILE).read_bytes().splitlines()]
    return [json.dumps({k: v for k, v in one.items() if k != "crc"}, separators=(",", ":")).encode() for one in records]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "outer" / "run"
    (directory / "checkpoints").mkdir(parents=True)
    return directory


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("a command hangs")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def says(command: str, run: Path) -> Result:
    """What a command does; fails where it ends in a traceback or says more than one line of a mistake."""
    signal.alarm(LONGEST)
    result = CliRunner().invoke(main, [word.replace("{}", str(run)) for word in command.split()])
    signal.alarm(0)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        pytest.fail(f"{command}: {''.join(traceback.format_exception(result.exception))}")
    assert result.exit_code in (0, 1, 2)
    assert result.exit_code != 2 or len(result.stderr.splitlines()) == 1
    return result


def elsewhere(run: Path) -> set[Path]:
    return {path for path in run.parent.parent.rglob("*") if run not in path.parents}


def fuzz(seed: int, calls: int, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, outside = random.Random(seed), elsewhere(run)
    for _ in range(calls):
        (run / RECORDS_FILE).write_bytes(damaged(texts, rng))
        monkeypatch.setattr(log, "LONG", rng.choice((1, 1 << 23)))
        says(rng.choice(COMMANDS), run)
        assert elsewhere(run) == outside


def test_damaged_records_end_no_command_in_a_traceback(
    texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(14, 30, texts, run, monkeypatch)


@pytest.mark.slow
def test_many_damaged_records_end_no_command_in_a_traceback(
    texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(15, 300, texts, run, monkeypatch)


def flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize("long", [False, True])
def test_a_flipped_bit_is_reported_or_changes_nothing(
    long: bool, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 flips anywhere in a log whose lines have checksums, read line by line and as columns."""
    monkeypatch.setattr(log, "LONG", 1 if long else 1 << 23)
    content = b"".join(line(one["record"], one).encode() for one in map(json.loads, texts))
    (run / RECORDS_FILE).write_bytes(content)
    expected, rng, reported = log.read_log(run), random.Random(0), 0
    for _ in range(500):
        (run / RECORDS_FILE).write_bytes(flipped(content, rng))
        try:
            got = log.read_log(run)
        except UserError as error:
            reported += f"{RECORDS_FILE}:" in str(error) and "damaged line: " in str(error)
            continue
        # the key crc has another name: nothing looks at it
        assert all(old.items() <= new.items() for old, new in zip(expected, got, strict=True))
        assert got.epochs.table.equals(expected.epochs.table)
        assert got.epochs.right() == expected.epochs.right()
    assert reported > 470


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "a mark of byte order": lambda text: b"\xef\xbb\xbf" + text,
    "blank lines": lambda text: text.replace(b"\n", b"\n\n \n"),
    "each line doubled": lambda text: b"".join(one + b"\n" + one + b"\n" for one in text.splitlines()),
    "the file twice": lambda text: text + text,
    "keys that stand twice": lambda text: text.replace(b'"lr":0.1', b'"lr":0.7,"lr":0.1'),
}


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_another_form_of_the_same_lines_is_read_as_the_same(
    form: str, long: bool, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LONG", 1 if long else 1 << 23)
    path, content = run / RECORDS_FILE, b"\n".join(texts) + b"\n"
    path.write_bytes(content)
    expected = load_trials(run), load_epochs(run)
    path.write_bytes(FORMS[form](content))
    for frame, same in zip((load_trials(run), load_epochs(run)), expected, strict=True):
        assert_frame_equal(frame, same)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("end", ["utf-16", "one line"])
def test_a_file_of_another_kind_is_refused_in_one_line(
    end: str, long: bool, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LONG", 1 if long else 1 << 23)
    content = b"\n".join(texts) + b"\n"
    monkeypatch.setattr("trainers.record.form.LONGEST", 1 << 12)
    monkeypatch.setattr("trainers.record.file.LONGEST", 1 << 12)
    monkeypatch.setattr("analysis.frames.columns.LONGEST", 1 << 12)
    other = content.decode().encode("utf-16") if end == "utf-16" else content + b"x" * (1 << 16)
    (run / RECORDS_FILE).write_bytes(other)
    result = says("status {}", run)
    assert result.exit_code == 2
    assert "damaged line: must " in result.stderr


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a\0b", "a" * 10_000, "\x1b[2J", "", ".lock", "a.previous", 3])
@pytest.mark.parametrize("kind", ["trial", "evaluation", "check", "outcome", "launch"])
def test_a_trial_id_that_is_none_is_a_damaged_line(kind: str, name: Any, texts: list[bytes], run: Path) -> None:
    """So that nothing is written where it leads: no checkpoint, log, weights or figure."""
    records = [json.loads(text) for text in texts]
    record = next(one for one in records if one["record"] == kind)
    record |= {"wanted": [name]} if kind == "launch" else {"trial_id": name}
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    key = "wanted must be a list of trials' ids" if kind == "launch" else "trial_id must be a trial's id"
    with pytest.raises(UserError, match=f":{records.index(record) + 1}: damaged line: {key}, .*got "):
        read(run)


@pytest.mark.parametrize("key", ["attack", "split", "weights", "check"])
def test_a_name_that_is_no_name_is_a_damaged_line(key: str, texts: list[bytes], run: Path) -> None:
    records = [json.loads(text) for text in texts]
    next(one for one in records if key in one and one["record"] != "trial")[key] = "../x"
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    with pytest.raises(UserError, match=f"damaged line: {key} must be a name, of letters, digits and _, got '../x'"):
        read(run)


def test_code_of_a_network_leads_to_no_other_folder(texts: list[bytes], run: Path) -> None:
    records = [json.loads(text) for text in texts]
    next(one for one in records if one["record"] == "trial")["config"]["model"]["code"] = "../../x"
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    with pytest.raises(UserError, match=r"damaged line: config\.model\.code must be a hash or null, got '../../x'"):
        read(run)


def test_a_command_tells_of_a_newer_versions_lines_once_in_one_line(texts: list[bytes], run: Path) -> None:
    newer = line("pruning", {"trial_id": "a"}) * 3
    (run / RECORDS_FILE).write_bytes(b"\n".join(texts) + b"\n" + newer.encode())
    for _ in range(2):
        result = says("methods {}", run)
        assert result.exit_code == 0
        assert result.stderr == (
            f"sweep: {run / RECORDS_FILE}: 3 lines of kinds that this version does not know passed over: pruning; "
            "a newer robustsweep wrote them\n"
        )


def test_what_was_changed_by_hand_is_read_without_its_checksum(texts: list[bytes], run: Path) -> None:
    edited = line("epoch", json.loads(texts[3])).replace('"lr":0.1', '"lr":0.2')
    path = run / RECORDS_FILE
    path.write_text(edited)
    with pytest.raises(UserError, match="something in it is not as it was written; if you changed it, delete its crc"):
        read(run)
    path.write_text(edited.rpartition(',"crc"')[0] + "}\n")
    assert read(run)[0]["lr"] == 0.2
