"""Conditions and actions of rules: refused where AWS refuses them, else in the form AWS shows them in.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateRule.html
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from rehearsal.balancer.conditions import CONFIGS, values_of
from rehearsal.refusals import Refused

CONTENT_TYPES = {"text/plain", "text/css", "text/html", "application/javascript", "application/json"}
ONCE = {"host-header", "http-request-method", "path-pattern", "source-ip"}
MOST_VALUES = 5
REDIRECT_DEFAULTS = {
    "Protocol": "#{protocol}",
    "Host": "#{host}",
    "Port": "#{port}",
    "Path": "/#{path}",
    "Query": "#{query}",
}


def invalid(message: str) -> Exception:
    """A ValidationError."""
    return Refused("ValidationError", message)


def conditions(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conditions, each with its values in `Values` and in its config, as DescribeRules shows them."""
    if not asked:
        raise invalid("A condition must be specified")
    fields = [condition.get("Field") for condition in asked]
    for field in fields:
        if field not in CONFIGS:
            raise invalid(f"Condition field '{field}' must be one of '[{','.join(CONFIGS)}]'")
        if field in ONCE and fields.count(field) > 1:
            raise invalid(f"Only one '{field}' condition can be specified in a rule")
    if sum(len(values_of(condition)) for condition in asked) > MOST_VALUES:
        raise invalid(f"A rule can have at most {MOST_VALUES} condition values")
    return [_condition(condition) for condition in asked]


def _condition(asked: dict[str, Any]) -> dict[str, Any]:
    field, values = asked["Field"], values_of(asked)
    config = CONFIGS[field]
    if asked.get("RegexValues") or asked.get(config, {}).get("RegexValues"):
        raise invalid("Regular expressions in conditions are not rehearsed")
    if asked.get("Values") and asked.get(config):
        raise invalid(f"You cannot provide both Values and '{config}' for a condition of type '{field}'")
    if asked.get("Values") and field not in ("host-header", "path-pattern"):
        raise invalid(f"The 'Values' field is not compatible with '{field}'")
    if not values:
        raise invalid("A condition value must be specified")
    _check_values(field, asked, values)
    if field in ("host-header", "path-pattern"):
        return {"Field": field, "Values": values, config: {"Values": values}}
    return {"Field": field, config: asked[config]}


def _check_values(field: str, asked: dict[str, Any], values: list[Any]) -> None:
    if field == "source-ip":
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError:
                raise invalid(f"The source-ip value '{value}' must be in CIDR format") from None
    elif field == "query-string":
        if any("Value" not in value for value in values):
            raise invalid("A 'Value' must be specified in 'QueryStringKeyValuePair'")
    elif any(len(value) > 128 for value in values):
        raise invalid(f"The '{field}' value is too long; the limit is '128'")
    if field == "http-header" and not asked["HttpHeaderConfig"].get("HttpHeaderName"):
        raise invalid("An 'HttpHeaderName' must be specified with 'http-header'")


def priority(number: Any) -> str:
    """A rule's priority as the API shows it."""
    if not 1 <= int(number) <= 50000:
        raise invalid("The priority must be between '1' and '50000' inclusive")
    return str(int(number))


def actions(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The one action, with everything said that AWS adds when it shows it."""
    if not asked:
        raise invalid("An action must be specified")
    for one in asked:
        if one["Type"] not in ACTIONS:
            raise invalid(f"Action type '{one['Type']}' is not rehearsed; there are {', '.join(sorted(ACTIONS))}")
    if len(asked) > 1:
        raise Refused(
            "InvalidLoadBalancerAction", "Exactly one forward, redirect or fixed-response action must be given"
        )
    action = ACTIONS[asked[0]["Type"]](asked[0])
    return [{"Order": asked[0]["Order"]} | action] if "Order" in asked[0] else [action]


def _forward(asked: dict[str, Any]) -> dict[str, Any]:
    config = asked.get("ForwardConfig") or {"TargetGroups": [{"TargetGroupArn": asked.get("TargetGroupArn")}]}
    groups = config.get("TargetGroups") or []
    arns = [group.get("TargetGroupArn") for group in groups]
    if not arns or None in arns:
        raise invalid("A target group must be specified for a forward action")
    if len(groups) > MOST_VALUES:
        raise Refused("TooManyTargetGroups", "A forward action can have at most 5 target groups")
    if len(set(arns)) < len(arns):
        raise invalid("Target groups cannot be specified more than once in a forward action")
    if asked.get("TargetGroupArn") and arns != [asked["TargetGroupArn"]]:
        raise invalid("You cannot specify both TargetGroupArn and other target groups in ForwardConfig")
    shown = [{"TargetGroupArn": group["TargetGroupArn"], "Weight": _weight(group)} for group in groups]
    forward = {"TargetGroups": shown, "TargetGroupStickinessConfig": _stickiness(config)}
    action: dict[str, Any] = {"Type": "forward", "ForwardConfig": forward}
    return action | {"TargetGroupArn": arns[0]} if len(arns) == 1 else action


def _weight(group: dict[str, Any]) -> int:
    weight = int(group.get("Weight", 1))
    if not 0 <= weight <= 999:
        raise invalid(f"Weight '{weight}' must be between '0' and '999' inclusive")
    return weight


def _stickiness(config: dict[str, Any]) -> dict[str, Any]:
    stickiness = config.get("TargetGroupStickinessConfig") or {}
    if not stickiness.get("Enabled"):
        return {"Enabled": False}
    seconds = stickiness.get("DurationSeconds")
    if seconds is None or not 1 <= int(seconds) <= 604800:
        raise invalid("The target group stickiness duration must be between '1' and '604800' seconds inclusive")
    return {"Enabled": True, "DurationSeconds": int(seconds)}


def _fixed(asked: dict[str, Any]) -> dict[str, Any]:
    config = asked.get("FixedResponseConfig") or {}
    if not re.fullmatch(r"[245]\d\d", config.get("StatusCode", "")):
        raise invalid(f"Fixed-response status code '{config.get('StatusCode')}' must be 2XX, 4XX or 5XX")
    if config.get("ContentType", "text/plain") not in CONTENT_TYPES:
        raise Refused("InvalidLoadBalancerAction", f"ContentType must be one of: {', '.join(sorted(CONTENT_TYPES))}")
    if len(config.get("MessageBody", "")) > 1024:
        raise invalid("The message body is too long; the limit is '1024'")
    return {"Type": "fixed-response", "FixedResponseConfig": config}


def _redirect(asked: dict[str, Any]) -> dict[str, Any]:
    config = asked.get("RedirectConfig") or {}
    if config.get("StatusCode") not in ("HTTP_301", "HTTP_302"):
        raise invalid("A redirect status code must be HTTP_301 or HTTP_302")
    full = REDIRECT_DEFAULTS | config
    if all(full[part] == REDIRECT_DEFAULTS[part] for part in ("Protocol", "Host", "Port", "Path")):
        raise Refused("InvalidLoadBalancerAction", "The redirect configuration is not valid because it creates a loop")
    return {"Type": "redirect", "RedirectConfig": full}


ACTIONS = {"forward": _forward, "fixed-response": _fixed, "redirect": _redirect}
