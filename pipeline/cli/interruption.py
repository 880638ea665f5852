"""Ctrl-C and SIGTERM: the first one raises, and what is being cleared up then is left to finish."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

EXIT_CODE = 130  # 128 + SIGINT, as shells count
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 5  # so many signals break off the clean-up too: one that hangs must not hold a terminal


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which is its text: the same clean-up as Ctrl-C."""


def raise_once() -> None:
    """From here on the first of SIGNALS raises KeyboardInterrupt; those that follow only say what is going on."""
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if 1 < len(received) < PATIENCE:
            _say(f"Clearing up what was begun; Ctrl-C {PATIENCE - len(received)} more times breaks that off.\n")
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(signal.Signals(number).name)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as after `nohup`, or `&` in a script
            signal.signal(number, receive)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes within the block takes effect at its end: so no process is started and then lost."""
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def run_to_end(command: list[str], environment: dict[str, str], stdout: Any = None) -> int:
    """Run a command that clears up after itself; gives its exit code, or EXIT_CODE when this process was interrupted.

    It has a session of its own: otherwise a terminal's Ctrl-C would reach it twice, directly and through this process.
    """
    child: subprocess.Popen[bytes] | None = None
    try:
        with held_back():
            child = subprocess.Popen(command, env=environment, stdout=stdout, start_new_session=True)
        return _as_shells_count(child.wait())
    except KeyboardInterrupt as interruption:
        if child is None:
            raise
        child.send_signal(signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)
        return _wait_for_clean_up(child)


def _wait_for_clean_up(child: subprocess.Popen[bytes]) -> int:
    try:
        return _as_shells_count(child.wait()) or EXIT_CODE
    except KeyboardInterrupt:
        child.kill()
        child.wait()
        raise


def _as_shells_count(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode


def silence(stream: TextIO) -> None:
    """From here on nothing written to `stream` can fail: its reader has gone.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe (the flush at exit would fail again)
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(words: str) -> None:
    """Straight to the descriptor: a signal may come in the middle of a write to sys.stderr."""
    with contextlib.suppress(OSError):  # the terminal may be gone: that is what SIGHUP says
        os.write(2, words.encode())
