"""A small CloudFormation by hand: change sets, stacks that take a few looks to change, and events.

Has `call` and `pages` as the pipeline's own `Aws` has them. A stack's operation ends after `looks` descriptions, as
`endings` say; the service behind a stack and its rules' weights are plain attributes.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-lifecycle.html
"""

# ruff: noqa: N803 - arguments are AWS's own names

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import AwsError

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
BLUE, GREEN = "arn:aws:elasticloadbalancing:tg/blue", "arn:aws:elasticloadbalancing:tg/green"
CLUSTER, SERVICE_NAME, LIVE = "cluster-1", "service-1", "arn:aws:ecs:eu-west-1:123456789012:task-definition/p-e-s:7"
SERVICE_OUTPUTS = {
    "ServiceName": SERVICE_NAME,
    "BlueTargetGroupArn": BLUE,
    "GreenTargetGroupArn": GREEN,
    "ProductionRuleArn": "rule/production",
    "TestRuleArn": "rule/test",
}


@dataclass
class SmallStack:
    name: str
    status: str
    template: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=lambda: {"onnxship:project": "demo"})
    outputs: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    looks_left: int = 0
    ending: str = ""

    def describe(self) -> dict[str, Any]:
        if self.ending:
            self.looks_left -= 1
            if self.looks_left <= 0:
                self.end()
        return {
            "StackName": self.name,
            "StackId": self.name,
            "StackStatus": self.status,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()],
            "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()],
            "Tags": [{"Key": k, "Value": v} for k, v in self.tags.items()],
        }

    def end(self) -> None:
        self.status, self.ending = self.ending, ""
        self.add_event("AWS::CloudFormation::Stack", self.name, self.status)

    def add_event(self, resource_type: str, logical_id: str, status: str, reason: str = "") -> None:
        event = {"ResourceType": resource_type, "LogicalResourceId": logical_id, "ResourceStatus": status}
        self.events.append({"EventId": f"e{len(self.events)}", **event, "ResourceStatusReason": reason})


