"""Targets: health checks and their reasons, draining, and what a client gets when a target fails."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import httpx
import pytest


def deregister(rehearsal, group, backend):
    """Take a backend out of its group."""
    rehearsal.elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": backend.ip}])


def delay(rehearsal, group, seconds):
    """Set a group's deregistration delay."""
    rehearsal.elb.modify_target_group_attributes(
        TargetGroupArn=group,
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": str(seconds)}],
    )


def idle_timeout(rehearsal, balancer, seconds):
    """Set a load balancer's idle timeout."""
    rehearsal.elb.modify_load_balancer_attributes(
        LoadBalancerArn=balancer, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": str(seconds)}]
    )


def test_a_group_without_a_rule_is_not_checked(rehearsal):
    """Targets of a group that no rule forwards to are unused."""
    group = rehearsal.group(rehearsal.backend("one"))
    assert [("unused", "Target.NotInUse")] == rehearsal.states(group)


def test_one_success_makes_a_new_target_healthy(rehearsal):
    """The first check comes at once, and its success is enough, whatever the healthy threshold."""
    backend = rehearsal.backend("one")
    group = rehearsal.group(backend, HealthyThresholdCount=10, HealthCheckIntervalSeconds=300)
    rehearsal.listener(rehearsal.balancer(), [{"Type": "forward", "TargetGroupArn": group}])
    rehearsal.healthy(group)
    shown = rehearsal.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    expected = [
        {"Target": {"Id": backend.ip, "Port": 8080}, "HealthCheckPort": "8080", "TargetHealth": {"State": "healthy"}}
    ]
    assert expected == shown


def test_reasons_of_bad_health(rehearsal, until, forward):
    """A wrong status, no answer in time and no listener each have AWS's reason and description."""
    wrong, slow, gone = rehearsal.backend("wrong"), rehearsal.backend("slow"), rehearsal.backend("gone")
    wrong.healthy, slow.healthy = 503, 0
    rehearsal.context.addresses.remove(gone.ip)
    group = rehearsal.group(wrong, slow, gone)
    rehearsal.listener(rehearsal.balancer(), [forward(group)])
    until(lambda: [state for state, _ in rehearsal.states(group)] == ["unhealthy"] * 3)
    shown = rehearsal.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert [
        ("Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"),
        ("Target.Timeout", "Request timed out"),
        ("Target.FailedHealthChecks", "Health checks failed"),
    ] == [(one["TargetHealth"]["Reason"], one["TargetHealth"]["Description"]) for one in shown]


def test_unhealthy_targets_get_requests_only_when_none_is_healthy(rehearsal, until, forward):
    """Requests go to the healthy target alone; without one they go to all (fail-open)."""
    bad, good = rehearsal.backend("bad"), rehearsal.backend("good")
    bad.healthy = 500
    group = rehearsal.group(bad, good)
    _, url = rehearsal.listener(rehearsal.balancer(), [forward(group)])
    until(lambda: [state for state, _ in rehearsal.states(group)] == ["unhealthy", "healthy"])
    assert {"good"} == {httpx.get(url).text for _ in range(6)}
    deregister(rehearsal, group, good)
    assert "bad" == httpx.get(url).text


def test_draining_lets_the_request_in_flight_finish(rehearsal, until):
    """A deregistered target is draining until its request is answered, gets no other, and is then unused."""
    old, new = rehearsal.backend("old"), rehearsal.backend("new")
    _, group, url = rehearsal.serving(old)

    async def slow_request():
        async with aiohttp.ClientSession() as session, session.get(f"{url}/?sleep=1.5") as answer:
            return answer.status, await answer.text()

    request = asyncio.run_coroutine_threadsafe(slow_request(), rehearsal.context.loop)
    until(lambda: old.seen)
    rehearsal.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": new.ip}])
    deregister(rehearsal, group, old)
    assert ("draining", "Target.DeregistrationInProgress") in rehearsal.states(group)
    until(lambda: ("healthy", None) in rehearsal.states(group))
    assert {"new"} == {httpx.get(url).text for _ in range(4)}
    assert (200, "old") == request.result(10)
    until(lambda: rehearsal.states(group) == [("healthy", None)])
    asked = rehearsal.elb.describe_target_health(TargetGroupArn=group, Targets=[{"Id": old.ip}])
    assert "Target.NotRegistered" == asked["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"]


