"""One stack: change sets shown and executed, refusals, leftovers, failures with their first reasons."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.aws import cloudformation
from pipeline.aws.cloudformation import ChangeSet, ResourceChange
from pipeline.errors import AwsError, GateRefused, StateUnknown
from pipeline.results import StackChange
from pipeline.stacks import Stacks, difference, latest_of_each, refused_changes
from pipeline.templates import StackSpec
from pipeline.waiting import FakeClock
from tests.pipeline.stacks_world import SmallCloudFormation, SmallStack

TEMPLATE = "Parameters: {A: {Type: String}, B: {Type: String, Default: none}}"
SPEC = StackSpec("demo-test-x", TEMPLATE, {"A": "1"}, {"onnxship:project": "demo"})


def work(world: SmallCloudFormation, **options: Any) -> Stacks:
    return Stacks(world, FakeClock(), 1.0, **options)  # type: ignore[arg-type]


def existing(status: str, **content: Any) -> SmallCloudFormation:
    stack = SmallStack(SPEC.name, status, **{"template": TEMPLATE, "parameters": {"A": "1"}, **content})
    return SmallCloudFormation(stacks={SPEC.name: stack})


def change(resource_type: str, replacement: str, action: str = "Modify", **more: Any) -> dict[str, Any]:
    named = {"Action": action, "LogicalResourceId": "It", "ResourceType": resource_type}
    return {**named, "Replacement": replacement, **more}


def test_the_request_for_a_new_stack_is_exact() -> None:
    """Parameters and tags in a fixed order, the capabilities that named roles need."""
    request = cloudformation.change_set_request(
        "s", "c", is_new=True, template_body="t", parameters={"B": None, "A": "1"}, tags={"k": "v"}
    )

    assert request == {
        "StackName": "s",
        "ChangeSetName": "c",
        "ClientToken": "c",
        "ChangeSetType": "CREATE",
        "TemplateBody": "t",
        "Parameters": [
            {"ParameterKey": "A", "ParameterValue": "1"},
            {"ParameterKey": "B", "UsePreviousValue": True},
        ],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": "k", "Value": "v"}],
    }


def test_a_change_set_sent_again_is_executed_once() -> None:
    """botocore repeats a call whose answer was lost; by its token CloudFormation knows that it is the same one."""
    arn = "arn:aws:cloudformation:eu-west-1:111122223333:changeSet/onnxship-1/8f1c2a7e-0000-4000-8000-000000000000"

    assert cloudformation.execute_request(arn) == {
        "ChangeSetName": arn,
        "ClientRequestToken": "8f1c2a7e-0000-4000-8000-000000000000",
    }


def test_no_template_means_the_previous_one() -> None:
    """A parameter-only update leaves the template as CloudFormation has it."""
    request = cloudformation.change_set_request("s", "c", is_new=False, template_body=None, parameters={}, tags={})

    assert request["UsePreviousTemplate"] is True
    assert "TemplateBody" not in request


def test_a_stack_is_created_and_followed_to_its_end() -> None:
    """The changes are shown before, the stack's events while it works."""
    world = SmallCloudFormation(changes=[change("AWS::SNS::Topic", "", "Add")])
    lines: list[str] = []

    result = work(world, on_progress=lines.append).bring_up(SPEC)

    assert (result.stack_name, result.action) == (SPEC.name, "created")
    assert result.changes == ("Add It AWS::SNS::Topic",)
    assert lines[0] == "demo-test-x: a new stack, resources: 1"
    assert lines[-1] == "demo-test-x: CREATE_COMPLETE  AWS::CloudFormation::Stack  demo-test-x"


def test_no_difference_is_unchanged() -> None:
    """CloudFormation's empty change set is thrown away and is no failure."""
    world = existing("CREATE_COMPLETE")

    assert work(world).bring_up(SPEC) == StackChange(SPEC.name, "unchanged")
    assert (world.executed, world.change_sets) == ([], {})


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS", "CREATE_FAILED", "DELETE_FAILED"])
def test_a_leftover_of_a_failed_creation_makes_way(status: str) -> None:
    """What never came up is deleted, and the stack created anew."""
    world = existing(status)

    assert work(world).bring_up(SPEC).action == "created"
    assert world.deleted == [SPEC.name]


