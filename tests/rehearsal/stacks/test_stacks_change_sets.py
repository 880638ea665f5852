"""Change sets: what would happen, said before it happens."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

TEMPLATE = """
Parameters: {Days: {Type: Number, Default: 30}, Name: {Type: String, Default: first}}
Resources:
  Group: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: !Ref Name, RetentionInDays: !Ref Days}}
  Topic: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Sub 'about ${Group}'}}
  Role:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: !GetAtt Group.Arn
      PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: '*', Resource: '*'}]}
Outputs: {GroupName: {Value: !Ref Group}}
"""
IAM = {"Capabilities": ["CAPABILITY_IAM"]}
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."


def changes(change_set: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The resource changes by logical id."""
    return {change["ResourceChange"]["LogicalResourceId"]: change["ResourceChange"] for change in change_set["Changes"]}


def causes(change: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(property, evaluation, source, entity) of every detail."""
    return [
        (
            detail["Target"].get("Name", ""),
            detail["Evaluation"],
            detail["ChangeSource"],
            detail.get("CausingEntity", ""),
        )
        for detail in change["Details"]
    ]


def test_a_stack_is_created_by_a_change_set(cloud: Any) -> None:
    """The stack waits in REVIEW_IN_PROGRESS until its change set is executed."""
    change_set = cloud.change_set(TEMPLATE, "CREATE", **IAM)
    assert ("CREATE_COMPLETE", "AVAILABLE") == (change_set["Status"], change_set["ExecutionStatus"])
    assert {"Add"} == {change["Action"] for change in changes(change_set).values()}
    assert "REVIEW_IN_PROGRESS" == cloud.stacks.describe_stacks(StackName="it")["Stacks"][0]["StackStatus"]
    cloud.stacks.execute_change_set(ChangeSetName=change_set["ChangeSetId"], ClientRequestToken="run-1")
    stack = cloud.settled("it")
    assert ("CREATE_COMPLETE", change_set["ChangeSetId"]) == (stack["StackStatus"], stack["ChangeSetId"])
    events = cloud.stacks.describe_stack_events(StackName="it")["StackEvents"]
    assert "run-1" == events[0]["ClientRequestToken"]


def test_a_change_set_without_changes_fails(cloud: Any) -> None:
    """Nothing to do is a FAILED change set with AWS's own reason, and it cannot be executed."""
    cloud.create(TEMPLATE, **IAM)
    change_set = cloud.change_set(TEMPLATE, **IAM)
    assert ("FAILED", NO_CHANGES) == (change_set["Status"], change_set["StatusReason"])
    with pytest.raises(cloud.stacks.exceptions.InvalidChangeSetStatusException, match=r"current status of \[FAILED\]"):
        cloud.stacks.execute_change_set(ChangeSetName="change", StackName="it")


def test_an_update_in_place_says_why(cloud: Any) -> None:
    """A parameter's new value is a static change without replacement; what reads attributes is dynamic."""
    cloud.create(TEMPLATE, **IAM)
    found = changes(cloud.change_set(TEMPLATE, Parameters={"Days": "7"}, **IAM))
    assert {"Group", "Role"} == set(found)
    assert ("Modify", "False", ["Properties"]) == tuple(
        found["Group"][key] for key in ("Action", "Replacement", "Scope")
    )
    assert [("RetentionInDays", "Static", "ParameterReference", "Days")] == causes(found["Group"])
    assert "Conditional" == found["Role"]["Replacement"]
    assert [("Description", "Dynamic", "ResourceAttribute", "Group.Arn")] == causes(found["Role"])


def test_a_replacement_is_announced_with_all_it_draws_along(cloud: Any) -> None:
    """A replaced resource is Replacement True; what refers to it changes too, with a value known only later."""
    cloud.create(TEMPLATE, **IAM)
    change_set = cloud.change_set(TEMPLATE, Parameters={"Name": "second"}, **IAM)
    assert "AfterValue" not in changes(change_set)["Group"]["Details"][0]["Target"]
    asked = {"ChangeSetName": change_set["ChangeSetId"], "IncludePropertyValues": True}
    found = changes(cloud.stacks.describe_change_set(**asked))
    assert ("True", "ReplaceAndDelete") == (found["Group"]["Replacement"], found["Group"]["PolicyAction"])
    target = found["Group"]["Details"][0]["Target"]
    assert ("first", "second", "Always") == (target["BeforeValue"], target["AfterValue"], target["RequiresRecreation"])
    assert [("DisplayName", "Dynamic", "ResourceReference", "Group")] == causes(found["Topic"])
    assert "about {{changeSet:KNOWN_AFTER_APPLY}}" == found["Topic"]["Details"][0]["Target"]["AfterValue"]
    cloud.stacks.execute_change_set(ChangeSetName="change", StackName="it")
    assert "UPDATE_COMPLETE" == cloud.settled("it")["StackStatus"]
    assert "second" == cloud.physical_id("Group")


def test_a_direct_change_and_a_removal_are_named(cloud: Any) -> None:
    """A change in the template's text is DirectModification; a resource that leaves is a Remove with its policy."""
    cloud.create(TEMPLATE, **IAM)
    changed = TEMPLATE.replace("RetentionInDays: !Ref Days", "RetentionInDays: 3")
    head, _, rest = changed.partition("  Role:")
    changed = head + "Outputs:" + rest.partition("Outputs:")[2]
    found = changes(cloud.change_set(changed))
    assert [("RetentionInDays", "Static", "DirectModification", "")] == causes(found["Group"])
    assert ("Remove", "Delete") == (found["Role"]["Action"], found["Role"]["PolicyAction"])


def test_only_outputs_or_tags_are_changes_too(cloud: Any) -> None:
    """New outputs and new stack tags make a change set that can be executed."""
    cloud.create(TEMPLATE, **IAM)
    more = TEMPLATE.replace("Outputs: {", "Outputs: {More: {Value: 1}, ")
    change_set = cloud.change_set(more, **IAM)
    assert ("CREATE_COMPLETE", []) == (change_set["Status"], change_set["Changes"])
    cloud.stacks.execute_change_set(ChangeSetName=change_set["ChangeSetId"])
    assert {"GroupName", "More"} == {output["OutputKey"] for output in cloud.settled("it")["Outputs"]}
    cloud.stacks.delete_change_set(ChangeSetName=change_set["ChangeSetId"])
    tagged = cloud.change_set(more, Tags=[{"Key": "a", "Value": "b"}], **IAM)
    assert "Tags" in changes(tagged)["Topic"]["Scope"]


def test_the_previous_template_with_one_new_value(cloud: Any) -> None:
    """UsePreviousTemplate and UsePreviousValue make a parameter-only update."""
    cloud.create(TEMPLATE, Parameters={"Name": "mine"}, **IAM)
    given = [{"ParameterKey": "Name", "UsePreviousValue": True}, {"ParameterKey": "Days", "ParameterValue": "5"}]
    cloud.stacks.update_stack(StackName="it", UsePreviousTemplate=True, Parameters=given, **IAM)
    stack = cloud.settled("it")
    shown = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}
    assert ("UPDATE_COMPLETE", {"Name": "mine", "Days": "5"}) == (stack["StackStatus"], shown)


