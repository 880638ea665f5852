"""The API's contract: each answer holds only what botocore's model of CloudFormation knows, in its types."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from moto.core.responses import ActionResult

TEMPLATE = """
Description: All that a stack can show.
Parameters:
  Days: {Type: Number, Default: 30, Description: Days., AllowedValues: [7, 30]}
  Key: {Type: String, Default: x, NoEcho: true}
Resources: {Group: {Type: AWS::Logs::LogGroup, Metadata: {a: b}, Properties: {RetentionInDays: !Ref Days}}}
Outputs: {Group: {Value: !Ref Group, Description: Where it logs.}}
"""
NAME = {"StackName": "it"}


@pytest.fixture
def answers(server: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Every answer's faults by action, found before moto's serializer drops what the model does not know."""
    model = botocore.session.Session().get_service_model("cloudformation")
    found: dict[str, list[str]] = {}
    serialized = server.front.serialized

    def checked(front: Any, answer: ActionResult) -> Any:
        if isinstance(answer.result, dict):
            shape = model.operation_model(front._get_action()).output_shape
            report = ParamValidator().validate(answer.result, shape)
            found.setdefault(front._get_action(), []).extend([report.generate_report()] if report.has_errors() else [])
        return serialized(front, answer)

    monkeypatch.setattr(server.front, "serialized", checked)
    return found


def test_every_answer_fits_botocores_model(cloud: Any, answers: dict[str, list[str]]) -> None:
    """Each action's answer has the members and types that the model names, and boto3 reads it."""
    stacks = cloud.stacks
    made = cloud.change_set(TEMPLATE, "CREATE", Description="first", Tags=[{"Key": "a", "Value": "b"}])
    assert 1 == len(stacks.list_change_sets(**NAME)["Summaries"])
    stacks.execute_change_set(ChangeSetName=made["ChangeSetId"])
    assert "CREATE_COMPLETE" == cloud.settled("it")["StackStatus"]
    assert TEMPLATE == stacks.get_template(**NAME)["TemplateBody"]
    assert 2 == len(stacks.get_template_summary(**NAME)["Parameters"])
    assert ["Days", "Key"] == [
        it["ParameterKey"] for it in stacks.validate_template(TemplateBody=TEMPLATE)["Parameters"]
    ]
    assert "it" == stacks.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"][0]["StackName"]
    cloud.update(TEMPLATE, Parameters={"Days": "7"})
    assert 1 == len(stacks.describe_stack_resources(**NAME, LogicalResourceId="Group")["StackResources"])
    assert (
        cloud.physical_id("Group")
        == stacks.list_stack_resources(**NAME)["StackResourceSummaries"][0]["PhysicalResourceId"]
    )
    stacks.update_termination_protection(**NAME, EnableTerminationProtection=False)
    stacks.delete_change_set(ChangeSetName="none", **NAME)
    cloud.events()
    cloud.create(TEMPLATE, "other")
    assert [] == [fault for faults in answers.values() for fault in faults]
    assert {"CreateChangeSet", "DescribeChangeSet", "DescribeStacks", "DescribeStackEvents", "GetTemplate"} <= set(
        answers
    )


def test_long_listings_come_in_pages(cloud: Any) -> None:
    """A listing longer than a page is followed by its token."""
    many = "".join(f"  T{number}: {{Type: AWS::SNS::Topic}}\n" for number in range(40))
    cloud.create("Resources:\n" + many)
    first = cloud.stacks.describe_stack_events(**NAME)
    assert (100, True) == (len(first["StackEvents"]), "NextToken" in first)
    pages = cloud.stacks.get_paginator("describe_stack_events").paginate(**NAME)
    assert 2 + 3 * 40 == sum(len(page["StackEvents"]) for page in pages)


def test_templates_come_from_s3_too(cloud: Any) -> None:
    """A template longer than a request may hold is refused; by its S3 address it is read."""
    long = TEMPLATE + "#" * 51_200
    with pytest.raises(ClientError, match="less than or equal to 51200"):
        cloud.stacks.create_stack(**NAME, TemplateBody=long)
    s3 = cloud.client("s3", "us-east-1")
    s3.create_bucket(Bucket="templates")
    s3.put_object(Bucket="templates", Key="a/b.yaml", Body=long.encode())
    for host in ("templates.s3.eu-west-1.amazonaws.com/a", "s3.eu-west-1.amazonaws.com/templates/a"):
        summary = cloud.stacks.get_template_summary(TemplateURL=f"https://{host}/b.yaml")
        assert ["AWS::Logs::LogGroup"] == summary["ResourceTypes"]
