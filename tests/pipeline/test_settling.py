"""A pass over the open drafts of a service."""

from collections import Counter

from pipeline.aws.ledger import Ledger
from pipeline.deployment.place import find_place
from pipeline.deployment.settling import Settling
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OTHER
from tests.pipeline.memory_s3 import MemoryS3
from tests.pipeline.test_crashes import InMemory
from tests.pipeline.test_rollback import config, shipped_twice

assert config  # the fixture


def test_a_pass_asks_for_a_deployment_once_however_many_drafts_are_open(config):
    """Drafts that nothing can be said of stay open for ever; they must not make each later run slower."""
    clock = FakeClock()
    account = shipped_twice(InMemory(clock, s3=MemoryS3(clock.now), bucket="b"))
    place = find_place(config, account, "tiny")

    few, many = (asked_with(account, place, drafts) for drafts in (1, 6))

    assert few == many != Counter()


def test_a_draft_that_many_deployments_came_after_asks_for_twenty_at_once(config):
    """ECS remembers ninety days of them; one by one each later run would take minutes, and be throttled."""
    clock = FakeClock()
    account = shipped_twice(InMemory(clock, s3=MemoryS3(clock.now), bucket="b"))
    for _ in range(45):
        account.start(NEW).status = "SUCCESSFUL"

    asked = asked_with(account, find_place(config, account, "tiny"), 1)

    assert 47 == len(account.deployments) == len(asked)
    assert [20, 20, 7] == [
        len(request["serviceDeploymentArns"]) for request in account.sent("describe_service_deployments")
        if len(request["serviceDeploymentArns"]) > 1
    ]  # fmt: skip


def asked_with(account: InMemory, place, drafts: int) -> Counter[str]:
    """How often ECS was asked for each deployment by a pass over so many drafts whose deployments never were."""
    ledger = Ledger(account, account.bucket, "test", "tiny")
    for number in range(drafts):
        ledger.open_draft(
            f"lost-{drafts}-{number}", started_at="", task_definition_arn=OTHER, image_digest=NEW_DIGEST
        )  # fmt: skip
    account.calls.clear()

    assert [] == list(Settling(account, ledger, place, account.clock.now().isoformat()).settle())
    asked = account.sent("describe_service_deployments")
    return Counter(arn for request in asked for arn in request["serviceDeploymentArns"])
