"""Objects in a store, through pyarrow's file systems: no further package is needed, and keys are found as by AWS's own.

What is asked for is bounded: a store that does not answer is known to be away within 20 s, and `patiently` asks again.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, Self, TypeVar

from sweep.storage.mark import is_address
from trainers.blanked import blanked
from trainers.errors import UserError
from trainers.files import PATIENCE, SILENCE

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: How long a store is waited for that has not answered this process before, s: most often its address is wrong.
FIRST = 10.0
#: Between two tries, s.
_PAUSE = 1.0
#: How often pyarrow asks by itself, and how long one request may stand still, s.
_ATTEMPTS, _TIMEOUT = 3, 5.0

_PART = r"(?!\.{1,2}(?:/|$))[^?#@/\\\x00-\x20\x7f]+"
_ADDRESS = re.compile(rf"(s3|gs)://([a-z0-9][a-z0-9._-]{{1,220}}[a-z0-9])/({_PART}(?:/{_PART})*)/?")

#: What a store answers for ever; all else passes, as a network that is down does.
_FOR_EVER = re.compile(
    r"AWS Error (?:ACCESS_DENIED|NO_SUCH_\w+|INVALID_\w+|SIGNATURE_\w+|\w*TOKEN\w*|UNRECOGNIZED_CLIENT|MISSING_\w+)"
    r"|HTTP status (?:3\d\d|4(?!08|29)\d\d)|PERMISSION_DENIED|UNAUTHENTICATED|NOT_FOUND|INVALID_ARGUMENT"
)
#: Of what pyarrow says, what a user can do nothing with.
_NOISE = re.compile(r"^.*?(?=AWS Error |google::cloud)|; Details: .*| \(Request ID: [^)]*\)|\. Detail: \[.*", re.DOTALL)

_ACCESS = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws, that may list, read and write it"


@dataclass(frozen=True)
class Address:
    """Where a run lies: s3://BUCKET/KEY or gs://BUCKET/KEY.

    >>> str(Address.of("s3://bucket/runs/ratio/"))
    's3://bucket/runs/ratio'
    >>> Address.of("runs/ratio") is None
    True
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def of(cls, text: str) -> Self | None:
        """The address that a text is; None: it is a path.

        Raises:
            UserError: it is a URL of another kind, or one with a password or options in it.
        """
        if not is_address(text):
            return None
        if parts := _ADDRESS.fullmatch(text):
            return cls(*parts.groups())
        if "@" in text:
            raise UserError(
                "an address with a key in it would be written to logs and records; give s3://BUCKET/RUN, and the keys "
                "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        raise UserError(
            f"{text}: must be s3://BUCKET/RUN, gs://BUCKET/RUN or the path of a folder, a bucket's name of a to z, "
            "digits, dots and hyphens; give one of these"
        )

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.scheme}://{self.bucket}/{self.key}"


def endpoint() -> str | None:
    """Where S3 is, where that is not Amazon: of MinIO, Ceph and their like."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


class Stamp(NamedTuple):
    """By which an object is known to be the one of before."""

    size: int
    """Bytes; -1: it is no object, but a beginning of several names."""
    time_ns: int
    """Of its writing, by the store's clock; of S3 in whole seconds."""


class Away(Exception):
    """The store does not answer, or says that it cannot now."""


