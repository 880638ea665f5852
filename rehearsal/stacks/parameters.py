"""Parameters: what a request gives, what the template allows, and what Ref then says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.template import Template

HIDDEN = "****"
SSM_VALUE = "AWS::SSM::Parameter::Value<"
KNOWN_KEYS = {
    "Type", "Description", "Default", "AllowedPattern", "AllowedValues", "ConstraintDescription", "MaxLength",
    "MaxValue", "MinLength", "MinValue", "NoEcho",
}  # fmt: skip


def given_values(template: Template, given: list[dict[str, Any]], previous: dict[str, str]) -> dict[str, str]:
    """Each parameter's text: what was given, the previous value where asked for, else the default.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_Parameter.html
    """
    unknown = [entry["ParameterKey"] for entry in given if entry["ParameterKey"] not in template.parameters]
    if unknown:
        raise TemplateError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values: dict[str, str] = {}
    for entry in given:
        key = entry["ParameterKey"]
        if entry.get("UsePreviousValue") in (True, "true"):
            if key not in previous:
                raise TemplateError(f"Parameter {key}: there is no previous value to use")
            values[key] = previous[key]
        elif "ParameterValue" in entry:
            values[key] = str(entry["ParameterValue"])
    missing = [key for key, spec in template.parameters.items() if key not in values and "Default" not in spec]
    if missing:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    for key, spec in template.parameters.items():
        values.setdefault(key, _text(spec.get("Default")))
        _check(key, spec, values[key])
    return values


def referenced_values(
    template: Template, values: dict[str, str], stored_value: Callable[[str], str]
) -> dict[str, str | list[str]]:
    """What `Ref` gives for each parameter; `stored_value` reads an SSM parameter."""
    result: dict[str, str | list[str]] = {}
    for key, text in values.items():
        kind = str(template.parameters[key].get("Type", "String"))
        if kind.startswith(SSM_VALUE):
            text, kind = stored_value(text), kind[len(SSM_VALUE) : -1]
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
        result[key] = [part.strip() for part in text.split(",")] if is_list else text
    return result


def shown(template: Template, values: dict[str, str]) -> list[dict[str, str]]:
    """The parameters as DescribeStacks lists them: NoEcho values are hidden."""
    return [
        {"ParameterKey": key, "ParameterValue": HIDDEN if _is_secret(template.parameters.get(key, {})) else value}
        for key, value in values.items()
    ]


def declared(template: Template) -> list[dict[str, Any]]:
    """The parameters as GetTemplateSummary and ValidateTemplate list them."""
    return [
        {
            "ParameterKey": key,
            "ParameterType": spec.get("Type", "String"),
            "NoEcho": _is_secret(spec),
            "ParameterConstraints": {"AllowedValues": [_text(value) for value in spec.get("AllowedValues", [])]},
        }
        | ({"Description": spec["Description"]} if "Description" in spec else {})
        | ({"DefaultValue": _text(spec["Default"])} if "Default" in spec else {})
        for key, spec in template.parameters.items()
    ]


def _is_secret(spec: dict[str, Any]) -> bool:
    return str(spec.get("NoEcho", False)).lower() == "true"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _check(key: str, spec: dict[str, Any], value: str) -> None:
    if unknown := sorted(set(spec) - KNOWN_KEYS):
        raise TemplateError(f"Invalid template parameter property '{unknown[0]}'")
    if "Type" not in spec:
        raise TemplateError(f"Template format error: Every Parameters object must contain a Type member ({key}).")
    problem = next(filter(None, (_problem(key, spec, part) for part in _parts(spec, value))), None)
    if problem:
        said = spec.get("ConstraintDescription")
        raise TemplateError(f"Parameter {key} failed to satisfy constraint: {said}" if said else problem)


def _parts(spec: dict[str, Any], value: str) -> list[str]:
    kind = str(spec["Type"])
    is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
    return [part.strip() for part in value.split(",")] if is_list else [value]


def _problem(key: str, spec: dict[str, Any], value: str) -> str | None:
    if "AllowedValues" in spec and value not in [_text(allowed) for allowed in spec["AllowedValues"]]:
        allowed = ", ".join(_text(allowed) for allowed in spec["AllowedValues"])
        return f"Parameter '{key}' must be one of AllowedValues [{allowed}]"
    if "AllowedPattern" in spec and not re.fullmatch(spec["AllowedPattern"], value):
        return f"Parameter '{key}' must match pattern {spec['AllowedPattern']}"
    if "MinLength" in spec and len(value) < int(spec["MinLength"]):
        return f"Parameter '{key}' must contain at least {spec['MinLength']} characters"
    if "MaxLength" in spec and len(value) > int(spec["MaxLength"]):
        return f"Parameter '{key}' must contain at most {spec['MaxLength']} characters"
    return _number_problem(key, spec, value) if spec["Type"] in ("Number", "List<Number>") else None


def _number_problem(key: str, spec: dict[str, Any], value: str) -> str | None:
    try:
        number = float(value)
    except ValueError:
        return f"Parameter '{key}' must be a number"
    if "MinValue" in spec and number < float(spec["MinValue"]):
        return f"Parameter '{key}' must be a number not less than {spec['MinValue']}"
    if "MaxValue" in spec and number > float(spec["MaxValue"]):
        return f"Parameter '{key}' must be a number not greater than {spec['MaxValue']}"
    return None
