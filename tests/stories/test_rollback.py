"""Going back, whatever is under way: a gate, a bake, another run with the lock, and S3 and ECR away."""

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.stories.conftest import Ended, Project, finish, predict, wait_for_line

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(400)]
BAR_S = 5.0  # from the decision until production is back; told, not asserted: other load on the machine counts too


@pytest.fixture(scope="module")
def two_releases(rehearsal: Project) -> Project:
    """v1 was shipped, then v2, which serves; a bake takes 20 s."""
    path = rehearsal.directory / "onnxship.yaml"
    path.write_text(path.read_text().replace("bake_minutes: 1", "bake_minutes: 10"))
    rehearsal.commit("Bake for ten minutes")
    for number in (1, 2):
        change(rehearsal, f"v{number}", c=number / 10)
        ended = rehearsal.onnxship("ship", "--release", f"v{number}", "--yes")
        assert 0 == ended.exit_code, ended.stderr
    return rehearsal


def change(project: Project, name: str, c: float) -> None:
    """Another model, committed."""
    project.train(c=c)
    project.commit(name)


def serving(project: Project) -> str:
    """The release that answers production."""
    return predict(project.onnxship("status", "--output", "json").json["production_url"])[0]


def outcomes(project: Project) -> list[tuple[str, str]]:
    """Every line of history: release, or what a rollback serves, and how it ended; newest first."""
    releases = project.onnxship("history", "--output", "json").json["releases"]
    return [
        (f"to {one['serves']}" if one["event"] == "rollback" else one["release_id"], one["outcome"]) for one in releases
    ]


def is_locked(project: Project) -> bool:
    return bool(project.onnxship("lock", "status", "--output", "json").json["held"])


@pytest.fixture(autouse=True)
def all_is_up(two_releases: Project) -> Iterator[None]:
    """No outage outlives its test."""
    yield
    switch_off(two_releases)


def switch_off(project: Project, *services: str) -> None:
    body = json.dumps({"services": list(services)}).encode()
    urllib.request.urlopen(f"{project.environment['AWS_ENDPOINT_URL']}/_rehearsal/outage", body, timeout=5).close()


def go_back(project: Project, *words: str) -> tuple[Ended, float, float]:
    """The rollback, its seconds from start to end, and those until production's weights had moved."""
    began_s, began_at = time.monotonic(), time.time()
    ended = project.onnxship("rollback", "--yes", "--output", "json", *words)
    total_s = time.monotonic() - began_s
    url = f"{project.environment['AWS_ENDPOINT_URL']}/_rehearsal/weights"
    with urllib.request.urlopen(url, timeout=5) as answer:
        times = [datetime.fromisoformat(one["time"]).timestamp() for one in json.loads(answer.read())]
    moved = [at for at in times if at > began_at]
    return ended, total_s, max(moved) - began_at if moved else 0.0


def test_an_older_commit_is_refused_over_a_newer_release(two_releases: Project) -> None:
    """Exit 7, and both commits with their times are named."""
    two_releases.train(c=0.25)
    two_releases.commit("From last year", GIT_COMMITTER_DATE="2025-11-21T10:00:00+00:00")
    log = ["git", "log", "--format=%h", "--max-count=2", "--abbrev=7"]
    shas = subprocess.check_output(log, cwd=two_releases.directory, text=True).split()

    ended = two_releases.onnxship("ship", "--yes")

    assert 7 == ended.exit_code
    assert all(sha in ended.stderr for sha in [*shas, "2025-11-21T10:00:00+00:00"]), ended.stderr
    assert "v2" == serving(two_releases)


