"""How a container definition becomes a command of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rehearsal.ecs.containers import (
    CannotStart,
    command_of,
    directory_of,
    environment_of,
    mounts_of,
    port_names,
    refuse_unrehearsed,
)
from rehearsal.ecs.images import Image

CONFIG = {"Cmd": ["python", "-m", "model_service"], "WorkingDir": "/app", "Env": ["A=image", "B=image"]}


def image(root: Path = Path("/nowhere"), **config):
    return Image("sha256:x", {"config": {**CONFIG, **config}}, root)


@pytest.mark.parametrize(
    ("container", "override", "config", "expected"),
    [
        ({}, {}, {}, [sys.executable, "-m", "model_service"]),
        ({"command": ["python3", "x.py"]}, {}, {}, [sys.executable, "x.py"]),
        ({"command": ["a"]}, {"command": ["b", "c"]}, {}, ["b", "c"]),
        ({}, {}, {"Entrypoint": ["run"], "Cmd": ["fast"]}, ["run", "fast"]),
        ({"entryPoint": ["other"]}, {}, {"Entrypoint": ["run"], "Cmd": ["fast"]}, ["other"]),
    ],
)
def test_the_command_is_chosen_as_docker_does(container, override, config, expected):
    """Override over definition over image; an entry point of the definition drops the image's command."""
    assert command_of(container, image(**config), override) == expected


def test_the_environment_layers_image_definition_override_and_secrets():
    """Later sources win, and the rehearsal's own variables do not get through."""
    container = {"environment": [{"name": "B", "value": "task"}, {"name": "C", "value": "task"}]}
    override = {"environment": [{"name": "C", "value": "override"}]}
    given = environment_of(container, image(), override, {"KEY": "secret"}, {}, {})
    assert {name: given.get(name) for name in ("A", "B", "C", "KEY", "USER")} == {
        "A": "image",
        "B": "task",
        "C": "override",
        "KEY": "secret",
        "USER": None,
    }


def test_ports_and_mounts_are_told_as_they_really_are():
    """PORT and <NAME>_PORT carry the loopback ports; values inside a mount point at the task's own directory."""
    container = {
        "portMappings": [{"containerPort": 8080, "name": "http"}, {"containerPort": 8081, "name": "admin"}],
        "environment": [
            {"name": "PORT", "value": "8080"},
            {"name": "MODEL_DIR", "value": "/models"},
            {"name": "MODEL_FILE", "value": "/models/m.onnx"},
            {"name": "OTHER", "value": "/models-of-others"},
        ],
    }
    mounts = {"/models": Path("/t/models"), "/tmp": Path("/t/tmp")}
    given = environment_of(container, image(), {}, {}, {8080: 41, 8081: 42}, mounts)
    told = {name: given[name] for name in ("PORT", "ADMIN_PORT", "MODEL_DIR", "MODEL_FILE", "OTHER", "TMPDIR")}
    assert told == {
        "PORT": "41",
        "ADMIN_PORT": "42",
        "MODEL_DIR": "/t/models",
        "MODEL_FILE": "/t/models/m.onnx",
        "OTHER": "/models-of-others",
        "TMPDIR": "/t/tmp",
    }


def test_a_nameless_further_port_gets_no_variable():
    """Only the first mapping and named ones are told."""
    mappings = [{"containerPort": 1}, {"containerPort": 2}, {"containerPort": 3, "name": "grpc-web"}]
    assert port_names({"portMappings": mappings}) == [(1, "PORT"), (2, None), (3, "GRPC_WEB_PORT")]


def test_each_task_has_its_own_volumes(tmp_path):
    """A mount is a directory of the task that exists before the container starts."""
    mounts = mounts_of({"mountPoints": [{"sourceVolume": "models", "containerPath": "/models"}]}, tmp_path)
    assert mounts == {"/models": tmp_path / "volumes" / "models"}
    assert mounts["/models"].is_dir()


def test_a_working_directory_outside_the_image_is_refused(tmp_path):
    """An image cannot make its command run elsewhere on this machine."""
    with pytest.raises(CannotStart, match="outside the image"):
        directory_of(image(tmp_path, WorkingDir="/../.."), tmp_path)


def test_what_the_engine_would_drop_is_refused_by_name():
    """A definition with dependsOn does not silently start in another order."""
    with pytest.raises(CannotStart, match="not rehearsed in container model: dependsOn"):
        refuse_unrehearsed({"name": "model", "dependsOn": [{"containerName": "x", "condition": "START"}]})
