"""What a change set would do: every resource added, modified or removed, and why, before anything is touched.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChange.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rehearsal.context import Context
from rehearsal.stacks.intrinsics import Resolver
from rehearsal.stacks.kind import MISSING, Kind, changed_names
from rehearsal.stacks.kinds import KINDS
from rehearsal.stacks.references import references
from rehearsal.stacks.resolving import active_resources, outputs, resolver, wanted_properties
from rehearsal.stacks.stack import Resource, Stack, Target
from rehearsal.stacks.template import creation_order, deletion_policy

VALUES = ("BeforeValue", "AfterValue")
CONTEXTS = ("BeforeContext", "AfterContext")
ATTRIBUTES = ("Metadata", "DeletionPolicy", "UpdateReplacePolicy")


@dataclass
class Plan:
    """The changes between a stack and a target. `outputs_change`: whether any output would."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    outputs_change: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.outputs_change


def plan(context: Context, stack: Stack, target: Target) -> Plan:
    """What would happen to `stack` on its way to `target`, with the values before and after."""
    return _Planner(context, stack, target).plan()


def without_values(change: dict[str, Any]) -> dict[str, Any]:
    """A change as DescribeChangeSet shows it when property values were not asked for."""
    resource = {key: value for key, value in change["ResourceChange"].items() if key not in CONTEXTS}
    details = [
        detail | {"Target": {key: value for key, value in detail["Target"].items() if key not in VALUES}}
        for detail in resource["Details"]
    ]
    return change | {"ResourceChange": resource | {"Details": details}}


@dataclass
class _Planner:
    context: Context
    stack: Stack
    target: Target
    unknown: dict[str, bool] = field(default_factory=dict)
    resolve: Resolver = field(init=False)

    def __post_init__(self) -> None:
        self.resolve = resolver(self.context, self.stack, self.target, self.unknown)

    def plan(self) -> Plan:
        active = active_resources(self.resolve)
        result = Plan()
        for logical_id in creation_order(active):
            change = self._change(logical_id)
            if change:
                result.changes.append({"Type": "Resource", "ResourceChange": change})
        gone = [resource for name, resource in self.stack.resources.items() if name not in active]
        result.changes += [{"Type": "Resource", "ResourceChange": _removal(resource)} for resource in gone]
        result.outputs_change = self._outputs_change()
        return result

    def _change(self, logical_id: str) -> dict[str, Any] | None:
        declaration = self.target.template.resources[logical_id]
        current = self.stack.resources.get(logical_id)
        if current is None:
            self.unknown[logical_id] = True
            return _summary("Add", logical_id, declaration["Type"], None)
        kind = KINDS[declaration["Type"]]
        wanted = wanted_properties(self.resolve, self.target, kind, logical_id)
        names = sorted(changed_names(current.properties, wanted))
        attributes = [name for name in ATTRIBUTES if current.declaration.get(name) != declaration.get(name)]
        if not names and not attributes:
            return None
        details = [detail for name in names for detail in self._details(current, wanted, name, kind)]
        details += [_attribute_detail(name) for name in attributes]
        replacement = _replacement(kind, names, details)
        self.unknown[logical_id] = replacement != "False"
        return self._modification(current, declaration, wanted, replacement, details)

    def _modification(
        self,
        current: Resource,
        declaration: dict[str, Any],
        wanted: dict[str, Any],
        replacement: str,
        details: list[dict[str, Any]],
    ) -> dict[str, Any]:
        change = _summary("Modify", current.logical_id, current.type_name, current.physical_id)
        change |= {
            "Replacement": replacement,
            "Scope": sorted({detail["Target"]["Attribute"] for detail in details}),
            "Details": details,
        }
        if replacement != "False":
            change["PolicyAction"] = _replace_action(declaration.get("UpdateReplacePolicy", "Delete"))
        properties = (current.properties, wanted)
        return change | {key: json.dumps({"Properties": it}) for key, it in zip(CONTEXTS, properties, strict=True)}

    def _details(self, current: Resource, wanted: dict[str, Any], name: str, kind: Kind) -> Iterator[dict[str, Any]]:
        """One detail per cause: the template's text, a parameter's value, another resource."""
        recreation = "Always" if name in kind.replaces else "Never"
        target: dict[str, Any] = {
            "Attribute": "Tags" if name == "Tags" else "Properties",
            "Name": name,
            "RequiresRecreation": recreation,
        }
        target |= _values(current.properties.get(name, MISSING), wanted.get(name, MISSING))
        before = (current.declaration.get("Properties") or {}).get(name)
        after = (self.target.template.resources[current.logical_id].get("Properties") or {}).get(name)
        causes = list(self._causes(after))
        if before != after or not causes:
            yield {"Target": target, "Evaluation": "Static", "ChangeSource": "DirectModification"}
        for cause in causes:
            yield {"Target": target, **cause}

    def _causes(self, value: Any) -> Iterator[dict[str, Any]]:
        for reference in dict.fromkeys(references(value)):
            name = reference.name
            if name in self.target.parameters and self._parameter_changed(name):
                yield {"Evaluation": "Static", "ChangeSource": "ParameterReference", "CausingEntity": name}
            elif reference.attribute and name in self.unknown:
                entity = f"{name}.{reference.attribute}"
                yield {"Evaluation": "Dynamic", "ChangeSource": "ResourceAttribute", "CausingEntity": entity}
            elif self.unknown.get(name):
                yield {"Evaluation": "Dynamic", "ChangeSource": "ResourceReference", "CausingEntity": name}

    def _parameter_changed(self, name: str) -> bool:
        return self.stack.target.parameters.get(name) != self.target.parameters[name]

    def _outputs_change(self) -> bool:
        after = outputs(self.resolve)
        return sorted(self.stack.outputs, key=str) != sorted(after, key=str)


def _replacement(kind: Kind, names: list[str], details: list[dict[str, Any]]) -> str:
    """True when a replacing property surely changes, Conditional when only execution can tell."""
    replacing = [name for name in names if name in kind.replaces]
    if not replacing:
        return "False"
    sure = {detail["Target"].get("Name") for detail in details if detail["Evaluation"] == "Static"}
    return "True" if sure & set(replacing) else "Conditional"


def _summary(action: str, logical_id: str, kind: str, physical_id: str | None) -> dict[str, Any]:
    change: dict[str, Any] = {"Action": action, "LogicalResourceId": logical_id, "ResourceType": kind}
    if physical_id:
        change["PhysicalResourceId"] = physical_id
    return change | {"Scope": [], "Details": []}


def _removal(resource: Resource) -> dict[str, Any]:
    policy = "Delete" if deletion_policy(resource.declaration) == "Delete" else "Retain"
    return _summary("Remove", resource.logical_id, resource.type_name, resource.physical_id) | {"PolicyAction": policy}


def _replace_action(policy: str) -> str:
    return "ReplaceAndDelete" if policy == "Delete" else "ReplaceAndRetain"


def _attribute_detail(name: str) -> dict[str, Any]:
    target = {"Attribute": name, "RequiresRecreation": "Never"}
    return {"Target": target, "Evaluation": "Static", "ChangeSource": "DirectModification"}


def _values(*values: Any) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in zip(VALUES, values, strict=True)
        if value is not MISSING
    }
