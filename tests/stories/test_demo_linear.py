"""`make demo` with the strategy LINEAR: a quarter more of the users at each step."""

from typing import Any

import pytest

from tests.stories.telling import assert_bad_releases_never_reached_users, tell

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tell(tmp_path_factory.mktemp("demo"), "--strategy", "LINEAR")


def test_bad_releases_never_reach_users(report: dict[str, Any]) -> None:
    """The same gates judge the same releases before the first share of production."""
    assert_bad_releases_never_reached_users(report)


def test_answers_agree_with_the_weights(report: dict[str, Any]) -> None:
    """While two releases share production each answers its share, within what chance allows: the demo counts them."""
    held = [change["shares"].get("v2") for change in report["traffic"]["weights"]]

    assert [25, 50, 75, 100] == [share for share in held if share][:4]
    assert [] == report["problems"]