@dataclass
class SmallCloudFormation:
    """`changes`: what the next real change set shows. `failures`: events of the next execution, which then fails."""

    stacks: dict[str, SmallStack] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    looks: int = 3
    executed: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    change_sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    running_deployments: list[str] = field(default_factory=list)
    production: dict[str, int] = field(default_factory=lambda: {BLUE: 0, GREEN: 100})
    weights_after_update: dict[str, int] | None = None
    deployments: int = 1
    asked_for: str = LIVE  # what DescribeServices shows
    outputs_of: dict[str, dict[str, str]] = field(default_factory=dict)

    def call(self, service: str, operation: str, /, *, region: str | None = None, **request: Any) -> dict[str, Any]:
        return dict(getattr(self, operation)(**request))

    def pages(
        self, service: str, operation: str, key: str, /, *, region: str | None = None, **request: Any
    ) -> Iterator:
        return iter(self.call(service, operation, **request)[key])

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        return {"Stacks": [self._stack(StackName).describe()]}

    def get_template(self, StackName: str, TemplateStage: str) -> dict[str, Any]:
        return {"TemplateBody": self._stack(StackName).template}

    def describe_stack_events(self, StackName: str) -> dict[str, Any]:
        return {"StackEvents": self._stack(StackName).events[::-1]}

    def create_change_set(self, **request: Any) -> dict[str, Any]:
        name = request["StackName"]
        if request["ChangeSetType"] == "CREATE":
            self.stacks[name] = SmallStack(name, "REVIEW_IN_PROGRESS", tags={})
        stack = self._stack(name)
        request["resolved"] = {
            p["ParameterKey"]: stack.parameters[p["ParameterKey"]] if p.get("UsePreviousValue") else p["ParameterValue"]
            for p in request["Parameters"]
        }
        request["template"] = stack.template if request.get("UsePreviousTemplate") else request["TemplateBody"]
        same = (request["resolved"], request["template"]) == (stack.parameters, stack.template)
        request["status"] = ("FAILED", NO_CHANGES) if same else ("CREATE_COMPLETE", "")
        self.change_sets[request["ChangeSetName"]] = request
        return {"Id": request["ChangeSetName"]}

    def describe_change_set(self, ChangeSetName: str) -> dict[str, Any]:
        status, reason = self.change_sets[ChangeSetName]["status"]
        changes = [{"ResourceChange": change} for change in self.changes] if status != "FAILED" else []
        return {"Status": status, "StatusReason": reason, "Changes": changes}

    def delete_change_set(self, ChangeSetName: str) -> dict[str, Any]:
        del self.change_sets[ChangeSetName]
        return {}

    def execute_change_set(self, ChangeSetName: str, ClientRequestToken: str) -> dict[str, Any]:
        request = self.change_sets.pop(ChangeSetName)
        self.executed.append(request)
        stack = self._stack(request["StackName"])
        kind = request["ChangeSetType"]
        stack.looks_left, stack.status = self.looks, f"{kind}_IN_PROGRESS"
        stack.ending = f"{kind}_COMPLETE"
        if self.failures:
            stack.ending = "ROLLBACK_COMPLETE" if kind == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
            for logical_id, resource_type, reason in self.failures:
                stack.add_event(resource_type, logical_id, f"{kind}_FAILED", reason)
        else:
            stack.parameters, stack.template = request["resolved"], request["template"]
            stack.tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
            stack.outputs = self.outputs_of.get(stack.name, stack.outputs)
            self.production = self.weights_after_update or self.production
        return {}

    def delete_stack(self, StackName: str) -> dict[str, Any]:
        self.deleted.append(StackName)
        del self.stacks[StackName]
        return {}

    def describe_services(self, cluster: str, services: list[str]) -> dict[str, Any]:
        described = {
            "serviceArn": "arn:service-1",
            "serviceName": SERVICE_NAME,
            "status": "ACTIVE",
            "taskDefinition": self.asked_for,
            "desiredCount": 2,
            "runningCount": 2,
            "pendingCount": 0,
            "events": [],
            "deploymentConfiguration": {},
        }
        return {"services": [described]}

    def list_service_deployments(self, cluster: str, service: str, status: list[str] | None = None) -> dict[str, Any]:
        ended = [f"deployment/{number}" for number in range(self.deployments, 0, -1)]
        found = self.running_deployments if status else ended
        return {"serviceDeployments": [{"serviceDeploymentArn": arn} for arn in found]}

    def describe_service_deployments(self, serviceDeploymentArns: list[str]) -> dict[str, Any]:
        """All went well, but one that was to bring what was asked for last: ECS went back from it."""
        arn = serviceDeploymentArns[0]
        is_rolled_back = self.asked_for != LIVE and arn == f"deployment/{self.deployments}"
        described = {
            "serviceDeploymentArn": arn,
            "status": "ROLLBACK_SUCCESSFUL" if is_rolled_back else "SUCCESSFUL",
            "targetServiceRevision": {"arn": f"revision/{self.asked_for if is_rolled_back else LIVE}"},
            "rollback": {"serviceRevisionArn": f"revision/{LIVE}"} if is_rolled_back else {},
        }
        return {"serviceDeployments": [described]}

    def describe_service_revisions(self, serviceRevisionArns: list[str]) -> dict[str, Any]:
        found = [(arn, arn.removeprefix("revision/")) for arn in serviceRevisionArns]
        return {"serviceRevisions": [{"serviceRevisionArn": arn, "taskDefinition": task} for arn, task in found]}

    def describe_rules(self, RuleArns: list[str]) -> dict[str, Any]:
        groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in self.production.items()]
        return {"Rules": [{"Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]}]}

    def _stack(self, name: str) -> SmallStack:
        if name not in self.stacks:
            message = f"Stack with id {name} does not exist"
            raise AwsError(message, "", code="ValidationError", message=message)
        return self.stacks[name]
