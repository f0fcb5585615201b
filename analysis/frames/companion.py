"""What is kept beside a long records.jsonl so that it need not be parsed again: its columns, and the trials' frame.

Nothing needs it: it is made of the log alone, may be deleted at any time, and where it cannot be read or written all
goes on without. A log that was edited is noticed. What is kept holds the length and the CRC-32 of the lines that it is
of, and these are compared with the log's; but for a log that is the very file that was compared last, of the same
inode, length and times of change, which costs no reading. As git does of its index, that is believed only where the
last change came over `_TICK` before the comparison: what follows within a tick of a file system's clock leaves the
times as they were. Not noticed is therefore alone an edit in place that keeps the length, within a tick of the change
before it, on a file server whose clock is behind this machine's by more than `_TICK`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from os import fstat
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd
import pyarrow as pa
from pandas import DataFrame, Series
from pyarrow import ipc

from analysis.frames import log
from analysis.frames.columns import Epochs, parse
from analysis.frames.log import Log
from analysis.frames.merged import merged
from trainers import record
from trainers.files import remove_parts, whole
from trainers.record import record_files

#: Where it lies in a run's directory.
FOLDER = "cache"

#: The columns are written anew once so large a share of the log has come after them; until then that is parsed.
_SHARE = 1 / 8

#: No file system's clock has a longer tick, s.
_TICK = 2.0

#: Bytes read at once where only their sum is wanted.
_CHUNK = 1 << 22

_MARK = b"mark"
_MIXED, _COLUMNS = b"mixed", b"columns"
_OPTIONS = ipc.IpcWriteOptions(compression="lz4")

#: What is kept: the log's epochs, what they say of each image, its other records, the frame of trials, which epochs
#: count, and what was compared.
EPOCHS, RIGHTS, TRIALS, COUNTED = "epochs", "rights", "trials", "counted"
_OTHERS, _COMPARED = "others.json", "compared.json"


class Mark(NamedTuple):
    """Of which whole lines of a log something is made, and by what code."""

    size: int
    """Bytes."""
    crc: int
    lines: int
    code: str


@functools.cache
def _code() -> str:
    """The SHA-256 of what a frame depends on besides its log: sources and libraries."""
    digest = hashlib.sha256(f"{pd.__version__} {pa.__version__}".encode())
    records = Path(record.__file__).parent
    for folder in (Path(__file__).parent, records, records.parent):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def opened(directory: Path) -> Iterator[Companion | Joint | None]:
    """The companion of a run's log; none where that is short, or cannot be read at all.

    What it keeps is written by a thread of its own, to the end before this ends.
    """
    with ExitStack() as open_files:
        logs: list[tuple[Path, IO[bytes]]] = []
        with suppress(OSError):
            paths = record_files(directory)
            if all(path.is_file() for path in paths):  # a pipe would be waited for
                logs = [(path, open_files.enter_context(path.open("rb"))) for path in paths]
        long = sum(fstat(file.fileno()).st_size for _, file in logs) >= log.LONG
        writer = open_files.enter_context(ThreadPoolExecutor(1))
        each = [Companion(*one, writer) for one in logs] if long else []
        yield Joint(directory, each) if len(each) > 1 else each[0] if each else None


class _Kept:
    """Tables in a folder, and of what they are."""

    mark: Mark | Sequence[Mark] | None
    """Of the log; none: not known, until it is read, or there is none, as more than whole lines are there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def table(self, name: str) -> pa.Table | None:
        """A table that is kept of the log as it is; none: there is none."""
        return None if self.mark is None else self._table(name, self.mark)

    def _opened(self, name: str) -> ipc.RecordBatchFileReader:
        # read, not mapped: once another machine replaces a mapped file on NFS, to look into it kills the process
        return ipc.open_file(pa.OSFile(str(self._folder / f"{name}.arrow")))

    def _table(self, name: str, mark: Mark | Sequence[Mark]) -> pa.Table | None:
        with suppress(OSError, LookupError, TypeError, pa.ArrowException):
            file = self._opened(name)
            return file.read_all() if file.schema.metadata[_MARK] == json.dumps(mark).encode() else None
        return None

    def keep_table(self, name: str, table: pa.Table) -> None:
        """Keeps a table that is made of the log, if it can be written."""
        self._keep_table(name, table, self.mark)

    def _keep_table(self, name: str, table: pa.Table, mark: Mark | Sequence[Mark] | None) -> None:
        table = table.unify_dictionaries()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _MARK: json.dumps(mark)})

        def write(path: Path) -> None:
            with ipc.new_file(path, table.schema, options=_OPTIONS) as file:
                file.write_table(table)

        self._keep(f"{name}.arrow", write)

    def _keep(self, name: str, content: str | Callable[[Path], object]) -> None:
        """What cannot be written, as on a full disk or in another's run, is not kept."""
        with suppress(OSError, pa.ArrowException):
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole(self._folder / name) as part:
                part.write_text(content) if isinstance(content, str) else content(part)


class Joint(_Kept):
    """What is kept of a run's several logs together, beside what is kept of each."""

    def __init__(self, directory: Path, each: Sequence[Companion]) -> None:
        """Reads nothing yet.

        Args:
            directory: of the run.
            each: the companions of its logs.
        """
        super().__init__(directory / FOLDER)
        self._each = each
        self.mark = self._marks()

    def log(self) -> Log:
        """The logs as one; see `Companion.log`."""
        every = merged([one.log() for one in self._each])
        self.mark = self._marks()
        every.shelf = None if self.mark is None else self
        return every

    def _marks(self) -> Sequence[Mark] | None:
        """Of all logs; none: not known of one."""
        marks = [one.mark for one in self._each if one.mark is not None]
        return marks if len(marks) == len(self._each) else None