def test_another_projects_stack_is_left_alone() -> None:
    """A stack of the same name that onnxship did not make is neither deleted nor changed."""
    world = existing("ROLLBACK_COMPLETE", tags={"onnxship:project": "other"})

    with pytest.raises(StateUnknown, match="was not made for project demo"):
        work(world).bring_up(SPEC)

    assert world.deleted == []


def test_somebody_elses_update_is_waited_for() -> None:
    """A stack that is being updated is not touched before that has ended."""
    world = existing("UPDATE_IN_PROGRESS", ending="UPDATE_COMPLETE", looks_left=4)

    assert work(world).bring_up(SPEC).action == "unchanged"


def test_an_endless_update_is_given_up_on_in_words() -> None:
    """After the deadline a person must look; the same command waits on."""
    world = existing("UPDATE_IN_PROGRESS", ending="UPDATE_COMPLETE", looks_left=10_000)

    with pytest.raises(StateUnknown, match=r"still works on demo-test-x after 60 s"):
        work(world, timeout_s=60).bring_up(SPEC)


def test_a_failure_shows_its_first_causes() -> None:
    """What failed only because something else did is left out."""
    failures = [
        ("Service", "AWS::ECS::Service", "the port is taken"),
        ("Rule", "AWS::SNS::Topic", "Resource creation cancelled"),
    ]
    world = SmallCloudFormation(failures=failures, changes=[change("AWS::SNS::Topic", "", "Add")])

    with pytest.raises(AwsError) as caught:
        work(world).bring_up(SPEC)

    assert caught.value.code == "ROLLBACK_COMPLETE"
    assert caught.value.details == ("Service (AWS::ECS::Service): the port is taken",)


def test_a_stack_that_could_not_go_back_either_is_named_with_its_way_out() -> None:
    """The state, the resource that failed last, and the command that continues; nothing is tried on it."""
    world = existing("UPDATE_ROLLBACK_FAILED")
    stack = world.stacks[SPEC.name]
    stack.add_event("AWS::ECS::Service", "Before", "UPDATE_FAILED", "an older story")
    stack.add_event("AWS::CloudFormation::Stack", SPEC.name, "UPDATE_ROLLBACK_IN_PROGRESS")
    stack.add_event("AWS::ECS::Service", "EcsService", "UPDATE_FAILED", "the hook was not answered")

    with pytest.raises(StateUnknown, match="UPDATE_ROLLBACK_FAILED") as stuck:
        work(world).bring_up(SPEC)

    assert ("EcsService (AWS::ECS::Service): the hook was not answered",) == stuck.value.details
    assert f"aws cloudformation continue-update-rollback --stack-name {SPEC.name}" in stuck.value.remedy
    assert ([], []) == (world.executed, world.deleted)


def test_an_update_that_ends_there_is_told_the_same_way() -> None:
    """Not with the general words for a failure."""
    world = existing("UPDATE_IN_PROGRESS", ending="UPDATE_ROLLBACK_FAILED", looks_left=2)
    world.stacks[SPEC.name].add_event("AWS::ECS::Service", "EcsService", "UPDATE_FAILED", "no capacity")

    with pytest.raises(StateUnknown, match="could not take its last update back") as stuck:
        work(world).bring_up(SPEC)

    assert ("EcsService (AWS::ECS::Service): no capacity",) == stuck.value.details


def test_follow_is_called_while_cloudformation_works() -> None:
    """A gate can be answered during the creation of the stack that waits for it."""
    calls: list[int] = []

    work(SmallCloudFormation(looks=5), follow=lambda: calls.append(1)).bring_up(SPEC)

    assert len(calls) >= 4