def test_back_while_the_new_release_is_at_its_gate(two_releases: Project) -> None:
    """Production never moved: the run that shipped ends with 3 and says who, and its release has one record."""
    change(two_releases, "v3", c=0.3)
    ship = two_releases.begin("ship", "--release", "v3", "--yes")
    wait_for_line(ship, "POST_TEST_TRAFFIC_SHIFT")

    back, _, _ = go_back(two_releases)
    shipped = finish(ship)

    assert (0, "stopped-deployment", "v2", "v3") == (
        back.exit_code, back.json["how"], back.json["serves"], back.json["replaced"]
    ), back.stderr  # fmt: skip
    assert "onnxship ship" in back.json["preempted"]
    assert 3 == shipped.exit_code, shipped.stderr
    assert "`onnxship rollback`" in shipped.stderr
    assert "could not be stopped" not in shipped.stderr
    assert ("v2", False) == (serving(two_releases), is_locked(two_releases))
    assert [("to v2", "live"), ("v3", "refused")] == sorted(outcomes(two_releases)[:2], reverse=False)


def test_back_while_it_bakes_with_s3_and_ecr_away(two_releases: Project) -> None:
    """Seconds, by ECS alone; afterwards the next command writes down what happened, and says so."""
    change(two_releases, "v4", c=0.4)
    ship = two_releases.begin("ship", "--release", "v4", "--yes")
    wait_for_line(ship, "BAKE_TIME")
    switch_off(two_releases, "s3", "ecr")

    back, total_s, back_s = go_back(two_releases)
    shipped = finish(ship)
    switch_off(two_releases)

    print(f"decision to production back {back_s:.2f} s (bar {BAR_S:g} s), the whole command {total_s:.2f} s")  # noqa: T201
    assert 0 == back.exit_code, back.stderr
    assert back_s > 0
    assert ("stopped-deployment", "v2", "v4") == (back.json["how"], back.json["serves"], back.json["replaced"])
    assert "could not be recorded" in back.json["ledger_note"]
    assert 4 == shipped.exit_code, shipped.stderr
    assert "v2" == serving(two_releases)
    # Its run could not free the lock: as long as the lease lasts it counts as running.
    assert outcomes(two_releases)[0] in [("v4", "open"), ("v4", "abandoned")]

    settled = two_releases.onnxship("abort", "--yes")

    assert 0 == settled.exit_code, settled.stderr
    assert "release v4 was closed as rolled-back" in settled.stderr
    assert "the rollback to v2 was recorded late" in settled.stderr
    assert [("to v2", "live"), ("v4", "rolled-back")] == sorted(outcomes(two_releases)[:2])
    assert not is_locked(two_releases)


def test_back_while_it_bakes(two_releases: Project) -> None:
    """It had production: exit 4 for the run that shipped."""
    change(two_releases, "v5", c=0.5)
    ship = two_releases.begin("ship", "--release", "v5", "--yes")
    wait_for_line(ship, "BAKE_TIME")

    back, total_s, back_s = go_back(two_releases)
    shipped = finish(ship)

    print(f"decision to production back {back_s:.2f} s (bar {BAR_S:g} s), the whole command {total_s:.2f} s")  # noqa: T201
    assert (0, "v2", "") == (back.exit_code, back.json["serves"], back.json["ledger_note"]), back.stderr
    assert back_s > 0
    assert 4 == shipped.exit_code, shipped.stderr
    assert [("to v2", "live"), ("v5", "rolled-back")] == sorted(outcomes(two_releases)[:2])


def test_back_while_another_run_holds_the_lock(two_releases: Project) -> None:
    """A ship that was paused before it had deployed anything is pre-empted, and refused when it resumes: exit 7."""
    change(two_releases, "v6", c=0.6)
    ship = two_releases.begin("ship", "--release", "v6", "--yes")
    wait_for_line(ship, "publish ...")
    ship.send_signal(signal.SIGSTOP)

    back, _, _ = go_back(two_releases)
    ship.send_signal(signal.SIGCONT)
    shipped = finish(ship)

    assert (0, "deployed", "v1") == (back.exit_code, back.json["how"], back.json["serves"]), back.stderr
    assert "onnxship ship" in back.json["preempted"]
    assert 7 == shipped.exit_code, shipped.stderr
    assert "`onnxship rollback`" in shipped.stderr
    assert [("to v1", "live"), ("v6", "aborted")] == sorted(outcomes(two_releases)[:2])
    assert ("v1", False) == (serving(two_releases), is_locked(two_releases))
