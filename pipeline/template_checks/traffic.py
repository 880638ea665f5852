"""Rules on the way in: load balancer, listeners, the two governed rules, target groups, security groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pipeline.template_checks.reading import Faults, Properties, Template, attributes, is_true, items, target, text_of

ELB = "AWS::ElasticLoadBalancingV2::"
GATE_HEADER = "x-onnxship-gate"


@dataclass(frozen=True)
class Governed:
    """A service's load balancer entry: the rules that ECS turns, and the groups between which it does."""

    service: str
    groups: tuple[str | None, str | None]
    production_rule: str | None
    test_rule: str | None


def governed(template: Template) -> Iterator[Governed]:
    """One for each load balancer of each service that ECS shifts traffic for."""
    for logical_id, service in template.of_type("AWS::ECS::Service"):
        for entry in items(service.get("LoadBalancers")):
            advanced = entry.get("AdvancedConfiguration")
            if advanced:
                rules = target(advanced.get("ProductionListenerRule")), target(advanced.get("TestListenerRule"))
                # A condition may let the two change places.
                first, second = items(entry.get("TargetGroupArn")), items(advanced.get("AlternateTargetGroupArn"))
                for groups in zip_longest(first or [None], second or [None]):
                    yield Governed(logical_id, (target(groups[0]), target(groups[1])), *rules)


def _governed_rules(template: Template) -> Iterator[tuple[Governed, str, Properties]]:
    for entry in governed(template):
        for rule in (entry.production_rule, entry.test_rule):
            if rule and template.properties(rule):
                yield entry, rule, template.properties(rule)


def _forwards(rule: Properties) -> list[Any]:
    return [
        group
        for action in items(rule.get("Actions"))
        for group in items((action.get("ForwardConfig") or {}).get("TargetGroups"))
    ]


def elb_drops_invalid_headers(template: Template) -> Faults:
    """Security Hub ELB.4."""
    for logical_id, balancer in template.of_type(ELB + "LoadBalancer"):
        settings = attributes(balancer, "LoadBalancerAttributes")
        if settings.get("routing.http.drop_invalid_header_fields.enabled") != "true":
            yield logical_id, "passes malformed headers on; set routing.http.drop_invalid_header_fields.enabled: true"


def elb_desync(template: Template) -> Faults:
    """Security Hub ELB.12."""
    for logical_id, balancer in template.of_type(ELB + "LoadBalancer"):
        mode = attributes(balancer, "LoadBalancerAttributes").get("routing.http.desync_mitigation_mode")
        if mode not in ("defensive", "strictest"):
            yield logical_id, "takes ambiguous requests; set routing.http.desync_mitigation_mode: defensive"


def elb_two_zones(template: Template) -> Faults:
    """Security Hub ELB.13; a list that comes as a parameter cannot be counted here."""
    for logical_id, balancer in template.of_type(ELB + "LoadBalancer"):
        subnets = balancer.get("Subnets")
        if isinstance(subnets, list) and len(subnets) < 2:
            yield logical_id, "stands in one zone; name subnets in two"


def elb_tls_policy(template: Template) -> Faults:
    """A listener that speaks TLS names a policy of today (Security Hub ELB.17)."""
    for logical_id, listener in template.of_type(ELB + "Listener"):
        policies = items(listener.get("SslPolicy"))
        if "HTTPS" in items(listener.get("Protocol")) and not all("TLS13" in str(p) for p in policies or ["none"]):
            yield logical_id, "speaks TLS by an old policy; set SslPolicy: ELBSecurityPolicy-TLS13-1-2-2021-06"


def rules_name_both_groups(template: Template) -> Faults:
    """Production and test rule both forward to blue and green, or ECS refuses the deployment."""
    for entry, logical_id, rule in _governed_rules(template):
        named = {target(group.get("TargetGroupArn")) for group in _forwards(rule)}
        if None in entry.groups or set(entry.groups) != named:
            yield logical_id, f"must forward to both target groups of {entry.service}"


def rules_only_forward(template: Template) -> Faults:
    """A rule whose weights ECS turns has one action, forward."""
    for _, logical_id, rule in _governed_rules(template):
        if [action.get("Type") for action in items(rule.get("Actions"))] != ["forward"]:
            yield logical_id, "is governed by ECS and must have exactly one action, forward"


