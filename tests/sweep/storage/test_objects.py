"""Addresses of runs in stores, and what a store that refuses or is away is to whoever asks it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from object_store import S3

from sweep.storage import objects
from sweep.storage.objects import Address, Away, Store, patiently
from trainers.errors import UserError


def test_an_address_is_what_it_was_typed_as_and_a_path_is_none() -> None:
    for text in ("s3://bucket/run", "gs://a-bucket.of.mine/runs/2026/ratio"):
        assert str(Address.of(text)) == text == str(Address.of(text + "/"))
    for path in ("runs/ratio", "/tmp/s3", "s3", "./s3:x", "c:/runs"):
        assert Address.of(path) is None


@pytest.mark.parametrize(
    "text",
    [
        *("s3://bucket", "s3://bucket/", "s3:/bucket/run", "s3://Bucket/run", "s3://b/run", "s3://bucket/../run"),
        *("file:///tmp/run", "memory://run/run", "https://bucket/run", "s3://bucket/run?region=x", "s3://bucket/a b"),
        *("s3://bucket/a\nb", "s3://bucket/a//b", "s3://bucket/./b", "s3://bucket/a/..", "s3:///run"),
    ],
)
def test_an_address_of_another_form_is_refused_and_no_path_either(text: str) -> None:
    with pytest.raises(UserError, match="must be s3://BUCKET/RUN"):
        Address.of(text)


def test_a_key_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="AWS_ACCESS_KEY_ID") as refused:
        Address.of("s3://AKIAKEYKEYKEYKEY:hushhush@bucket/run")
    assert "hush" not in str(refused.value)


def _store(error: OSError) -> Store:
    def fail(*asked: Any) -> None:
        raise error

    return Store(Address("s3", "bucket", "run"), SimpleNamespace(get_file_info=fail))


def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of whoever waits for a store, which passes in no time."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(objects, "time", clock)
    return now


@pytest.mark.parametrize(
    "answer",
    [
        "When getting information for key 'a' in 'b': AWS Error ACCESS_DENIED during HeadObject operation: No body.",
        "AWS Error NO_SUCH_BUCKET during PutObject operation: The specified bucket does not exist (Request ID: 0)",
        "AWS Error UNKNOWN (HTTP status 301) during ListObjectsV2 operation: PermanentRedirect",
        "AWS Error INVALID_ACCESS_KEY_ID during PutObject operation",
        "AWS Error UNKNOWN (HTTP status 400) during PutObject operation: Unable to parse ExceptionName: ExpiredToken",
        "google::cloud::Status(PERMISSION_DENIED: no)",
    ],
)
def test_what_a_store_refuses_for_ever_is_not_asked_for_again(answer: str) -> None:
    with pytest.raises(UserError, match=r"s3://bucket/run: the store refuses: ") as refused:
        patiently(_store(OSError(answer)), lambda: _store(OSError(answer)).stamp("a"))
    assert "Request ID" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect; Details: x",
        "AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.",
        "AWS Error UNKNOWN (HTTP status 503) during PutObject operation",
        "AWS Error UNKNOWN (HTTP status 429) during PutObject operation",
        "AWS Error REQUEST_TIMEOUT during PutObject operation",
        "google::cloud::Status(UNAVAILABLE: try again)",
        "something new",
    ],
)
def test_what_passes_is_asked_for_again_and_told_of_in_one_line(
    answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = _clock(monkeypatch)
    store, asked = _store(OSError(answer)), list[float]()

    def act() -> str:
        asked.append(now[0])
        if now[0] < 7:
            store.stamp("a")
        return "there"

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    with caplog.at_level(logging.WARNING):
        assert patiently(store, act) == "there"
    assert len(asked) == 8
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("s3://bucket/run: cannot be reached at AWS_ENDPOINT_URL http://minio:9000: ")
    assert line.endswith("; waiting for it, up to 10 s")


def test_a_store_that_stays_away_is_given_up_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _clock(monkeypatch)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    store = _store(OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 6, no host"))
    for answered, seconds in ((False, objects.FIRST), (True, objects.PATIENCE)):
        now[:], store.answered = [0.0], answered
        with pytest.raises(UserError, match="s3://bucket/run: cannot be reached: AWS Error NETWORK_CONNECTION"):
            patiently(store, lambda: store.stamp("a"))
        assert now[0] == seconds


def test_objects_are_written_read_listed_and_deleted(bucket: str, machine: Callable[[str], None]) -> None:
    machine("one")
    store = Store(Address("s3", bucket, "some/run"))
    store.check()
    assert store.list() == {}
    assert store.stamp("a/b") is None
    for content in (b"", b"short", b"x" * 12_000_000):  # a request without a part, with one, with several
        store.write("a/b", content)
        assert store.read("a/b") == content
        stamp = store.stamp("a/b")
        assert stamp is not None
        assert stamp.size == len(content)
        assert store.list("a") == {"b": stamp}
    store.delete("a/b")
    store.delete("a/b")
    assert store.list("a") == {}
    with pytest.raises(FileNotFoundError):
        store.read("a/b")
    with pytest.raises(UserError, match="there is no bucket no-such-bucket"):
        Store(Address("s3", "no-such-bucket", "run")).check()
    with pytest.raises(UserError, match="NO_SUCH_BUCKET"):
        Store(Address("s3", "no-such-bucket", "run")).write("a", b"")


def test_a_store_behind_a_shut_door_is_away(s3: S3, bucket: str, machine: Callable[[str], None]) -> None:
    machine("one")
    store = Store(Address("s3", bucket, "run"))
    store.write("a", b"content")
    with s3.door.shut(), pytest.raises(Away, match="NETWORK_CONNECTION"):
        store.read("a")
    assert store.read("a") == b"content"
