"""The load balancer as ECS uses it: targets in and out, their health, and the weights of governed rules."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from botocore.exceptions import ClientError

from rehearsal.context import Context
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.state import Json, Revision, Slot
from rehearsal.ecs.world import NetworkProblem

DRAINED_POLL_S = 0.2
LONGEST_DEREGISTRATION_S = 3600 + 60


class Traffic:
    """Calls to ELBv2, made for the scheduler."""

    def __init__(self, context: Context, questions: OpenQuestions) -> None:
        self._context = context
        self._questions = questions

    async def register(self, slot: Slot, ip: str) -> None:
        """Put a task behind its target group."""
        targets = [{"Id": ip, "Port": slot.port}]
        await self._context.call("elbv2", "register_targets", TargetGroupArn=slot.target_group, Targets=targets)

    async def deregister(self, slot: Slot, ip: str, drain: bool) -> None:
        """Take a task out; with `drain` wait until its requests in flight are done or the group's delay is over."""
        targets = [{"Id": ip, "Port": slot.port}]
        try:
            await self._context.call("elbv2", "deregister_targets", TargetGroupArn=slot.target_group, Targets=targets)
            for _ in range(round(LONGEST_DEREGISTRATION_S / DRAINED_POLL_S) if drain else 0):
                health = await self.health(slot.target_group)
                if health.get((ip, slot.port), ("unused", ""))[0] != "draining":
                    return
                await asyncio.sleep(DRAINED_POLL_S)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TargetGroupNotFound":  # deleted with its stack: nothing to drain
                raise

    async def health(self, target_group: str) -> dict[tuple[str, int], tuple[str, str]]:
        """State and description by (ip, port) of everything registered in a target group."""
        try:
            answer = await self._context.call("elbv2", "describe_target_health", TargetGroupArn=target_group)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TargetGroupNotFound":
                raise
            return {}
        return {
            (entry["Target"]["Id"], entry["Target"]["Port"]): _told(entry["TargetHealth"])
            for entry in answer["TargetHealthDescriptions"]
        }

    async def is_balanced(self, target_group: str) -> bool:
        """Whether a listener of some load balancer forwards to the target group."""
        try:
            answer = await self._context.call("elbv2", "describe_target_groups", TargetGroupArns=[target_group])
        except ClientError as error:
            if error.response["Error"]["Code"] != "TargetGroupNotFound":
                raise
            return False
        return bool(answer["TargetGroups"][0].get("LoadBalancerArns"))

    async def shift(self, rule: str, weights: dict[str, float]) -> None:
        """Give the rule's target groups these percentages; a rule that has them already is left alone."""
        actions = await self._actions(rule)
        new = weighted(actions, weights)
        if new != actions:
            await self._context.call("elbv2", "modify_rule", RuleArn=rule, Actions=new)

    async def slots(self, spec: Json, strategy: str, source: Revision | None) -> tuple[Slot, ...]:
        """The target group for each load balancer of a new revision: the one its source does not stand in."""
        slots = tuple(self._slot(balancer, strategy, source) for balancer in spec.get("loadBalancers") or [])
        for slot in slots:
            if slot.production_rule:
                await self._check_rules(slot)
        return slots

    def _slot(self, balancer: Json, strategy: str, source: Revision | None) -> Slot:
        container, port = balancer["containerName"], balancer["containerPort"]
        advanced = balancer.get("advancedConfiguration") or {}
        pair = [balancer["targetGroupArn"], advanced.get("alternateTargetGroupArn")]
        taken = (
            next((slot.target_group for slot in source.slots if slot.target_group in pair), None) if source else None
        )
        if strategy == "ROLLING" or not pair[1]:
            serving = taken if self._questions.rolling_target_group == "serving" else None
            return Slot(container, port, serving or pair[0])
        first = pair[0 if self._questions.first_target_group == "primary" else 1]
        chosen = first if taken is None else next(group for group in pair if group != taken)
        other = next(group for group in pair if group != chosen)
        return Slot(
            container, port, chosen, other, advanced.get("productionListenerRule"), advanced.get("testListenerRule")
        )

    async def _check_rules(self, slot: Slot) -> None:
        """Texts: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshooting-blue-green.html"""
        production = forwarded(await self._actions(str(slot.production_rule)))
        test = forwarded(await self._actions(slot.test_rule)) if slot.test_rule else {}
        pair = [slot.target_group, str(slot.other_target_group)]
        known = production if self._questions.production_rule_holds_both_groups else {**test, **production}
        for group in production:
            if group not in pair:
                raise NetworkProblem(_unexpected(group, pair))
        if not all(group in known for group in pair):
            raise NetworkProblem(
                ". Both targetGroup and alternateTargetGroup must be associated with the productionListenerRule"
                " or testListenerRule."
            )
        serving = [group for group, weight in production.items() if weight > 0]
        if len(serving) != 1:
            raise NetworkProblem(
                f". productionListenerRule {slot.production_rule} should have exactly one target group serving traffic"
                f" but found {len(serving)} target groups which are serving traffic"
            )

    async def _actions(self, rule: str) -> list[Json]:
        try:
            answer = await self._context.call("elbv2", "describe_rules", RuleArns=[rule])
        except ClientError as error:
            if error.response["Error"]["Code"] != "RuleNotFound":
                raise
            raise NetworkProblem(". One or more rules not found") from error
        actions = answer["Rules"][0]["Actions"]
        if self._questions.mixed_rule_actions == "refuse" and any(action["Type"] != "forward" for action in actions):
            raise NetworkProblem(f". Rule {rule} has actions other than forward")
        return list(actions)


def _told(health: dict[str, Any]) -> tuple[str, str]:
    return health["State"], health.get("Description") or health.get("Reason") or "Health checks failed"


def _unexpected(group: str, pair: list[str]) -> str:
    return (
        f". Production listener rule is forwarding traffic to unexpected target group {group}. Expected traffic to be"
        f" forwarded to either targetGroupArn: {pair[0]} or alternateTargetGroupArn: {pair[1]}"
    )


def forwarded(actions: list[Json]) -> dict[str, int]:
    """Weight by target group of a rule's forward action."""
    for action in actions:
        if action["Type"] == "forward":
            groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or [
                {"TargetGroupArn": action["TargetGroupArn"]}
            ]
            return {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}
    return {}


def weighted(actions: list[Json], percent: dict[str, float]) -> list[Json]:
    """The actions with these percentages in the forward action; equal shares come back unchanged.

    Weights are whole numbers up to 999, so fractions of a percent are told in tenths of a percent.
    """
    whole = all(float(value).is_integer() for value in percent.values())
    weights = {group: round(value if whole else value * 10) for group, value in percent.items()}
    if _shares(forwarded(actions)) == _shares(weights):
        return actions
    new = copy.deepcopy(actions)
    for action in (action for action in new if action["Type"] == "forward"):
        action.pop("TargetGroupArn", None)
        forward = action.setdefault("ForwardConfig", {})
        forward["TargetGroups"] = [{"TargetGroupArn": group, "Weight": weight} for group, weight in weights.items()]
    return new


def _shares(weights: dict[str, int]) -> dict[str, float]:
    total = sum(weights.values()) or 1
    return {group: weight / total for group, weight in weights.items()}
