"""A file that ends with its hash: torch reads it as any other, and no damaged one is believed."""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small import tiny

from trainers import archive
from trainers.archive import Refused
from trainers.checkpoint import DamagedCheckpoint, kept_weights
from trainers.loop import train

#: Bits that are flipped, one at a time, spread over a file; as many as were tried when none was noticed.
BITS = 110


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a trial that has ended, as the trial wrote it."""
    path = tmp_path_factory.mktemp("whole") / "trial.pt"
    train(tiny(epochs=2, keep="both", optimizer={"name": "deat"}, averaging={"name": "ema"}), lambda record: None, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def older(whole: bytes) -> bytes:
    """The same as older code wrote it, without a hash."""
    state = torch.load(io.BytesIO(whole), weights_only=True)
    del state[archive.HASH]
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.fixture
def path(whole: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "trial.pt"
    file.write_bytes(whole)
    return file


def same(one: Any, other: Any) -> bool:
    """The same values to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def is_refused(path: Path, unhashed: bool) -> bool:
    try:
        archive.read(path, unhashed=unhashed)
    except Refused as refused:
        return str(refused).startswith("is damaged")
    return False


def flips(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The content with one bit flipped, at places spread over it and over its last parts, headers and hash."""
    bits = 8 * len(content)
    places = {*(bits * number // BITS for number in range(BITS)), *range(bits - 1, bits - 8 * 1200, -8 * 20 - 1)}
    for place in sorted(places):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield place, bytes(flipped)


def test_torch_reads_the_file_with_and_without_mapping_it_and_every_program_finds_the_hash_in_its_comment(
    path: Path, whole: bytes
) -> None:
    state = archive.read(path)
    for mapped in (False, True):
        assert same(torch.load(path, weights_only=True, mmap=mapped), state)
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        name, _, digest = file.comment.decode().partition(":")
    body = whole[: -2 - len(f"{name}:{digest}")] + b"\0\0"  # as torch wrote it: a comment of no bytes
    assert (name, digest) == ("sha256", hashlib.sha256(body).hexdigest())
    assert archive.length({key: state[key] for key in state if key != archive.HASH}) == len(whole)


@pytest.mark.parametrize("unhashed", [False, True])
def test_whichever_bit_is_flipped_the_file_is_refused(unhashed: bool, path: Path, whole: bytes) -> None:
    for place, flipped in flips(whole):
        path.write_bytes(flipped)
        assert is_refused(path, unhashed), f"bit {place} of {8 * len(whole)}"


def test_of_300_files_with_a_flipped_bit_no_weights_are_taken(path: Path, whole: bytes) -> None:
    for number in range(300):
        flipped = bytearray(whole)
        flipped[len(whole) * number // 300] ^= 1 << number % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedCheckpoint, match=r"trial\.pt: is damaged.*; put back a copy of it, or launch into"):
            kept_weights(path, "best" if number % 2 else "last", averaged=number % 3 == 0)


def test_a_file_of_older_code_is_read_and_a_flipped_bit_in_it_is_refused_or_changes_no_number(
    path: Path, older: bytes
) -> None:
    path.write_bytes(older)
    state = archive.read(path, unhashed=True)
    with pytest.raises(Refused, match=r"is damaged, or of older code: it has no hash \(sha256\) at its end"):
        archive.read(path)
    refused = 0
    for place, flipped in flips(older):
        path.write_bytes(flipped)
        try:
            assert same(archive.read(path, unhashed=True), state), f"bit {place} of {8 * len(older)}"
        except Refused:
            refused += 1
    assert refused > BITS


def cuts(content: bytes) -> list[int]:
    """Lengths at every kind of place: within and between the parts of the archive, and around its end."""
    parts = [match.start() for match in re.finditer(rb"PK\x01\x02|PK\x03\x04|PK\x05\x06|PK\x07\x08", content)]
    ends = [len(content) - less for less in (1, 2, 3, 64, 70, 71, 72, 73, 74, 95)]
    return sorted(
        {0, 1, 2, 22, len(content) // 2, *ends, *parts[::7], *parts[-3:], *(place + 9 for place in parts[::7])}
    )


@pytest.mark.parametrize("unhashed", [False, True])
def test_a_file_that_is_cut_anywhere_is_refused(unhashed: bool, path: Path, whole: bytes) -> None:
    for length in cuts(whole):
        path.write_bytes(whole[:length])
        assert is_refused(path, unhashed), f"{length} of {len(whole)} bytes"


def without_comment(content: bytes) -> bytes:
    return content[:-73] + b"\0\0"


@pytest.mark.parametrize(
    "change",
    [
        without_comment,
        lambda content: content + b"\0",
        lambda content: content + b"junk",
        lambda content: content + content,
        lambda content: content + content[-73:],
        lambda content: b"\0" + content,
        lambda content: content[:-64] + b"0" * 64,
        lambda content: content[:5000] + content[5001:],
        lambda content: content[:9000] + content[9500:10000] + content[9000:9500] + content[10000:],
    ],
)
@pytest.mark.parametrize("unhashed", [False, True])
def test_a_file_that_is_longer_shorter_or_of_other_order_is_refused(
    change: Callable[[bytes], bytes], unhashed: bool, path: Path, whole: bytes
) -> None:
    path.write_bytes(change(whole))
    with pytest.raises(Refused, match="is damaged"):
        archive.read(path, unhashed=unhashed)


Edit = tuple[str, float, bytes]
#: An edit: what is done, where, as a fraction of the length, and with what.
EDITS = st.lists(
    st.tuples(st.sampled_from(("replace", "insert", "delete", "end")), st.floats(0, 1), st.binary(min_size=1)),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits: list[Edit]) -> bytes:
    for what, where, with_ in edits:
        place = len(content) - len(with_) if what == "end" else int(where * len(content))
        place = max(place, 0)
        if what == "insert":
            content = content[:place] + with_ + content[place:]
        else:
            content = content[:place] + (b"" if what == "delete" else with_) + content[place + len(with_) :]
    return content


def believed_if_unchanged(path: Path, whole: bytes, edits: list[Edit]) -> None:
    path.write_bytes(edited(whole, edits))
    for unhashed in (False, True):
        if path.read_bytes() == whole:
            archive.read(path, unhashed=unhashed)
        else:
            with pytest.raises(Refused):
                archive.read(path, unhashed=unhashed)


@settings(max_examples=50, derandomize=True, database=None, deadline=None)
@given(edits=EDITS)
@example(edits=[("replace", 0.5, b"")])
def test_however_a_file_is_edited_it_is_refused(edits: list[Edit], whole: bytes, tmp_path_factory: Any) -> None:
    believed_if_unchanged(_file(tmp_path_factory), whole, edits)


@pytest.mark.slow
@settings(max_examples=3000, derandomize=True, database=None, deadline=None)
@given(edits=EDITS)
def test_however_a_file_is_edited_it_is_refused_many_times(
    edits: list[Edit], whole: bytes, tmp_path_factory: Any
) -> None:
    believed_if_unchanged(_file(tmp_path_factory), whole, edits)


def _file(tmp_path_factory: Any) -> Path:
    return Path(tmp_path_factory.getbasetemp()) / "edited.pt"


# What somebody made


def rewritten(content: bytes, path: Path, *, compression: int, change: Callable[[bytes], bytes] = bytes) -> None:
    """The archive with its parts packed anew, its pickle changed, and a right hash."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w", compression) as after:
        for part in before.infolist():
            inside = before.read(part)
            after.writestr(part.filename, change(inside) if part.filename.endswith("data.pkl") else inside)
    path.write_bytes(hashed(file.getvalue()))


