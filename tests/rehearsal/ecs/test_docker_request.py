"""What Docker is asked for is what Fargate gives: user, root, memory, capabilities, volumes, one network per task."""

from __future__ import annotations

from typing import Any

import pytest

from rehearsal.ecs.containers import CannotStart
from rehearsal.ecs.engines.contract import Order
from rehearsal.ecs.engines.docker_request import create_request
from rehearsal.ecs.images import Image
from rehearsal.ecs.state import Container, Task

MIB = 1 << 20


def request(
    definition: dict[str, Any] | None = None, override: dict[str, Any] | None = None, network: str = "n", **image: Any
) -> dict[str, Any]:
    """The create request of a container in a task of 512 MiB and 256 CPU units."""
    container = {"name": "model", "image": "r/i", **(definition or {})}
    task_definition = {"memory": "512", "cpu": "256"}
    task = Task("arn:task/c/1f", "arn:cluster/c", task_definition, [Container("arn", container)], 0.0, "service:s")
    order = Order(container, override or {}, Image("sha256:x", {"config": image}), {})
    return create_request(task, order, "r/i@sha256:x", {"A": "1"}, network, {"label": "own"})


def test_a_container_is_confined_as_its_definition_says() -> None:
    """Numeric user, read-only root, init, dropped capabilities, and never a new privilege."""
    linux = {"initProcessEnabled": True, "capabilities": {"drop": ["ALL"]}}
    asked = request({"user": "10001:10001", "readonlyRootFilesystem": True, "linuxParameters": linux})
    host = asked["HostConfig"]

    assert ("10001:10001", True, True) == (asked["User"], host["ReadonlyRootfs"], host["Init"])
    assert (["ALL"], [], ["no-new-privileges"]) == (host["CapDrop"], host["CapAdd"], host["SecurityOpt"])


def test_a_capability_that_fargate_does_not_add_is_refused() -> None:
    """SYS_PTRACE is the one that it adds."""
    assert ["SYS_PTRACE"] == request({"linuxParameters": {"capabilities": {"add": ["SYS_PTRACE"]}}})["HostConfig"][
        "CapAdd"
    ]
    with pytest.raises(CannotStart, match="does not add the capability NET_ADMIN"):
        request({"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}})


@pytest.mark.parametrize(
    ("definition", "override", "expected"), [({}, {}, 512), ({"memory": 256}, {}, 256), ({}, {"memory": 128}, 128)]
)
def test_memory_is_the_least_of_what_task_container_and_override_allow(
    definition: dict[str, Any], override: dict[str, Any], expected: int
) -> None:
    """And there is no swap beside it."""
    host = request(definition, override)["HostConfig"]

    assert (expected * MIB, expected * MIB) == (host["Memory"], host["MemorySwap"])


def test_cpu_units_are_shares() -> None:
    """The container's own, or else the task's."""
    assert [256, 128] == [request(one)["HostConfig"]["CpuShares"] for one in ({}, {"cpu": 128})]


def test_only_a_declared_volume_takes_the_images_content_and_owner() -> None:
    """A mount at a path that the image does not declare stays empty and root's."""
    mounts = [{"sourceVolume": name, "containerPath": f"/{name}"} for name in ("models", "cache")]
    asked = request({"mountPoints": mounts}, Volumes={"/models/": {}})["HostConfig"]["Mounts"]

    assert [("onnxship-1f-models", False), ("onnxship-1f-cache", True)] == [
        (mount["Source"], mount["VolumeOptions"]["NoCopy"]) for mount in asked
    ]


def test_ports_are_published_on_loopback_alone_and_by_the_first_container() -> None:
    """Whichever container of the task maps them; the others join its network."""
    first = request({"portMappings": [{"containerPort": 8080}]})
    second = request({"portMappings": [{"containerPort": 8080}]}, network="container:abc")

    assert {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]} == first["HostConfig"]["PortBindings"]
    assert "PortBindings" not in second["HostConfig"]
    assert "container:abc" == second["HostConfig"]["NetworkMode"]


def test_the_images_own_health_check_is_not_run() -> None:
    """ECS asks what the task definition says, and nothing else."""
    assert ["NONE"] == request()["Healthcheck"]["Test"]


def test_what_is_not_said_stays_the_images() -> None:
    """User, directory, entry point and command are left out; an override's command goes before the definition's."""
    assert not {"User", "WorkingDir", "Entrypoint", "Cmd"} & set(request())
    asked = request({"entryPoint": ["sh", "-c"], "command": ["a"], "workingDirectory": "/w"}, {"command": ["b"]})
    assert (["sh", "-c"], ["b"], "/w") == (asked["Entrypoint"], asked["Cmd"], asked["WorkingDir"])
