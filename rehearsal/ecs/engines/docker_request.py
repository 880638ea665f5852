"""A container definition as Docker's create request: what Fargate gives a container, and what it withholds.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
"""

from __future__ import annotations

import posixpath
from typing import Any

from rehearsal.context import LOOPBACK
from rehearsal.ecs.containers import CannotStart
from rehearsal.ecs.engines.contract import Order
from rehearsal.ecs.engines.memory import container_limit, task_limit
from rehearsal.ecs.state import Task

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_KernelCapabilities.html
ADDABLE = {"SYS_PTRACE"}
LOG_BYTES = "100m"


def create_request(
    task: Task, order: Order, image: str, environment: dict[str, str], network: str, labels: dict[str, str]
) -> dict[str, Any]:
    """The body of ContainerCreate. `network`: the one to join, or `container:<id>` of the task's first container."""
    definition, override = order.container, order.override
    is_first = not network.startswith("container:")
    ports = [f"{mapping['containerPort']}/tcp" for one in task.containers for mapping in _ports_of(one.definition)]
    body: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},  # ECS does not look at the image's own: API_HealthCheck
        "HostConfig": _host_config(task, order, network, labels)
        | ({"PortBindings": {port: [{"HostIp": LOOPBACK, "HostPort": ""}] for port in ports}} if is_first else {}),
    }
    if is_first:
        body["ExposedPorts"] = {port: {} for port in ports}
    for key, value in (
        ("User", definition.get("user")),
        ("WorkingDir", definition.get("workingDirectory")),
        ("Entrypoint", definition.get("entryPoint")),
        ("Cmd", override.get("command") or definition.get("command")),
    ):
        if value:
            body[key] = value
    return body


def _ports_of(definition: dict[str, Any]) -> list[dict[str, Any]]:
    return definition.get("portMappings") or []


def _host_config(task: Task, order: Order, network: str, labels: dict[str, str]) -> dict[str, Any]:
    linux = order.container.get("linuxParameters") or {}
    memory = min(
        (limit for limit in (container_limit(order.container, order.override), task_limit(task)) if limit), default=0
    )
    return {
        "NetworkMode": network,
        "ReadonlyRootfs": bool(order.container.get("readonlyRootFilesystem")),
        "Init": bool(linux.get("initProcessEnabled")),
        "Memory": memory,
        "MemorySwap": memory,  # Fargate has no swap
        "CpuShares": _cpu_units(task, order),
        "CapDrop": (linux.get("capabilities") or {}).get("drop") or [],
        "CapAdd": _added(linux),
        "SecurityOpt": ["no-new-privileges"],  # stricter than Fargate: what runs here is on somebody's own machine
        "Ulimits": _ulimits(order.container),
        "Mounts": [_mount(task, order, mount, labels) for mount in order.container.get("mountPoints") or []],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_BYTES}},  # whatever the daemon's default is
    }


def _cpu_units(task: Task, order: Order) -> int:
    """Shares, not a quota: a machine with fewer CPUs than the task asks for could not give that."""
    own = order.override.get("cpu") or order.container.get("cpu")
    return int(own or task.overrides.get("cpu") or task.task_definition.get("cpu") or 0)


def _added(linux: dict[str, Any]) -> list[str]:
    added = (linux.get("capabilities") or {}).get("add") or []
    if refused := sorted(set(added) - ADDABLE):
        raise CannotStart(f"CannotCreateContainerError: Fargate does not add the capability {', '.join(refused)}")
    return list(added)


def _ulimits(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the definition; Fargate's default for open files (65535) is more than some daemons may give."""
    return [
        {"Name": one["name"], "Soft": one["softLimit"], "Hard": one["hardLimit"]}
        for one in definition.get("ulimits") or []
    ]


def _mount(task: Task, order: Order, mount: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    """A volume of the task's own: empty and root's, unless the image declares the path with VOLUME.

    Then it takes content, owner and mode from there, which is what Docker does for any path of the image.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
    """
    declared = (order.image.config.get("config") or {}).get("Volumes") or {}
    path = str(mount["containerPath"])
    is_declared = posixpath.normpath(path) in {posixpath.normpath(one) for one in declared}
    return {
        "Type": "volume",
        "Source": volume_name(task, str(mount["sourceVolume"])),
        "Target": path,
        "ReadOnly": bool(mount.get("readOnly")),
        "VolumeOptions": {"NoCopy": not is_declared, "Labels": labels},
    }


def volume_name(task: Task, volume: str) -> str:
    """The name in Docker of one of a task's volumes."""
    return f"onnxship-{task.id}-{volume}"
