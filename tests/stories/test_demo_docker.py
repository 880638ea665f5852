"""`make demo` with `--engine docker`: the whole story with real images in real containers."""

from typing import Any

import pytest

from tests.stories.conftest import require_image
from tests.stories.telling import assert_bad_releases_never_reached_users, tell

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.docker, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def report(has_docker: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    require_image("python:3.11-slim-bookworm")  # the Dockerfile's own base: the demo names no other
    return tell(tmp_path_factory.mktemp("demo"), "--engine", "docker")


def test_bad_releases_never_reach_users(report: dict[str, Any]) -> None:
    """Containers crash, hang and slow down as processes do, and are refused by the same gates."""
    assert_bad_releases_never_reached_users(report)


def test_the_story_ends_as_told(report: dict[str, Any]) -> None:
    """The same steps with the same exit codes, in containers."""
    assert ("docker", True, []) == (report["engine"], report["ok"], report["problems"])
