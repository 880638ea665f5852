"""`make demo`, as a whole: what its report promises holds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def report(directory: Path) -> dict[str, Any]:
    """The report of one demo, run in an empty directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ONNXSHIP_"))}
    environment = kept | {"HOME": str(directory), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return dict(json.loads((directory / "build/demo/report.json").read_text()))


def test_the_story_ends_as_told(report: dict[str, Any]) -> None:
    """Every step has the exit code that was told, and nothing disagrees."""
    assert report["ok"]
    assert [] == report["problems"]
    assert {0} == {step["exit_code"] for step in report["steps"]}


def test_no_request_fails_while_releases_come_and_go(report: dict[str, Any]) -> None:
    """Two thousand requests and more, answered as the release in their header was recorded to answer."""
    assert report["traffic"]["requests"] >= 2000
    assert 0 == report["traffic"]["failed"]
    assert {"v1", "v2", "v3"} == set(report["traffic"]["by_release"])


def test_production_moved_three_times(report: dict[str, Any]) -> None:
    """To v2, to v3, and back to v1; the demo itself holds every answer against these moments."""
    assert 3 == len(report["traffic"]["shifts"])


def test_a_model_only_release_keeps_the_image(report: dict[str, Any]) -> None:
    """v3 has v2's image and another model; the rollback has v1's image and model."""
    v1, v2, v3, back = report["releases"]

    assert v2["image_digest"] == v3["image_digest"] != v1["image_digest"]
    assert v2["model_sha256"] != v3["model_sha256"]
    assert (v1["image_digest"], v1["model_sha256"], v1["git_sha"]) == (
        back["image_digest"],
        back["model_sha256"],
        back["git_sha"],
    )


def test_every_release_was_judged(report: dict[str, Any]) -> None:
    """Golden inputs and load for each shipped release, golden inputs for the rollback."""
    gates = [[gate["name"] for gate in release["gates"]] for release in report["releases"]]

    assert [["golden", "load"]] * 3 + [["golden"]] == gates


def test_the_report_says_what_a_rehearsal_cannot_show(report: dict[str, Any]) -> None:
    """IAM, timing and scanning are named among it."""
    assert any("IAM" in sentence for sentence in report["not_rehearsed"])
    assert report["seconds_per_aws_minute"] == 2.0


@pytest.mark.usefixtures("report")
def test_nothing_is_left_running(directory: Path) -> None:
    """No process of the demo outlives it."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout

    assert [] == [line for line in listed.splitlines() if str(directory) in line]
