"""Listener rules of the ELBv2 API. A change counts from the next request on, as a whole."""

from __future__ import annotations

import secrets
from typing import Any

from rehearsal.balancer import rule_checks
from rehearsal.balancer.estate import Estate, Listener, page
from rehearsal.balancer.traffic import Traffic
from rehearsal.refusals import Refused

Request = dict[str, Any]


class Rules:
    """CreateRule and its like."""

    def __init__(self, estate: Estate, traffic: Traffic) -> None:
        self._estate = estate
        self._traffic = traffic

    async def create_rule(self, asked: Request) -> Request:
        """A rule that counts at once."""
        listener = self._estate.listener(asked["ListenerArn"])
        priority = rule_checks.priority(asked["Priority"])
        if any(rule["Priority"] == priority for rule in listener.rules.values()):
            raise Refused("PriorityInUse", f"Priority '{priority}' is currently in use")
        if asked.get("Transforms"):
            raise Refused("ValidationError", "Rule transforms are not rehearsed")
        conditions, actions = rule_checks.conditions(asked["Conditions"]), rule_checks.actions(asked["Actions"])
        self._traffic.check(listener.load_balancer, actions)
        arn = f"{listener.arn.replace(':listener/', ':listener-rule/')}/{secrets.token_hex(8)}"
        rule = {
            "RuleArn": arn, "Priority": priority, "Conditions": conditions, "Actions": actions, "IsDefault": False
        }  # fmt: skip
        listener.rules[arn] = rule
        self._estate.tags[arn] = {tag["Key"]: tag.get("Value", "") for tag in asked.get("Tags", [])}
        self._traffic.publish(listener)
        return {"Rules": [rule]}

    async def describe_rules(self, asked: Request) -> Request:
        """The rules asked for by ARN, or those of a listener."""
        if asked.get("RuleArns"):
            found = [self._estate.rule(arn)[1] for arn in asked["RuleArns"]]
        elif asked.get("ListenerArn"):
            found = self._estate.listener(asked["ListenerArn"]).sorted_rules()
        else:
            raise Refused("ValidationError", "You must specify either listener rule ARNs or a listener ARN")
        return page(found, "Rules", lambda rule: rule["RuleArn"], asked)

    async def modify_rule(self, asked: Request) -> Request:
        """New conditions or actions or both; what is not given stays."""
        listener, rule = self._estate.rule(asked["RuleArn"])
        if rule["IsDefault"]:
            raise Refused("OperationNotPermitted", f"Default rule '{asked['RuleArn']}' cannot be modified")
        if not asked.get("Conditions") and not asked.get("Actions"):
            raise Refused("ValidationError", "Either conditions or actions must be specified")
        if asked.get("Transforms"):
            raise Refused("ValidationError", "Rule transforms are not rehearsed")
        fresh = dict(rule)
        if asked.get("Conditions"):
            fresh["Conditions"] = rule_checks.conditions(asked["Conditions"])
        if asked.get("Actions"):
            fresh["Actions"] = rule_checks.actions(asked["Actions"])
            self._traffic.check(listener.load_balancer, fresh["Actions"])
        listener.rules[asked["RuleArn"]] = fresh
        self._traffic.publish(listener)
        return {"Rules": [fresh]}

    async def set_rule_priorities(self, asked: Request) -> Request:
        """New priorities for some rules of one listener, all or none."""
        wanted = {pair["RuleArn"]: rule_checks.priority(pair["Priority"]) for pair in asked["RulePriorities"]}
        listeners: list[Listener] = []
        for arn in wanted:
            listener, rule = self._estate.rule(arn)
            if rule["IsDefault"]:
                raise Refused("OperationNotPermitted", f"The priority of default rule '{arn}' cannot be set")
            listeners.append(listener)
        if any(listener is not listeners[0] for listener in listeners):
            raise Refused("ValidationError", "The rules must belong to the same listener")
        kept = [rule["Priority"] for arn, rule in listeners[0].rules.items() if arn not in wanted]
        if len({*kept, *wanted.values()}) < len(kept) + len(wanted):
            raise Refused("PriorityInUse", "A priority is in use by another rule, or given twice")
        for arn, priority in wanted.items():
            listeners[0].rules[arn] = listeners[0].rules[arn] | {"Priority": priority}
        self._traffic.publish(listeners[0])
        return {"Rules": [listeners[0].rules[arn] for arn in wanted]}

    async def delete_rule(self, asked: Request) -> Request:
        """The rule counts no more from now on."""
        listener, rule = self._estate.rule(asked["RuleArn"])
        if rule["IsDefault"]:
            raise Refused("OperationNotPermitted", f"Default rule '{asked['RuleArn']}' cannot be deleted")
        del listener.rules[asked["RuleArn"]]
        self._estate.tags.pop(asked["RuleArn"], None)
        self._traffic.publish(listener)
        self._traffic.forget(listener, [asked["RuleArn"]])
        return {}
