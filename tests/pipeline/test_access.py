"""The opening of the test port: shared by gates that come from one place, closed by the last one."""

from datetime import timedelta

import pytest

from pipeline.aws.ec2 import close_ingress, open_ingress
from pipeline.config import Gate
from pipeline.deployment.access import caller_of
from pipeline.deployment.place import Place
from pipeline.errors import UsageError
from tests.pipeline.ecs_world import World

GROUP, PORT, RUNNER = "sg-1", 9000, "192.0.2.7/32"
PLACE = Place("e", "s", "c", "svc", "", "", PORT, GROUP, "", "", gate_security_group_id="sg-gate")


@pytest.fixture
def world(clock) -> World:
    return World(clock)


def opened(world: World, owner: str, source: str = RUNNER) -> str | None:
    return open_ingress(world, GROUP, PORT, source, owner, world.clock.now() + timedelta(minutes=40))


def signatures(world: World) -> list[set[str]]:
    return [{tag["Key"] for tag in rule["Tags"]} for rule in world.ingress.values()]


@pytest.mark.parametrize("source", [RUNNER, "sg-gate"])
def test_gates_from_one_place_share_the_rule(world, source):
    """EC2 has one rule for one source. Closing one service's gate leaves the other's open; the last one closes it."""
    first, second = opened(world, "one", source), opened(world, "two", source)

    assert first == second
    assert [{"onnxship:gate:one", "onnxship:gate:two"}] == signatures(world)
    close_ingress(world, GROUP, first, "one", world.clock.now())
    assert [{"onnxship:gate:two"}] == signatures(world)
    close_ingress(world, GROUP, second, "two", world.clock.now())
    assert {} == world.ingress


def test_an_expired_signature_keeps_nothing_open(world):
    """What a killed gate of another service signed long ago holds no door."""
    rule_id = opened(world, "killed")
    world.clock.sleep(3600)
    opened(world, "one")

    close_ingress(world, GROUP, rule_id, "one", world.clock.now())

    assert {} == world.ingress


def test_a_rule_of_somebody_elses_stays(world):
    """A standing opening for the same source is neither signed nor closed."""
    world.ingress["theirs"] = {"SecurityGroupRuleId": "theirs", "Tags": [], "FromPort": PORT, "ToPort": PORT,
                               "CidrIpv4": RUNNER}  # fmt: skip

    assert opened(world, "one") is None
    assert [set()] == signatures(world)


def test_a_rule_that_goes_while_it_is_signed_is_made_anew(world):
    """The last of the others closes it between the look and the signature."""
    rule_id = opened(world, "other")
    genuine = world._create_tags

    def too_late(**request):
        world.ingress.pop(rule_id, None)
        return genuine(**request)

    world._create_tags = too_late

    assert opened(world, "one") not in (None, rule_id)
    assert [{"onnxship:gate:one"}] == signatures(world)


def test_who_calls_is_asked_only_when_the_port_is_opened():
    """A rollback that needs no gate asks nobody for this machine's address; a gate in the VPC never does."""
    caller_of(Gate.model_validate({"from": "runner"}))  # would call AWS's address service, if it asked

    assert RUNNER == caller_of(Gate.model_validate({"from": "runner", "runner_cidr": RUNNER}))(PLACE)
    assert "sg-gate" == caller_of(Gate.model_validate({"from": "vpc"}))(PLACE)


def test_a_cluster_without_the_gates_group_is_said():
    """Stacks that are older than gates in the VPC: deploy brings them up to date."""
    old = Place("e", "s", "c", "svc", "", "", PORT, GROUP, "", "")

    with pytest.raises(UsageError) as refused:
        caller_of(Gate.model_validate({"from": "vpc"}))(old)
    assert "onnxship deploy --env e --service s" in refused.value.remedy