def test_the_deregistration_delay_cuts_off_what_lasts_longer(rehearsal, until):
    """When the delay is over a request that still runs is cut off, and counted as an error of the load balancer."""
    backend = rehearsal.backend("one")
    _, group, url = rehearsal.serving(backend)
    delay(rehearsal, group, 1)

    async def slow_request():
        async with aiohttp.ClientSession() as session, session.post(f"{url}/cut?sleep=20") as answer:
            return answer.status

    request = asyncio.run_coroutine_threadsafe(slow_request(), rehearsal.context.loop)
    until(lambda: backend.seen)
    deregister(rehearsal, group, backend)
    with pytest.raises(aiohttp.ClientError):
        request.result(10)
    (entry,) = until(lambda: entries(rehearsal, url, "/cut"))
    assert (502, None) == (entry["elb_status"], entry["target_status"])
    assert [] == rehearsal.states(group)


def test_an_idle_target_leaves_at_once(rehearsal):
    """Deregistering a target without requests in flight completes immediately."""
    backend = rehearsal.backend("one")
    _, group, url = rehearsal.serving(backend)
    httpx.get(url)
    deregister(rehearsal, group, backend)
    assert [] == rehearsal.states(group)


def entries(rehearsal, url, path):
    """What the access log says about the requests of a path (any query) on this port."""
    port = int(url.rsplit(":", 1)[1])
    log = rehearsal.balancing.access_log()
    return [entry for entry in log if entry["listener_port"] == port and entry["path"].partition("?")[0] == path]


def test_what_fails_maps_to_the_load_balancers_own_errors(rehearsal):
    """No target: 503. A target that closes the connection or is not there: 502. One that is too slow: 504."""
    backend = rehearsal.backend("one")
    balancer, group, url = rehearsal.serving(backend)
    idle_timeout(rehearsal, balancer, 1)
    assert 502 == httpx.get(f"{url}/die").status_code
    late = httpx.get(f"{url}/late?sleep=3")
    assert (504, "awselb/2.0") == (late.status_code, late.headers["Server"])
    rehearsal.context.addresses.remove(backend.ip)
    assert 502 == httpx.get(f"{url}/gone").status_code
    deregister(rehearsal, group, backend)
    assert 503 == httpx.get(f"{url}/empty").status_code
    assert "503 Service Temporarily Unavailable" in httpx.get(f"{url}/empty").text
    logged = [entries(rehearsal, url, path)[0] for path in ("/die", "/late", "/gone", "/empty")]
    assert [(502, None), (504, None), (502, None), (503, None)] == [
        (entry["elb_status"], entry["target_status"]) for entry in logged
    ]
    assert [f"{backend.ip}:8080"] * 3 + [None] == [entry["target"] for entry in logged]
    assert "arn:task/one" == logged[0]["task_arn"]


def test_a_target_that_dies_half_way_resets_the_client(rehearsal, until):
    """The client does not take half an answer for a whole one, and the load balancer counts an error."""
    _, _, url = rehearsal.serving(rehearsal.backend("one"))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/die-half-way")
    (entry,) = until(lambda: entries(rehearsal, url, "/die-half-way"))
    assert (502, 200) == (entry["elb_status"], entry["target_status"])


def test_a_client_that_leaves_frees_the_target(rehearsal, until):
    """A request whose client has gone is given up, and logged with 460."""
    backend = rehearsal.backend("one")
    _, group, url = rehearsal.serving(backend)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{url}/left?sleep=20", timeout=0.5)
    (entry,) = until(lambda: entries(rehearsal, url, "/left"))
    assert 460 == entry["elb_status"]
    deregister(rehearsal, group, backend)
    assert [] == rehearsal.states(group)


def test_connections_that_targets_close_cost_no_request(rehearsal):
    """POSTs over pooled connections that the target closes after 50 ms of idleness are all answered."""
    _, _, url = rehearsal.serving(rehearsal.backend("one", keepalive_timeout=0.05))
    statuses = []
    with httpx.Client() as client:
        for at in range(100):
            statuses.append(client.post(url, content=b"x").status_code)
            time.sleep(0.045 + at % 10 * 0.001)
    assert {200} == set(statuses)


