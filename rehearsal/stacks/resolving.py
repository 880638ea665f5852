"""What a stack's values are: parameters, pseudo parameters and the resources that are there, put into one resolver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rehearsal.context import Context
from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.intrinsics import KNOWN_AFTER_APPLY, Resolver
from rehearsal.stacks.kind import Kind
from rehearsal.stacks.parameters import referenced_values
from rehearsal.stacks.stack import Resource, Stack, Target


@dataclass
class LiveResources:
    """Ref and GetAtt answered from the stack's resources. `unknown`: those whose physical id (True), or only whose
    attributes (False), cannot be told before a change set is executed."""

    context: Context
    region: str
    resources: dict[str, Resource]
    unknown: dict[str, bool] = field(default_factory=dict)

    def physical_id(self, logical_id: str) -> str:
        if self.unknown.get(logical_id):
            return KNOWN_AFTER_APPLY
        return self._resource(logical_id).physical_id

    def attribute(self, logical_id: str, name: str) -> Any:
        if logical_id in self.unknown:
            return KNOWN_AFTER_APPLY
        attributes = self._resource(logical_id).attributes
        if name not in attributes:
            raise TemplateError(
                f"Template error: resource {logical_id} does not support attribute type {name} in Fn::GetAtt"
            )
        return attributes[name]

    def zones(self, region: str) -> list[str]:
        found = self.context.client("ec2", region).describe_availability_zones()["AvailabilityZones"]
        return sorted(zone["ZoneName"] for zone in found)

    def _resource(self, logical_id: str) -> Resource:
        if logical_id not in self.resources:
            raise TemplateError(f"Template error: resource {logical_id} is referenced but its condition does not hold")
        return self.resources[logical_id]


def resolver(context: Context, stack: Stack, target: Target, unknown: dict[str, bool] | None = None) -> Resolver:
    """A resolver of `target` over the stack's resources as they are at each question."""

    def stored_value(name: str) -> str:
        answer = context.client("ssm", stack.region).get_parameter(Name=name)
        return str(answer["Parameter"]["Value"])

    return Resolver(
        target.template,
        referenced_values(target.template, target.parameters, stored_value),
        {
            "AWS::AccountId": context.settings.account,
            "AWS::NotificationARNs": [],
            "AWS::Partition": "aws",
            "AWS::Region": stack.region,
            "AWS::StackId": stack.id,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": "amazonaws.com",
        },
        LiveResources(context, stack.region, stack.resources, {} if unknown is None else unknown),
    )


def active_resources(resolve: Resolver) -> dict[str, dict[str, Any]]:
    """The declarations of the resources whose condition holds."""
    active = resolve.active(resolve.template.resources)
    return {name: declaration for name, declaration in resolve.template.resources.items() if name in active}


def wanted_properties(resolve: Resolver, target: Target, kind: Kind, logical_id: str) -> dict[str, Any]:
    """A resource's resolved properties; the stack's own tags are added where its type takes tags.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-resource-tags.html
    """
    properties = resolve.resolve(target.template.resources[logical_id].get("Properties") or {})
    if target.tags and "Tags" in kind.properties:
        own = properties.get("Tags", [])
        keys = {tag["Key"] for tag in own}
        properties["Tags"] = [*own, *({"Key": k, "Value": v} for k, v in target.tags.items() if k not in keys)]
    return dict(properties)


def outputs(resolve: Resolver) -> list[dict[str, str]]:
    """The stack's outputs as DescribeStacks lists them."""
    active = resolve.active(resolve.template.outputs)
    return [
        {"OutputKey": key, "OutputValue": str(resolve.resolve(output["Value"]))}
        | ({"Description": output["Description"]} if "Description" in output else {})
        for key, output in resolve.template.outputs.items()
        if key in active
    ]
