"""A server under test: a process and all that it starts, its CPU time and memory; frozen while others are measured.

An idle server is not free (LitServe's queues poll), so every contender but the one under load is stopped with SIGSTOP.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.errors import PeerDoesNotRun
from benchmarks.housekeeping import members, note

START_S, STOP_S = 90.0, 10.0
PORTS = (20000, 32000)
IDLE_CORES, IDLE_PATIENCE_S = 0.5, 5.0


def free_port() -> int:
    """A port that nobody listens on, below those that Linux gives to whoever asks for any: it is still free later."""
    while True:
        port = random.randrange(*PORTS)  # noqa: S311 - a port, not a secret
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def start_apart(command: Sequence[str], *, cwd: Path | None = None) -> subprocess.Popen[str]:
    """A measured process or a generator in a session of its own, with pipes.

    Linux's scheduler weighs whole sessions (sched(7), autogroups): servers, generators and raw ONNX Runtime then all
    weigh the same, whatever the terminal's session weighs and whatever else runs in it.
    """
    return subprocess.Popen(
        list(command),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@dataclass
class Server:
    """One process group on `port`; its output is in `log`."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> Server:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            # A session of its own, so that what the server starts is found again.
            self.process = subprocess.Popen(
                list(self.command),
                cwd=self.directory,
                env=os.environ | dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        note(self.log.parent.parent / "sessions", self.process.pid)
        return self

    def wait_ready(self, path: str) -> Server:
        """Until GET `path` is 200. Raises PeerDoesNotRun with the log's last lines."""
        deadline = time.monotonic() + START_S
        while self.get_status(path) != 200 or self._popen.poll() is not None:
            if self._popen.poll() is not None:
                raise PeerDoesNotRun(f"ended with exit code {self._popen.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise PeerDoesNotRun(f"was not ready after {START_S:.0f} s: {self.last_words()}")
            time.sleep(0.005)
        return self

    def get_status(self, path: str) -> int:
        """The status of GET `path`; 0 while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-400:] or "it wrote nothing"

    def processes(self) -> list[psutil.Process]:
        """All that live in the server's session or descend from it, parents before their children."""
        found = {*members(self._popen.pid), *_descendants(self._popen.pid)}
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def cpu_s(self) -> float:
        """User and system time of all its processes."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def pss_bytes(self) -> int:
        """Proportional set size of all its processes: shared pages counted once, /proc/PID/smaps_rollup."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def freeze(self) -> None:
        """Parents first, so that none takes its child for dead."""
        _signal(self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        _signal(self.processes()[::-1], signal.SIGCONT)

    def wait_idle(self) -> None:
        """Until the work for clients that have gone is done; some peers finish it."""
        deadline = time.monotonic() + IDLE_PATIENCE_S
        while time.monotonic() < deadline:
            before, started = self.cpu_s(), time.monotonic()
            time.sleep(0.1)
            if (self.cpu_s() - before) / (time.monotonic() - started) < IDLE_CORES:
                return

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not listen."""
        if self.process is None:
            return
        self.thaw()
        members = self.processes()
        with contextlib.suppress(ProcessLookupError):
            self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_S)
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._popen.wait()
        psutil.wait_procs(members, timeout=STOP_S)

    @property
    def _popen(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the server was not started"
        return self.process


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _descendants(pid: int) -> list[psutil.Process]:
    """The process and all it started, also in sessions of their own."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
