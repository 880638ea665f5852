"""Stacks over time: created, changed, rolled back, deleted, with the statuses and events that CloudFormation gives."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

LOGS = """
Parameters: {Days: {Type: Number, Default: 30}}
Resources:
  Group: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: !Ref Days}}
  Topic: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Sub 'about ${Group}'}}
Outputs: {GroupName: {Value: !Ref Group, Description: Where it logs.}, TopicName: {Value: !GetAtt Topic.TopicName}}
"""
# A bucket's name may not hold capitals: creating it fails.
FAILING = LOGS.replace(
    "Outputs:", "  Bad: {Type: AWS::S3::Bucket, DependsOn: Topic, Properties: {BucketName: ab}}\nOutputs:"
)


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """The code and the text with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def group_names(cloud: Any) -> list[str]:
    return [group["logGroupName"] for group in cloud.client("logs").describe_log_groups()["logGroups"]]


def test_a_created_stack_has_its_resources_outputs_and_events(cloud: Any) -> None:
    """Resources come in order of dependency, each with its events; outputs name what was made."""
    stack = cloud.create(LOGS)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert "CREATE_COMPLETE" == stack["StackStatus"]
    assert [outputs["GroupName"]] == group_names(cloud)
    assert [
        ("it", "CREATE_IN_PROGRESS"),
        *[("Group", status) for status in ("CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")],
        *[("Topic", status) for status in ("CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")],
        ("it", "CREATE_COMPLETE"),
    ] == cloud.events()


def test_a_failed_creation_is_rolled_back_and_can_only_be_deleted(cloud: Any) -> None:
    """After ROLLBACK_COMPLETE nothing is left but the stack itself, which no update may touch."""
    stack = cloud.create(FAILING)
    assert "ROLLBACK_COMPLETE" == stack["StackStatus"]
    assert "Invalid bucket name" in cloud.reason("Bad", "CREATE_FAILED") or "bucket" in cloud.reason(
        "Bad", "CREATE_FAILED"
    )
    assert "The following resource(s) failed to create: [Bad]. Rollback requested by user." == cloud.reason(
        "it", "ROLLBACK_IN_PROGRESS"
    )
    assert [] == group_names(cloud)
    code, text = refused(cloud.stacks.update_stack, StackName="it", TemplateBody=LOGS)
    assert ("ValidationError", f"Stack:{stack['StackId']} is in ROLLBACK_COMPLETE state and can not be updated.") == (
        code,
        text,
    )
    assert "DELETE_COMPLETE" == cloud.delete()["StackStatus"]


@pytest.mark.parametrize(
    ("request_", "status", "left"),
    [
        ({"OnFailure": "DO_NOTHING"}, "CREATE_FAILED", 1),
        ({"DisableRollback": True}, "CREATE_FAILED", 1),
        ({"OnFailure": "DELETE"}, "DELETE_COMPLETE", 0),
    ],
)
def test_a_failed_creation_ends_as_the_request_said(
    cloud: Any, request_: dict[str, Any], status: str, left: int
) -> None:
    """OnFailure and DisableRollback decide what is left of a failed creation."""
    assert status == cloud.create(FAILING, **request_)["StackStatus"]
    assert left == len(group_names(cloud))