def hashed(content: bytes) -> bytes:
    """An archive without a comment, with the hash in it."""
    text = f"sha256:{hashlib.sha256(content).hexdigest()}".encode()
    return content[:-2] + len(text).to_bytes(2, "little") + text


def test_a_right_hash_of_somebody_else_s_makes_a_file_readable(path: Path, whole: bytes) -> None:
    """So that what the next tests refuse is refused for its content."""
    state = archive.read(path)
    rewritten(whole, path, compression=zipfile.ZIP_STORED)
    assert same(archive.read(path), state)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_does(path: Path) -> None:
    file = io.BytesIO()
    torch.save({"zeros": torch.zeros(25_000_000)}, file)
    rewritten(file.getvalue(), path, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(Refused, match="its table of contents in it is not as it was written"):
        archive.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_an_archive_whose_parts_lie_over_one_another_is_refused(path: Path) -> None:
    """A thousand parts that are all the same megabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x", bytes(1_000_000))
        (part,) = made.infolist()
        made.filelist += [part] * 999
    path.write_bytes(hashed(file.getvalue()))
    with pytest.raises(Refused, match="its table of contents"):
        archive.read(path)


def test_a_tensor_that_says_it_is_longer_than_its_bytes_is_refused(path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.arange(8.0)}, file)
    rewritten(file.getvalue(), path, compression=0, change=lambda inside: inside.replace(b"K\x08", b"K\xc8"))
    with pytest.raises(Refused, match=r"torch\.load does not read it"):
        archive.read(path)


class Program:
    """An object whose unpickling runs something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize("unhashed", [False, True])
def test_a_file_that_would_run_something_is_refused_and_runs_nothing(
    unhashed: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    archive.write(path, {"weights": Program()})
    with pytest.raises(Refused, match=r"torch\.load does not read it with weights_only=True \(UnpicklingError\)"):
        archive.read(path, unhashed=unhashed)
    assert not (path.parent / "evil").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to nothing", "link to itself"])
def test_what_is_no_file_is_an_error_of_the_disk_and_nobody_waits_for_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "link to nothing": lambda: path.symlink_to(tmp_path / "nothing"),
        "link to itself": lambda: path.symlink_to(path),
    }[kind]()
    started = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT011
        archive.read(path)
    assert time.monotonic() - started < 30
