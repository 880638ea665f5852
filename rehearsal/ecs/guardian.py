"""The small parent of one container's process: when the rehearsal ends, however it ends, so does the process.

Run as `python -S -E guardian.py PID_FILE GRACE_S PROGRAM ARGUMENT...` with the rehearsal's pipe as standard input.
A byte T on it sends SIGTERM to the process group, K sends SIGKILL; its end (the rehearsal is gone) sends SIGTERM and,
after GRACE_S seconds, SIGKILL. Exits as the process did: its exit code, or 128 + the signal that ended it.
Standard library only, and little of it: one of these stands beside every task.
"""

import os
import select
import signal
import sys
import time


def identity(pid: int) -> str:
    """What tells this process from a later one with the same number; empty when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as boot:
            return "" if fields[0] in "ZX" else f"{boot.read().strip()}/{fields[19]}"
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return ""
    with os.popen(f"LC_ALL=C ps -o lstart= -p {int(pid)}") as told:  # noqa: S605 - the pid is a number
        return told.read().strip()


def start(argv: list[str], pid_file: str) -> int:
    """Run the program in a session of its own.

    It begins only once the pid file names it: a guardian that is killed before that leaves no program behind. The
    session is there before this returns: a signal for a group that is not there yet would be lost.
    """
    held, release = os.pipe()
    standing, stands = os.pipe()
    pid = os.fork()
    if pid:
        os.close(held)
        os.close(stands)
        os.read(standing, 1)
        os.close(standing)
        record(pid_file, pid)
        os.write(release, b"1")
        os.close(release)
        return pid
    os.close(release)
    os.close(standing)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would hand that on
    os.setsid()
    os.write(stands, b"1")
    os.close(stands)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if os.read(held, 1):
        run(argv)
    os._exit(127)


def record(pid_file: str, pid: int) -> None:
    """Write down guardian and program, whole or not at all; a full disk costs the note, not the program."""
    try:
        with open(pid_file + ".new", "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {identity(os.getpid())}\n{pid} {identity(pid)}\n")
        os.rename(pid_file + ".new", pid_file)
    except OSError as error:
        os.write(2, f"{pid_file} cannot be written: {error.strerror}\n".encode())


def run(argv: list[str]) -> None:
    """Become the program."""
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a list of words
    except OSError as error:
        os.write(2, f"exec {argv[0]}: {error.strerror}\n".encode())


def signal_group(group: int, number: int) -> None:
    """Signal what is left of the group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says "permission" for a group of zombies
        return


def watch(pid: int, woken: int, grace_s: float) -> int:
    """Pass on what the rehearsal says until the process ends; its wait status."""
    listening, kill_at = [0, woken], None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        left = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready = select.select(listening, [], [], left)[0]
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready:
            word = os.read(0, 1)
            signal_group(pid, signal.SIGKILL if word == b"K" else signal.SIGTERM)
            if not word:
                listening, kill_at = [woken], time.monotonic() + grace_s
        if not ready and left == 0.0:
            signal_group(pid, signal.SIGKILL)
            kill_at = None


def main() -> int:
    pid_file, grace_s, argv = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    pid = start(argv, pid_file)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal_group(pid, signal.SIGTERM))
    status = watch(pid, woken, grace_s)
    signal_group(pid, signal.SIGKILL)  # the first process of a container takes the others with it
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)
