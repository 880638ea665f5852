"""Templates as plain data: YAML with CloudFormation's short tags, and ways to walk it without resolving anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

# A rule yields (logical id, what is wrong).
Faults = Iterator[tuple[str, str]]
Properties = Mapping[str, Any]


class _Loader(yaml.SafeLoader):
    """Knows `!Ref`, `!Sub`, `!If` ... and turns them into their long forms."""


def _long_form(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        text = loader.construct_scalar(node)
        return {name: text.split(".", 1) if tag == "GetAtt" else text}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)  # YAML has no fourth kind of node
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _long_form)


def parse(text: str) -> dict[str, Any]:
    """A template's text, YAML or JSON, as data in which every intrinsic function has its long form."""
    parsed = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with AWS's tags
    return parsed if isinstance(parsed, dict) else {}


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    data: Mapping[str, Any]

    def of_type(self, kind: str) -> Iterator[tuple[str, Properties]]:
        """Logical id and properties of every resource of one type."""
        for logical_id, resource in (self.data.get("Resources") or {}).items():
            if resource.get("Type") == kind:
                yield logical_id, resource.get("Properties") or {}

    def properties(self, logical_id: str | None) -> Properties:
        """The properties of one resource, empty when there is no such resource."""
        return ((self.data.get("Resources") or {}).get(logical_id) or {}).get("Properties") or {}


def items(value: Any) -> list[Any]:
    """A value as the list that it may become: both branches of every Fn::If, without AWS::NoValue."""
    if value is None or value == {"Ref": "AWS::NoValue"}:
        return []
    if isinstance(value, dict) and set(value) == {"Fn::If"}:
        return [item for branch in value["Fn::If"][1:] for item in items(branch)]
    if isinstance(value, list):
        return [item for element in value for item in items(element)]
    return [value]


def is_true(value: Any) -> bool:
    """CloudFormation takes `true` and `"true"` for the same."""
    return bool(items(value)) and all(str(item).lower() == "true" for item in items(value))


def target(value: Any) -> str | None:
    """The logical id or parameter that a !Ref or !GetAtt names."""
    if not isinstance(value, dict):
        return None
    if "Ref" in value:
        return str(value["Ref"])
    if "Fn::GetAtt" in value:
        parts = value["Fn::GetAtt"]
        return str(parts[0] if isinstance(parts, list) else parts.split(".")[0])
    return None


def mentions(value: Any, name: str) -> bool:
    """Whether `name` is referred to anywhere inside, by !Ref, !GetAtt or !Sub."""
    if target(value) == name:
        return True
    if isinstance(value, dict):
        return any(mentions(inner, name) for inner in value.values())
    if isinstance(value, list):
        return any(mentions(inner, name) for inner in value)
    return isinstance(value, str) and (f"${{{name}}}" in value or f"${{{name}." in value)


def attributes(properties: Properties, key: str) -> dict[str, str]:
    """A list of Key and Value, as of target groups and load balancers, by key."""
    return {
        str(item.get("Key")): str(item.get("Value")) for item in items(properties.get(key)) if isinstance(item, dict)
    }


def text_of(value: Any) -> str:
    """A value as one text to search in; intrinsic functions stand in their JSON form."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
