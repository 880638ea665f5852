"""CloudFormation: stacks, change sets and events in plain values; pure request builders above, thin senders below.

A change set is always made, shown and then executed; nothing here decides whether it may be.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-changesets.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pipeline.aws.session import Aws
from pipeline.errors import AwsError

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]
# An empty change set is FAILED, and only its StatusReason says why; there is no code for it:
# https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeChangeSet.html
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as CloudFormation describes it."""

    name: str
    id: str
    status: str
    status_reason: str
    parameters: dict[str, str]
    outputs: dict[str, str]
    tags: dict[str, str]

    @property
    def is_in_progress(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """One resource that a change set touches. `replacement` is True, False or Conditional, in AWS's words.

    `hangs_on` names the resources in the same stack by which a Conditional one is replaced if they are; an empty
    name in it stands for anything else.
    """

    action: str
    logical_id: str
    resource_type: str
    replacement: str
    properties: tuple[str, ...]
    hangs_on: frozenset[str] = frozenset()

    def __str__(self) -> str:
        replaced = {"True": ", replaced", "Conditional": ", perhaps replaced"}.get(self.replacement, "")
        named = f" ({', '.join(self.properties)}{replaced})" if self.properties else replaced
        return f"{self.action} {self.logical_id} {self.resource_type}{named}"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """A change set as CloudFormation describes it."""

    id: str
    status: str
    status_reason: str
    changes: tuple[ResourceChange, ...]

    @property
    def is_empty(self) -> bool:
        return self.status == "FAILED" and any(words in self.status_reason for words in NO_CHANGES)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a stack's history."""

    id: str
    logical_id: str
    resource_type: str
    status: str
    reason: str

    @property
    def is_chatter(self) -> bool:
        """Whether it only says that what was begun was begun (`Resource creation Initiated`, `User Initiated`)."""
        return self.reason.endswith(" Initiated")

    def is_end_of(self, stack: Stack) -> bool:
        """Whether this event says that an operation on the whole stack is over, well or not."""
        is_own = self.resource_type == "AWS::CloudFormation::Stack" and self.logical_id == stack.name
        return is_own and not self.status.endswith("_IN_PROGRESS")

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.status}  {self.resource_type}  {self.logical_id}{reason}"


