"""Ctrl-C in each stage: no orphan, nothing half-written, and the next `ship` goes on from there."""

import time

import pytest

from tests.stories.conftest import Project, finish, interrupt, predict, wait_for_line

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
    listed = rehearsal.onnxship("history", "--output", "json").json["releases"][0]
    back = rehearsal.onnxship("rollback", "--dry-run", "--output", "json").json
    again = rehearsal.onnxship("ship", "--release", "v3", "--yes", "--output", "json")
    plan = rehearsal.onnxship("ship", "--dry-run", "--output", "json").json

    assert 130 == ended.exit_code, ended.stderr
    assert ("interrupted", True) == (listed["outcome"], "stopped by Ctrl-C at 2" in listed["reason"])
    assert "Production has shifted" in ended.stderr
    assert "v3" == status["release_id"]
    assert "`onnxship ship --release v3 " in status["ledger"]
    assert ("v3", "v1") == (back["from_release"], back["to_release"])
    assert ("v3", True) == (plan["release_id"], plan["nothing_to_do"])
    assert (0, "v3") == (again.exit_code, again.json["release_id"]), again.stderr
    assert "v3" == predict(again.json["production_url"])[0]


def test_a_progress_that_nobody_reads_any_more_rolls_back_and_frees(rehearsal: Project) -> None:
    """`onnxship ship 2>&1 | head`: what was begun is cleared up, though nobody hears of it; exit 141 as usual."""
    before = rehearsal.onnxship("status", "--output", "json").json["release_id"]
    rehearsal.train(c=1.1)
    rehearsal.commit("v4")
    process = rehearsal.begin("ship", "--release", "v4", "--yes")
    wait_for_line(process, "POST_TEST_TRAFFIC_SHIFT")

    assert process.stderr is not None
    process.stderr.close()
    process.wait(timeout=90)

    status = rehearsal.onnxship("status", "--output", "json").json
    assert 141 == process.returncode
    assert ([], "free", before) == (status["deployments"], status["lock"], predict(status["production_url"])[0])


def test_a_ship_that_was_killed_at_its_gate_is_taken_up(rehearsal: Project) -> None:
    """SIGKILL: history says so, and the same release goes on at its gate once the dead run's lock is freed."""
    rehearsal.train(c=1.3)
    rehearsal.commit("v5")
    process = rehearsal.begin("ship", "--release", "v5", "--yes")
    wait_for_line(process, "POST_TEST_TRAFFIC_SHIFT")
    process.kill()
    process.wait()

    refused = rehearsal.onnxship("ship", "--release", "v5", "--yes")
    freed = rehearsal.onnxship("lock", "release", "--yes", "--output", "json")
    history = rehearsal.onnxship("history", "--output", "json").json["releases"]
    again = rehearsal.onnxship("ship", "--release", "v5", "--yes", "--output", "json")

    assert (7, True) == (refused.exit_code, "(`onnxship ship`) since" in refused.stderr), refused.stderr
    assert freed.json["held"], freed.stderr
    assert ("v5", "abandoned") == (history[0]["release_id"], history[0]["outcome"])
    assert history[0]["goes_on_with"].startswith("onnxship ship --release v5 --env ")
    assert (0, "live") == (again.exit_code, again.json["outcome"]), again.stderr
    assert "v5" == predict(again.json["production_url"])[0]


def stages(rehearsal: Project) -> list[str]:
    """Of the deployments that run now."""
    return [running["stage"] for running in rehearsal.onnxship("status", "--output", "json").json["deployments"]]


def test_a_release_that_was_killed_in_its_bake_takes_no_other_model(rehearsal: Project) -> None:
    """Its name stands for what ECS runs under it: exit 2, and the changed files go out under another name, as soon as
    it bakes no more; what is left of its deployment is waited for, and it is recorded as live."""
    rehearsal.train(c=1.35)
    rehearsal.commit("v5b")
    process = rehearsal.begin("ship", "--release", "v5b", "--yes")
    wait_for_line(process, "BAKE_TIME")
    process.kill()
    process.wait()
    rehearsal.train(c=1.4)

    rehearsal.onnxship("lock", "release", "--yes")
    listed = rehearsal.onnxship("history", "--output", "json").json["releases"][0]
    refused = rehearsal.onnxship("ship", "--release", "v5b", "--allow-dirty", "--yes")
    while "BAKE_TIME" in stages(rehearsal):
        time.sleep(0.2)
    other = rehearsal.onnxship("ship", "--release", "v5c", "--allow-dirty", "--yes", "--output", "json")
    history = rehearsal.onnxship("history", "--output", "json").json["releases"]

    assert listed["goes_on_with"].startswith("onnxship ship --release v5b --env ")
    assert (2, True) == (refused.exit_code, "`v5b` was begun with model" in refused.stderr), refused.stderr
    assert 0 == other.exit_code, other.stderr
    assert "v5c" == other.json["release_id"]
    assert [("v5c", "live"), ("v5b", "live")] == [(one["release_id"], one["outcome"]) for one in history[:2]]


def test_of_two_ships_at_once_one_goes_on(rehearsal: Project) -> None:
    """The other ends with 7 and names the holder, its command and since when."""
    rehearsal.train(c=1.5)
    rehearsal.commit("v6")
    ships = [rehearsal.begin("ship", "--release", f"v6{letter}", "--yes") for letter in "ab"]

    ended = sorted((finish(ship) for ship in ships), key=lambda one: one.exit_code)

    assert [0, 7] == [one.exit_code for one in ended], ended[1].stderr
    assert "(`onnxship ship`) since 2" in ended[1].stderr


def test_nothing_is_left_when_the_rehearsal_ends(rehearsal: Project) -> None:
    """After all those interruptions `down` leaves no process."""
    assert 0 == rehearsal.onnxship("rehearse", "down").exit_code
    assert [] == rehearsal.tasks()
