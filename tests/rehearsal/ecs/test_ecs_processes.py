"""Containers as process groups under a guardian: exit codes, and no process outlives its rehearsal."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rehearsal.ecs import guardian
from rehearsal.ecs.guardian import identity
from rehearsal.ecs.processes import Command, Process, clear_orphans

ROOT = Path(__file__).parents[3]
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PARENT = (
    "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    " print(p.pid, flush=True)"
)


def command(directory: Path, code: str) -> Command:
    return Command([sys.executable, "-c", code], dict(os.environ), directory, directory / "model.pid")


def gone(pid: int, within_s: float = 20.0) -> bool:
    """Whether the process ends; the time is a bound on the test, not a promise."""
    end = time.monotonic() + within_s
    while identity(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def recorded(pid_file: Path) -> tuple[int, int]:
    """Guardian and process of a pid file, waited for."""
    end = time.monotonic() + 20
    while not pid_file.exists():
        assert time.monotonic() < end, f"no {pid_file}"
        time.sleep(0.02)
    first, second = pid_file.read_text().splitlines()
    return int(first.split()[0]), int(second.split()[0])


def run(directory: Path, code: str, then=None) -> tuple[int, str]:
    """Exit code and output of a container; `then` acts when it has said its first line."""

    async def whole() -> tuple[int, str]:
        process = await Process.start(command(directory, code))
        first = await process.output.readline()
        if then:
            then(process, first.decode())
        rest = await process.output.read()
        return await process.wait(), (first + rest).decode()

    return asyncio.run(asyncio.wait_for(whole(), 30))


def test_a_container_ends_with_its_own_exit_code_and_both_streams_are_read(tmp_path):
    """Exit code 3 is reported as 3, and standard error comes with standard output."""
    code, output = run(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (code, sorted(output.split())) == (3, ["err", "out"])


def test_sigterm_is_reported_as_143_and_sigkill_as_137(tmp_path):
    """What ends by a signal has 128 + its number, as a container runtime says it."""
    assert run(tmp_path, SLEEPER, lambda process, _: process.terminate())[0] == 143
    assert run(tmp_path, DEAF, lambda process, _: (process.terminate(), process.kill()))[0] == 137


def test_a_command_that_does_not_exist_exits_127_and_says_so(tmp_path):
    """A misspelled command is found in the logs."""

    async def whole() -> tuple[int, str]:
        one = command(tmp_path, "")
        process = await Process.start(Command(["no-such-program"], one.environment, tmp_path, one.pid_file))
        return await process.wait(), (await process.output.read()).decode()

    assert asyncio.run(whole()) == (127, "exec no-such-program: No such file or directory\n")


def test_what_a_container_started_ends_with_it(tmp_path):
    """When the first process of a container ends by itself, so do the others."""
    code, output = run(tmp_path, PARENT)
    assert code == 0
    assert gone(int(output))


@pytest.mark.parametrize("code", [SLEEPER, DEAF])
def test_no_process_outlives_a_rehearsal_that_is_killed(tmp_path, code):
    """kill -9 of whoever started a container ends the container and its guardian, even one deaf to SIGTERM."""
    starter = (
        "import asyncio, sys; from pathlib import Path; from rehearsal.ecs.processes import Command, Process\n"
        "async def main():\n"
        "    p = await Process.start(Command([sys.executable, '-c', sys.argv[1]], {}, Path('.'), Path(sys.argv[2])))\n"
        "    print((await p.output.readline()).decode(), flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    pid_file = tmp_path / "model.pid"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", starter, code, str(pid_file)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout.readline().strip() == "up"
    guardian, process = recorded(pid_file)
    assert identity(process)
    supervisor.kill()
    supervisor.wait()
    assert gone(process)
    assert gone(guardian)


def test_a_container_that_is_stopped_as_it_starts_hears_it(tmp_path):
    """SIGTERM that comes while a busy machine has not given the new process its session yet is not lost."""
    slow = "import os, time; has = os.setsid; os.setsid = lambda: (time.sleep(0.5), has())"
    started = (
        f"{slow}; from rehearsal.ecs.guardian import main; code = main(); os._exit(code if code >= 0 else 128 - code)"
    )
    words = ["-c", started, str(tmp_path / "model.pid"), "3", "/bin/sleep", "5"]
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"T")
        process.stdin.flush()
        assert process.wait(20) == 143


def test_a_container_whose_guardian_is_killed_ends_too(tmp_path):
    """Losing the guardian is noticed by the rehearsal, which ends the container itself."""
    processes = []

    def kill_guardian(_: Process, __: str) -> None:
        guardian, process = recorded(tmp_path / "model.pid")
        processes.append(process)
        os.kill(guardian, signal.SIGKILL)

    async def whole() -> int:
        process = await Process.start(command(tmp_path, SLEEPER))
        kill_guardian(process, (await process.output.readline()).decode())
        code = await process.wait()
        await process.output.read()
        return code

    assert asyncio.run(asyncio.wait_for(whole(), 30)) == 137
    assert gone(processes[0])


def test_a_guardian_killed_before_it_has_written_anything_down_starts_nothing(tmp_path):
    """The program begins only once the pid file names it, so none is ever running that nobody could find."""
    written_to = tmp_path / "model.pid.new"
    os.mkfifo(written_to)  # opening it to write waits for a reader: the guardian stands still right there
    words = ["-S", "-E", guardian.__file__, str(tmp_path / "model.pid"), "3"]
    begun = tmp_path / "begun"
    process = subprocess.Popen([sys.executable, *words, "touch", str(begun)], stdin=subprocess.PIPE)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not tell a process's children")
    end = time.monotonic() + 20
    while not (child := children.read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert gone(int(child[0]))
    assert not begun.exists()


def test_orphans_of_a_dead_rehearsal_are_ended_and_strangers_are_not(tmp_path):
    """The next start ends what a pid file rightly names, and leaves a process that only shares the number."""
    orphan, stranger = (
        subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True, stdout=subprocess.PIPE)
        for _ in range(2)
    )
    try:
        for one, start in ((orphan, identity(orphan.pid)), (stranger, "another boot/1")):
            (tmp_path / f"{one.pid}.pid").write_text(f"{one.pid} gone\n{one.pid} {start}\n")
        assert clear_orphans(tmp_path) == 2
        assert orphan.wait(20) == -signal.SIGKILL
        assert stranger.poll() is None
        assert list(tmp_path.iterdir()) == []
    finally:
        stranger.kill()
        stranger.wait()
        orphan.kill()
