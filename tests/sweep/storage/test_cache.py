"""The folder of a machine and the store are brought to the same bytes, whichever of them is ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
from object_store import S3

from sweep.run.trial import run_trial
from sweep.storage import cache, checkpoints, mirror
from sweep.storage.objects import Address, Away, store_at
from trainers.errors import UserError
from trainers.files import checkpoint_path, previous_path
from trainers.identity import trial_id
from trainers.loop import with_fingerprint
from trainers.record import record_files

LINE = b'{"record":"epoch","n":%d}\n'
OUTCOME = b'{"record":"outcome"}\n'


def nobody(reason: str) -> None:
    pytest.fail(reason)


@pytest.fixture
def folder(bucket: str, machine: Callable[[str], None]) -> Callable[[str], Path]:
    """The folder of the run on a machine, which this process is from now on."""

    def on(name: str) -> Path:
        machine(name)
        address = Address.of(f"s3://{bucket}/run")
        assert address is not None
        return cache.folder(address)

    return on


def pull(directory: Path) -> bytes:
    address = cache.address_of(directory)
    assert address is not None
    cache.pull(directory, store_at(address))
    return b"".join(path.read_bytes() for path in record_files(directory))


def mirrored(directory: Path) -> mirror.Mirror:
    address = cache.address_of(directory)
    assert address is not None
    return mirror.Mirror(directory, store_at(address), nobody)


def append(directory: Path, content: bytes) -> None:
    with (directory / "records.jsonl").open("ab") as file:
        file.write(content)


def test_an_ordinary_directory_is_of_no_store(tmp_path: Path) -> None:
    assert cache.address_of(tmp_path) is None
    assert cache.named(tmp_path) == str(tmp_path)
    assert cache.local(str(tmp_path)) == tmp_path
    cache.bring(tmp_path)
    with mirror.held(tmp_path, "sweep launch"):
        checkpoints.fetch(tmp_path, "a", trains=True)
        checkpoints.settle(tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_launch_after_another_on_another_machine_has_all_and_adds_its_own(folder: Callable[[str], Path]) -> None:
    one = folder("one")
    append(one, LINE % 1 + LINE % 2)
    mirrored(one).finish()
    other = folder("other")
    assert pull(other) == LINE % 1 + LINE % 2
    append(other, LINE % 3)
    mirrored(other).finish()
    folder("one")
    assert pull(one) == LINE % 1 + LINE % 2 + LINE % 3
    append(one, LINE % 4)
    mirrored(one).finish()
    folder("other")
    assert pull(other) == b"".join(LINE % n for n in range(1, 5))


def test_records_that_no_store_has_are_kept_and_brought_unless_another_launch_went_on_without(
    folder: Callable[[str], Path],
) -> None:
    one = folder("one")
    append(one, LINE % 1)
    mirrored(one).finish()
    append(one, LINE % 2 + b'{"torn')  # killed here
    assert pull(one) == LINE % 1 + LINE % 2 + b'{"torn'
    mirrored(one).finish()
    other = folder("other")
    assert pull(other) == LINE % 1 + LINE % 2
    append(other, LINE % 3)
    mirrored(other).finish()
    folder("one")
    assert pull(one) == LINE % 1 + LINE % 2 + LINE % 3


def test_records_in_parts_are_the_bytes_of_the_file(
    folder: Callable[[str], Path], s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PART", 60)
    one = folder("one")
    bringing = mirrored(one)
    for n in range(10):
        append(one, LINE % n)
        bringing.look(surely=True)
    bringing.finish()
    parts = [name for name in s3.names(f"{bucket}/run") if name.startswith("records.jsonl/")]
    assert parts == [f"records.jsonl/000001.{n:06d}" for n in range(4)]
    assert pull(folder("other")) == b"".join(LINE % n for n in range(10))


def test_records_wait_for_their_time_and_an_outcome_does_not(
    folder: Callable[[str], Path], s3: S3, bucket: str
) -> None:
    one = folder("one")
    bringing = mirrored(one)
    append(one, LINE % 1)
    bringing.look()  # the first is brought
    append(one, LINE % 2)
    bringing.look()
    assert s3.records(f"{bucket}/run") == LINE % 1
    append(one, OUTCOME)
    bringing.look()
    assert s3.records(f"{bucket}/run") == LINE % 1 + LINE % 2 + OUTCOME


def test_what_a_store_did_not_take_comes_with_the_next(folder: Callable[[str], Path], s3: S3, bucket: str) -> None:
    one = folder("one")
    bringing = mirrored(one)
    append(one, OUTCOME)
    bringing.look()
    append(one, OUTCOME)
    with s3.door.shut(), pytest.raises(Away):
        bringing.look()
    bringing.look()
    assert s3.records(f"{bucket}/run") == 2 * OUTCOME


def test_a_run_that_was_removed_in_its_store_is_removed_here(
    folder: Callable[[str], Path], s3: S3, bucket: str
) -> None:
    one = folder("one")
    append(one, LINE % 1)
    checkpoint_path(one, "a").parent.mkdir()
    checkpoint_path(one, "a").write_bytes(b"a")
    mirrored(one).finish()
    s3.system().delete_dir(f"{bucket}/run")
    assert pull(one) == b""
    assert not checkpoint_path(one, "a").exists()
    assert cache.address_of(one) is not None


def test_records_of_a_launch_that_was_killed_before_any_was_brought_stay_however_often_one_reads(
    folder: Callable[[str], Path],
) -> None:
    one = folder("one")
    (one / "sweep.yaml").write_bytes(b"name: run")
    mirrored(one).finish()
    append(one, LINE % 1)
    assert pull(one) == pull(one) == LINE % 1


def test_a_reader_asks_for_what_is_new_alone(folder: Callable[[str], Path], s3: S3, bucket: str) -> None:
    one = folder("one")
    for launch in range(2):
        append(one, LINE % launch)
        mirrored(one).finish()
    other = folder("other")
    pull(other)
    before = len(s3.requests(bucket))
    pull(other)
    assert s3.requests(bucket)[before:] == ["HEAD", "GET", "GET"]  # the bucket, the run, its records


def test_a_checkpoint_goes_up_once_and_down_where_another_is_there(
    folder: Callable[[str], Path], s3: S3, bucket: str
) -> None:
    one = folder("one")
    path = checkpoint_path(one, "a")
    path.parent.mkdir()
    path.write_bytes(b"first")
    checkpoints.settle(one, "a")
    before = len(s3.requests("checkpoints/a.pt"))
    checkpoints.settle(one, "a")
    assert len(s3.requests("checkpoints/a.pt")) == before

    other = folder("other")
    checkpoints.fetch(other, "a")
    assert checkpoint_path(other, "a").read_bytes() == b"first"
    checkpoint_path(other, "a").write_bytes(b"second")
    checkpoints.fetch(other, "a")  # which is ahead of the store
    assert checkpoint_path(other, "a").read_bytes() == b"second"
    checkpoints.settle(other, "a")

    folder("one")
    checkpoints.fetch(one, "a", trains=True)
    assert path.read_bytes() == b"second"
    assert previous_path(path).read_bytes() == b"first"


def test_a_longer_trial_goes_on_from_the_end_of_a_shorter_one_that_only_the_store_has(
    folder: Callable[[str], Path], s3: S3
) -> None:
    short, long = (
        with_fingerprint(small.tiny(epochs=epochs, schedule={"name": "constant"}, keep="state")) for epochs in (1, 2)
    )
    sent: list[dict[str, Any]] = []
    one, *names = folder("one"), trial_id(short), trial_id(long)
    checkpoint_path(one, "").parent.mkdir()
    run_trial(names[0], short.model_dump(mode="json"), one, 1, sent.append)
    other = folder("other")
    run_trial(names[1], long.model_dump(mode="json"), other, 1, sent.append, shorter=names[:1])
    begun = [(record["epoch"], record["from_trial"]) for record in sent if record["record"] == "resume"]
    assert begun == [(1, names[0])]
    assert checkpoint_path(other, names[0]).read_bytes() == checkpoint_path(one, names[0]).read_bytes()
    assert s3.requests(f"checkpoints/{names[0]}.pt").count("PUT") == 1


def test_at_its_end_a_launch_brings_no_checkpoint_of_a_trial_that_went_on_elsewhere(
    folder: Callable[[str], Path], s3: S3, bucket: str
) -> None:
    one = folder("one")
    path = checkpoint_path(one, "a")
    path.parent.mkdir()
    path.write_bytes(b"first")
    mirrored(one).finish()
    path.write_bytes(b"not brought, as its process died")
    other = folder("other")
    checkpoints.fetch(other, "a")
    checkpoint_path(other, "a").write_bytes(b"the last")
    checkpoints.settle(other, "a")
    folder("one")
    mirrored(one).finish()
    assert s3.read(f"{bucket}/run/checkpoints/a.pt") == b"the last"


def test_two_endpoints_and_two_addresses_have_folders_of_their_own(
    bucket: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("one")
    here = [cache.folder(Address("s3", bucket, key)) for key in ("a/b", "a-b")]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://other:9000")
    here.append(cache.folder(Address("s3", bucket, "a-b")))
    assert len(set(here)) == 3


def test_a_folder_that_cannot_be_made_is_told_with_the_way_out(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUSTSWEEP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set ROBUSTSWEEP_CACHE"):
        cache.folder(Address("s3", bucket, "run"))
