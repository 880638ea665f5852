"""What every engine does alike, and what the process engine does in place of the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rehearsal import limits
from rehearsal.context import Settings
from rehearsal.ecs.engines import memory as measured
from rehearsal.ecs.engines.choice import ENGINES

HOARD = """
import os, time
hoard = bytearray(b"x") * (int(os.environ["MIB"]) << 20)
print("holds", len(hoard), flush=True)
time.sleep(float(os.environ["STAYS_S"]))
"""
PATIENCE_S = 60.0


def until(happened: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (given := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return given


@pytest.fixture
def run(up: dict[str, Any], oci: SimpleNamespace, supervised: SimpleNamespace) -> Callable[..., dict[str, Any]]:
    """Runs one task that holds memory: the container as it ended."""
    ecs, ecr = (supervised.client_of(up["endpoint"], name) for name in ("ecs", "ecr"))
    if not ecs.describe_clusters(clusters=["memory"])["clusters"]:
        ecs.create_cluster(clusterName="memory")
        ecr.create_repository(repositoryName="memory")
        oci.Pusher(ecr).push("memory", oci.image_of({"app/app.py": HOARD}), "v1")

    def run(mib: int, task_mib: int, container_mib: int | None = None, stays_s: float = 60) -> dict[str, Any]:
        told = {"MIB": str(mib), "STAYS_S": str(stays_s)}
        container = {
            "name": "model",
            "image": f"{up['registry']}/memory:v1",
            "environment": [{"name": name, "value": value} for name, value in told.items()],
            **({"memory": container_mib} if container_mib else {}),
        }
        definition = ecs.register_task_definition(
            family="memory", cpu="256", memory=str(task_mib), containerDefinitions=[container]
        )["taskDefinition"]["taskDefinitionArn"]
        task = ecs.run_task(cluster="memory", taskDefinition=definition)["tasks"][0]["taskArn"]
        look = lambda: ecs.describe_tasks(cluster="memory", tasks=[task])["tasks"][0]  # noqa: E731
        until(lambda: look()["lastStatus"] == "STOPPED")
        return dict(look()["containers"][0])

    return run


@pytest.mark.parametrize(("task_mib", "container_mib"), [(256, None), (2048, 256)])
def test_a_process_over_its_memory_ends_as_on_fargate(
    run: Callable[..., dict[str, Any]], task_mib: int, container_mib: int | None
) -> None:
    """Over the task's limit or its own: 137, ECS's words, and how the rehearsal knows."""
    container = run(400, task_mib, container_mib)

    assert 137 == container["exitCode"]
    assert "OutOfMemoryError: Container killed due to memory usage (rehearsal: RSS poll)" == container["reason"]


def test_a_process_within_its_memory_is_left_alone(run: Callable[..., dict[str, Any]]) -> None:
    """Long enough to be looked at several times."""
    container = run(100, 512, stays_s=2)

    assert (0, None) == (container["exitCode"], container.get("reason"))


def test_both_ways_to_measure_see_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc on Linux, ps elsewhere: the same group, and more than nothing."""
    for proc in (measured.PROC, Path("/nonexistent")):
        monkeypatch.setattr(measured, "PROC", proc)
        assert measured.resident_bytes()[os.getpgrp()] > measured.MIB


def test_every_engine_says_what_it_cannot_show() -> None:
    """Each has limits of its own, in sentences that stand in the report."""
    assert set(ENGINES) == set(limits.ENGINES)
    for engine in ENGINES:
        told = limits.sentences(Settings("111122223333", "eu-west-1", Path(), engine=engine))
        assert set(limits.ENGINES[engine]) <= set(told)
        assert all(sentence.endswith(".") for sentence in told)


def test_without_docker_nothing_starts(tmp_path: Path, supervised: SimpleNamespace) -> None:
    """Exit 2, what is missing, and what to do."""
    process = supervised.start(tmp_path, "--engine", "docker", DOCKER_HOST="unix:///nonexistent.sock")
    said = process.stderr.read()

    assert 2 == process.wait(30)
    assert "No Docker answers at /nonexistent.sock" in said
    assert "Fix: install and start Docker" in said
    assert not (tmp_path / "rehearsal.json").exists()


def test_a_docker_elsewhere_is_refused(tmp_path: Path, supervised: SimpleNamespace) -> None:
    """Its 127.0.0.1 is not ours, so it could pull nothing."""
    process = supervised.start(tmp_path, "--engine", "docker", DOCKER_HOST="tcp://192.0.2.1:2375")
    said = process.stderr.read()

    assert 2 == process.wait(30)
    assert "Docker is at tcp://192.0.2.1:2375" in said
