"""What the ELBv2 API has created: load balancers, listeners, rules and target groups, each as the API shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rehearsal.balancer.routing import Routes
from rehearsal.balancer.targets import Pool
from rehearsal.refusals import Refused


@dataclass
class LoadBalancer:
    """A load balancer: `asked` is the request that made it, because AWS answers an equal request with the same one."""

    description: dict[str, Any]
    attributes: dict[str, str]
    asked: dict[str, Any]
    interfaces: list[str] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        """The value of the LoadBalancer dimension: app/name/id."""
        return full_name(self.description["LoadBalancerArn"])


@dataclass
class TargetGroup:
    """A target group and the pool of its targets."""

    description: dict[str, Any]
    attributes: dict[str, str]
    asked: dict[str, Any]
    pool: Pool

    @property
    def arn(self) -> str:
        """Its ARN."""
        return str(self.description["TargetGroupArn"])


@dataclass
class Listener:
    """A listener, its rules by ARN in the order of their making, and what its port answers by."""

    description: dict[str, Any]
    attributes: dict[str, str]
    asked: dict[str, Any]
    load_balancer: LoadBalancer
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: Routes = field(default_factory=Routes)

    @property
    def arn(self) -> str:
        """Its ARN."""
        return str(self.description["ListenerArn"])

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.description["Port"])

    def sorted_rules(self) -> list[dict[str, Any]]:
        """The rules as they are tried: by priority, the default last."""
        return sorted(
            self.rules.values(), key=lambda rule: (rule["IsDefault"], int(rule["Priority"].replace("default", "0")))
        )


@dataclass
class Estate:
    """Everything the API has made, by ARN. Only the event loop touches it, so every request is atomic."""

    load_balancers: dict[str, LoadBalancer] = field(default_factory=dict)
    target_groups: dict[str, TargetGroup] = field(default_factory=dict)
    listeners: dict[str, Listener] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def load_balancer(self, arn: str) -> LoadBalancer:
        """The load balancer with this ARN."""
        if arn not in self.load_balancers:
            raise Refused("LoadBalancerNotFound", f"Load balancer '{arn}' not found")
        return self.load_balancers[arn]

    def target_group(self, arn: str) -> TargetGroup:
        """The target group with this ARN."""
        if arn not in self.target_groups:
            raise Refused("TargetGroupNotFound", f"Target group '{arn}' not found")
        return self.target_groups[arn]

    def listener(self, arn: str) -> Listener:
        """The listener with this ARN."""
        if arn not in self.listeners:
            raise Refused("ListenerNotFound", f"Listener '{arn}' not found")
        return self.listeners[arn]

    def rule(self, arn: str) -> tuple[Listener, dict[str, Any]]:
        """The rule with this ARN, and its listener."""
        for listener in self.listeners.values():
            if arn in listener.rules:
                return listener, listener.rules[arn]
        raise Refused("RuleNotFound", f"Rule '{arn}' not found")

    def uses(self) -> Iterator[tuple[Listener, str]]:
        """Every (listener, ARN of a target group that a rule of it forwards to)."""
        for listener in self.listeners.values():
            for rule in listener.rules.values():
                for arn in forwarded_to(rule["Actions"]):
                    yield listener, arn

    def balancers_of(self, target_group_arn: str) -> list[str]:
        """The ARNs of the load balancers that forward to the target group."""
        used = (listener.description["LoadBalancerArn"] for listener, arn in self.uses() if arn == target_group_arn)
        return list(dict.fromkeys(used))


def forwarded_to(actions: list[dict[str, Any]]) -> list[str]:
    """The ARNs of the target groups that normalised actions forward to."""
    groups = (action["ForwardConfig"]["TargetGroups"] for action in actions if action["Type"] == "forward")
    return [group["TargetGroupArn"] for some in groups for group in some]


def full_name(arn: str) -> str:
    """The end of an ARN as CloudWatch's dimensions want it: app/name/id or targetgroup/name/id."""
    resource = arn.rsplit(":", 1)[1]
    return resource.removeprefix("loadbalancer/")


def page(
    items: list[dict[str, Any]], key: str, arn_of: Callable[[dict[str, Any]], str], asked: dict[str, Any]
) -> dict[str, Any]:
    """One page of `items` under `key`, from Marker on, at most PageSize long."""
    arns = [arn_of(item) for item in items]
    start = arns.index(asked["Marker"]) + 1 if asked.get("Marker") in arns else 0
    end = start + int(asked.get("PageSize") or 400)
    answer: dict[str, Any] = {key: items[start:end]}
    if end < len(items):
        answer["NextMarker"] = arns[end - 1]
    return answer
