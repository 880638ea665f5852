"""A disk that is full: what cannot be written fails by itself, says where and why, and everything else goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from rehearsal.balancer.accesses import Access, AccessLog

SIZE_BYTES = 2_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB; only root can mount one."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(where)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if mounted.returncode:
        pytest.skip(f"a file system of one's own cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest.fixture
def start(supervised: SimpleNamespace) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(state_dir, ...)` whose rehearsals do not outlive the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: Any) -> subprocess.Popen[str]:
        begun.append(supervised.start(*words))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait(10)


def fill(disk: Path) -> Path:
    """Take every byte that is left; gives the file that has them."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def test_up_says_that_the_disk_is_full_and_leaves_nothing_half_written(
    small_disk: Path, start: Callable[..., Any]
) -> None:
    """Exit 2, the path, the free bytes and a remedy; no state file that a reader could take for a rehearsal."""
    state_dir = small_disk / "rehearsal"
    state_dir.mkdir()
    fill(small_disk)
    process = start(state_dir)
    assert process.wait(30) == 2
    words = process.stderr.read()
    assert f"{state_dir}" in words
    assert "cannot be written: No space left on device (0 bytes free)." in words
    assert "Fix: make room on that disk, then run the same command again" in words
    assert [path.name for path in state_dir.iterdir() if path.name.startswith("rehearsal.json")] == []


def test_a_rehearsal_goes_on_when_its_disk_fills_up(
    small_disk: Path, start: Callable[..., Any], supervised: SimpleNamespace, oci: SimpleNamespace
) -> None:
    """A push fails with the reason and takes no room, AWS's API answers, and with room again the same push works."""
    process = start(small_disk)
    up = supervised.await_up(process, small_disk)
    ecr = supervised.client_of(up["endpoint"], "ecr")
    ecr.create_repository(repositoryName="app")
    pusher = oci.Pusher(ecr)
    image = oci.image_of({"app/weights.bin": os.urandom(200_000).hex()})
    ballast = fill(small_disk)

    with pytest.raises(httpx.HTTPStatusError) as failed:
        pusher.push("app", image, "v1")
    assert failed.value.response.status_code == 507
    (error,) = failed.value.response.json()["errors"]
    assert f"{small_disk}" in error["message"]
    assert "cannot be written: No space left on device (" in error["message"]
    assert "Fix: make room on that disk" in error["message"]
    assert [path for path in (small_disk / "registry").rglob("*") if path.is_file()] == []
    assert supervised.client_of(up["endpoint"], "sts").get_caller_identity()["Account"] == up["account"]

    ballast.unlink()
    assert pusher.push("app", image, "v1") == image.digest
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.long
def test_a_running_task_outlives_a_full_disk_and_a_new_one_is_refused(
    small_disk: Path, tmp_path: Path, start: Callable[..., Any], supervised: SimpleNamespace, oci: SimpleNamespace
) -> None:
    """Its health checks still run and pass; a task that needs room stops with the reason."""
    up = supervised.await_up(start(small_disk), small_disk)
    ecs, ecr = (supervised.client_of(up["endpoint"], name) for name in ("ecs", "ecr"))
    beats = tmp_path / "beats"
    _register(ecs, ecr, oci, up["registry"], f"echo >> {beats}")
    running = ecs.run_task(taskDefinition="sleeper")["tasks"][0]["taskArn"]

    def told(arn: str) -> dict[str, Any]:
        return dict(ecs.describe_tasks(tasks=[arn])["tasks"][0])

    until(lambda: told(running).get("healthStatus") == "HEALTHY")
    fill(small_disk)
    before = beats.stat().st_size
    until(lambda: beats.stat().st_size >= before + 2)  # the outcome of the first one counts by now
    refused = ecs.run_task(taskDefinition="sleeper")["tasks"][0]["taskArn"]
    until(lambda: told(refused)["lastStatus"] == "STOPPED")

    assert (told(running)["lastStatus"], told(running)["healthStatus"]) == ("RUNNING", "HEALTHY")
    assert told(refused)["stopCode"] == "TaskFailedToStart"
    assert "No space left on device" in told(refused)["stoppedReason"]


def _register(ecs: Any, ecr: Any, oci: SimpleNamespace, registry: str, check: str) -> None:
    ecr.create_repository(repositoryName="sleeper")
    files = {"app/app.py": "import time; time.sleep(600)", "app/weights.bin": "0" * 10_000}
    oci.Pusher(ecr).push("sleeper", oci.image_of(files), "v1")
    ecs.create_cluster(clusterName="default")
    health = {"command": ["CMD-SHELL", check], "interval": 5, "retries": 1}
    container = {"name": "model", "image": f"{registry}/sleeper:v1", "memory": 64, "healthCheck": health}
    ecs.register_task_definition(family="sleeper", containerDefinitions=[container])


def test_the_access_log_owes_nothing_once_there_is_room(small_disk: Path) -> None:
    """What a full disk did not take is written later; no line is ever half there."""
    file = small_disk / "access.log"
    log = AccessLog(file, lambda ip: "arn")
    log.add(access("/first"))
    log.write()
    ballast = fill(small_disk)
    for number in range(2000):
        log.add(access(f"/{number}"))
    with pytest.raises(OSError, match="No space left"):
        log.write()
    assert [json.loads(line)["path"] for line in file.read_text().splitlines()] == ["/first"]
    ballast.unlink()
    log.write()
    paths = [json.loads(line)["path"] for line in file.read_text().splitlines()]
    assert paths == ["/first", *(f"/{number}" for number in range(2000))]


def access(path: str) -> Access:
    """A request that was answered."""
    return Access(
        time=0.0,
        load_balancer="app/x/1",
        listener_port=80,
        client="127.0.0.1",
        method="GET",
        path=path,
        user_agent="",
        elb_status=200,
        target_status=200,
        target_group=None,
        target_ip=None,
        target_port=None,
        duration_s=0.0,
        target_duration_s=None,
        connect_failed=False,
    )


def until(what: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Wait until `what()` holds."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
