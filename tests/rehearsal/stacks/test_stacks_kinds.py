"""Resource types: what each takes, what replaces it, and that each lives through creation, change and deletion."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from rehearsal.stacks.kind import Kind
from rehearsal.stacks.kinds import KINDS

# Conditionally create-only in AWS's schema; the documentation says "Replacement" or "Some interruptions".
CONDITIONAL = {"AWS::ECS::Service": {"LaunchType"}, "AWS::EC2::VPC": {"InstanceTenancy"}}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_properties_and_replacements_are_those_of_aws_schema(kind: Kind) -> None:
    """Every rehearsed property exists in AWS, and exactly AWS's create-only ones replace the resource."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind.type_name).schema
    create_only = {path.removeprefix("/properties/") for path in schema.get("createOnlyProperties", [])}
    assert set() == kind.properties - set(schema["properties"])
    assert kind.properties & create_only == kind.replaces - CONDITIONAL.get(kind.type_name, set())
    assert kind.update is not None or kind.properties == kind.replaces


def template_named(name: str) -> str:
    return (Path(__file__).parent / "templates" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", ["network", "balancer", "rest"])
def test_every_type_is_created_updated_in_place_and_deleted(cloud: Any, name: str) -> None:
    """New values reach every resource in place, without a new physical id, and all of them can be deleted."""
    template = template_named(name)
    iam = {"Capabilities": ["CAPABILITY_IAM"]}
    assert "CREATE_COMPLETE" == cloud.create(template, **iam)["StackStatus"], failures(cloud)
    before = ids(cloud)
    given = {"V": "two", "N": "2", "Idle": "30", "Weight": "50"}
    parameters = {name: value for name, value in given.items() if re.search(rf"\b{name}: {{Type", template)}
    assert "UPDATE_COMPLETE" == cloud.update(template, Parameters=parameters, **iam)["StackStatus"], failures(cloud)
    assert before == ids(cloud)
    assert "DELETE_COMPLETE" == cloud.delete()["StackStatus"], failures(cloud)


def test_a_rule_keeps_its_weights_when_its_actions_do_not_change(cloud: Any) -> None:
    """An update of a rule's conditions leaves alone what ECS has made of its weights."""
    template = template_named("balancer")
    cloud.create(template)
    rule, elb = cloud.physical_id("Rule"), cloud.client("elbv2")
    actions = elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"]
    actions[0]["ForwardConfig"]["TargetGroups"][0]["Weight"] = 7
    elb.modify_rule(RuleArn=rule, Actions=[{key: actions[0][key] for key in ("Type", "ForwardConfig")}])
    cloud.update(template, Parameters={"V": "two"})
    found = elb.describe_rules(RuleArns=[rule])["Rules"][0]
    assert ["/two/*"] == found["Conditions"][0]["PathPatternConfig"]["Values"]
    assert 7 == found["Actions"][0]["ForwardConfig"]["TargetGroups"][0]["Weight"]


def test_the_report_names_what_is_only_recorded(cloud: Any) -> None:
    """Types whose effect AWS has and the rehearsal has not are told, as long as they are in use."""
    cloud.create("Resources: {B: {Type: AWS::EC2::EIP}, T: {Type: AWS::SNS::Topic}}")
    assert ["AWS::EC2::EIP"] == cloud.cloudformation.recorded_only()
    cloud.delete()
    assert [] == cloud.cloudformation.recorded_only()


def test_the_projects_templates_use_only_what_is_rehearsed() -> None:
    """Every resource type in the project's own templates can be made."""
    folder = Path(str(resources.files("cloudformation")))
    used = {
        name
        for path in folder.glob("*.yaml")
        for name in re.findall(r"\bType: (AWS::\w+::\w+)$", path.read_text(), re.M)
    }
    assert set() == used - set(KINDS)


def failures(cloud: Any) -> list[str]:
    """Why the stack is not what it should be."""
    events = cloud.stacks.describe_stack_events(StackName=next(iter(cloud.cloudformation.region("eu-west-1").stacks)))
    return [
        event.get("ResourceStatusReason", "") for event in events["StackEvents"] if "FAILED" in event["ResourceStatus"]
    ]


def ids(cloud: Any) -> dict[str, str]:
    """Physical id by logical id."""
    found = cloud.stacks.describe_stack_resources(StackName="it")["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}
