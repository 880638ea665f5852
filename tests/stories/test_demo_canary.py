"""`make demo` with the strategy CANARY: a fifth of the users first."""

from typing import Any

import pytest

from tests.stories.telling import assert_bad_releases_never_reached_users, tell

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tell(tmp_path_factory.mktemp("demo"), "--strategy", "CANARY")


def test_bad_releases_never_reach_users(report: dict[str, Any]) -> None:
    """The same gates judge the same releases before the first share of production."""
    assert_bad_releases_never_reached_users(report)


def test_answers_agree_with_the_weights(report: dict[str, Any]) -> None:
    """While two releases share production each answers its share, within what chance allows: the demo counts them."""
    held = [change["shares"] for change in report["traffic"]["weights"]]

    assert {"v1": 80, "v2": 20} in held
    assert [] == report["problems"]
