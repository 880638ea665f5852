"""The project's own templates, parsed afresh for each test, so that a test may change them."""

from importlib.resources import files
from typing import Any

import pytest

from pipeline.template_checks import parse

NAMES = ("delivery", "registry", "network", "cluster", "runtime", "service", "observability", "cost", "billing")


def template(name: str) -> dict[str, Any]:
    return parse(files("cloudformation").joinpath(f"{name}.yaml").read_text())


@pytest.fixture
def templates() -> dict[str, dict[str, Any]]:
    return {name: template(name) for name in NAMES}
