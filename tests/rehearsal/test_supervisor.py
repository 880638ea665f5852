"""One rehearsal per directory: it comes up, refuses a second one, cleans up after a dead one, and goes down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.exceptions import EndpointConnectionError

from rehearsal import processes, state
from rehearsal.ecs.guardian import identity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(supervised: SimpleNamespace) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(state_dir, ...)` whose rehearsals do not outlive the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: Any, **environment: str) -> subprocess.Popen[str]:
        begun.append(supervised.start(*words, **environment))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait(10)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m rehearsal ...`, finished."""
    return subprocess.run(
        [sys.executable, "-m", "rehearsal", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def until(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def holder_of(state_dir: Path) -> state.Holder:
    """The process that the lock file names, waited for."""
    return until(lambda: (state_dir / state.LOCK).exists() and state.holder_of(state_dir))


def test_it_comes_up_says_where_and_goes_down_with_exit_0(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """The state file names endpoint, registry, process and log; SIGTERM ends it cleanly and removes the file."""
    process = start(tmp_path, "--seconds-per-minute", "1.5")
    up = supervised.await_up(process, tmp_path)
    assert process.pid == up["pid"]
    assert processes.started_at(process.pid) == up["started_at"]
    assert (
        up["account"],
        up["region"],
        up["seconds_per_minute"],
        up["engine"],
    ) == ("111122223333", "eu-west-1", 1.5, "process")
    identity = supervised.client_of(up["endpoint"], "sts").get_caller_identity()
    assert identity["Account"] == "111122223333"
    assert json.loads(command("status", "--state-dir", str(tmp_path)).stdout) == up
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not (tmp_path / "rehearsal.json").exists()
    assert "going down" in Path(up["log"]).read_text()
    with pytest.raises(EndpointConnectionError):
        supervised.client_of(up["endpoint"], "sts").get_caller_identity()
    assert command("status", "--state-dir", str(tmp_path)).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_of_these_signals_ends_it_even_while_it_starts(
    tmp_path: Path, start: Callable[..., Any], number: signal.Signals
) -> None:
    """Exit 0 and no state file, from the moment the lock names its holder; and said twice it is no different."""
    before = signal.signal(number, signal.SIG_DFL)  # `nohup` may have had it ignored, which children would inherit
    process = start(tmp_path)
    signal.signal(number, before)
    holder_of(tmp_path)
    process.send_signal(number)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert not (tmp_path / state.FILE).exists()


def test_a_second_one_in_the_same_directory_is_refused(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """Exit 2 with a message that names the first one and the command that ends it; the first one lives on."""
    first = start(tmp_path)
    up = supervised.await_up(first, tmp_path)
    second = start(tmp_path)
    assert second.wait(20) == 2
    words = second.stderr.read()
    assert f"(process {up['pid']}, {up['endpoint']})" in words
    assert f"Fix: python -m rehearsal down --state-dir {tmp_path}" in words
    assert httpx.get(f"{up['endpoint']}/_rehearsal/health").json() == {"status": "up", "pid": first.pid}


def test_of_two_that_start_at_once_one_comes_up_and_the_other_names_it(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """The loser waits until it can say where the winner answers."""
    pair = [start(tmp_path), start(tmp_path)]
    (loser,) = until(lambda: [process for process in pair if process.poll() is not None])
    up = state.read(tmp_path)
    assert loser.returncode == 2
    assert up is not None
    assert {up.pid} == {process.pid for process in pair} - {loser.pid}
    assert f"(process {up.pid}, {up.endpoint})" in loser.stderr.read()
    assert httpx.get(f"{up.endpoint}/_rehearsal/health").json()["pid"] == up.pid


CLAIM = """
import os, sys
from pathlib import Path
from rehearsal import processes, state
from rehearsal.unusable import Unusable

directory = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with state.claim(directory):
        me = (os.getpid(), processes.started_at(os.getpid()))
        state.write(directory, state.Running(*me, "http://here", "", "", "", 2.0, "process", ""))
        print("won", flush=True)
        sys.stdin.readline()
except Unusable as unusable:
    print(unusable.what, flush=True)
"""


def test_of_twenty_pairs_each_has_one_winner(tmp_path: Path) -> None:
    """Two that claim a directory in the same moment: one has it, the other says which process that is."""
    words = [sys.executable, "-c", CLAIM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    for _ in range(20):
        pair = [subprocess.Popen(words, cwd=ROOT, **pipes) for _ in range(2)]
        assert [process.stdout.readline() for process in pair] == ["ready\n"] * 2
        for process in pair:
            process.stdin.write("now\n")
            process.stdin.flush()
        said = {process.pid: process.stdout.readline().strip() for process in pair}
        (winner,) = [pid for pid, words_said in said.items() if words_said == "won"]
        (loser,) = said.keys() - {winner}
        assert said[loser] == f"A rehearsal already runs for {tmp_path} (process {winner}, http://here)."
        for process in pair:
            process.communicate("")


def test_one_that_starts_while_another_ends_takes_its_turn(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """`up` right after the end was asked for is not refused."""
    first = start(tmp_path)
    supervised.await_up(first, tmp_path)
    first.send_signal(signal.SIGTERM)
    until(lambda: not (tmp_path / state.FILE).exists())
    supervised.await_up(start(tmp_path), tmp_path)
    assert first.wait(20) == 0


def test_two_rehearsals_live_side_by_side(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """Other directory, other ports, other account's worth of resources; what becomes of one is nothing to the other."""
    pair = [start(tmp_path / name) for name in ("a", "b")]
    ups = [supervised.await_up(process, tmp_path / name) for process, name in zip(pair, ("a", "b"), strict=True)]
    clients = [supervised.client_of(up["endpoint"], "ecr") for up in ups]
    clients[0].create_repository(repositoryName="only-in-a")
    assert len({up["endpoint"] for up in ups} | {up["registry"].join(("http://", "")) for up in ups}) == 4
    assert [len(ecr.describe_repositories()["repositories"]) for ecr in clients] == [1, 0]
    pair[0].kill()
    assert command("down", "--state-dir", str(tmp_path / "a")).returncode == 0
    assert state.live(tmp_path / "b") is not None
    assert clients[1].describe_repositories()["repositories"] == []


def test_one_whose_directory_is_removed_ends_by_itself(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """Nobody could find it any more; the one that has the directory's name meanwhile is left alone."""
    lost = start(tmp_path / "rehearsal")
    supervised.await_up(lost, tmp_path / "rehearsal")
    (tmp_path / "rehearsal").rename(tmp_path / "removed")
    (tmp_path / "rehearsal").mkdir()

    second = start(tmp_path / "rehearsal")
    up = supervised.await_up(second, tmp_path / "rehearsal")

    assert 0 == lost.wait(30)
    assert json.loads(command("status", "--state-dir", str(tmp_path / "rehearsal")).stdout) == up


@pytest.mark.parametrize("cleaner", ["up", "down"])
def test_what_a_dead_rehearsal_left_is_cleaned_up(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace, cleaner: str
) -> None:
    """After kill -9, `up` and `down` both end its tasks; a stranger that has a task's number by now is left alone."""
    dead = start(tmp_path)
    supervised.await_up(dead, tmp_path)
    dead.kill()
    dead.wait(10)
    orphan, stranger = (subprocess.Popen(["sleep", "300"], start_new_session=True) for _ in range(2))
    try:
        for name, pid, known in (("orphan", orphan.pid, identity(orphan.pid)), ("stranger", stranger.pid, "1")):
            (tmp_path / "tasks" / name).mkdir(parents=True)
            (tmp_path / "tasks" / name / "model.pid").write_text(f"{pid} {known}\n" * 2)
        if cleaner == "up":
            supervised.await_up(start(tmp_path), tmp_path, stale_pid=dead.pid)
        else:
            assert command("down", "--state-dir", str(tmp_path)).returncode == 0
        assert orphan.wait(5) == -signal.SIGKILL
        assert stranger.poll() is None
        assert list((tmp_path / "tasks").rglob("*.pid")) == []
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait(10)


def test_down_ends_it_and_is_content_when_there_is_nothing(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """`down` returns once the process is gone; a second `down` has nothing to do."""
    process = start(tmp_path)
    supervised.await_up(process, tmp_path)
    assert command("down", "--state-dir", str(tmp_path)).returncode == 0
    assert process.wait(5) == 0
    again = command("down", "--state-dir", str(tmp_path))
    assert (again.returncode, again.stdout) == (0, f"No rehearsal runs for {tmp_path}.\n")


def test_down_ends_one_that_is_just_starting(tmp_path: Path, start: Callable[..., Any]) -> None:
    """Before the state file says anything the lock says whom to end."""
    process = start(tmp_path)
    holder_of(tmp_path)
    ended = command("down", "--state-dir", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (0, f"The rehearsal of {tmp_path} is down.\n")
    assert process.wait(5) == 0


def test_two_downs_at_once_do_not_end_each_other(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """Both exit 0, and the rehearsal is down."""
    process = start(tmp_path)
    supervised.await_up(process, tmp_path)
    words = [sys.executable, "-m", "rehearsal", "down", "--state-dir", str(tmp_path)]
    pair = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait(30) for one in pair] == [0, 0]
    assert process.wait(5) == 0


def test_the_callers_aws_settings_are_forgotten(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """A profile that does not exist, an endpoint that is not ours, a proxy: none of them reaches the local AWS."""
    environment = {
        "AWS_PROFILE": "production",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_CA_BUNDLE": "/nonexistent",
        "AWS_ENDPOINT_URL_ECR": "http://192.0.2.1:9",
        "HTTP_PROXY": "http://192.0.2.1:9",
        "http_proxy": "http://192.0.2.1:9",
    }
    up = supervised.await_up(start(tmp_path, **environment), tmp_path)
    ecr = supervised.client_of(up["endpoint"], "ecr")
    ecr.create_repository(repositoryName="mine")
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    # The registry asks ECR through the rehearsal's own client.
    answer = httpx.get(f"http://{up['registry']}/v2/mine/tags/list", headers={"Authorization": f"Basic {token}"})
    assert answer.json() == {"name": "mine", "tags": []}


def test_a_port_to_keep_free_must_be_free(tmp_path: Path, start: Callable[..., Any]) -> None:
    """A listener's port that someone else has is said before anything starts: exit 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(tmp_path, "--reserve-port", str(port))
        assert process.wait(20) == 2
        words = process.stderr.read()
        assert f"Port {port} of 127.0.0.1 is in use by process {os.getpid()} (" in words
        assert "Fix: choose another port, or end what has it" in words
    assert not (tmp_path / "rehearsal.json").exists()


def test_a_port_that_is_kept_free_cannot_be_taken(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """Not even by a server that sets SO_REUSEADDR, as most do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    up = supervised.await_up(start(tmp_path, "--reserve-port", str(port)), tmp_path)
    assert up["reserved_ports"] == [port]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


def test_what_the_documents_leave_open_can_be_assumed(
    tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace
) -> None:
    """`--assume` settles one open question, and the report says which way; an unknown one is refused with exit 2."""
    up = supervised.await_up(start(tmp_path, "--assume", "hooks_at_creation=false"), tmp_path)
    assumed = httpx.get(f"{up['endpoint']}/_rehearsal/report").json()["assumed"]
    assert assumed["hooks_at_creation"] is False
    assert assumed["first_target_group"] == "primary"
    refused = start(tmp_path / "other", "--assume", "hooks=false")
    assert refused.wait(20) == 2
    assert "no open question 'hooks'; there are abort_is_accepted" in refused.stderr.read()


def test_the_report_says_what_a_rehearsal_cannot_show(up: dict[str, Any]) -> None:
    """The clock's factor, the engine and the limits, in sentences."""
    report = httpx.get(f"{up['endpoint']}/_rehearsal/report").json()
    assert (report["seconds_per_aws_minute"], report["engine"]) == (2.0, "process")
    assert any("IAM authorises nothing" in sentence for sentence in report["not_rehearsed"])
    assert any("takes 2 s here" in sentence for sentence in report["not_rehearsed"])
    assert all(sentence.endswith(".") for sentence in report["not_rehearsed"])
    assert report["recorded_only"] == []
