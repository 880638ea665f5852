"""The ELBv2 API: what it keeps, what it refuses, and the rules of listeners."""

from __future__ import annotations

import json
import os
import socket

import httpx
import pytest
from botocore.exceptions import ClientError

from rehearsal.loopback import bind

NOT_FOUND = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "no such model"}}


def code_of(call, **asked):
    """The error code that a call is refused with."""
    with pytest.raises(ClientError) as refused:
        call(**asked)
    return refused.value.response["Error"]["Code"]


def answer(number):
    """An action that answers with a number."""
    return {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200", "MessageBody": str(number)}}


@pytest.fixture
def listener(rehearsal):
    """A listener that answers 404, and its URL."""
    return rehearsal.listener(rehearsal.balancer(), [NOT_FOUND])


def test_what_is_made_is_shown(rehearsal, forward):
    """Load balancers, listeners and target groups are described as they were asked for, with AWS's defaults."""
    balancer, group = rehearsal.balancer(), rehearsal.group(Matcher={"HttpCode": "200-299"}, HealthyThresholdCount=2)
    listener, url = rehearsal.listener(balancer, [forward(group)])
    shown = rehearsal.elb.describe_load_balancers(LoadBalancerArns=[balancer])["LoadBalancers"][0]
    assert ("127.0.0.1", "active", 2) == (shown["DNSName"], shown["State"]["Code"], len(shown["AvailabilityZones"]))
    shown = rehearsal.elb.describe_target_groups(LoadBalancerArn=balancer)["TargetGroups"][0]
    assert ([balancer], "/health", 5, 2, 2, 2, {"HttpCode": "200-299"}) == (
        shown["LoadBalancerArns"],
        shown["HealthCheckPath"],
        shown["HealthCheckIntervalSeconds"],
        shown["HealthCheckTimeoutSeconds"],
        shown["HealthyThresholdCount"],
        shown["UnhealthyThresholdCount"],
        shown["Matcher"],
    )
    (default,) = rehearsal.elb.describe_rules(ListenerArn=listener)["Rules"]
    assert ("default", True) == (default["Priority"], default["IsDefault"])
    assert [{"TargetGroupArn": group, "Weight": 1}] == default["Actions"][0]["ForwardConfig"]["TargetGroups"]
    assert [int(url.rsplit(":", 1)[1])] == [
        one["Port"] for one in rehearsal.elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
    ]


def test_equal_requests_make_one_thing(rehearsal):
    """A create call that is repeated gives the same resource; the same name with other settings is refused."""
    asked = {"Name": "twice", "Protocol": "HTTP", "Port": 80, "VpcId": rehearsal.vpc_id, "TargetType": "ip"}
    first, second = (rehearsal.elb.create_target_group(**asked)["TargetGroups"][0] for _ in range(2))
    assert first == second
    assert "DuplicateTargetGroupName" == code_of(rehearsal.elb.create_target_group, **(asked | {"Port": 81}))


def test_attributes_are_kept_and_checked(rehearsal):
    """Attributes start with AWS's defaults, changes are kept, and illegal ones change nothing."""
    group = rehearsal.group()

    def attributes():
        shown = rehearsal.elb.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
        return {one["Key"]: one["Value"] for one in shown}

    def modify(**changes):
        pairs = [{"Key": key.replace("__", "."), "Value": value} for key, value in changes.items()]
        return rehearsal.elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=pairs)

    assert "300" == attributes()["deregistration_delay.timeout_seconds"]
    modify(deregistration_delay__timeout_seconds="7", slow_start__duration_seconds="30")
    assert ("7", "30") == (
        attributes()["deregistration_delay.timeout_seconds"],
        attributes()["slow_start.duration_seconds"],
    )
    algorithm = {"load_balancing__algorithm__type": "least_outstanding_requests"}
    assert "InvalidConfigurationRequest" == code_of(modify, **algorithm)
    assert "ValidationError" == code_of(modify, load_balancing__algorithm__type="fastest")
    assert "ValidationError" == code_of(modify, deregistration_delay__timeout_seconds="3601")
    assert "ValidationError" == code_of(modify, made_up="1")
    assert "round_robin" == attributes()["load_balancing.algorithm.type"]


def test_a_taken_port_is_a_clear_error(rehearsal, listener):
    """A listener on a port that another process or listener has fails, and the error names port and process."""
    balancer = rehearsal.balancer()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClientError, match=f"Port {port} of 127.0.0.1 is in use by process {os.getpid()} "):
            rehearsal.elb.create_listener(
                LoadBalancerArn=balancer, Port=port, Protocol="HTTP", DefaultActions=[NOT_FOUND]
            )
    assert [] == rehearsal.elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
    _, url = listener
    port = int(url.rsplit(":", 1)[1])
    asked = {"LoadBalancerArn": balancer, "Port": port, "Protocol": "HTTP", "DefaultActions": [NOT_FOUND]}
    assert "InvalidConfigurationRequest" == code_of(rehearsal.elb.create_listener, **asked)


