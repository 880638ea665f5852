"""The story of the open questions in a real account, which answers them: it has not been run yet.

    ONNXSHIP_CONTRACT_ACCOUNT=<account> AWS_PROFILE=... make stories

It costs money, needs Docker, and is skipped unless the credentials are that account's. `destroy` ends it, also when it
fails; what that leaves (bucket, repository) it names. Each release is judged by the same functions as in the rehearsal.
"""

import os
from collections.abc import Iterator

import boto3
import pytest
import yaml

from tests.stories.conftest import Project
from tests.stories.test_open_questions import Told, check_all_is_well, first, refused, rolled_back, second

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(4 * 3600)]
REGION = os.environ.get("AWS_REGION", "eu-west-1")


class InAccount(Told):
    """Where nobody keeps every change of the weights, production's weights are what `status` says they are."""

    def shifts(self) -> list[dict[str, int]]:
        status = self.project.onnxship("status", "--output", "json").json
        return [{group["name"]: group["production_weight"]} for group in status["target_groups"]]


@pytest.fixture
def told(project: Project) -> Iterator[Told]:
    """The project, bootstrapped in the account, with Docker, a gate from the VPC and AWS's own minutes."""
    account = os.environ.get("ONNXSHIP_CONTRACT_ACCOUNT")
    if not account:
        pytest.skip("ONNXSHIP_CONTRACT_ACCOUNT names no account")
    if boto3.client("sts", region_name=REGION).get_caller_identity()["Account"] != account:
        pytest.skip("the credentials are of another account than ONNXSHIP_CONTRACT_ACCOUNT")
    kept = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "HOME"}
    project.environment |= kept
    path = project.directory / "onnxship.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["environments"]["production"] = {"account": account, "region": REGION}
    settings["services"]["iris"]["image"] = {"builder": "docker"}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    bootstrapped = project.onnxship("bootstrap")
    assert 0 == bootstrapped.exit_code, bootstrapped.stderr
    yield InAccount(project)
    destroyed = project.onnxship("destroy", "--yes", "--output", "json")
    assert 0 == destroyed.exit_code, destroyed.stderr


def test_the_story_in_a_real_account(told: Told) -> None:
    """First release, second, one that its gate refuses, and back: each ends as in the rehearsal."""
    for story in (first, second, refused, rolled_back):
        story(told)
        check_all_is_well(told, story.__name__)
