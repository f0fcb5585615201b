"""A user's own code in a sweep: its sources, and a process of its own in which it is tried before anything starts."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from sweep.axes import own_names
from sweep.config import SweepConfig
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.fields import plural
from trainers.own import snapshot, stage
from trainers.own.reference import PARTS, parse
from trainers.own.source import Source, is_taken, source_of

#: How long that process may take, s; the variable gives another time. Importing torch takes some of it.
LIMIT, _VARIABLE = 120.0, "ROBUSTSWEEP_CHECK_SECONDS"

#: Of that time, when the process writes down where it stands.
_LATE = 0.9

_OWN = "your own code"

_BEGIN = "import sys; sys.path[:0] = {path}; from sweep.own_code import main; main(sys.argv[1])"


def sources(config: SweepConfig) -> dict[str, Source]:
    """The source of each name of a user's own code that a sweep can train with, by that name.

    Raises:
        UserError: one is not there, or is no Python; its key is that of a trial.
    """
    folder = Path(config.code_folder) if config.code_folder else None
    names = {name: part for part in PARTS for name in own_names(part, config.trial, config.space)}
    if config.code is not None:
        return {name: _submitted(name, config, f"{part}.name") for name, part in names.items()}
    return {name: source_of(name, folder, f"{part}.name") for name, part in names.items()}


def _submitted(name: str, config: SweepConfig, key: str) -> Source:
    """The source as it was submitted: a snapshot, or what is installed, if that is still the same."""
    code, folder = (config.code or {}).get(name), Path(config.code_folder or ".")
    if code is None:
        raise UserError(f"{key}: {name}: no source of it was submitted; submit the sweep with it")
    if not is_taken(code) and (path := folder / f"{code}.zip").is_file():
        return snapshot.kept(code, path)
    if (now := source_of(name, folder, key)).hash != code or now.files:
        raise UserError(
            f"{key}: {name}: what is installed is {now.hash}, and {code} was submitted; install that again, or submit "
            "anew"
        )
    return now


def with_code(config: TrialConfig, codes: Mapping[str, str]) -> TrialConfig:
    """The trial with the hash of the source of each of its parts that is a user's own.

    Args:
        config: of the trial.
        codes: the hash by the name.

    Raises:
        UserError: the config asks for another.
    """
    filled: dict[str, Any] = {}
    for key in PARTS:
        part = getattr(config, key)
        if part.is_own and part.code != (code := codes[part.name]):
            if part.code is not None:
                raise UserError(f"trial.{key}.code: the source of {part.name} is {code}, not {part.code}; leave it out")
            filled[key] = part.model_copy(update={"code": code})
    return config.model_copy(update=filled) if filled else config


def uses(config: TrialConfig) -> bool:
    """Whether any part of the trial is a user's own."""
    return any(getattr(config, key).is_own for key in PARTS)


def changed(configs: Iterable[Mapping[str, Any]], own: Mapping[str, Source]) -> list[str]:
    """That sources are not those of trials that are there already, in words.

    Args:
        configs: of the trials, as recorded.
        own: the sources as they are now, by name.
    """
    now = {parse(name).canonical: source.hash for name, source in own.items()}
    others: dict[str, int] = {}
    for config in configs:
        for key in PARTS:
            part = config.get(key, {})
            if (name := part.get("name")) in now and part.get("code") != now[name]:
                others[name] = others.get(name, 0) + 1
    return [
        f"the source of {name} changed since {plural(number, 'trial')} here, kept as they are; with the source as it "
        f"is now ({now[name]}) they are other trials"
        for name, number in others.items()
    ]


