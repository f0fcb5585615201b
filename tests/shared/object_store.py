"""A store for tests: moto's server of S3 in a process of its own, behind a door that a test can shut."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # s, until moto's server answers, on a machine that is busy with other things
KEYS = {"AWS_ACCESS_KEY_ID": "moto-takes-any", "AWS_SECRET_ACCESS_KEY": "moto-takes-any-too"}


class Door(threading.Thread):
    """Hands connections on to a port of this machine; while it is shut each ends at once."""

    def __init__(self, port: int) -> None:
        """Opens it, on a port of its own."""
        super().__init__(name="door", daemon=True)
        self._to, self._open = port, True
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._connections: set[socket.socket] = set()
        self.port = self._socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        """Takes connections."""
        while True:
            taken, _ = self._socket.accept()
            threading.Thread(target=self._hand_on, args=(taken,), daemon=True).start()

    def _hand_on(self, taken: socket.socket) -> None:
        with taken, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as there:
            ways = {taken: there, there: taken}
            while self._open:
                for one in select.select(list(ways), [], [], 0.05)[0]:
                    if not (content := one.recv(65536)):
                        return
                    ways[one].sendall(content)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """A block in which nothing comes through."""
        self._open = False
        try:
            yield
        finally:
            self._open = True


class S3:
    """The server; buckets are made by the tests."""

    def __init__(self, log: Path) -> None:
        """Starts it and waits until it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        with log.open("w") as file:
            words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
            self._process = subprocess.Popen(words, stdout=file, stderr=file)
        self.log, self.door = log, Door(self._port)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.make("first")
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                assert self._process.poll() is None, log.read_text()
                time.sleep(0.05)

    def make(self, bucket: str) -> str:
        """Makes a bucket."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/{bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=5).close()
        return bucket

    def environment(self, cache: Path) -> dict[str, str]:
        """Of a command on a machine whose folders of runs lie there."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.door.port}", "ROBUSTSWEEP_CACHE": str(cache)}

    def system(self) -> Any:
        """The store as pyarrow sees it, past the door."""
        from pyarrow import fs

        key, secret = KEYS.values()
        return fs.S3FileSystem(
            access_key=key, secret_key=secret, endpoint_override=f"http://127.0.0.1:{self._port}", region="us-east-1"
        )

    def names(self, run: str) -> list[str]:
        """The objects behind BUCKET/KEY."""
        from pyarrow import fs

        there = self.system().get_file_info(fs.FileSelector(run, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{run}/") for info in there if info.is_file)

    def records(self, run: str) -> bytes:
        """All records that are there."""
        parts = [name for name in self.names(run) if name.startswith("records")]
        return b"".join(self.read(f"{run}/{name}") for name in parts)

    def read(self, name: str) -> bytes:
        """An object."""
        with self.system().open_input_file(name) as file:
            content: bytes = file.read()
            return content

    def requests(self, name: str) -> list[str]:
        """The methods of all requests so far that name it, in order."""
        lines = [line for line in self.log.read_text().splitlines() if name in line and '"' in line]
        return [word for line in lines for word in ("GET", "PUT", "HEAD", "POST", "DELETE") if f"{word} /" in line]

    def close(self) -> None:
        """Ends the server."""
        self._process.kill()
        self._process.wait()
        os.truncate(self.log, 0)
