"""AWS::ElasticLoadBalancingV2: load balancers, listeners, rules and target groups."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.kind import Kind, Work, ignoring_missing, tag_changes, words


def _retag(work: Work) -> None:
    put, remove = tag_changes(work)
    if put:
        work.call("elbv2", "add_tags", ResourceArns=[work.physical_id], Tags=put)
    if remove:
        work.call("elbv2", "remove_tags", ResourceArns=[work.physical_id], TagKeys=remove)


def _full_name(arn: str, after: str) -> str:
    return arn.partition(after)[2]


def create_load_balancer(work: Work) -> None:
    own = work.without("Name", "LoadBalancerAttributes")
    made = work.send("elbv2", "create_load_balancer", own, Name=work.get("Name") or work.name(32))
    work.made(made["LoadBalancers"][0]["LoadBalancerArn"])
    _set_load_balancer_attributes(work)


def update_load_balancer(work: Work) -> None:
    arn = {"LoadBalancerArn": work.physical_id}
    if work.changed & {"Subnets", "SubnetMappings"}:
        work.send("elbv2", "set_subnets", work.only("Subnets", "SubnetMappings"), **arn)
    if "SecurityGroups" in work.changed:
        work.call("elbv2", "set_security_groups", SecurityGroups=work.get("SecurityGroups", []), **arn)
    if "IpAddressType" in work.changed:
        work.call("elbv2", "set_ip_address_type", IpAddressType=work.get("IpAddressType", "ipv4"), **arn)
    _set_load_balancer_attributes(work)
    _retag(work)


def _set_load_balancer_attributes(work: Work) -> None:
    if "LoadBalancerAttributes" in work.changed:
        attributes = work.only("LoadBalancerAttributes")
        own = {"Attributes": attributes.get("LoadBalancerAttributes", [])}
        work.send("elbv2", "modify_load_balancer_attributes", own, LoadBalancerArn=work.physical_id)


def load_balancer_attributes(work: Work) -> dict[str, Any]:
    found = work.call("elbv2", "describe_load_balancers", LoadBalancerArns=[work.physical_id])["LoadBalancers"][0]
    return {
        "LoadBalancerArn": work.physical_id,
        "LoadBalancerName": found["LoadBalancerName"],
        "LoadBalancerFullName": _full_name(work.physical_id, ":loadbalancer/"),
        "DNSName": found["DNSName"],
        "CanonicalHostedZoneID": found.get("CanonicalHostedZoneId", ""),
        "SecurityGroups": found.get("SecurityGroups", []),
    }


def delete_load_balancer(work: Work) -> None:
    with ignoring_missing("LoadBalancerNotFound"):
        work.call("elbv2", "delete_load_balancer", LoadBalancerArn=work.physical_id)


def create_target_group(work: Work) -> None:
    own = work.without("Name", "TargetGroupAttributes", "Targets")
    made = work.send("elbv2", "create_target_group", own, Name=work.get("Name") or work.name(32))
    work.made(made["TargetGroups"][0]["TargetGroupArn"])
    _set_target_group_attributes(work)
    if "Targets" in work.properties:
        work.send("elbv2", "register_targets", work.only("Targets"), TargetGroupArn=work.physical_id)


HEALTH_CHECK = words(
    "HealthCheckEnabled HealthCheckIntervalSeconds HealthCheckPath HealthCheckPort HealthCheckProtocol "
    "HealthCheckTimeoutSeconds HealthyThresholdCount Matcher UnhealthyThresholdCount"
)


def update_target_group(work: Work) -> None:
    if work.changed & HEALTH_CHECK:
        work.send("elbv2", "modify_target_group", work.only(*HEALTH_CHECK), TargetGroupArn=work.physical_id)
    _set_target_group_attributes(work)
    _set_targets(work)
    _retag(work)


def _set_target_group_attributes(work: Work) -> None:
    if "TargetGroupAttributes" in work.changed:
        own = {"Attributes": work.get("TargetGroupAttributes", [])}
        work.send("elbv2", "modify_target_group_attributes", own, TargetGroupArn=work.physical_id)


def _set_targets(work: Work) -> None:
    before, now = work.previous.get("Targets", []), work.get("Targets", [])
    arn = {"TargetGroupArn": work.physical_id}
    if removed := [target for target in before if target not in now]:
        work.send("elbv2", "deregister_targets", {"Targets": removed}, **arn)
    if added := [target for target in now if target not in before]:
        work.send("elbv2", "register_targets", {"Targets": added}, **arn)


def target_group_attributes(work: Work) -> dict[str, Any]:
    found = work.call("elbv2", "describe_target_groups", TargetGroupArns=[work.physical_id])["TargetGroups"][0]
    return {
        "TargetGroupArn": work.physical_id,
        "TargetGroupName": found["TargetGroupName"],
        "TargetGroupFullName": work.physical_id.rpartition(":")[2],
        "LoadBalancerArns": found.get("LoadBalancerArns", []),
    }


def delete_target_group(work: Work) -> None:
    with ignoring_missing("TargetGroupNotFound"):
        work.call("elbv2", "delete_target_group", TargetGroupArn=work.physical_id)


def create_listener(work: Work) -> None:
    made = work.send("elbv2", "create_listener", work.without("ListenerAttributes"))
    work.made(made["Listeners"][0]["ListenerArn"])
    _set_listener_attributes(work)


def update_listener(work: Work) -> None:
    own = work.without("LoadBalancerArn", "ListenerAttributes", "Tags")
    work.send("elbv2", "modify_listener", own, ListenerArn=work.physical_id)
    _set_listener_attributes(work)
    _retag(work)


def _set_listener_attributes(work: Work) -> None:
    if "ListenerAttributes" in work.changed:
        own = {"Attributes": work.get("ListenerAttributes", [])}
        work.send("elbv2", "modify_listener_attributes", own, ListenerArn=work.physical_id)


def delete_listener(work: Work) -> None:
    with ignoring_missing("ListenerNotFound"):
        work.call("elbv2", "delete_listener", ListenerArn=work.physical_id)


def create_rule(work: Work) -> None:
    work.made(work.send("elbv2", "create_rule", work.without())["Rules"][0]["RuleArn"])


def update_rule(work: Work) -> None:
    """Change what differs: an update that leaves Actions alone leaves the live weights alone."""
    own = {name: work.get(name) for name in ("Actions", "Conditions", "Transforms") if name in work.changed}
    if own:
        work.send("elbv2", "modify_rule", own, RuleArn=work.physical_id)
    if "Priority" in work.changed:
        priority = {"RuleArn": work.physical_id, "Priority": int(work.get("Priority"))}
        work.call("elbv2", "set_rule_priorities", RulePriorities=[priority])
    _retag(work)


def delete_rule(work: Work) -> None:
    with ignoring_missing("RuleNotFound"):
        work.call("elbv2", "delete_rule", RuleArn=work.physical_id)


KINDS = (
    Kind(
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        words("IpAddressType LoadBalancerAttributes Name Scheme SecurityGroups SubnetMappings Subnets Tags Type"),
        create_load_balancer, delete_load_balancer, update_load_balancer, words("Name Scheme Type"),
        load_balancer_attributes, "Name",
    ),
    Kind(
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        HEALTH_CHECK
        | words(
            "IpAddressType Name Port Protocol ProtocolVersion Tags TargetGroupAttributes TargetType Targets VpcId"
        ),
        create_target_group, delete_target_group, update_target_group,
        words("IpAddressType Name Port Protocol ProtocolVersion TargetType VpcId"), target_group_attributes, "Name",
    ),
    Kind(
        "AWS::ElasticLoadBalancingV2::Listener",
        words(
            "AlpnPolicy Certificates DefaultActions ListenerAttributes LoadBalancerArn MutualAuthentication Port "
            "Protocol SslPolicy Tags"
        ),
        create_listener, delete_listener, update_listener, words("LoadBalancerArn"),
        lambda work: {"ListenerArn": work.physical_id},
    ),
    Kind(
        "AWS::ElasticLoadBalancingV2::ListenerRule",
        words("Actions Conditions ListenerArn Priority Tags"),
        create_rule, delete_rule, update_rule, words("ListenerArn"),
        lambda work: {"RuleArn": work.physical_id, "IsDefault": False},
    ),
)  # fmt: skip
