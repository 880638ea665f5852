"""What a part of a template becomes for each value that a parameter may have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pipeline.template_checks.reading import Template, target

NO_VALUE = {"Ref": "AWS::NoValue"}
Decide = Callable[[str], bool | None]


def variants(template: Template, part: Any, chosen: Any) -> Iterator[tuple[str, Any]]:
    """`part` for each allowed value of the parameter that `chosen` refers to, with the Fn::If that hang on it decided.

    A `chosen` that is no such parameter has one variant: itself.
    """
    name = target(chosen)
    allowed = ((template.data.get("Parameters") or {}).get(name) or {}).get("AllowedValues") if name else None
    if not allowed:
        yield str(chosen), part
    for value in allowed or ():
        yield str(value), _decided(part, partial(_named, template.data.get("Conditions") or {}, name, value))


def _named(conditions: Mapping[str, Any], parameter: str | None, value: Any, name: str) -> bool | None:
    return _holds(conditions[name], conditions, parameter, value) if name in conditions else None


def _holds(condition: Any, conditions: Mapping[str, Any], parameter: str | None, value: Any) -> bool | None:
    """Whether a condition is true when the parameter has the value; None when it hangs on something else, too."""
    function, arguments = next(iter(condition.items()))
    if function == "Condition":
        return _named(conditions, parameter, value, arguments)
    if function == "Fn::Equals":
        sides = [str(value) if target(side) == parameter else side for side in arguments]
        return None if any(isinstance(side, dict) for side in sides) else str(sides[0]) == str(sides[1])
    found = [_holds(one, conditions, parameter, value) for one in arguments]
    if function == "Fn::Not":
        return None if found[0] is None else not found[0]
    decisive = function == "Fn::Or"
    return decisive if decisive in found else None if None in found else not decisive


def _decided(part: Any, decide: Decide) -> Any:
    if isinstance(part, dict) and set(part) == {"Fn::If"}:
        name, if_true, if_false = part["Fn::If"]
        holds = decide(name)
        return part if holds is None else _decided(if_true if holds else if_false, decide)
    if isinstance(part, dict):
        inner = {key: _decided(value, decide) for key, value in part.items()}
        return {key: value for key, value in inner.items() if value != NO_VALUE}
    if isinstance(part, list):
        return [value for value in (_decided(one, decide) for one in part) if value != NO_VALUE]
    return part