def test_an_update_changes_what_differs_and_nothing_else(cloud: Any) -> None:
    """A parameter's new value reaches the resource in place; the other resource has no event."""
    cloud.create(LOGS)
    before = cloud.physical_id("Group")
    stack = cloud.update(LOGS, Parameters={"Days": "7"})
    assert "UPDATE_COMPLETE" == stack["StackStatus"]
    group = cloud.client("logs").describe_log_groups()["logGroups"][0]
    assert (before, 7) == (group["logGroupName"], group["retentionInDays"])
    assert [
        ("it", "UPDATE_IN_PROGRESS"),
        ("Group", "UPDATE_IN_PROGRESS"),
        ("Group", "UPDATE_COMPLETE"),
        ("it", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("it", "UPDATE_COMPLETE"),
    ] == cloud.events()[-5:]


def test_a_replacing_property_makes_a_new_resource_and_reaches_its_dependents(cloud: Any) -> None:
    """A replaced resource is made first, its dependents follow its new id, and the old one goes at the end."""
    cloud.create(LOGS)
    old = cloud.physical_id("Group")
    stack = cloud.update(LOGS.replace("{RetentionInDays:", "{LogGroupName: new, RetentionInDays:"))
    assert "UPDATE_COMPLETE" == stack["StackStatus"]
    assert ["new"] == group_names(cloud)
    topic = cloud.client("sns").get_topic_attributes(TopicArn=cloud.physical_id("Topic"))["Attributes"]
    assert "about new" == topic["DisplayName"]
    assert ("Group", "DELETE_COMPLETE") in cloud.events()
    assert old != cloud.physical_id("Group")


def test_a_custom_named_resource_is_not_replaced(cloud: Any) -> None:
    """A resource that keeps its custom name cannot be replaced; the update is rolled back."""
    named = (
        LOGS.replace("DisplayName: !Sub 'about ${Group}'", "TopicName: fixed")
        .replace("Type: AWS::SNS::Topic", "Type: AWS::IAM::Role")
        .replace("TopicName: fixed", "RoleName: fixed, Path: /a/, AssumeRolePolicyDocument: {Statement: []}")
    )
    named = named.replace("TopicName: {Value: !GetAtt Topic.TopicName}", "Role: {Value: !Ref Topic}")
    cloud.create(named, Capabilities=["CAPABILITY_NAMED_IAM"])
    stack = cloud.update(named.replace("/a/", "/b/"), Capabilities=["CAPABILITY_NAMED_IAM"])
    assert "UPDATE_ROLLBACK_COMPLETE" == stack["StackStatus"]
    assert "cannot update a stack when a custom-named resource requires replacing. Rename fixed" in cloud.reason(
        "Topic", "UPDATE_FAILED"
    )


def test_a_failed_update_brings_everything_back(cloud: Any) -> None:
    """Changed resources get their old properties, new ones are deleted, outputs and parameters are the old ones."""
    before = cloud.create(LOGS)
    stack = cloud.update(FAILING, Parameters={"Days": "7"})
    assert "UPDATE_ROLLBACK_COMPLETE" == stack["StackStatus"]
    assert (before["Outputs"], before["Parameters"]) == (stack["Outputs"], stack["Parameters"])
    assert 30 == cloud.client("logs").describe_log_groups()["logGroups"][0]["retentionInDays"]
    resources = cloud.stacks.list_stack_resources(StackName="it")["StackResourceSummaries"]
    assert ["Group", "Topic"] == sorted(resource["LogicalResourceId"] for resource in resources)
    assert "The following resource(s) failed to update: [Bad]. " == cloud.reason("it", "UPDATE_ROLLBACK_IN_PROGRESS")
    assert "UPDATE_COMPLETE" == cloud.update(LOGS, Parameters={"Days": "7"})["StackStatus"]


def test_a_failed_replacement_keeps_the_old_resource(cloud: Any) -> None:
    """When a replacement cannot be made, the rollback leaves the original alone."""
    cloud.create(LOGS)
    cloud.client("logs").create_log_group(logGroupName="taken")
    old = cloud.physical_id("Group")
    stack = cloud.update(LOGS.replace("{RetentionInDays:", "{LogGroupName: taken, RetentionInDays:"))
    assert "UPDATE_ROLLBACK_COMPLETE" == stack["StackStatus"]
    assert old == cloud.physical_id("Group")
    assert sorted([old, "taken"]) == sorted(group_names(cloud))


def test_a_rollback_that_fails_can_be_continued(cloud: Any) -> None:
    """A resource that is gone fails the rollback; once it is back, ContinueUpdateRollback finishes it."""
    cloud.create(LOGS)
    name = cloud.physical_id("Group")
    cloud.client("logs").delete_log_group(logGroupName=name)
    assert "UPDATE_ROLLBACK_FAILED" == cloud.update(LOGS, Parameters={"Days": "7"})["StackStatus"]
    cloud.client("logs").create_log_group(logGroupName=name)
    cloud.stacks.continue_update_rollback(StackName="it")
    assert "UPDATE_ROLLBACK_COMPLETE" == cloud.settled("it")["StackStatus"]


def test_resources_that_leave_the_template_are_deleted(cloud: Any) -> None:
    """An update deletes what its template no longer holds, after everything else."""
    cloud.create(LOGS)
    without_group = "Resources: {Topic: {Type: AWS::SNS::Topic, Properties: {DisplayName: alone}}}"
    assert "UPDATE_COMPLETE" == cloud.update(without_group)["StackStatus"]
    assert [] == group_names(cloud)
    assert ("Group", "DELETE_COMPLETE") == cloud.events()[-2]


@pytest.mark.parametrize(
    ("policy", "after_rollback", "after_delete"), [("Delete", 0, 0), ("Retain", 1, 1), ("RetainExceptOnCreate", 0, 1)]
)
def test_the_deletion_policy_decides_what_stays(
    cloud: Any, policy: str, after_rollback: int, after_delete: int
) -> None:
    """Retain keeps a resource always, RetainExceptOnCreate unless its own creation is rolled back."""
    kept = "Type: AWS::Logs::LogGroup, DeletionPolicy: " + policy
    cloud.create(FAILING.replace("Type: AWS::Logs::LogGroup", kept), "failing")
    assert after_rollback == len(group_names(cloud))
    cloud.create(LOGS.replace("Type: AWS::Logs::LogGroup", kept))
    cloud.delete()
    assert after_rollback + after_delete == len(group_names(cloud))


def test_update_replace_policy_keeps_what_was_replaced(cloud: Any) -> None:
    """A replaced resource with UpdateReplacePolicy Retain stays when the stack forgets it."""
    template = LOGS.replace("Type: AWS::Logs::LogGroup", "Type: AWS::Logs::LogGroup, UpdateReplacePolicy: Retain")
    cloud.create(template)
    cloud.update(template.replace("{RetentionInDays:", "{LogGroupName: new, RetentionInDays:"))
    assert 2 == len(group_names(cloud))


def test_a_deletion_that_fails_can_be_repeated_without_the_resource(cloud: Any) -> None:
    """A bucket with objects fails the deletion; RetainResources lets the stack go without it."""
    cloud.create("Resources: {Bucket: {Type: AWS::S3::Bucket}}")
    cloud.client("s3").put_object(Bucket=cloud.physical_id("Bucket"), Key="it", Body=b"")
    stack = cloud.delete()
    assert "DELETE_FAILED" == stack["StackStatus"]
    assert "The following resource(s) failed to delete: [Bucket]. " == stack["StackStatusReason"]
    assert "not empty" in cloud.reason("Bucket", "DELETE_FAILED")
    assert "DELETE_COMPLETE" == cloud.delete(RetainResources=["Bucket"])["StackStatus"]


def test_termination_protection_is_enforced(cloud: Any) -> None:
    """A protected stack is not deleted until its protection is lifted."""
    cloud.create(LOGS, EnableTerminationProtection=True)
    code, text = refused(cloud.stacks.delete_stack, StackName="it")
    assert ("ValidationError", "Stack [it] cannot be deleted while TerminationProtection is enabled") == (code, text)
    cloud.stacks.update_termination_protection(StackName="it", EnableTerminationProtection=False)
    assert "DELETE_COMPLETE" == cloud.delete()["StackStatus"]


def test_deleted_stacks_are_found_by_id_only(cloud: Any) -> None:
    """By name a deleted stack does not exist; by id it shows DELETE_COMPLETE, and its name is free again."""
    stack_id = cloud.create(LOGS)["StackId"]
    cloud.delete()
    text = refused(cloud.stacks.describe_stacks, StackName="it")
    assert ("ValidationError", "Stack with id it does not exist") == text
    assert "DELETE_COMPLETE" == cloud.settled(stack_id)["StackStatus"]
    assert stack_id != cloud.create(LOGS)["StackId"]


def test_requests_that_cannot_be_served_are_refused(cloud: Any) -> None:
    """Existing names, missing stacks, missing capabilities and unknown requests get AWS's codes and texts."""
    cloud.create(LOGS)
    stacks, body = cloud.stacks, {"TemplateBody": LOGS}
    role = "Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {}}}}"
    assert ("AlreadyExistsException", "Stack [it] already exists") == refused(
        stacks.create_stack, StackName="it", **body
    )
    assert ("ValidationError", "Stack [no] does not exist") == refused(stacks.update_stack, StackName="no", **body)
    assert ("ValidationError", "No updates are to be performed.") == refused(
        stacks.update_stack, StackName="it", **body
    )
    assert ("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]") == refused(
        stacks.create_stack, StackName="role", TemplateBody=role
    )
    assert ("ValidationError", "TimeoutInMinutes is not rehearsed") == refused(
        stacks.create_stack, StackName="late", TimeoutInMinutes=5, **body
    )


def test_unknown_types_and_properties_fail_by_name(cloud: Any) -> None:
    """Nothing that the rehearsal does not know is dropped in silence."""
    code, text = refused(
        cloud.stacks.create_stack, StackName="it", TemplateBody="Resources: {A: {Type: AWS::Foo::Bar}}"
    )
    assert ("ValidationError", True) == (code, "Unrecognized resource types: [AWS::Foo::Bar] (not rehearsed)" in text)
    cloud.create("Resources: {A: {Type: AWS::SNS::Topic, Properties: {ArchivePolicy: {}}}}")
    assert "property AWS::SNS::Topic.ArchivePolicy is not rehearsed" in cloud.reason("A", "CREATE_FAILED")
    nested = "Resources: {A: {Type: AWS::ECS::Cluster, Properties: {Configuration: {Odd: 1}}}}"
    cloud.create(nested, "nested")
    assert "AWS::ECS::Cluster.Configuration.Odd is not rehearsed" in cloud.reason("A", "CREATE_FAILED", "nested")


def test_a_type_behind_a_false_condition_is_no_obstacle(cloud: Any) -> None:
    """A resource that is not made may be of a type that is not rehearsed."""
    template = """
Conditions: {Never: !Equals [a, b]}
Resources: {A: {Type: AWS::Foo::Bar, Condition: Never}, B: {Type: AWS::SNS::Topic}}
Outputs: {A: {Condition: Never, Value: !Ref A}}
"""
    stack = cloud.create(template)
    assert ("CREATE_COMPLETE", []) == (stack["StackStatus"], stack["Outputs"])


def test_the_stacks_tags_reach_its_resources(cloud: Any) -> None:
    """Stack tags are put on every resource that takes tags; the resource's own tags win."""
    tags = [{"Key": "project", "Value": "digits"}, {"Key": "own", "Value": "stack"}]
    template = "Resources: {T: {Type: AWS::SNS::Topic, Properties: {Tags: [{Key: own, Value: resource}]}}}"
    cloud.create(template, Tags=tags)
    found = cloud.client("sns").list_tags_for_resource(ResourceArn=cloud.physical_id("T"))["Tags"]
    assert {"project": "digits", "own": "resource"} == {tag["Key"]: tag["Value"] for tag in found}


def test_parameters_of_aws_types_must_exist(cloud: Any) -> None:
    """A VPC that is not there is refused before anything starts."""
    template = "Parameters: {V: {Type: AWS::EC2::VPC::Id}}\nResources: {T: {Type: AWS::SNS::Topic}}"
    given = [{"ParameterKey": "V", "ParameterValue": "vpc-0"}]
    assert ("ValidationError", True) == (
        lambda answer: (answer[0], "parameter value vpc-0 for parameter name V does not exist" in answer[1])
    )(refused(cloud.stacks.create_stack, StackName="it", TemplateBody=template, Parameters=given))


def test_stacks_live_in_their_region(cloud: Any) -> None:
    """A stack in us-east-1 is not seen in eu-west-1, and its resources are made there."""
    elsewhere = cloud.client("cloudformation", "us-east-1")
    stack_id = elsewhere.create_stack(StackName="it", TemplateBody=LOGS)["StackId"]
    elsewhere.get_waiter("stack_create_complete").wait(StackName="it", WaiterConfig={"Delay": 0.1})
    assert ":us-east-1:" in stack_id
    assert [] == cloud.stacks.describe_stacks()["Stacks"]
    assert 1 == len(cloud.client("logs", "us-east-1").describe_log_groups()["logGroups"])


def test_secrets_are_read_when_a_resource_is_made_and_never_shown(cloud: Any) -> None:
    """A dynamic reference gives the secret's value to the resource, and stays a reference in the events."""
    template = """
Resources:
  Secret:
    Type: AWS::SecretsManager::Secret
    Properties: {GenerateSecretString: {PasswordLength: 20, ExcludePunctuation: true}}
  Topic: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Sub '{{resolve:secretsmanager:${Secret}}}'}}
"""
    cloud.create(template)
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=cloud.physical_id("Secret"))["SecretString"]
    topic = cloud.client("sns").get_topic_attributes(TopicArn=cloud.physical_id("Topic"))["Attributes"]
    assert (20, secret) == (len(secret), topic["DisplayName"])
    assert secret not in str(cloud.stacks.describe_stack_events(StackName="it"))