def test_change_sets_are_refused_where_they_cannot_be(cloud: Any) -> None:
    """An UPDATE needs a stack, a CREATE needs none, a name is used once, and a missing one is not found."""
    make = cloud.stacks.create_change_set

    def refusal(**request: Any) -> str:
        with pytest.raises(ClientError) as caught:
            make(StackName="it", ChangeSetName="change", TemplateBody=TEMPLATE, **IAM, **request)
        return str(caught.value.response["Error"]["Message"])

    assert "Stack [it] does not exist" == refusal(ChangeSetType="UPDATE")
    cloud.create(TEMPLATE, **IAM)
    text = "Stack [it] already exists and cannot be created again with the changeSet [change]."
    assert text == refusal(ChangeSetType="CREATE")
    cloud.change_set(TEMPLATE, Parameters={"Days": "7"}, **IAM)
    assert "ChangeSet change already exists" == refusal(ChangeSetType="UPDATE")
    cloud.stacks.delete_change_set(ChangeSetName="change", StackName="it")
    with pytest.raises(
        cloud.stacks.exceptions.ChangeSetNotFoundException, match=r"ChangeSet \[change\] does not exist"
    ):
        cloud.stacks.describe_change_set(ChangeSetName="change", StackName="it")
    assert [] == cloud.stacks.list_change_sets(StackName="it")["Summaries"]


def test_a_failed_creation_by_change_set_can_delete_itself(cloud: Any) -> None:
    """OnStackFailure DELETE leaves no stack behind."""
    failing = "Resources: {Bad: {Type: AWS::S3::Bucket, Properties: {BucketName: ab}}}"
    change_set = cloud.change_set(failing, "CREATE", OnStackFailure="DELETE")
    cloud.stacks.execute_change_set(ChangeSetName=change_set["ChangeSetId"])
    assert "DELETE_COMPLETE" == cloud.settled(change_set["StackId"])["StackStatus"]
