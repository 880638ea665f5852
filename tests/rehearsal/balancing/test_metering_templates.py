"""The alarms of the project's own templates."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml

from rehearsal.metering.alarms import check
from rehearsal.metering.queries import Queries


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


@pytest.mark.parametrize(
    ("requests", "errors", "percent"),
    [
        ({"blue": 1000, "green": 0}, {"blue": 30}, 3.0),
        ({"blue": 1000, "green": None}, {"blue": 2}, 0.0),
        # A canary of 5 % that fails always is 5 % of all: its own share says what it is.
        ({"blue": 950, "green": 50}, {"green": 50}, 100.0),
        ({"blue": 50, "green": 950}, {"blue": 10}, 20.0),
        ({"blue": 950, "green": 50}, {"green": 2}, 0.0),
        # The load balancer's own errors belong to no group.
        ({"blue": 900, "green": 100}, {"edge": 100}, 10.0),
        ({"blue": None, "green": None}, {"edge": 100}, 0.0),
    ],
)
def test_errors_are_judged_by_each_group_s_own_requests(requests, errors, percent):
    """The alarm that rolls deployments back sees a canary that fails, however few its requests are."""
    alarm = dict(alarms())["service.yaml:ErrorRatioAlarm"]
    named = {f"{group}_requests": count for group, count in requests.items()}
    named |= {f"{group}_5xx": count for group, count in errors.items()}
    for query in (one for one in alarm["Metrics"] if "MetricStat" in one):
        query["MetricStat"]["Metric"]["MetricName"] = query["Id"]

    values = Queries(alarm["Metrics"], reduces=False).compute(lambda stat: [named.get(stat["Metric"]["MetricName"])])

    assert [percent] == values["error_percent"]
