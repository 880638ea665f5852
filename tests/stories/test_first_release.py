"""The first release of a model of one's own, from `init` to `destroy`, in the local AWS."""

import pytest

from tests.stories.conftest import Project, predict

pytestmark = [pytest.mark.story, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def shipped(rehearsal: Project) -> dict[str, object]:
    """The first release, live."""
    ended = rehearsal.onnxship("ship", "--release", "v1", "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    return ended.json


def test_the_first_release_passes_the_gate_like_any_other(shipped: dict[str, object]) -> None:
    """Creating the service is a release: golden inputs and load judge it before it serves."""
    gates = {gate["name"]: gate["verdict"] for gate in shipped["gates"]}  # type: ignore[attr-defined]

    assert {"golden": "pass", "load": "pass"} == gates
    assert "live" == shipped["outcome"]


def test_production_answers_in_the_release_s_name(shipped: dict[str, object]) -> None:
    """Each answer says which release gave it."""
    release, answer = predict(str(shipped["production_url"]))

    assert "v1" == release
    assert 0 == answer["prediction"]


def test_shipping_the_same_again_does_nothing(rehearsal: Project, shipped: dict[str, object]) -> None:
    """The same commit, model and configuration: exit 0, and the same task definition serves."""
    ended = rehearsal.onnxship("ship", "--yes", "--output", "json")

    assert (0, "nothing-to-do") == (ended.exit_code, ended.json["outcome"])
    assert shipped["task_definition_arn"] == ended.json["task_definition_arn"]


def test_status_and_history_tell_the_same(rehearsal: Project, shipped: dict[str, object]) -> None:
    """What runs, what the ledger says, and what was released agree."""
    status = rehearsal.onnxship("status", "--output", "json").json
    history = rehearsal.onnxship("history", "--output", "json").json

    assert ("v1", shipped["image_digest"]) == (status["release_id"], status["image_digest"])
    assert ["v1"] == [release["release_id"] for release in history["releases"]]
    assert 2 == status["running_count"]


def test_the_tasks_lines_can_be_read(rehearsal: Project, shipped: dict[str, object]) -> None:
    """`logs` shows what the server wrote."""
    ended = rehearsal.onnxship("logs", "--since-s", "600")

    assert 0 == ended.exit_code
    assert "model iris version" in ended.stdout


def test_a_release_id_is_given_once(rehearsal: Project, shipped: dict[str, object]) -> None:
    """Another content under an ended release's name is refused, and nothing changes."""
    rehearsal.train(c=0.5)
    rehearsal.commit("Another model")

    ended = rehearsal.onnxship("ship", "--release", "v1", "--yes")

    assert 2 == ended.exit_code
    assert "has ended already" in ended.stderr
    assert "v1" == predict(str(shipped["production_url"]))[0]


def test_files_that_are_not_committed_are_not_shipped(rehearsal: Project, shipped: dict[str, object]) -> None:
    """A release could not be found again from a dirty tree."""
    rehearsal.train(c=0.25)

    ended = rehearsal.onnxship("ship", "--yes")

    assert 2 == ended.exit_code
    assert "model.onnx" in ended.stderr
    assert "commit first" in ended.stderr


def test_destroy_leaves_what_it_says_and_nothing_runs(rehearsal: Project, shipped: dict[str, object]) -> None:
    """Stacks and tasks go; the bucket and repository stay and are named as costing."""
    ended = rehearsal.onnxship("destroy", "--yes", "--output", "json")

    assert 0 == ended.exit_code, ended.stderr
    assert any("bucket" in line for line in ended.json["still_costs"])
    assert [] == rehearsal.tasks()
