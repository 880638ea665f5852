"""`--dry-run` on the command line: what it says, and that it refuses what the real run would refuse."""

import json

import pytest
import yaml
from click.testing import CliRunner

from pipeline.aws.ledger import Ledger
from pipeline.cli import cli, complete
from pipeline.errors import UsageError
from pipeline.results import Outcome

TOPIC = yaml.safe_dump({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
complete(cli)


@pytest.fixture
def type_in(project):
    """Types a command in the project's directory."""

    def run(*words: str):
        return CliRunner(env={"CI": ""}).invoke(cli, [*words, "--config", str(project / "onnxship.yaml")])

    return run


def test_destroy_names_only_the_stacks_that_exist(aws, type_in):
    """An environment with one stack of its own."""
    aws.call("cloudformation", "create_stack", StackName="demo-test-network", TemplateBody=TOPIC)

    ended = type_in("destroy", "--dry-run", "--output", "json")

    planned = [(stack["stack_name"], stack["action"]) for stack in json.loads(ended.stdout)["stacks"]]
    assert [("demo-test-network", "would-delete")] == planned


@pytest.fixture
def ledger(aws, bucket, registry_stack) -> Ledger:
    """Release v1 was refused: its name is used up."""
    ledger = Ledger(aws, bucket, "test", "tiny")
    ledger.close(ledger.open_draft("v1", started_at="t0"), Outcome.REFUSED, "gate", finished_at="t1")
    return ledger


@pytest.mark.usefixtures("ledger")
def test_ship_refuses_a_used_name_as_the_real_run_does(type_in):
    """Exit code 2 from both, in the same words."""
    words = ("ship", "--release", "v1", "--allow-dirty")

    planned, real = type_in(*words, "--dry-run"), type_in(*words, "--yes")

    assert isinstance(planned.exception, UsageError)
    assert str(real.exception) == str(planned.exception)
    assert "`v1` has ended already" in str(planned.exception)


@pytest.mark.usefixtures("ledger")
def test_ship_says_which_release_it_would_gate_and_bake(type_in):
    """The plan has the release's name, the gates, and the minutes of the bake."""
    ended = type_in("ship", "--release", "v2", "--allow-dirty", "--dry-run", "--output", "json")

    assert 0 == ended.exit_code, ended.exception
    plan = json.loads(ended.stdout)
    assert ("v2", False) == (plan["release_id"], plan["nothing_to_do"])
    assert (["golden", "load"], 10) == (plan["gates"], plan["bake_minutes"])


def test_ship_refuses_to_go_on_with_other_files_as_the_real_run_does(type_in, aws, bucket, registry_stack):
    """Its release has a task definition: another image or model needs another name."""
    draft = Ledger(aws, bucket, "test", "tiny").open_draft("v3", started_at="t0")
    draft.note("build", {"tag": "t", "image_digest": "sha256:a"})
    draft.note("register", {}, task_definition_arn="td/1")

    ended = type_in("ship", "--release", "v3", "--allow-dirty", "--dry-run")

    assert isinstance(ended.exception, UsageError)
    assert "`v3` was begun with image sha256:a" in str(ended.exception)
