"""`--dry-run` on the command line: what it says, and that it refuses what the real run would refuse."""

import json

import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import cli, complete

TOPIC = yaml.safe_dump({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
complete(cli)


@pytest.fixture
def type_in(project):
    """Types a command in the project's directory."""

    def run(*words: str):
        return CliRunner().invoke(cli, [*words, "--config", str(project / "onnxship.yaml")])

    return run


def test_destroy_names_only_the_stacks_that_exist(aws, type_in):
    """An environment with one stack of its own."""
    aws.call("cloudformation", "create_stack", StackName="demo-test-network", TemplateBody=TOPIC)

    ended = type_in("destroy", "--dry-run", "--output", "json")

    planned = [(stack["stack_name"], stack["action"]) for stack in json.loads(ended.stdout)["stacks"]]
    assert [("demo-test-network", "would-delete")] == planned
