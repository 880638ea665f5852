"""Where a template's values come from: every Ref, Fn::GetAtt and ${...} in a piece of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PSEUDO_PARAMETERS = {
    "AWS::AccountId", "AWS::NoValue", "AWS::NotificationARNs", "AWS::Partition", "AWS::Region", "AWS::StackId",
    "AWS::StackName", "AWS::URLSuffix",
}  # fmt: skip
# Every intrinsic function, and the method of Resolver that gives its value.
FUNCTIONS = {
    "Fn::And": "_and", "Fn::Base64": "_base64", "Fn::Cidr": "_cidr", "Fn::Equals": "_equals",
    "Fn::FindInMap": "_find_in_map", "Fn::GetAZs": "_get_azs", "Fn::GetAtt": "_get_att", "Fn::If": "_if",
    "Fn::Join": "_join", "Fn::Length": "_length", "Fn::Not": "_not", "Fn::Or": "_or", "Fn::Select": "_select",
    "Fn::Split": "_split", "Fn::Sub": "_sub", "Fn::ToJsonString": "_to_json_string",
}  # fmt: skip
SUB_VARIABLE = re.compile(r"\$\{([^!][^}]*)\}")


@dataclass(frozen=True)
class Reference:
    """A name in a template, and the attribute asked of it (empty for Ref)."""

    name: str
    attribute: str = ""


def references(value: Any) -> Iterator[Reference]:
    """Every reference inside `value`, however deep."""
    if isinstance(value, list):
        for element in value:
            yield from references(element)
    elif isinstance(value, dict):
        if len(value) == 1:
            yield from _own_references(value)
        for element in value.values():
            yield from references(element)


def functions(value: Any) -> Iterator[str]:
    """The name of every Fn:: function inside `value`."""
    if isinstance(value, (list, tuple)):
        for element in value:
            yield from functions(element)
    elif isinstance(value, dict):
        for key, element in value.items():
            if isinstance(key, str) and key.startswith("Fn::"):
                yield key
            yield from functions(element)


def attribute_path(argument: Any) -> tuple[str, Any]:
    """(logical id, attribute) of an Fn::GetAtt argument, in either of its two forms."""
    if isinstance(argument, str):
        argument = argument.split(".", 1)
    if len(argument) == 1:
        return str(argument[0]), ""
    return str(argument[0]), argument[1] if len(argument) == 2 else ".".join(argument[1:])


def sub_parts(argument: Any) -> tuple[str, dict[str, Any]]:
    """(text, own variables) of an Fn::Sub argument, in either of its two forms."""
    return (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])


def _own_references(value: dict[str, Any]) -> Iterator[Reference]:
    function, argument = next(iter(value.items()))
    if function == "Ref" and isinstance(argument, str):
        yield Reference(argument)
    elif function == "Fn::GetAtt":
        name, attribute = attribute_path(argument)
        yield Reference(name, str(attribute))
    elif function == "Fn::Sub":
        text, own = sub_parts(argument)
        for variable in SUB_VARIABLE.findall(text):
            if variable.strip() not in own:
                name, _, attribute = variable.strip().partition(".")
                yield Reference(name, attribute)
