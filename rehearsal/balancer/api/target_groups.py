"""Target groups and their targets in the ELBv2 API."""

from __future__ import annotations

import re
import secrets
from typing import Any

from rehearsal.balancer import attributes
from rehearsal.balancer.estate import Estate, TargetGroup, page
from rehearsal.balancer.targets import NOT_REGISTERED, Key, Pool, State, Target
from rehearsal.balancer.traffic import Traffic
from rehearsal.context import Context
from rehearsal.refusals import Refused

Request = dict[str, Any]

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
HEALTH_DEFAULTS: Request = {
    "HealthCheckProtocol": "HTTP",
    "HealthCheckPort": "traffic-port",
    "HealthCheckEnabled": True,
    "HealthCheckPath": "/",
    "HealthCheckIntervalSeconds": 30,
    "HealthCheckTimeoutSeconds": 5,
    "HealthyThresholdCount": 5,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}
LIMITS = {
    "HealthCheckIntervalSeconds": range(5, 301),
    "HealthCheckTimeoutSeconds": range(2, 121),
    "HealthyThresholdCount": range(2, 11),
    "UnhealthyThresholdCount": range(2, 11),
}
# What is not served, by the only value that is.
ONLY = {"Protocol": "HTTP", "ProtocolVersion": "HTTP1", "TargetType": "ip", "HealthCheckProtocol": "HTTP"}


class TargetGroups:
    """CreateTargetGroup, RegisterTargets and their like."""

    def __init__(self, context: Context, estate: Estate, traffic: Traffic) -> None:
        self._context = context
        self._estate = estate
        self._traffic = traffic

    async def create_target_group(self, asked: Request) -> Request:
        """A target group for targets of type ip."""
        settings = {key: value for key, value in asked.items() if key != "Tags"}
        for existing in self._estate.target_groups.values():
            if existing.description["TargetGroupName"] == asked["Name"]:
                if existing.asked == settings:
                    return {"TargetGroups": [self._shown(existing)]}
                raise Refused("DuplicateTargetGroupName", f"A target group named '{asked['Name']}' exists already")
        description = self._description(asked)
        start = attributes.defaults(attributes.TARGET_GROUP)
        group = TargetGroup(description, start, settings, Pool(start))
        self._estate.target_groups[group.arn] = group
        self._estate.tags[group.arn] = {tag["Key"]: tag.get("Value", "") for tag in asked.get("Tags", [])}
        return {"TargetGroups": [self._shown(group)]}

    def _description(self, asked: Request) -> Request:
        if not re.fullmatch(r"(?!-)(?!.*--)[A-Za-z0-9-]{1,32}(?<!-)", asked["Name"]):
            raise Refused(
                "ValidationError", f"Target group name '{asked['Name']}' is not valid: 1 to 32 letters, digits, hyphens"
            )
        if asked.get("TargetType") != "ip":
            # The default of AWS is `instance`; it has no addresses here.
            raise Refused(
                "ValidationError", f"Target type '{asked.get('TargetType', 'instance')}' is not rehearsed: only ip"
            )
        for name in ("Protocol", "Port", "VpcId"):
            if not asked.get(name):
                raise Refused("ValidationError", f"A {name} must be specified")
        settings = self._context.settings
        prefix = f"arn:aws:elasticloadbalancing:{settings.region}:{settings.account}"
        description = {
            "TargetGroupArn": f"{prefix}:targetgroup/{asked['Name']}/{secrets.token_hex(8)}",
            "TargetGroupName": asked["Name"],
            "Protocol": asked["Protocol"],
            "Port": int(asked["Port"]),
            "VpcId": asked["VpcId"],
            "TargetType": asked["TargetType"],
            "ProtocolVersion": asked.get("ProtocolVersion", "HTTP1"),
            "IpAddressType": asked.get("IpAddressType", "ipv4"),
        }
        description |= HEALTH_DEFAULTS | {key: asked[key] for key in HEALTH_DEFAULTS if asked.get(key) is not None}
        check_health(description)
        return description

    def _shown(self, group: TargetGroup) -> Request:
        return group.description | {"LoadBalancerArns": self._estate.balancers_of(group.arn)}

    async def describe_target_groups(self, asked: Request) -> Request:
        """The target groups asked for by ARN, name or load balancer, else all."""
        arns, names = asked.get("TargetGroupArns"), asked.get("Names")
        found = [self._estate.target_group(arn) for arn in arns] if arns else list(self._estate.target_groups.values())
        if names:
            found = [group for group in found if group.description["TargetGroupName"] in names]
            if len(found) < len(names):
                raise Refused("TargetGroupNotFound", f"Target groups '{names}' not found")
        shown = [self._shown(group) for group in found]
        if balancer := asked.get("LoadBalancerArn"):
            self._estate.load_balancer(balancer)
            shown = [group for group in shown if balancer in group["LoadBalancerArns"]]
        return page(shown, "TargetGroups", lambda group: group["TargetGroupArn"], asked)

    async def modify_target_group(self, asked: Request) -> Request:
        """Other health checks, from the next check on."""
        group = self._estate.target_group(asked["TargetGroupArn"])
        fresh = group.description | {key: asked[key] for key in HEALTH_DEFAULTS if asked.get(key) is not None}
        check_health(fresh)
        group.description.update(fresh)
        return {"TargetGroups": [self._shown(group)]}

    async def delete_target_group(self, asked: Request) -> Request:
        """Refused while a rule forwards to it; deleting what is not there succeeds."""
        group = self._estate.target_groups.get(asked["TargetGroupArn"])
        if group is None:
            return {}
        if self._estate.balancers_of(group.arn):
            raise Refused("ResourceInUse", f"Target group '{group.arn}' is currently in use by a listener or a rule")
        group.pool.close()
        del self._estate.target_groups[group.arn]
        self._estate.tags.pop(group.arn, None)
        return {}

    async def describe_target_group_attributes(self, asked: Request) -> Request:
        """Every attribute."""
        return attributes.shown(self._estate.target_group(asked["TargetGroupArn"]).attributes)

    async def modify_target_group_attributes(self, asked: Request) -> Request:
        """All the changes, or none and an error."""
        group = self._estate.target_group(asked["TargetGroupArn"])
        merged = attributes.changed("Target group", attributes.TARGET_GROUP, group.attributes, asked["Attributes"])
        attributes.check_target_group(merged)
        group.attributes.update(merged)
        return attributes.shown(merged)

    async def register_targets(self, asked: Request) -> Request:
        """Targets that get requests once a health check has passed; a known one stays as it is."""
        group = self._estate.target_group(asked["TargetGroupArn"])
        for target in asked["Targets"]:
            group.pool.add(_key(group, target), target.get("AvailabilityZone"))
        self._traffic.watch_targets()
        return {}

    async def deregister_targets(self, asked: Request) -> Request:
        """Targets that get no more requests and drain in the background; one that is not registered is no error.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html
        """
        group = self._estate.target_group(asked["TargetGroupArn"])
        for target in asked["Targets"]:
            group.pool.remove(_key(group, target))
        return {}

    async def describe_target_health(self, asked: Request) -> Request:
        """The targets asked for, else all that are registered or draining."""
        group = self._estate.target_group(asked["TargetGroupArn"])
        known = group.pool.draining | group.pool.targets
        keys = [_key(group, target) for target in asked.get("Targets", [])] or list(known)
        return {"TargetHealthDescriptions": [_health(group, key, known.get(key)) for key in keys]}


