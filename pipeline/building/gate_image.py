"""The image of the gate's one-off tasks: `loadtests` with its Dockerfile and lock, the same for every release."""

from __future__ import annotations

from importlib.resources import files

from pipeline.building.context import BuildContext, package_files
from pipeline.config import Config

PACKAGE = "loadtests"
COMMAND = ("python", "-m", "loadtests.task")


def gate_context(config: Config, service: str) -> BuildContext:
    """What the gate's image is made of, by the service's own builder and on its base."""
    image = config.services[service].image
    arguments = {"BASE": image.base} if image.base else {}
    found = tuple(sorted(package_files(files(PACKAGE), PACKAGE), key=lambda file: file.path))
    return BuildContext(found, f"{PACKAGE}/Dockerfile", PACKAGE, image.builder, arguments, command=COMMAND)


def gate_tag(context: BuildContext) -> str:
    """The image's tag, from its content alone."""
    return f"{PACKAGE}-{context.digest[:12]}"