def test_a_reserved_port_is_used_and_reserved_again(rehearsal):
    """A port kept free for a listener is handed to it, and kept again after it, even while a client is connected."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rehearsal.context.reserved[port] = bind(port)
    asked = {"LoadBalancerArn": rehearsal.balancer(), "Port": port, "Protocol": "HTTP", "DefaultActions": [NOT_FOUND]}
    for _ in range(2):
        arn = rehearsal.elb.create_listener(**asked)["Listeners"][0]["ListenerArn"]
        with httpx.Client() as client:
            assert 404 == client.get(f"http://127.0.0.1:{port}").status_code
            rehearsal.elb.delete_listener(ListenerArn=arn)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}")
        with pytest.raises(OSError, match="in use"):
            bind(port)
    rehearsal.context.reserved.pop(port).close()


CONDITIONS = [
    ({"Field": "path-pattern", "Values": ["/v?/models/*"]}, ("/v2/models/a/infer", {}), ("/v22/models/a", {})),
    ({"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a", "/b*"]}}, ("/bc?q=1", {}), ("/ab", {})),
    ({"Field": "host-header", "Values": ["*.models.test"]}, ("/", {"Host": "A.Models.test:80"}), ("/", {})),
    (
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Onnxship-Gate", "Values": ["sEcret*"]}},
        ("/", {"x-onnxship-gate": "secret-1"}),
        ("/", {"x-onnxship-gate": "no secret"}),
    ),
    (
        {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "version", "Value": "v*"}, {"Value": "x"}]}},
        ("/?version=V2", {}),
        ("/?version=2", {}),
    ),
    ({"Field": "source-ip", "SourceIpConfig": {"Values": ["127.0.0.0/8"]}}, ("/", {}), None),
    (
        {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}},
        None,
        ("/", {"X-Forwarded-For": "10.1.1.1"}),
    ),
    ({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}}, ("/", {}), None),
    ({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["PUT"]}}, None, ("/", {})),
]


@pytest.mark.parametrize(("condition", "meets", "misses"), CONDITIONS)
def test_conditions_choose_the_rule(rehearsal, listener, condition, meets, misses):
    """A rule answers the requests that meet its condition, the default rule all others."""
    arn, url = listener
    rehearsal.elb.create_rule(ListenerArn=arn, Priority=10, Conditions=[condition], Actions=[answer("met")])
    for request, expected in ((meets, "met"), (misses, "no such model")):
        if request is not None:
            path, headers = request
            assert expected == httpx.get(url + path, headers=headers).text


def test_priorities_decide_and_can_be_swapped(rehearsal, listener):
    """The rule with the lower number wins; SetRulePriorities swaps two at once, and refuses one that is in use."""
    arn, url = listener
    path = [{"Field": "path-pattern", "Values": ["*"]}]
    rules = [
        rehearsal.elb.create_rule(ListenerArn=arn, Priority=at, Conditions=path, Actions=[answer(at)])["Rules"][0][
            "RuleArn"
        ]
        for at in (5, 6)
    ]
    assert "5" == httpx.get(url).text
    swap = [{"RuleArn": rules[0], "Priority": 6}, {"RuleArn": rules[1], "Priority": 5}]
    rehearsal.elb.set_rule_priorities(RulePriorities=swap)
    assert "6" == httpx.get(url).text
    assert ["5", "6", "default"] == [
        rule["Priority"] for rule in rehearsal.elb.describe_rules(ListenerArn=arn)["Rules"]
    ]
    asked = {"ListenerArn": arn, "Priority": 5, "Conditions": path, "Actions": [answer(7)]}
    assert "PriorityInUse" == code_of(rehearsal.elb.create_rule, **asked)
    one = [{"RuleArn": rules[0], "Priority": 5}]
    assert "PriorityInUse" == code_of(rehearsal.elb.set_rule_priorities, RulePriorities=one)
    rehearsal.elb.delete_rule(RuleArn=rules[1])
    assert "5" == httpx.get(url).text


def test_redirects_fill_in_what_was_asked(rehearsal):
    """A redirect keeps the parts that it does not name."""
    config = {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}
    _, url = rehearsal.listener(rehearsal.balancer(), [{"Type": "redirect", "RedirectConfig": config}])
    got = httpx.get(f"{url}/a/b?c=d", headers={"Host": "models.test"})
    assert (301, "https://models.test:443/a/b?c=d") == (got.status_code, got.headers["Location"])


def test_bad_rules_are_refused(rehearsal, listener, forward):
    """Rules that AWS refuses, or that are not rehearsed, are refused with AWS's codes and change nothing."""
    arn, _ = listener
    path = [{"Field": "path-pattern", "Values": ["/x"]}]

    def create(conditions=path, actions=(NOT_FOUND,), priority=1):
        rehearsal.elb.create_rule(ListenerArn=arn, Priority=priority, Conditions=conditions, Actions=list(actions))

    missing = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/none/0"
    assert "TargetGroupNotFound" == code_of(create, actions=[forward(missing)])
    assert "ValidationError" == code_of(create, actions=[forward(rehearsal.group(), weights=(1000,))])
    assert "ValidationError" == code_of(create, priority=50001)
    assert "ValidationError" == code_of(create, conditions=[*path, *path])
    assert "ValidationError" == code_of(create, conditions=[{"Field": "moon-phase", "Values": ["full"]}])
    six = [{"Field": "path-pattern", "Values": [f"/{at}" for at in range(6)]}]
    assert "ValidationError" == code_of(create, conditions=six)
    assert "ValidationError" == code_of(create, actions=[{"Type": "authenticate-cognito"}])
    loop = {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_302"}}
    assert "InvalidLoadBalancerAction" == code_of(create, actions=[loop])
    default = rehearsal.elb.describe_rules(ListenerArn=arn)["Rules"]
    assert 1 == len(default)
    assert "OperationNotPermitted" == code_of(
        rehearsal.elb.modify_rule, RuleArn=default[0]["RuleArn"], Actions=[answer(1)]
    )


def test_what_is_in_use_cannot_be_deleted_or_shared(rehearsal, forward):
    """A target group in a rule stays until the rule is gone, and belongs to one load balancer."""
    balancer, group = rehearsal.balancer(), rehearsal.group()
    rehearsal.listener(balancer, [forward(group)])
    assert "ResourceInUse" == code_of(rehearsal.elb.delete_target_group, TargetGroupArn=group)
    with pytest.raises(ClientError, match="TargetGroupAssociationLimit"):
        rehearsal.listener(rehearsal.balancer(), [forward(group)])
    rehearsal.elb.delete_load_balancer(LoadBalancerArn=balancer)
    rehearsal.elb.delete_target_group(TargetGroupArn=group)
    assert "TargetGroupNotFound" == code_of(rehearsal.elb.describe_target_groups, TargetGroupArns=[group])
    assert "LoadBalancerNotFound" == code_of(rehearsal.elb.describe_load_balancers, LoadBalancerArns=[balancer])


def test_what_is_not_served_is_refused_by_name(rehearsal):
    """Listeners and groups that the data plane cannot serve are errors, never silently something else."""
    asked = {"LoadBalancerArn": rehearsal.balancer(), "Port": 443, "Protocol": "HTTPS", "DefaultActions": [NOT_FOUND]}
    assert "UnsupportedProtocol" == code_of(rehearsal.elb.create_listener, **asked)
    for changes in ({"TargetType": "instance"}, {"Protocol": "HTTPS"}, {"ProtocolVersion": "GRPC"}):
        with pytest.raises(ClientError, match="not rehearsed"):
            rehearsal.group(**changes)
    with pytest.raises(ClientError, match="smaller than the interval"):
        rehearsal.group(HealthCheckTimeoutSeconds=5)


def test_tags_are_kept(rehearsal, listener):
    """Tags can be put on, read from and taken off everything."""
    arn, _ = listener
    rule = rehearsal.elb.describe_rules(ListenerArn=arn)["Rules"][0]["RuleArn"]
    group = rehearsal.group(Tags=[{"Key": "made", "Value": "with"}])
    rehearsal.elb.add_tags(ResourceArns=[arn, rule, group], Tags=[{"Key": "team", "Value": "ml"}])
    rehearsal.elb.remove_tags(ResourceArns=[group], TagKeys=["made"])
    shown = rehearsal.elb.describe_tags(ResourceArns=[arn, rule, group])["TagDescriptions"]
    assert [[{"Key": "team", "Value": "ml"}]] * 3 == [one["Tags"] for one in shown]


def test_pages_are_complete(rehearsal):
    """Listing page by page gives everything once."""
    made = {rehearsal.group() for _ in range(5)}
    pages = rehearsal.elb.get_paginator("describe_target_groups").paginate(PaginationConfig={"PageSize": 2})
    listed = [group["TargetGroupArn"] for page in pages for group in page["TargetGroups"]]
    assert len(listed) == len(set(listed))
    assert made <= set(listed)


def test_a_listener_can_move_to_another_port(rehearsal, listener):
    """ModifyListener with a port answers there and no more at the old one."""
    arn, url = listener
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rehearsal.elb.modify_listener(ListenerArn=arn, Port=port)
    assert 404 == httpx.get(f"http://127.0.0.1:{port}").status_code
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_the_access_log_is_also_a_file(rehearsal, until):
    """Every request ends up in state_dir/access.log, one JSON object a line, as access_log() gives it."""
    _, url = rehearsal.listener(rehearsal.balancer(), [NOT_FOUND])
    httpx.get(f"{url}/logged?q=1", headers={"User-Agent": "tester"})
    file = rehearsal.context.settings.state_dir / "access.log"
    port = int(url.rsplit(":", 1)[1])

    def lines():
        return [one for one in map(json.loads, file.read_text().splitlines()) if one["listener_port"] == port]

    (line,) = until(lambda: file.exists() and lines())
    assert [line] == [one for one in rehearsal.balancing.access_log() if one["listener_port"] == port]
    assert ("GET", "/logged?q=1", 404, None, None, "tester", "127.0.0.1") == tuple(
        line[key] for key in ("method", "path", "elb_status", "target_status", "target", "user_agent", "client")
    )