def in_own_process(function: str, *values: Any, own: Iterable[Source], what: str = _OWN) -> Any:
    """What a function gives in a process of its own, with the snapshots of these sources.

    What it prints is dropped, and it has `LIMIT` seconds.

    Args:
        function: MODULE:NAME.
        values: its arguments; pickled.
        own: the sources of the user's own code.
        what: runs there, in words, for an error.

    Raises:
        UserError: it raises, says that it is the user's mistake, ends the process, or takes too long: in one line, with
            the file and line of the user's code.
    """
    limit = _limit()
    with tempfile.TemporaryDirectory(prefix="robustsweep-") as name:
        folder, roots = Path(name), {}
        for source in own:
            snapshot.keep(source, folder / snapshot.FOLDER)
            roots[source.hash] = _shown(source.root)
        (folder / "work").write_bytes(pickle.dumps((function, values, roots, limit)))
        code = _ended(folder, limit)
        if (folder / "answer").exists():
            kind, answer = pickle.loads((folder / "answer").read_bytes())
            if kind == "value":
                return answer
            raise UserError(answer)
        raise UserError(_why(code, folder, roots, limit, what))


def _limit() -> float:
    text = os.environ.get(_VARIABLE, "")
    try:
        return float(text) if text else LIMIT
    except ValueError:
        raise UserError(f"{_VARIABLE}: must be seconds, got {text!r}") from None


def _ended(folder: Path, limit: float) -> int | None:
    """Runs the process to its end; its exit code, None where it took too long. Nothing of it is left then."""
    ours = str(Path(__file__).resolve().parents[1])
    path = [] if ours in map(os.path.realpath, _installed()) else [ours]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_absolute(os.environ.get("PYTHONPATH", "")))}
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BEGIN.format(path=path), str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
            process.wait()


def _installed() -> list[str]:
    import sysconfig

    return [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]


def _absolute(path: str) -> list[str]:
    """PYTHONPATH without the working folder, of which nothing may hide a library."""
    here = os.path.realpath(".")
    return [os.path.abspath(part) for part in path.split(os.pathsep) if part and os.path.realpath(part) != here]


def _why(code: int | None, folder: Path, roots: Mapping[str, str], limit: float, what: str) -> str:
    """Why there is no answer."""
    text = (folder / "stderr").read_text(errors="replace")
    doing = (folder / "doing").read_text() if (folder / "doing").exists() else "starting"
    where = _place(text, roots)
    if code is None:
        mend = "mend it, or " if what == _OWN else ""
        return f"{where}{what} did not end within {limit:g} s, {doing}; {mend}give it longer: {_VARIABLE}=SECONDS"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = next((line for line in reversed(text.splitlines()) if line and not line.startswith((" ", "Extension"))), "")
    shown = f": {last}" if last and not where else ""
    return f"{where}{what} ended the process that tried it ({how}), {doing}{shown}"


def _place(text: str, roots: Mapping[str, str]) -> str:
    """The first line of the user's code that faulthandler's traceback names, innermost first."""
    for hashed, inside, line in re.findall(r'File "[^"]*/(\w+)\.zip/([^"]+)", line (\d+)', text):
        if hashed in roots:
            return f"{Path(roots[hashed]) / inside}:{line}: "
    return ""


def _shown(root: Path) -> str:
    """A folder, as seen from the working folder where it lies below that."""
    here = Path.cwd()
    return str(root.relative_to(here) if root.is_relative_to(here) else root)


def main(name: str) -> None:
    """The process: does the work in the folder and leaves an answer there."""
    folder = Path(name)
    function, values, roots, limit = pickle.loads((folder / "work").read_bytes())
    stderr = (folder / "stderr").open("a")
    faulthandler.enable(stderr)
    faulthandler.dump_traceback_later(_LATE * limit, file=stderr)
    snapshot.look_in(folder / snapshot.FOLDER)
    stage.write_to(folder / "doing")
    answer: tuple[str, Any]
    try:
        module, _, called = function.partition(":")
        answer = "value", getattr(import_module(module), called)(*values)
    except UserError as error:
        answer = "refused", str(error)
    except BaseException as error:  # SystemExit too
        answer = "refused", _in_one_line(error, roots)
    (folder / "answer.part").write_bytes(pickle.dumps(answer))
    (folder / "answer.part").rename(folder / "answer")
    os._exit(0)  # whatever the user's code has started


def _in_one_line(error: BaseException, roots: Mapping[str, str]) -> str:
    """An error of the user's code in one line."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    text = "\n".join(f'File "{file}", line {line}' for file, line in reversed(frames))
    what = "calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {_first(error)}"
    return f"{_place(text, roots)}{what} ({stage.doing()})"


def _first(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "without a message")
