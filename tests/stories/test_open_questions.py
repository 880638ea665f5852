"""Where AWS's documents are silent or disagree, the pipeline must be right under either reading."""

from collections.abc import Iterator

import pytest

from tests.stories.conftest import Project, predict

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(300)]
OTHER_READINGS = [
    "hooks_at_creation=false",
    "failed_first_deployment=STOPPED",
    "first_target_group=alternate",
    "breaker_under_blue_green=false",
    "unchanged_task_definition_deploys=true",
    "test_rule_returns_on_rollback=false",
]


@pytest.fixture(params=OTHER_READINGS)
def otherwise(project: Project, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A local AWS in which one question is answered the other way."""
    before = dict(project.environment)
    ended = project.onnxship("rehearse", "up", "--assume", request.param, "--seconds-per-minute", "1")
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    assert 0 == project.onnxship("bootstrap").exit_code
    yield project
    project.onnxship("rehearse", "down")
    project.environment = before


def ship(project: Project, release: str, c: float) -> dict[str, object]:
    project.train(c)
    project.commit(release)
    ended = project.onnxship("ship", "--release", release, "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    return ended.json


def test_a_release_comes_is_replaced_and_comes_back(otherwise: Project) -> None:
    """First release, second release, rollback: each gated, each serving alone in the end."""
    first = ship(otherwise, "v1", 1.0)
    second = ship(otherwise, "v2", 0.1)
    back = otherwise.onnxship("rollback", "v1", "--yes", "--output", "json")

    assert [["golden", "load"]] * 2 == [[gate["name"] for gate in r["gates"]] for r in (first, second)]  # type: ignore[attr-defined]
    assert (0, "v1") == (back.exit_code, back.json["serves"]), back.stderr
    assert "v1" == predict(str(second["production_url"]))[0]
    assert "agrees with ECS" == otherwise.onnxship("status", "--output", "json").json["ledger"]