class Store:
    """The objects of one run, by their names behind its address."""

    def __init__(self, address: Address, system: Any = None) -> None:
        """Asks for nothing yet.

        Args:
            address: of the run.
            system: a pyarrow.fs.FileSystem; None: the address's own.
        """
        self.address = address
        self._root = f"{address.bucket}/{address.key}"
        self._system = system
        self.answered = False
        """Whether it ever has."""

    @property
    def _files(self) -> Any:
        if self._system is None:
            self._system = _s3(self.address) if self.address.scheme == "s3" else _gs()
        return self._system

    def write(self, name: str, content: bytes) -> None:
        """Puts an object in its place as a whole.

        Raises, as the others do:
            Away: the store does not answer.
            UserError: it refuses.
        """

        def act() -> None:
            with self._files.open_output_stream(f"{self._root}/{name}") as file:
                file.write(content)

        self._asked(act)

    def read(self, name: str) -> bytes:
        """All of an object.

        Raises:
            FileNotFoundError: it is not there.
        """

        def act() -> bytes:
            with self._files.open_input_file(f"{self._root}/{name}") as file:
                content: bytes = file.read(file.size())
                return content

        return self._asked(act)

    def stamp(self, name: str) -> Stamp | None:
        """Of an object; None: it is not there."""
        info = self._asked(lambda: self._files.get_file_info(f"{self._root}/{name}"))
        return _stamp(info) if info.is_file else None

    def list(self, folder: str = "") -> dict[str, Stamp]:
        """What lies right behind a name, by its own."""
        from pyarrow import fs

        selector = fs.FileSelector(f"{self._root}/{folder}".rstrip("/"), allow_not_found=True)
        return {info.base_name: _stamp(info) for info in self._asked(lambda: self._files.get_file_info(selector))}

    def delete(self, name: str) -> None:
        """Removes an object, if it is there."""

        def act() -> None:
            try:
                self._files.delete_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

        self._asked(act)

    def check(self) -> None:
        """The bucket is there: to list one that is not gives nothing.

        Raises:
            UserError: it is not.
        """
        from pyarrow import fs

        if self._asked(lambda: self._files.get_file_info(self.address.bucket)).type == fs.FileType.NotFound:
            raise UserError(f"{self.address}: there is no bucket {self.address.bucket}; make it, or give another")

    def _asked(self, act: Callable[[], Result]) -> Result:
        try:
            result = act()
        except FileNotFoundError:
            raise
        except OSError as error:
            text = blanked(_NOISE.sub("", str(error)).strip() or type(error).__name__)
            if _FOR_EVER.search(str(error)):
                way = _ACCESS if self.address.scheme == "s3" else "mend that"
                raise UserError(f"{self.address}: the store refuses: {text}; {way}") from None
            raise Away(text) from None
        self.answered = True
        return result


def _stamp(info: Any) -> Stamp:
    return Stamp(info.size if info.is_file else -1, info.mtime_ns or 0 if info.is_file else 0)


#: What pyarrow calls the keys, and AWS the variables that hold them.
_KEYS = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}


def _s3(address: Address) -> Any:
    """With the keys of now: while Tune runs, the driver's environment has none (`sweep.run.ray_tune`)."""
    from pyarrow import fs

    given = {name: os.environ[variable] for name, variable in _KEYS.items() if os.environ.get(variable)}
    if not {"access_key", "secret_key"} <= given.keys():
        given = {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint() is None:
        try:
            region = fs.resolve_s3_region(address.bucket)
        except OSError as error:
            if "not found" in str(error):
                raise UserError(f"{address}: there is no bucket {address.bucket}; make it, or give another") from None
            raise
    return fs.S3FileSystem(
        **given,
        region=region or "us-east-1",
        endpoint_override=endpoint(),
        connect_timeout=_TIMEOUT,
        request_timeout=_TIMEOUT,
        allow_delayed_open=True,  # an object of up to some megabytes is one request
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


def _gs() -> Any:
    from pyarrow import fs

    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_ATTEMPTS * _TIMEOUT))


@cache
def store_at(address: Address) -> Store:
    """The one of this process, whose connections are used again."""
    return Store(address)


def patiently(store: Store, act: Callable[[], Result], patience: float | None = None) -> Result:
    """What `act` gives, which is called again while the store is away; one line in the log says so.

    Args:
        store: that `act` asks.
        act: may be called any number of times, each as if it were the first.
        patience: s; None: `trainers.files.PATIENCE`, or `FIRST` of a store that never answered.

    Raises:
        UserError: the store refuses, or stays away.
    """
    begun, silent = time.monotonic(), True
    while True:
        try:
            return act()
        except Away as away:
            limit = patience if patience is not None else PATIENCE if store.answered else FIRST
            waited = time.monotonic() - begun
            if waited >= limit:
                raise UserError(f"{gone(store.address, away)}; mend that: the same command goes on") from None
            if silent and waited >= SILENCE:
                silent = False
                _log.warning("%s", waiting(store.address, away, limit))
        time.sleep(_PAUSE)


def waiting(address: Address, away: Away, seconds: float) -> str:
    """What is said of a store that is waited for."""
    return f"{gone(address, away)}; waiting for it, up to {seconds:.0f} s"


def gone(address: Address, away: Away) -> str:
    """What is said of a store that stays away."""
    return f"{address}: cannot be reached{_at(address)}: {away}"


def _at(address: Address) -> str:
    """Where the store is, where that is not Amazon's or Google's own place, in words."""
    place = endpoint() if address.scheme == "s3" else None
    return f" at AWS_ENDPOINT_URL {blanked(place)}" if place else ""
