"""Intrinsic functions: a template's values with every function replaced by what it gives.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.references import FUNCTIONS, SUB_VARIABLE, attribute_path, sub_parts
from rehearsal.stacks.template import Template

# CloudFormation's own words in a change set for a value that only execution can tell.
KNOWN_AFTER_APPLY = "{{changeSet:KNOWN_AFTER_APPLY}}"
NO_VALUE = object()


class Known(Protocol):
    """Where Ref and Fn::GetAtt of resources, and Fn::GetAZs, find their answers."""

    def physical_id(self, logical_id: str) -> str: ...
    def attribute(self, logical_id: str, name: str) -> Any: ...
    def zones(self, region: str) -> list[str]: ...


@dataclass
class Resolver:
    """Resolves one template for one set of parameter values. `pseudo`: AWS::Region and its like."""

    template: Template
    parameters: dict[str, str | list[str]]
    pseudo: dict[str, Any]
    known: Known
    _conditions: dict[str, bool] = field(default_factory=dict)

    def resolve(self, value: Any) -> Any:
        """`value` with every function replaced; members and elements that are AWS::NoValue fall away."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            function, argument = next(iter(value.items()))
            if function == "Ref" or function in FUNCTIONS:
                return self._call(function, argument)
            if function == "Condition" and isinstance(argument, str) and argument in self.template.conditions:
                return self.condition(argument)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def condition(self, name: str) -> bool:
        """Whether the template's condition `name` holds."""
        if name not in self.template.conditions:
            raise TemplateError(f"Template format error: Unresolved condition dependency {name}")
        if name not in self._conditions:
            self._conditions[name] = bool(self.resolve(self.template.conditions[name]))
        return self._conditions[name]

    def active(self, section: dict[str, dict[str, Any]]) -> set[str]:
        """The names in `section` (resources or outputs) whose condition holds or that have none."""
        return {
            name for name, entry in section.items() if "Condition" not in entry or self.condition(entry["Condition"])
        }

    def ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.pseudo:
            return self.pseudo[name]
        return self.parameters[name] if name in self.parameters else self.known.physical_id(name)

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Ref":
            return self.ref(argument)
        if function == "Fn::If":
            return self._if(argument)
        if function in ("Fn::Sub", "Fn::GetAtt"):
            return getattr(self, FUNCTIONS[function])(argument)
        resolved = self.resolve(argument)
        if function not in ("Fn::Join", "Fn::Equals") and _is_unknown(resolved):
            return KNOWN_AFTER_APPLY
        try:
            return getattr(self, FUNCTIONS[function])(resolved)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise TemplateError(f"Template error: {function} {json.dumps(argument, default=str)}: {error}") from error

    def _if(self, argument: list[Any]) -> Any:
        if not isinstance(argument, list) or len(argument) != 3:
            raise TemplateError("Template error: Fn::If requires a list argument with three members")
        return self.resolve(argument[1] if self.condition(argument[0]) else argument[2])

    def _sub(self, argument: Any) -> str:
        text, own = sub_parts(argument)

        def value(match: Any) -> str:
            name = match.group(1).strip()
            if name in own:
                return _text(self.resolve(own[name]))
            logical_id, _, attribute = name.partition(".")
            return _text(self.known.attribute(logical_id, attribute) if attribute else self.ref(name))

        return SUB_VARIABLE.sub(value, text).replace("${!", "${")

    def _get_att(self, argument: Any) -> Any:
        logical_id, attribute = attribute_path(argument)
        return self.known.attribute(logical_id, self.resolve(attribute))

    def _join(self, argument: list[Any]) -> str:
        separator, parts = argument
        return str(separator).join(_text(part) for part in parts)

    def _split(self, argument: list[Any]) -> list[str]:
        return str(argument[1]).split(argument[0])

    def _select(self, argument: list[Any]) -> Any:
        index, items = int(argument[0]), argument[1]
        if not 0 <= index < len(items):
            raise TemplateError(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
        return items[index]

    def _find_in_map(self, argument: list[Any]) -> Any:
        name, first, second = argument[:3]
        try:
            return self.template.mappings[name][first][second]
        except KeyError:
            raise TemplateError(f"Template error: Unable to get mapping for {name}::{first}::{second}") from None

    def _get_azs(self, region: str) -> list[str]:
        return self.known.zones(region or self.pseudo["AWS::Region"])

    def _cidr(self, argument: list[Any]) -> list[str]:
        block, count, bits = ipaddress.ip_network(argument[0]), int(argument[1]), int(argument[2])
        found = list(itertools.islice(block.subnets(new_prefix=block.max_prefixlen - bits), count))
        if len(found) < count:
            raise ValueError(f"{block} does not hold {count} blocks of {bits} bits")
        return [str(subnet) for subnet in found]

    def _base64(self, text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    def _equals(self, argument: list[Any]) -> bool:
        left, right = argument
        return bool(left == right if isinstance(left, list) else _text(left) == _text(right))

    def _and(self, argument: list[Any]) -> bool:
        return all(argument)

    def _or(self, argument: list[Any]) -> bool:
        return any(argument)

    def _not(self, argument: list[Any]) -> bool:
        return not argument[0]

    def _to_json_string(self, value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    def _length(self, value: list[Any]) -> int:
        return len(value)


def _is_unknown(value: Any) -> bool:
    return isinstance(value, (str, list, dict)) and KNOWN_AFTER_APPLY in json.dumps(value, default=str)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        raise TemplateError(f"Template error: a list or an object stands where a text belongs: {json.dumps(value)}")
    return "" if value is NO_VALUE else str(value)
