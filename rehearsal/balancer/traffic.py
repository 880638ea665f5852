"""Brings what the API says into effect: route tables, who is health-checked, and the timeline of weights."""

from __future__ import annotations

import time
from typing import Any

from rehearsal.balancer.accesses import AccessLog
from rehearsal.balancer.estate import Estate, Listener, LoadBalancer, forwarded_to
from rehearsal.balancer.health import HealthChecker
from rehearsal.refusals import Refused


class Traffic:
    """The step from a change of rules or targets to what requests meet."""

    def __init__(self, estate: Estate, health: HealthChecker, log: AccessLog) -> None:
        self._estate = estate
        self._health = health
        self._log = log

    def check(self, balancer: LoadBalancer, actions: list[dict[str, Any]]) -> None:
        """Refuse actions that forward to a target group that is missing or that another load balancer uses.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
        """
        arn_of_balancer = balancer.description["LoadBalancerArn"]
        for arn in forwarded_to(actions):
            self._estate.target_group(arn)
            if any(other != arn_of_balancer for other in self._estate.balancers_of(arn)):
                raise Refused("TargetGroupAssociationLimit", f"Target group '{arn}' is used by another load balancer")

    def apply(self, listener: Listener) -> None:
        """Answer by the listener's rules from the next request on."""
        listener.routes.replace(listener.sorted_rules(), lambda arn: self._estate.target_group(arn).pool)

    def publish(self, listener: Listener) -> None:
        """Answer by the listener's rules, note their weights, and check the targets they lead to."""
        self.apply(listener)
        now = time.time()
        for arn, rule in listener.rules.items():
            self._log.note_weights(arn, listener.port, weights(rule), now)
        self.watch_targets()

    def forget(self, listener: Listener, rule_arns: list[str]) -> None:
        """Note that the rules are gone."""
        for arn in rule_arns:
            self._log.note_weights(arn, listener.port, {}, time.time())
        self.watch_targets()

    def watch_targets(self) -> None:
        """Check the targets of the groups that rules forward to, and of no others."""
        used = {arn for _, arn in self._estate.uses()}
        for arn, group in self._estate.target_groups.items():
            self._health.watch(group.pool, group.description, arn in used)


def weights(rule: dict[str, Any]) -> dict[str, int]:
    """A rule's weight per target group."""
    return {
        group["TargetGroupArn"]: group["Weight"]
        for action in rule["Actions"]
        if action["Type"] == "forward"
        for group in action["ForwardConfig"]["TargetGroups"]
    }