def test_a_websocket_stays_on_its_target_through_a_flip(rehearsal, forward):
    """An open socket keeps its target, its subprotocol and its close code when the weights flip; a new one moves."""
    blue, green = (rehearsal.group(rehearsal.backend(name)) for name in ("blue", "green"))
    listener, url = rehearsal.listener(rehearsal.balancer(), [forward(blue, green, weights=(100, 0))])
    rehearsal.healthy(blue, green)

    async def talk():
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(f"{url}/socket", protocols=["speech"])
            await ws.send_str("before")
            said = [await ws.receive_str()]
            await rehearsal.context.call(
                "elbv2",
                "modify_listener",
                ListenerArn=listener,
                DefaultActions=[forward(blue, green, weights=(0, 100))],
            )
            await ws.send_str("after")
            said.append(await ws.receive_str())
            async with session.ws_connect(f"{url}/socket") as other:
                await other.send_str("new")
                said.append(await other.receive_str())
            await ws.send_str("bye")
            last = await ws.receive()
            return said, ws.protocol, last.data, last.extra

    said, protocol, code, reason = rehearsal.run(talk())
    assert ["blue: before", "blue: after", "green: new"] == said
    assert ("speech", 4001, "as asked") == (protocol, code, reason)


def test_an_open_websocket_drains_until_it_is_closed(rehearsal, until):
    """A target with an open socket is draining; when the client closes it the target is gone."""
    backend = rehearsal.backend("one")
    _, group, url = rehearsal.serving(backend)

    async def talk():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/socket") as ws:
            await ws.send_str("hi")
            await ws.receive_str()
            await asyncio.to_thread(deregister, rehearsal, group, backend)
            states = await asyncio.to_thread(rehearsal.states, group)
            await ws.send_str("still there")
            return states, await ws.receive_str()

    assert ([("draining", "Target.DeregistrationInProgress")], "one: still there") == rehearsal.run(talk())
    until(lambda: rehearsal.states(group) == [])


def test_the_deregistration_delay_cuts_off_an_open_websocket(rehearsal, until):
    """A socket that outlives the delay is cut without a goodbye, as an ALB does it; its task is not told before.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-connection-draining.html
    """
    backend = rehearsal.backend("one")
    _, group, url = rehearsal.serving(backend)
    delay(rehearsal, group, 1)

    async def talk():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/socket") as ws:
            await ws.send_str("hi")
            await ws.receive_str()
            await asyncio.to_thread(deregister, rehearsal, group, backend)
            last = await ws.receive()
            return last.type, ws.close_code

    assert (aiohttp.WSMsgType.CLOSED, aiohttp.WSCloseCode.ABNORMAL_CLOSURE) == rehearsal.run(talk())
    (entry,) = until(lambda: entries(rehearsal, url, "/socket"))
    assert (502, 101) == (entry["elb_status"], entry["target_status"])
    until(lambda: rehearsal.states(group) == [])


def test_least_outstanding_requests_avoids_the_busy_target(rehearsal):
    """With that algorithm new requests go to the target with fewer requests in flight."""
    backends = [rehearsal.backend("one"), rehearsal.backend("two")]
    _, group, url = rehearsal.serving(*backends)
    rehearsal.elb.modify_target_group_attributes(
        TargetGroupArn=group,
        Attributes=[{"Key": "load_balancing.algorithm.type", "Value": "least_outstanding_requests"}],
    )

    async def load():
        async with aiohttp.ClientSession() as session:

            async def get(path):
                async with session.get(url + path) as answer:
                    return await answer.text()

            slow = asyncio.ensure_future(get("/?sleep=1"))
            await asyncio.sleep(0.2)
            quick = [await get("/") for _ in range(6)]
            return await slow, set(quick)

    slow, quick = rehearsal.run(load())
    assert {"one", "two"} - {slow} == quick


def test_cookies_bind_to_a_target_and_to_a_group(rehearsal, forward):
    """With stickiness on, a client that returns its cookies stays on its group and on its target."""
    one, two = (rehearsal.group(rehearsal.backend(f"{name}1"), rehearsal.backend(f"{name}2")) for name in "ab")
    sticky = {"TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60}}
    _, url = rehearsal.listener(rehearsal.balancer(), [forward(one, two, weights=(50, 50), **sticky)])
    for group in (one, two):
        rehearsal.elb.modify_target_group_attributes(
            TargetGroupArn=group, Attributes=[{"Key": "stickiness.enabled", "Value": "true"}]
        )
    rehearsal.healthy(one, two)
    with httpx.Client() as client:
        first = client.get(url)
        assert {"AWSALBTG", "AWSALB"} == set(first.cookies)
        assert {first.text} == {client.get(url).text for _ in range(12)}
    assert 1 < len({httpx.get(url).text for _ in range(40)})