class Companion(_Kept):
    """What is kept of a log, and whether that is of the log as it is now."""

    mark: Mark | None

    def __init__(self, path: Path, file: IO[bytes], writer: ThreadPoolExecutor) -> None:
        """Reads nothing yet.

        Args:
            path: of the log.
            file: the same, open.
            writer: writes the columns, while their frame is made.
        """
        super().__init__(path.parent / FOLDER / path.stem.partition(".")[2])
        stat = fstat(file.fileno())
        self._path, self._file, self._writer = path, file, writer
        self._stat = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        self._settled = time.time() - max(stat.st_mtime, stat.st_ctime) > _TICK
        self.mark = self._unchanged()

    def log(self) -> Log:
        """The log, of which only what is new is parsed; without lines of a newer version, of which a warning tells."""
        return self._log().of_known_kinds(self._path)

    def _log(self) -> Log:
        before = self._kept_mark()
        kept = None if before is None else self._kept_log(before)
        if before is None or kept is None:
            before = Mark(0, 0, 0, _code())
        self._file.seek(before.size)
        file = _Summed(self._file, before.crc)
        new = parse(file, self._path, before.lines)
        every = new.log if kept is None else kept.followed_by(new.log)
        if file.size > new.size:  # a line without its end
            self.mark = None
            return every if new.last is None else every.followed_by(Log.of([new.last]).later(new.lines))
        every.shelf, self.mark = self, Mark(before.size + new.size, file.crc, new.lines, _code())
        if new.size > _SHARE * before.size:
            self._keep_log(every)
        if self._settled and self.mark.size == self._stat[1] and self.mark != self._unchanged():
            self._keep(_COMPARED, json.dumps({"stat": self._stat, "mark": self.mark}))
        return every

    def _unchanged(self) -> Mark | None:
        """The mark of the log, if it is the very file that was compared last."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            known = json.loads((self._folder / _COMPARED).read_bytes())
            mark = Mark(*known["mark"])
            return mark if known["stat"] == self._stat and mark.code == _code() else None
        return None

    def _kept_mark(self) -> Mark | None:
        """That of the columns that are kept, if the log begins with what they are of."""
        with suppress(OSError, ValueError, LookupError, TypeError, pa.ArrowException):
            mark = Mark(*json.loads(self._opened(EPOCHS).schema.metadata[_MARK]))
            return mark if mark == self.mark or self._begins_as(mark) else None
        return None

    def _begins_as(self, mark: Mark) -> bool:
        if mark.size > self._stat[1] or mark.code != _code():
            return False
        self._file.seek(0)
        file = _Summed(self._file)
        while file.size < mark.size and file.read(min(_CHUNK, mark.size - file.size)):
            pass
        return file.crc == mark.crc

    def _kept_log(self, mark: Mark) -> Log | None:
        with suppress(OSError, ValueError, LookupError, TypeError):
            epochs, rights = self._table(EPOCHS, mark), self._table(RIGHTS, mark)
            others = json.loads((self._folder / _OTHERS).read_bytes())
            if epochs is not None and rights is not None and others["mark"] == list(mark):
                return Log(others["records"], others["places"], Epochs(epochs, rights))
        return None

    def _keep_log(self, every: Log) -> None:
        with suppress(OSError):
            remove_parts(self._folder)  # of killed processes; one that writes there now goes without
        others = {"mark": self.mark, "places": every.places, "records": every.others}
        for name, table in ((EPOCHS, every.epochs.table), (RIGHTS, every.epochs.rights)):
            self._writer.submit(self._keep_table, name, table, self.mark)
        self._writer.submit(lambda: self._keep(_OTHERS, json.dumps(others)))


class _Summed:
    """A file that is read, with how many bytes were and their CRC-32, gone on from what came before."""

    def __init__(self, file: IO[bytes], crc: int = 0) -> None:
        self._file, self.crc, self.size = file, crc, 0

    def read(self, size: int) -> bytes:
        """The next so many bytes."""
        content = self._file.read(size)
        self.crc, self.size = zlib.crc32(content, self.crc), self.size + len(content)
        return content


def table_of(frame: DataFrame) -> pa.Table:
    """A frame as a table from which `frame_of` makes the same one; columns of several kinds, which it has not, as text.

    Raises:
        TypeError: a column holds what JSON has not.
    """
    mixed = {name: column.tolist() for name, column in frame.items() if column.dtype == object}
    table = pa.Table.from_pandas(frame.drop(columns=list(mixed)), preserve_index=False)
    more = {_MIXED: json.dumps(mixed), _COLUMNS: json.dumps(list(frame.columns))}
    return table.replace_schema_metadata({**table.schema.metadata, **more})


def frame_of(table: pa.Table) -> DataFrame:
    """The frame that `table_of` made a table of."""
    known, mixed = table.to_pandas(), json.loads(table.schema.metadata[_MIXED])
    columns = {name: Series(values, dtype=object) for name, values in mixed.items()}
    return DataFrame({name: columns.get(name, known.get(name)) for name in json.loads(table.schema.metadata[_COLUMNS])})