def change_set_request(
    stack_name: str,
    change_set_name: str,
    *,
    is_new: bool,
    template_body: str | None,
    parameters: Mapping[str, str | None],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """The CreateChangeSet request. No template: the previous one; a parameter that is None: its previous value."""
    template = {"UsePreviousTemplate": True} if template_body is None else {"TemplateBody": template_body}
    return {
        "StackName": stack_name,
        "ChangeSetName": change_set_name,
        "ClientToken": change_set_name,
        "ChangeSetType": "CREATE" if is_new else "UPDATE",
        **template,
        "Parameters": [_parameter(key, value) for key, value in sorted(parameters.items())],
        "Capabilities": CAPABILITIES,
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
    }


def _parameter(key: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return {"ParameterKey": key, "UsePreviousValue": True}
    return {"ParameterKey": key, "ParameterValue": value}


def create_change_set(aws: Aws, request: Mapping[str, Any], *, region: str | None = None) -> str:
    """Send a `change_set_request`; the change set's ARN."""
    return str(aws.call("cloudformation", "create_change_set", region=region, **request)["Id"])


def execute_request(change_set_id: str) -> dict[str, str]:
    """The ExecuteChangeSet request; its token is the change set's own, so that one sent again is the same one."""
    return {"ChangeSetName": change_set_id, "ClientRequestToken": change_set_id.rsplit("/", 1)[-1]}


def describe_change_set(aws: Aws, change_set_id: str, *, region: str | None = None) -> ChangeSet:
    """The change set, with every page of its changes."""
    request: dict[str, Any] = {"ChangeSetName": change_set_id}
    changes: list[ResourceChange] = []
    while True:
        page = aws.call("cloudformation", "describe_change_set", region=region, **request)
        changes += [_resource_change(entry["ResourceChange"]) for entry in page.get("Changes", [])]
        if not page.get("NextToken"):
            return ChangeSet(change_set_id, page["Status"], page.get("StatusReason", ""), tuple(changes))
        request["NextToken"] = page["NextToken"]


def execute_change_set(aws: Aws, change_set_id: str, *, region: str | None = None) -> None:
    """Let CloudFormation carry the change set out; a failure is rolled back by CloudFormation."""
    aws.call("cloudformation", "execute_change_set", region=region, **execute_request(change_set_id))


def delete_change_set(aws: Aws, change_set_id: str, *, region: str | None = None) -> None:
    """Throw a change set away that will not be executed."""
    aws.call("cloudformation", "delete_change_set", region=region, ChangeSetName=change_set_id)


def describe_stack(aws: Aws, name_or_id: str, *, region: str | None = None) -> Stack | None:
    """The stack, or None when there is none of that name."""
    try:
        answer = aws.call("cloudformation", "describe_stacks", region=region, StackName=name_or_id)
    except AwsError as error:
        # ValidationError stands for many things; only its message tells an absent stack from a bad call.
        if error.code == "ValidationError" and "does not exist" in error.message:
            return None
        raise
    return _stack(answer["Stacks"][0])


def outputs(aws: Aws, name: str, *, region: str | None = None) -> dict[str, str]:
    """The stack's outputs; empty when there is no such stack."""
    stack = describe_stack(aws, name, region=region)
    return stack.outputs if stack else {}


def template_body(aws: Aws, name: str, *, region: str | None = None) -> str:
    """The template that the stack was last given, as it was written."""
    answer = aws.call("cloudformation", "get_template", region=region, StackName=name, TemplateStage="Original")
    return str(answer["TemplateBody"])


def newest_event_id(aws: Aws, name_or_id: str, *, region: str | None = None) -> str:
    """The id of the stack's last event, to ask later for those after it; empty when there is none."""
    events = aws.pages("cloudformation", "describe_stack_events", "StackEvents", region=region, StackName=name_or_id)
    return next((str(event["EventId"]) for event in events), "")


def events_after(aws: Aws, name_or_id: str, event_id: str, *, region: str | None = None) -> list[Event]:
    """The stack's events that came after `event_id`, oldest first (AWS gives the newest first)."""
    pages = aws.pages("cloudformation", "describe_stack_events", "StackEvents", region=region, StackName=name_or_id)
    return [_event(raw) for raw in takewhile(lambda raw: raw["EventId"] != event_id, pages)][::-1]


def delete_stack(aws: Aws, name_or_id: str, *, region: str | None = None) -> None:
    """Begin to delete a stack and all it made."""
    aws.call("cloudformation", "delete_stack", region=region, StackName=name_or_id)


def _stack(raw: Mapping[str, Any]) -> Stack:
    return Stack(
        name=raw["StackName"],
        id=raw["StackId"],
        status=raw["StackStatus"],
        status_reason=raw.get("StackStatusReason", ""),
        parameters={p["ParameterKey"]: p.get("ParameterValue", "") for p in raw.get("Parameters", [])},
        outputs={o["OutputKey"]: o["OutputValue"] for o in raw.get("Outputs", [])},
        tags={t["Key"]: t["Value"] for t in raw.get("Tags", [])},
    )


def _resource_change(raw: Mapping[str, Any]) -> ResourceChange:
    targets = [detail["Target"] for detail in raw.get("Details", []) if "Target" in detail]
    names = dict.fromkeys(target.get("Name") or target.get("Attribute", "") for target in targets)
    return ResourceChange(
        action=raw["Action"],
        logical_id=raw["LogicalResourceId"],
        resource_type=raw["ResourceType"],
        replacement=raw.get("Replacement", ""),
        properties=tuple(name for name in names if name),
        hangs_on=frozenset(_cause(detail) for detail in raw.get("Details", []) if _may_recreate(detail)),
    )


def _may_recreate(detail: Mapping[str, Any]) -> bool:
    return str(detail.get("Target", {}).get("RequiresRecreation", "Never")) != "Never"


def _cause(detail: Mapping[str, Any]) -> str:
    """The resource whose change is passed on by a reference (`Name`, or `Name.Attribute`), or nothing.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChangeDetail.html
    """
    is_reference = detail.get("ChangeSource") in ("ResourceReference", "ResourceAttribute")
    return str(detail.get("CausingEntity", "")).partition(".")[0] if is_reference else ""


def _event(raw: Mapping[str, Any]) -> Event:
    return Event(
        id=raw["EventId"],
        logical_id=raw.get("LogicalResourceId", ""),
        resource_type=raw.get("ResourceType", ""),
        status=raw.get("ResourceStatus", ""),
        reason=raw.get("ResourceStatusReason", ""),
    )