@pytest.mark.parametrize(
    ("shown", "is_refused"),
    [
        (change("AWS::ECS::Service", "True"), True),
        (change("AWS::ECS::Service", "False"), False),
        (change("AWS::ElasticLoadBalancingV2::ListenerRule", "False"), False),
        (change("AWS::ElasticLoadBalancingV2::TargetGroup", "Conditional"), True),
        (change("AWS::EC2::Subnet", "", "Remove"), True),
        (change("AWS::S3::Bucket", "True"), True),
        (change("AWS::CloudWatch::Alarm", "True"), False),
        (change("AWS::CloudWatch::Alarm", "", "Remove"), False),
    ],
)
def test_what_a_release_stands_on_is_not_replaced(shown: dict[str, Any], is_refused: bool) -> None:
    """A change set that would is refused by name before anything is executed, and thrown away."""
    world = existing("CREATE_COMPLETE", parameters={"A": "0"})
    world.changes = [shown]

    if not is_refused:
        assert work(world).bring_up(SPEC).action == "updated"
        return
    with pytest.raises(GateRefused) as caught:
        work(world).bring_up(SPEC)
    assert caught.value.details[0].startswith(f"{shown['Action']} It {shown['ResourceType']}")
    assert (world.executed, world.change_sets) == ([], {})


@pytest.mark.parametrize(("parent", "refused"), [("True", {"Balancer", "Listener"}), ("False", set())])
def test_a_reference_to_what_stays_replaces_nothing(parent: str, refused: set[str]) -> None:
    """Perhaps replaced, because it refers to a changed resource: that depends on whether that one is replaced."""
    changes = [
        ResourceChange("Modify", "Balancer", "AWS::ElasticLoadBalancingV2::LoadBalancer", parent, ()),
        ResourceChange(
            "Modify",
            "Listener",
            "AWS::ElasticLoadBalancingV2::Listener",
            "Conditional",
            (),
            frozenset({"Balancer"}),
        ),
    ]

    assert {change.logical_id for change in refused_changes(changes)} == refused


def test_what_a_replacement_hangs_on_is_read_from_the_change_set() -> None:
    """Only details that may recreate count, and a parameter stands for anything."""
    target = {"Attribute": "Properties", "Name": "LoadBalancerArn", "RequiresRecreation": "Always"}
    details = [
        {"Target": target, "ChangeSource": "ResourceAttribute", "CausingEntity": "Balancer.Arn"},
        {"Target": target | {"Name": "Port", "RequiresRecreation": "Never"}, "ChangeSource": "ParameterReference"},
        {"Target": target | {"Name": "Kind"}, "ChangeSource": "ParameterReference", "CausingEntity": "Kind"},
    ]
    world = SmallCloudFormation(change_sets={"c": {"status": ("CREATE_COMPLETE", "")}})
    world.changes = [change("AWS::ElasticLoadBalancingV2::Listener", "Conditional", Details=details)]

    change_set: ChangeSet = cloudformation.describe_change_set(world, "c")  # type: ignore[arg-type]

    assert change_set.changes[0].hangs_on == {"Balancer", ""}
    assert change_set.changes[0].properties == ("LoadBalancerArn", "Port", "Kind")


def test_a_dry_run_compares_and_changes_nothing() -> None:
    """Parameters are shown with their old and new values; no change set is made."""
    world = existing("CREATE_COMPLETE", parameters={"A": "0"}, template="older")

    found = difference(world, SPEC)  # type: ignore[arg-type]

    assert found == StackChange(SPEC.name, "would-update", ("the template differs", "A: 0 -> 1"))
    assert world.change_sets == {}


def test_a_deleted_stack_is_gone_and_deleting_again_is_fine() -> None:
    """`deleted` once, `unchanged` from then on."""
    world = existing("CREATE_COMPLETE")

    assert [work(world).delete(SPEC.name).action for _ in range(2)] == ["deleted", "unchanged"]


def test_parameters_that_the_file_does_not_speak_of_keep_their_values() -> None:
    """A value that somebody gave the stack is not reset to the template's default by the next update."""
    world = existing("CREATE_COMPLETE", parameters={"A": "0", "B": "given by hand"})

    work(world).bring_up(SPEC)

    assert {"A": "1", "B": "given by hand"} == world.stacks[SPEC.name].parameters


def test_of_one_resource_only_the_last_of_simultaneous_events_is_shown() -> None:
    """What began and ended between two looks is one line."""
    begun, ended = (
        cloudformation.Event(str(n), "Vpc", "AWS::EC2::VPC", status, "")
        for n, status in enumerate(("CREATE_IN_PROGRESS", "CREATE_COMPLETE"))
    )
    other = cloudformation.Event("2", "Alb", "AWS::ElasticLoadBalancingV2::LoadBalancer", "CREATE_IN_PROGRESS", "")

    assert [ended, other] == latest_of_each([begun, ended, other])
