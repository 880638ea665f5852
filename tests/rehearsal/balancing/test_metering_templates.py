"""The alarms of the project's own templates."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml

from rehearsal.metering.alarms import check


class Template(yaml.SafeLoader):
    """Reads a template; every intrinsic function is 60, which may stand for a name, a threshold or a period."""


Template.add_multi_constructor("!", lambda loader, tag, node: 60)


def alarms() -> list[tuple[str, dict[str, Any]]]:
    """Every alarm of every template, named."""
    found = []
    for path in sorted(files("cloudformation").iterdir(), key=lambda one: one.name):
        if path.name.endswith(".yaml"):
            resources = yaml.load(path.read_text(), Template)["Resources"]
            found += [
                (f"{path.name}:{name}", resource["Properties"])
                for name, resource in resources.items()
                if resource["Type"] == "AWS::CloudWatch::Alarm"
            ]
    return found


@pytest.mark.parametrize(("name", "properties"), alarms())
def test_every_alarm_of_the_templates_is_rehearsed(name, properties):
    """No alarm of a template uses a statistic, a function or a setting that the rehearsal refuses."""
    check({"AlarmName": name} | properties)


def test_the_templates_have_alarms():
    """The check above checks something."""
    assert len(alarms()) >= 5