def _key(group: TargetGroup, target: Request) -> Key:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", target["Id"]):
        raise Refused("ValidationError", f"The IP address '{target['Id']}' is not a valid IPv4 address")
    return target["Id"], int(target.get("Port") or group.description["Port"])


def _health(group: TargetGroup, key: Key, target: Target | None) -> Request:
    state: State = target.state if target else NOT_REGISTERED
    wanted = group.description["HealthCheckPort"]
    shown: Request = {"Id": key[0], "Port": key[1]}
    if target is not None and target.zone:
        shown["AvailabilityZone"] = target.zone
    named = zip(("State", "Reason", "Description"), state, strict=True)
    return {
        "Target": shown,
        "HealthCheckPort": str(key[1]) if wanted == "traffic-port" else wanted,
        "TargetHealth": {name: value for name, value in named if value is not None},
    }


def check_health(description: Request) -> None:
    """Refuse health checks that AWS refuses, or that are not rehearsed.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
    """
    for name, only in ONLY.items():
        if description[name] != only:
            raise Refused(
                "ValidationError", f"{name} '{description[name]}' of a target group is not rehearsed: only {only}"
            )
    for name, allowed in LIMITS.items():
        description[name] = int(description[name])
        if description[name] not in allowed:
            raise Refused("ValidationError", f"{name} must be between '{allowed[0]}' and '{allowed[-1]}' inclusive")
    timeout, interval = description["HealthCheckTimeoutSeconds"], description["HealthCheckIntervalSeconds"]
    if timeout >= interval:
        raise Refused(
            "ValidationError", f"Health check timeout '{timeout}' must be smaller than the interval '{interval}'"
        )
    if not re.fullmatch(r"\d{3}(-\d{3})?(,\d{3}(-\d{3})?)*", description["Matcher"].get("HttpCode", "")):
        raise Refused("ValidationError", "Matcher HttpCode must be like 200, 200,202 or 200-299")
    if not description["HealthCheckEnabled"]:
        raise Refused("ValidationError", "Health checks must be enabled for target groups with target type 'ip'")