def rule_weights_are_parameters(template: Template) -> Faults:
    """Weights come in from outside, or a stack update turns production back to an empty group."""
    parameters = set(template.data.get("Parameters") or {})
    for _, logical_id, rule in _governed_rules(template):
        for group in _forwards(rule):
            if target(group.get("Weight")) not in parameters:
                yield (
                    logical_id,
                    "has a weight of its own; take every weight from a parameter, `deploy` fills in the live one",
                )


def rules_are_not_sticky(template: Template) -> Faults:
    """Stickiness between groups keeps users on the old release after the shift."""
    for _, logical_id, rule in _governed_rules(template):
        for action in items(rule.get("Actions")):
            sticky = (action.get("ForwardConfig") or {}).get("TargetGroupStickinessConfig") or {}
            if is_true(sticky.get("Enabled")):
                yield logical_id, "is sticky between target groups, which defeats the shift of traffic"


def gate_rule_asks_for_its_header(template: Template) -> Faults:
    """The test rule wants the gate's header, with a value that stands in a secret and not in the template."""
    for entry in governed(template):
        rule = template.properties(entry.test_rule)
        headers = [
            condition.get("HttpHeaderConfig") or {}
            for condition in items(rule.get("Conditions"))
            if condition.get("Field") == "http-header"
        ]
        values = [text_of(h.get("Values")) for h in headers if str(h.get("HttpHeaderName")).lower() == GATE_HEADER]
        if entry.test_rule is None:
            yield entry.service, "has no TestListenerRule: nothing could judge a release before users see it"
        elif rule and not any("{{resolve:secretsmanager:" in value for value in values):
            yield entry.test_rule, "lets anybody reach the new release; ask for X-Onnxship-Gate from Secrets Manager"


def gate_port_is_closed(template: Template) -> Faults:
    """No standing ingress on the test port; the gate opens it for its own address while it runs."""
    rules = [
        (logical_id, rule)
        for logical_id, group in template.of_type("AWS::EC2::SecurityGroup")
        for rule in items(group.get("SecurityGroupIngress"))
    ]
    for logical_id, rule in [*rules, *template.of_type("AWS::EC2::SecurityGroupIngress")]:
        ports = rule.get("FromPort"), rule.get("ToPort")
        if "TestPort" in map(target, ports) or str(rule.get("IpProtocol")) == "-1":
            yield logical_id, "opens the test port for good; only the gate opens it"


def target_groups_are_alike(template: Template) -> Faults:
    """Blue and green change places, so they differ in nothing."""
    for entry in governed(template):
        blue, green = (template.properties(group) for group in entry.groups)
        for key in sorted({*blue, *green}):
            if blue and green and blue.get(key) != green.get(key):
                yield str(entry.groups[1]), f"differs from {entry.groups[0]} in {key}; they change places"


def target_group_algorithm(template: Template) -> Faults:
    """Combinations that ELB refuses or that blur which release answers.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    """
    for logical_id, group in template.of_type(ELB + "TargetGroup"):
        settings = attributes(group, "TargetGroupAttributes")
        algorithm = settings.get("load_balancing.algorithm.type", "round_robin")
        slow_start = settings.get("slow_start.duration_seconds", "0") != "0"
        if slow_start and algorithm == "weighted_random":
            yield (
                logical_id,
                "has slow_start with weighted_random, which ELB refuses; set slow_start.duration_seconds: 0",
            )
        if settings.get("load_balancing.algorithm.anomaly_mitigation") == "on" and algorithm != "weighted_random":
            yield logical_id, "has anomaly_mitigation without weighted_random, which ELB refuses"
        if settings.get("stickiness.enabled") == "true":
            yield logical_id, "is sticky: a live client stays with a task that leaves"


RULES = (
    elb_drops_invalid_headers,
    elb_desync,
    elb_two_zones,
    elb_tls_policy,
    rules_name_both_groups,
    rules_only_forward,
    rule_weights_are_parameters,
    rules_are_not_sticky,
    gate_rule_asks_for_its_header,
    gate_port_is_closed,
    target_groups_are_alike,
    target_group_algorithm,
)
