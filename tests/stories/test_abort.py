"""`abort` from another process: while nothing is deployed yet, at the gate, during the bake, and on a first release."""

import os
import signal
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from tests.stories.conftest import Ended, Project, finish, predict, wait_for_line

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(400)]


def abort(project: Project) -> Ended:
    return project.onnxship("abort", "--yes", "--output", "json")


def client(project: Project, service: str) -> Any:
    """A boto3 client of the project's local AWS."""
    return boto3.Session("rehearsal", "rehearsal", region_name="eu-west-1").client(
        service, endpoint_url=project.environment["AWS_ENDPOINT_URL"]
    )


def left_behind(project: Project) -> dict[str, Any]:
    """What must not be left: a held lock, an open test port, suspended scale-out, a run's open release."""
    rules = client(project, "ec2").describe_security_group_rules()["SecurityGroupRules"]
    targets = client(project, "application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")
    history = project.onnxship("history", "--output", "json").json
    return {
        "lock": project.onnxship("lock", "status", "--output", "json").json["held"],
        "openings": [rule for rule in rules if any("gate" in tag["Key"] for tag in rule.get("Tags", []))],
        "suspended": [
            target for target in targets["ScalableTargets"]
            if target.get("SuspendedState", {}).get("DynamicScalingOutSuspended")
        ],
        "open": [one for one in history["releases"] if one["outcome"] in ("open", "interrupted", "abandoned")],
    }  # fmt: skip


NOTHING = {"lock": False, "openings": [], "suspended": [], "open": []}


def outcome(project: Project, release: str) -> list[str]:
    releases = project.onnxship("history", "--output", "json").json["releases"]
    return [one["outcome"] for one in releases if one["release_id"] == release]


def test_before_anything_was_shipped_there_is_nothing_to_abort(rehearsal: Project) -> None:
    """Exit 0, and it says so."""
    ended = abort(rehearsal)

    assert (0, "no deployment ran") == (ended.exit_code, ended.json["status"]), ended.stderr


def test_a_first_release_is_aborted_at_its_gate(rehearsal: Project) -> None:
    """The service that was being created goes again; its run ends with 3; the next one is the first again."""
    ship = rehearsal.begin("ship", "--release", "v0", "--yes")
    wait_for_line(ship, "POST_TEST_TRAFFIC_SHIFT")

    ended = abort(rehearsal)
    shipped = finish(ship)

    assert 0 == ended.exit_code, ended.stderr
    assert "was removed" in ended.json["status"]
    assert 3 == shipped.exit_code, shipped.stderr
    assert "`onnxship abort`" in shipped.stderr
    assert (["refused"], NOTHING) == (outcome(rehearsal, "v0"), left_behind(rehearsal))
    assert [] == rehearsal.tasks()


@pytest.fixture(scope="module")
def v1(rehearsal: Project) -> Project:
    """A release that serves; a bake takes 20 s."""
    path = rehearsal.directory / "onnxship.yaml"
    path.write_text(path.read_text().replace("bake_minutes: 1", "bake_minutes: 10"))
    rehearsal.commit("Bake for ten minutes")
    ended = rehearsal.onnxship("ship", "--release", "v1", "--yes")
    assert 0 == ended.exit_code, ended.stderr
    return rehearsal


def go_on(_: Any) -> None:
    """The run is not held up."""


def pause(process: Any) -> None:
    process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("line", "hold", "exit_code", "how"),
    [
        ("publish ...", pause, 7, "aborted"),
        ("gate golden", go_on, 3, "refused"),
        ("BAKE_TIME", go_on, 4, "rolled-back"),
    ],
    ids=["before anything is deployed", "at the gate", "during the bake"],
)
def test_a_run_is_aborted(v1: Project, line: str, hold: Callable[[Any], None], exit_code: int, how: str) -> None:
    """v1 serves alone, nothing is left, and the run's last words are true."""
    v1.train(c=0.2 + exit_code / 10)
    v1.commit(how)
    ship = v1.begin("ship", "--release", how, "--yes")
    wait_for_line(ship, line)
    hold(ship)

    ended = abort(v1)
    os.kill(ship.pid, signal.SIGCONT)
    shipped = finish(ship)

    assert 0 == ended.exit_code, ended.stderr
    # A run that bakes sees by itself that it is stopped, and may have ended before the lock is asked for.
    assert how == "rolled-back" or "onnxship ship" in ended.json["lock_was_held_by"]
    assert exit_code == shipped.exit_code, shipped.stderr
    assert "could not be stopped" not in shipped.stderr
    assert ([how], NOTHING) == (outcome(v1, how), left_behind(v1))
    status = v1.onnxship("status", "--output", "json").json
    assert ("v1", []) == (predict(status["production_url"])[0], status["deployments"])
