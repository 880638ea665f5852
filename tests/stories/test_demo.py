"""`make demo`, as a whole: what its report promises holds."""

from pathlib import Path
from typing import Any

import pytest

from tests.stories.telling import IN_PRODUCTION, STOPPED, running, start, tell, wait_until

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def killed(directory: Path) -> str:
    """A demo that is killed while it ships v2 to users; what still runs of it when its users have gone."""
    demo = start(directory)
    requests = directory / "build/demo/requests.jsonl"
    wait_until(lambda: requests.exists() and requests.stat().st_size > 0, "users have come")
    demo.kill()
    demo.communicate()
    wait_until(lambda: "demo.traffic" not in running(directory), "the users have gone")
    return running(directory)


@pytest.fixture(scope="module")
def report(directory: Path, killed: str) -> dict[str, Any]:
    """The report of the next demo, in the directory where the other was killed."""
    return tell(directory)


@pytest.fixture(scope="module")
def releases(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {release["id"]: release for release in report["releases"]}


def test_the_story_ends_as_told(report: dict[str, Any]) -> None:
    """Every step has the exit code that was told, and nothing disagrees."""
    assert report["ok"]
    assert [] == report["problems"]
    assert [] == [step for step in report["steps"] if step["exit_code"] != step["expected_exit_code"]]
    assert {0, 3, 4} == {step["exit_code"] for step in report["steps"]}


@pytest.mark.parametrize("release", STOPPED)
def test_a_bad_release_is_refused_and_no_user_sees_it(release: str, releases: dict[str, dict[str, Any]]) -> None:
    """By the gate that is there for its fault, with the reason in words and exit code 3."""
    refused = releases[release]
    gate, words = STOPPED[release]

    assert ("refused", 3, 0, gate) == tuple(
        refused[key] for key in ("outcome", "exit_code", "production_requests", "gate")
    )
    assert words in refused["reason"]


def test_three_bad_releases_are_refused_before_anything_starts(releases: dict[str, dict[str, Any]]) -> None:
    """Another platform, a critical finding and a wrong model are found without a deployment."""
    assert [[], [], []] == [releases[name]["stages"] for name in ("arm64", "critical-finding", "permuted")]


def test_a_crash_is_told_in_the_containers_own_last_words(releases: dict[str, dict[str, Any]]) -> None:
    """The reason that ECS gives for the stop, the exit code, and what the container wrote last."""
    reason = releases["crashes"]["reason"]

    assert "Essential container in task exited (model: exit code 1)" in reason
    assert "service.py startup failed: KeyError: 'FEATURE_STORE_URL'" in reason


def test_the_one_that_fails_in_production_is_taken_back(
    report: dict[str, Any], releases: dict[str, dict[str, Any]]
) -> None:
    """It passed every gate; an alarm rolled it back in its bake, and its victims are counted."""
    failed = releases[IN_PRODUCTION]

    assert ("rolled-back", 4, "bake") == (failed["outcome"], failed["exit_code"], failed["gate"])
    assert "alarm" in failed["reason"]
    assert {"pass"} == {gate["verdict"] for gate in failed["gates"]}
    assert 0 < failed["failed_requests"] < failed["production_requests"]
    assert failed["failed_requests"] == report["traffic"]["suffered"]


def test_no_other_request_fails(report: dict[str, Any], releases: dict[str, dict[str, Any]]) -> None:
    """Thousands of requests, answered as the release in their header was recorded to answer."""
    traffic = report["traffic"]
    assert traffic["requests"] >= 2000
    assert 0 == traffic["failed"]
    assert {"v1", "v2", "v3", IN_PRODUCTION} == set(traffic["by_release"])
    assert traffic["requests"] == sum(release["production_requests"] for release in releases.values())


def test_production_moved_for_five_reasons_and_no_other(report: dict[str, Any]) -> None:
    """To v2, to the one that failed and back, to v3, and back to v1; the demo holds every answer against these."""
    held = [change["shares"] for change in report["traffic"]["weights"]]

    assert [{"v1": 100}, {"v2": 100}, {IN_PRODUCTION: 100}, {"v2": 100}, {"v3": 100}, {"v1": 100}] == held
    assert 5 == len(report["traffic"]["shifts"])


def test_a_bill_over_the_budget_reaches_its_subscriber(report: dict[str, Any]) -> None:
    """The alarm in us-east-1 goes off and its topic's queue is told."""
    billing = report["billing"]

    assert billing["data_point_usd"] > billing["budget_usd"]
    assert (True, "ALARM") == (billing["delivered"], billing["state"])
    assert billing["message"].startswith('ALARM: "digits-production-billing-')


def test_a_model_only_release_keeps_the_image(releases: dict[str, dict[str, Any]]) -> None:
    """v3 has v2's image and another model; the rollback has v1's image and model."""
    v1, v2, v3, back = (releases[name] for name in ("v1", "v2", "v3", "rollback to v1"))

    assert v2["image_digest"] == v3["image_digest"] != v1["image_digest"]
    assert v2["model_sha256"] != v3["model_sha256"]
    assert (v1["image_digest"], v1["model_sha256"], v1["git_sha"]) == (
        back["image_digest"],
        back["model_sha256"],
        back["git_sha"],
    )


def test_every_release_in_production_was_judged(releases: dict[str, dict[str, Any]]) -> None:
    """Golden inputs and load for each shipped release, golden inputs for the rollback."""
    gates = {name: [gate["name"] for gate in release["gates"]] for name, release in releases.items()}

    assert {("golden", "load")} == {tuple(gates[name]) for name in ("v1", "v2", IN_PRODUCTION, "v3")}
    assert ["golden"] == gates["rollback to v1"]


def test_the_report_says_what_a_rehearsal_cannot_show(report: dict[str, Any]) -> None:
    """IAM, timing and scanning are named among it, and the types that are only recorded."""
    assert any("IAM" in sentence for sentence in report["not_rehearsed"])
    assert "AWS::IAM::Role" in report["recorded_only"]


def test_a_killed_demo_leaves_its_local_aws_and_no_users(killed: str) -> None:
    """The users end with it; what it cannot end itself is there for the next one, which told its story above."""
    assert "rehearsal up" in killed
    assert "demo.traffic" not in killed


@pytest.mark.usefixtures("report")
def test_nothing_is_left_running(directory: Path) -> None:
    """No process outlives the two demos, the killed one and the next."""
    assert "" == running(directory)
