"""Ctrl-C in each stage: no orphan, nothing half-written, and the next `ship` goes on from there."""

import pytest

from tests.stories.conftest import Project, interrupt, predict, wait_for_line

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(400)]
# A line of progress that shows when the stage is under way.
BEFORE_THE_SERVICE = ["build ...", "scan ...", "publish ...", "foundation ...", "alarms ...", "register ..."]
IN_A_DEPLOYMENT = ["SCALE_UP", "POST_TEST_TRAFFIC_SHIFT", "gate golden"]


@pytest.mark.parametrize("line", BEFORE_THE_SERVICE)
def test_an_interrupted_stage_is_taken_up_by_the_next_ship(rehearsal: Project, line: str) -> None:
    """Exit 130, the lock is free at once, and the same release can be continued."""
    process = rehearsal.begin("ship", "--release", "v1", "--yes")
    wait_for_line(process, line)

    ended = interrupt(process)

    assert 130 == ended.exit_code, ended.stderr
    assert not rehearsal.onnxship("lock", "status", "--output", "json").json["held"]


def test_an_interrupted_creation_is_cleared_away_and_made_again(rehearsal: Project) -> None:
    """CloudFormation was creating the service; the next ship starts it afresh."""
    process = rehearsal.begin("ship", "--release", "v1", "--yes")
    wait_for_line(process, "POST_TEST_TRAFFIC_SHIFT")
    ended = interrupt(process)
    assert 130 == ended.exit_code, ended.stderr

    again = rehearsal.onnxship("ship", "--release", "v1", "--yes", "--output", "json")

    assert 0 == again.exit_code, again.stderr
    assert ("v1", "live") == (again.json["release_id"], again.json["outcome"])


@pytest.mark.parametrize("line", IN_A_DEPLOYMENT)
def test_an_interrupted_deployment_is_rolled_back_at_once(rehearsal: Project, line: str) -> None:
    """Before production shifts, Ctrl-C means back: the old release serves alone, and no task is left over."""
    release = f"v2-{IN_A_DEPLOYMENT.index(line)}"
    rehearsal.train(c=0.1 + IN_A_DEPLOYMENT.index(line) / 10)
    rehearsal.commit(release)
    process = rehearsal.begin("ship", "--release", release, "--yes")
    wait_for_line(process, line)

    ended = interrupt(process)

    status = rehearsal.onnxship("status", "--output", "json").json
    assert 130 == ended.exit_code, ended.stderr
    assert "rolled back" in ended.stderr
    assert "v1" == predict(status["production_url"])[0]
    assert [] == [group for group in status["target_groups"] if not group["production_weight"] and group["targets"]]


def test_after_the_shift_ecs_bakes_on_and_the_next_ship_takes_it_up(rehearsal: Project) -> None:
    """Production has moved: Ctrl-C leaves it there and says so; shipping again finishes the record."""
    rehearsal.train(c=0.9)
    rehearsal.commit("v3")
    process = rehearsal.begin("ship", "--release", "v3", "--yes")
    wait_for_line(process, "BAKE_TIME")

    ended = interrupt(process)
    status = rehearsal.onnxship("status", "--output", "json").json
    back = rehearsal.onnxship("rollback", "--dry-run", "--output", "json").json
    again = rehearsal.onnxship("ship", "--release", "v3", "--yes", "--output", "json")
    plan = rehearsal.onnxship("ship", "--dry-run", "--output", "json").json

    assert 130 == ended.exit_code, ended.stderr
    assert "Production has shifted" in ended.stderr
    assert "v3" == status["release_id"]
    assert "`onnxship ship --release v3 " in status["ledger"]
    assert ("v3", "v1") == (back["from_release"], back["to_release"])
    assert ("v3", True) == (plan["release_id"], plan["nothing_to_do"])
    assert (0, "v3") == (again.exit_code, again.json["release_id"]), again.stderr
    assert "v3" == predict(again.json["production_url"])[0]


def test_nothing_is_left_when_the_rehearsal_ends(rehearsal: Project) -> None:
    """After all those interruptions `down` leaves no process."""
    assert 0 == rehearsal.onnxship("rehearse", "down").exit_code
    assert [] == rehearsal.tasks()
