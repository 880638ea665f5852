"""The attributes of load balancers, listeners and target groups: what they start as, and what AWS lets them be."""

from __future__ import annotations

import re
from typing import Any

from rehearsal.refusals import Refused

# Each: default, and what a value must match (a range of numbers, or a pattern).
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html
Spec = dict[str, tuple[str, range | str]]
BOOLEAN = "true|false"
ON_OFF = "on|off"
TARGET_GROUP: Spec = {
    "deregistration_delay.timeout_seconds": ("300", range(3601)),
    "load_balancing.algorithm.type": ("round_robin", "round_robin|least_outstanding_requests|weighted_random"),
    "load_balancing.algorithm.anomaly_mitigation": ("off", ON_OFF),
    "load_balancing.cross_zone.enabled": (
        "use_load_balancer_configuration",
        f"{BOOLEAN}|use_load_balancer_configuration",
    ),
    "slow_start.duration_seconds": ("0", "0|[3-9][0-9]|[1-8][0-9][0-9]|900"),
    "stickiness.enabled": ("false", BOOLEAN),
    "stickiness.type": ("lb_cookie", "lb_cookie"),
    "stickiness.lb_cookie.duration_seconds": ("86400", range(1, 604801)),
    "stickiness.app_cookie.cookie_name": ("", ".*"),
    "stickiness.app_cookie.duration_seconds": ("86400", range(1, 604801)),
    "target_group_health.dns_failover.minimum_healthy_targets.count": ("1", "off|[0-9]+"),
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": ("off", "off|[0-9]+"),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": ("1", "[0-9]+"),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": ("off", "off|[0-9]+"),
}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerAttribute.html
LOAD_BALANCER: Spec = {
    "access_logs.s3.enabled": ("false", BOOLEAN),
    "access_logs.s3.bucket": ("", ".*"),
    "access_logs.s3.prefix": ("", ".*"),
    "client_keep_alive.seconds": ("3600", range(60, 604801)),
    "connection_logs.s3.enabled": ("false", BOOLEAN),
    "connection_logs.s3.bucket": ("", ".*"),
    "connection_logs.s3.prefix": ("", ".*"),
    "deletion_protection.enabled": ("false", BOOLEAN),
    "health_check_logs.s3.enabled": ("false", BOOLEAN),
    "health_check_logs.s3.bucket": ("", ".*"),
    "health_check_logs.s3.prefix": ("", ".*"),
    "idle_timeout.timeout_seconds": ("60", range(1, 4001)),
    "ipv6.deny_all_igw_traffic": ("false", BOOLEAN),
    "load_balancing.cross_zone.enabled": ("true", "true"),
    "routing.http.desync_mitigation_mode": ("defensive", "monitor|defensive|strictest"),
    "routing.http.drop_invalid_header_fields.enabled": ("false", BOOLEAN),
    "routing.http.preserve_host_header.enabled": ("false", BOOLEAN),
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": ("false", BOOLEAN),
    "routing.http.xff_client_port.enabled": ("false", BOOLEAN),
    "routing.http.xff_header_processing.mode": ("append", "append|preserve|remove"),
    "routing.http2.enabled": ("true", BOOLEAN),
    "waf.fail_open.enabled": ("false", BOOLEAN),
    "zonal_shift.config.enabled": ("false", BOOLEAN),
}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_ListenerAttribute.html
LISTENER: Spec = {
    "routing.http.response.server.enabled": ("true", BOOLEAN),
    "routing.http.response.strict_transport_security.header_value": ("", ".*"),
    "routing.http.response.x_content_type_options.header_value": ("", "|nosniff"),
    "routing.http.response.x_frame_options.header_value": ("", ".*"),
    "routing.http.response.content_security_policy.header_value": ("", ".*"),
}


def defaults(spec: Spec) -> dict[str, str]:
    """Every attribute as it is when nobody has said otherwise."""
    return {key: default for key, (default, _) in spec.items()}


def shown(attributes: dict[str, str]) -> dict[str, Any]:
    """The attributes as the API lists them."""
    return {"Attributes": [{"Key": key, "Value": value} for key, value in attributes.items()]}


def changed(kind: str, spec: Spec, current: dict[str, str], asked: list[dict[str, str]]) -> dict[str, str]:
    """`current` with the changes that are asked for, or the error AWS gives for an unknown key or value."""
    merged = dict(current)
    for attribute in asked:
        key, value = attribute["Key"], attribute.get("Value", "")
        if key not in spec:
            raise Refused("ValidationError", f"{kind} attribute key '{key}' is not recognized")
        if not _allowed(spec[key][1], value):
            raise Refused("ValidationError", f"{kind} attribute '{key}' value '{value}' is not valid")
        merged[key] = value
    return merged


def _allowed(rule: range | str, value: str) -> bool:
    if isinstance(rule, range):
        return value.isdigit() and int(value) in rule
    return re.fullmatch(rule, value) is not None


def check_target_group(attributes: dict[str, str]) -> None:
    """Refuse combinations that AWS refuses.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    """
    algorithm = attributes["load_balancing.algorithm.type"]
    if attributes["slow_start.duration_seconds"] != "0" and algorithm != "round_robin":
        raise Refused("InvalidConfigurationRequest", f"Slow start is not supported with the {algorithm} algorithm")
    if attributes["load_balancing.algorithm.anomaly_mitigation"] == "on" and algorithm != "weighted_random":
        raise Refused(
            "InvalidConfigurationRequest", f"Anomaly mitigation is not supported with the {algorithm} algorithm"
        )
