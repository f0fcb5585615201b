"""Hostile input of every kind through the command line: a line a mistake and exit 2, or an answer; no traceback, no
hang."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small
import yaml
from click.testing import CliRunner
from damage import damaged, whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.frames import log
from sweep.axes import leaf_keys
from sweep.cli import main
from trainers.record import RECORDS_FILE, read

#: Seconds of this process that an input may take, and by the clock, on a machine that is busy with other things.
LIMIT, PATIENCE = 30, 600

#: Inputs of each kind in `make test`, and in the slow part: 10,000 in all.
FEW = {"configs": 25, "overrides": 25, "command lines": 25, "records": 10, "checkpoints": 25}
MANY = {"configs": 3500, "overrides": 4000, "command lines": 1000, "records": 1000, "checkpoints": 500}

TINY: dict[str, Any] = {
    "name": "tiny",
    "trial": small.TINY,
    "space": {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.3]},
}

OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path) -> Iterator[Path]:
    """The working folder of all: a config and a finished run."""
    path = tmp_path_factory.mktemp("fuzz")
    (path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    shutil.copytree(undisturbed, path / "run")
    with contextlib.chdir(path):
        yield path


class Hung(BaseException):
    """Not of Exception, which a command may catch."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    def hung(*_: object) -> None:
        raise Hung(f"not done in {LIMIT} s of this process, or {PATIENCE} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, LIMIT), signal.ITIMER_REAL: (signal.SIGALRM, PATIENCE)}
    before = {number: signal.signal(number, hung) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def answer(*words: str, most: int = 21) -> None:
    """Runs the command and looks at what it says: of mistakes at most so many lines."""
    with limited():
        result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), words
    assert result.exit_code in (0, 1, 2)
    if result.exit_code == 2:
        lines = result.stderr.splitlines(keepends=True)
        assert 1 <= len(lines) <= most
        assert all(line[:7] == "sweep: " and line[-1] == "\n" and len(line) < 3000 for line in lines)
    assert not OBEYED.search(result.output if "csv" not in words else result.stderr)


def tried(number: int) -> Callable[[Any], Any]:
    """So many examples, the same ones each time."""
    return settings(
        max_examples=number, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def both(kind: str, *strategies: Any) -> Callable[[Any], Any]:
    """A property of what the strategies draw, as a test of few examples, and as a slow one of many."""

    def parametrized(check: Any) -> Any:
        @pytest.mark.parametrize("number", [FEW[kind], pytest.param(MANY[kind], marks=pytest.mark.slow)])
        @functools.wraps(check, assigned=("__name__", "__doc__", "__module__"), updated=())
        def run(number: int, folder: Path) -> None:
            tried(number)(given(*strategies)(check))()

        del run.__wrapped__
        return run

    return parametrized


#: What breaks programs.
NASTY = st.sampled_from(
    [
        *(None, True, 0, -1, 1, 10**400, -(2**63), 2**63, 2**31, 10**18, 0.0, -0.0, 1e308, 1e-320),
        *(float("inf"), float("nan"), "1/0", "8/255", "1e999", "1:30", "010", "", " ", "\0", "\x1b[2J", "\u202e"),
        *("~nosuchuser/x", "a/../../b", "x" * 10_000, "[red]x[/red]", "%s{}$x^{$", "none", "=cmd"),
        *("./none.py:Net", "none.module:Net", "torchvision:none", "timm:none"),
        *([], {}, [[]], [None], {"": ""}, {"name": {}}, {"grid": []}, {"uniform": [1, 1]}, {"choice": [1], "when": {}}),
        *("deat", "trades", "random", "optuna", "val_robust", [1, 2], [0.1, "a"], {"uniform": [0.01, 1]}),
    ]
)
TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    NASTY | TEXTS | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
#: `data.download` would fetch archives.
KEYS = st.sampled_from([key for key in leaf_keys() if key not in ("data.download", "data.name")])
PLACES = st.one_of(
    KEYS.map("trial.{}".format),
    KEYS.map("space.{}".format),
    st.sampled_from(["name", "seeds", "trial", "space", "search", "search.name", "search.n_trials", "search.seed"]),
    st.sampled_from(["resources", "resources.cpu", "resources.gpu", "max_concurrent", "metric", "mode", "code_folder"]),
    st.sampled_from(["trial.optimizer", "trial.model", "trial.data", "trial.data.root", "trial.seed", "question"]),
    TEXTS,
)


def put(values: dict[str, Any], place: str, value: Any) -> None:
    """Puts the value at a dotted place, but that keys of an axis are dotted themselves."""
    head, _, rest = place.partition(".")
    if not rest:
        values[head] = value
    elif head == "space":
        values[head] = {**(values[head] if isinstance(values.get(head), dict) else {}), rest: value}
    else:
        inner = dict(values[head]) if isinstance(values.get(head), dict) else {}
        put(inner, rest, value)
        values[head] = inner


@st.composite
def changed(draw: Any) -> bytes:
    """The tiny sweep with values of its own or of none in it."""
    values = dict(TINY)
    for _ in range(draw(st.integers(1, 3))):
        put(values, draw(PLACES), draw(VALUES))
    return yaml.safe_dump(values, allow_unicode=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def mutated(draw: Any, content: bytes = yaml.safe_dump(TINY).encode()) -> bytes:
    """Bytes with parts cut out, repeated and put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        marks = [b"", content[start:end] * 2, b"\0", b"\xff", b"*a", b"&a ", b"[", b"{", b"- ", b"!!", b": "]
        part = draw(st.sampled_from(marks)) or draw(st.binary(max_size=8))
        content = content[:start] + part + content[end:]
    return content


#: Both read a config; a plan counts a step's FLOPs too, which takes a second of a large network.
READERS = st.sampled_from([["plan", "--no-data", "--rate", "1"], *[["theory"]] * 19])


@both(
    "configs",
    READERS,
    st.one_of(changed(), mutated(), st.binary(max_size=60), TEXTS.map(lambda text: text.encode("utf-8", "replace"))),
)
def test_a_config_of_any_bytes_is_planned_or_refused_in_a_line_a_mistake(reader: list[str], content: bytes) -> None:
    Path("any.yaml").write_bytes(content)
    answer(*reader, "any.yaml")


@both("overrides", READERS, st.lists(st.tuples(PLACES, VALUES | TEXTS), min_size=1, max_size=3))
def test_any_override_is_taken_or_refused_in_a_line_a_mistake(
    reader: list[str], overrides: list[tuple[str, Any]]
) -> None:
    words = []
    for key, value in overrides:
        text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
        words += ["--set", f"{key}={text}"]
    answer(*reader, "tiny.yaml", *words)


#: No `launch`, which trains, nor `figures`, which takes seconds; no path leads out of the folder.
def either(words: str) -> Any:
    return st.sampled_from(words.split())


WORDS = st.one_of(
    either("plan status results images methods ratio claims theory show export schema run none tiny.yaml -- -"),
    either("--epochs --evaluations --checks --format --output --metric --margin --baseline --by --best --help"),
    either("--torch --out --set --no-data --rate --json --by-class --published"),
    either("csv json parquet table markdown o.csv o.parquet nan -1 1e999 optimizer.lr"),
    st.sampled_from(["\x1b[2J", "\u202e", "", "a\nb", "\udcff", "x" * 5000]),
    st.text(st.characters(exclude_characters="/.~"), max_size=8),
)
READING = [[name, "run"] for name in ("status", "results", "methods", "claims", "show", "export", "theory")]
COMMANDS = st.sampled_from([["plan", "tiny.yaml"], [], *READING])


@both("command lines", COMMANDS, st.lists(WORDS, max_size=5))
def test_any_command_line_is_answered_or_refused_in_one_line(command: list[str], words: list[str]) -> None:
    answer(*command, *words)


#: What reads records.
READING_RECORDS = st.one_of(
    st.sampled_from(["status", "claims", "claims --json", "methods", "ratio", "theory", "show sgd160.10"]),
    st.sampled_from(["results", "results --epochs", "results --evaluations", "results --checks"]),
    st.sampled_from(["results --format csv", "results --epochs --format json", "results --checks --format csv"]),
    st.sampled_from(["images", "images --by-class", "images --agreement", "images --bits --format csv"]),
    st.just("export sgd160.10 --torch --out damaged/x.pt"),
)


@functools.cache
def lines() -> list[bytes]:
    """Those of a whole run, made once."""
    (Path("damaged") / "checkpoints").mkdir(parents=True)
    return whole(Path("damaged"))


@both("records", st.data(), READING_RECORDS, st.sampled_from([1, log.LONG]))
def test_records_of_any_bytes_are_read_or_refused(data: Any, command: str, long: int) -> None:
    (Path("damaged") / RECORDS_FILE).write_bytes(data.draw(damaged(lines())))
    name, *words = command.split()
    outside = elsewhere("damaged")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log, "LONG", long)
        answer(name, "damaged", *words, most=1)
    assert elsewhere("damaged") == outside


def elsewhere(run: str) -> set[Path]:
    """What lies in the working folder and the one above, but not in the run."""
    return {path for path in Path.cwd().parent.rglob("*") if Path(run).resolve() not in (path, *path.parents)}


@functools.cache
def checkpoint() -> tuple[str, bytes]:
    """A trial's id, and its file as it was."""
    name = next(record["trial_id"] for record in read("run") if record["record"] == "trial")
    return name, (Path("run") / "checkpoints" / f"{name}.pt").read_bytes()


@st.composite
def spoiled(draw: Any) -> bytes:
    """A trial's file with some bytes changed, cut off, or of another kind altogether."""
    _, content = checkpoint()
    kind = draw(st.sampled_from(["bytes", "cut", "random", "zip", "mutated"]))
    if kind == "bytes":
        file = bytearray(content)
        places = st.tuples(st.integers(0, len(file) - 1), st.integers(0, 255))
        for place, byte in draw(st.lists(places, min_size=1, max_size=9)):
            file[place] = byte
        return bytes(file)
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "zip":
        zipped, names = io.BytesIO(), st.sampled_from(["a/data.pkl", "a/version", "a/data/0", "a/byteorder"])
        with zipfile.ZipFile(zipped, "w") as archive:
            for name in draw(st.lists(names, unique=True)):
                archive.writestr(name, draw(st.binary(max_size=40)))
        return zipped.getvalue()
    return draw(st.binary(max_size=100)) if kind == "random" else draw(mutated(content))


@both("checkpoints", st.data(), st.sampled_from(["evaluate", "export", "fine_tune"]))
def test_a_checkpoint_of_any_bytes_is_used_or_refused(data: Any, command: str) -> None:
    name, content = checkpoint()
    file = Path("run") / "checkpoints" / f"{name}.pt"
    file.write_bytes(data.draw(spoiled()))
    try:
        if command == "evaluate":
            answer("evaluate", "run", name, "--serial", "--attack", "clean", "--images", "10")
        elif command == "export":
            answer("export", "run", name, "--torch", "--out", "weights.pt")
        else:
            answer("plan", "tiny.yaml", "--no-data", "--rate", "1", "--set", f"trial.model.fine_tune={file}")
    finally:
        file.write_bytes(content)
