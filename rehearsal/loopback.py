"""Ports of this machine: taking one, and who has it, as far as /proc tells."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from rehearsal.context import LOOPBACK

PROC = Path("/proc")
TABLES = ("net/tcp", "net/tcp6")


def bind(port: int) -> socket.socket:
    """A socket that holds the port without listening.

    Two sockets with SO_REUSEADDR may both be bound to a port until one listens (socket(7)), and many servers set it:
    it is used only where old connections linger on the port, since there nothing else helps.
    """
    try:
        return _bind(port, reuse=False)
    except OSError:
        return _bind(port, reuse=True)


def _bind(port: int, reuse: bool) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        held.bind((LOOPBACK, port))
    except OSError:
        held.close()
        raise
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, False)
    return held


def in_use(port: int, address: str) -> str:
    """A sentence's beginning: which port is in use, and by which process where that can be told."""
    pid = holder_of(port)
    return f"Port {port} of {address} is in use" + (f" by process {pid} ({command_of(pid)})" if pid else "")


def holder_of(port: int) -> int | None:
    """The process that has a TCP socket of its own at `port`, listening ones first; None when /proc does not tell."""
    for inode in _inodes(port):
        for link in PROC.glob("[0-9]*/fd/*"):
            try:
                if str(link.readlink()) == f"socket:[{inode}]":
                    return int(link.parts[2])
            except OSError:  # it ended meanwhile, or is another user's
                continue
    return None


def command_of(pid: int) -> str:
    """What was typed to start a process, shortened."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "ended"
    return " ".join(words).strip()[:80]


def _inodes(port: int) -> Iterator[str]:
    """proc_net(5): local address, state (0A listens) and inode of every TCP socket."""
    found = []
    for table in TABLES:
        try:
            rows = [line.split() for line in (PROC / table).read_text().splitlines()[1:]]
        except OSError:
            continue
        mine = (row for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[9] != "0")
        found += [(row[3] != "0A", row[9]) for row in mine]
    return (inode for _, inode in sorted(found))
