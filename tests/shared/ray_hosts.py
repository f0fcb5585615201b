"""A Ray of several hosts on one machine: each has a network, a hostname, a /tmp and processes of its own.

A host is a set of Linux namespaces that lasts as long as its first process; the hosts' cable is a bridge in one more
network namespace. Nothing of them has a name outside, so that two runs of the tests do not meet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NETWORK = "10.78.0"
PORT = 6379

#: How long hosts last at most, s, also where the tests are killed.
LIFE = 600

REPOSITORY = Path(__file__).parents[2]


def why_not() -> str:
    """Why no hosts can be made here; empty: they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts of their own need root on Linux"
    if missing := [name for name in ("ip", "unshare", "nsenter", "mount") if not shutil.which(name)]:
        return f"hosts of their own need {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    )
    return "" if tried.returncode == 0 else "namespaces are not allowed here"


class Hosts:
    """Hosts rr1, rr2, ... with the addresses 10.78.0.1, 10.78.0.2, ..."""

    def __init__(self, shared: Path, number: int, environment: Mapping[str, str] | None = None) -> None:
        """Makes them; no Ray runs there yet.

        Args:
            shared: folder that all see; what else is in /tmp each has of its own.
            number: of hosts.
            environment: of all that runs there, beside this process's.
        """
        self.shared = shared
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0" * 64,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **(environment or {}),
        }
        self._firsts: list[subprocess.Popen[bytes]] = []
        self._started: list[subprocess.Popen[Any]] = []
        self._cable = self._first(["unshare", "--net", "sleep", str(LIFE)], inner=False)
        self._in_cable("ip", "link", "add", "cable", "type", "bridge")
        self._in_cable("ip", "link", "set", "cable", "up")
        self._hosts = [self._host(number) for number in range(1, number + 1)]

    def _first(self, command: Sequence[str], inner: bool = True) -> int:
        """Starts what holds namespaces; returns the process that is in them."""
        before = os.readlink("/proc/self/ns/net")
        process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
        self._firsts.append(process)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            held = int(children[0]) if inner and children else process.pid
            if (children or not inner) and os.readlink(f"/proc/{held}/ns/net") != before:
                return held
            time.sleep(0.01)
        raise TimeoutError(f"{command[0]} did not start")

    def _host(self, number: int) -> int:
        own = self.shared.parent / f"tmp-{number}"
        seen = [path for path in {self.shared, REPOSITORY, Path(sys.prefix)} if path.is_relative_to("/tmp")]
        binds = []
        for path in seen:
            inside = own / path.relative_to("/tmp")
            inside.mkdir(parents=True, exist_ok=True)
            binds.append(f"mount --bind {path} {inside}")
        own.mkdir(parents=True, exist_ok=True)
        setup = " && ".join([f"hostname rr{number}", *binds, f"mount --rbind {own} /tmp", f"exec sleep {LIFE}"])
        spaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        host = self._first(["unshare", *spaces, "sh", "-c", setup])
        wire = f"wire{number}"
        self._in_cable("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", str(host))
        self._in_cable("ip", "link", "set", wire, "master", "cable", "up")
        for words in (f"addr add {NETWORK}.{number}/24 dev eth0", "link set eth0 up", "link set lo up"):
            subprocess.run(["nsenter", "-t", str(host), "--net", "ip", *words.split()], check=True)
        return host

    def _in_cable(self, *command: str) -> None:
        subprocess.run(["nsenter", "-t", str(self._cable), "--net", *command], check=True)

    @property
    def address(self) -> str:
        """Of the head."""
        return f"{NETWORK}.1:{PORT}"

    def run(self, number: int, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A command on a host."""
        inside = ["nsenter", "-t", str(self._hosts[number - 1]), "--net", "--uts", "--mount", "--pid", *command]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": self._environment} | options
        process = subprocess.Popen(inside, text=True, start_new_session=True, **options)
        self._started.append(process)
        return process

    def start(self, number: int, cpus: int = 1, **options: str) -> None:
        """Starts Ray on a host: the head on the first, else a node of its; see `wait` for when it is up."""
        where = ["--head", f"--port={PORT}"] if number == 1 else [f"--address={self.address}"]
        more = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        if number == 1:
            more.append("--include-dashboard=false")
        log = (self.shared.parent / f"ray-{number}.log").open("a")
        own = [f"--node-ip-address={NETWORK}.{number}", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        self.run(number, "ray", "start", "--block", *where, *own, *more, stdout=log)
        log.close()

    def wait(self, number: int, patience: float = 60) -> None:
        """Until so many nodes are up."""
        look = (
            "import ray, sys, time; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
            "while sum(node['Alive'] for node in ray.nodes()) != int(sys.argv[2]): time.sleep(0.1)"
        )
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            process = self.run(1, sys.executable, "-c", look, self.address, str(number))
            try:
                said, _ = process.communicate(timeout=max(1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                break
            if process.returncode == 0:
                return
        raise TimeoutError(f"Ray has not {number} nodes after {patience:.0f} s: {said[-2000:]}")

    def kill(self, number: int, name: str = "raylet", signal: str = "KILL") -> None:
        """Sends a signal to all processes of a name on a host."""
        self.run(number, "pkill", f"-{signal}", name).wait()

    def link(self, number: int, state: str) -> None:
        """Pulls a host's cable (`down`), or puts it in again (`up`)."""
        self._in_cable("ip", "link", "set", f"wire{number}", state)

    def close(self) -> None:
        """Ends all that runs there, and the hosts."""
        for process in [*self._started, *self._firsts]:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def hosts(shared: Path, number: int, environment: Mapping[str, str] | None = None) -> Iterator[Hosts]:
    """Hosts for a block; see `Hosts`."""
    made = Hosts(shared, number, environment)
    try:
        yield made
    finally:
        made.close()
