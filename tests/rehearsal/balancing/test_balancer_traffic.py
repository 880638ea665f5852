"""Requests through the load balancer: who answers them, and what arrives."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx


def test_healthy_targets_take_turns(rehearsal):
    """Round robin sends equally many requests to every healthy target."""
    _, _, url = rehearsal.serving(rehearsal.backend("one"), rehearsal.backend("two"))
    answers = [httpx.get(url).text for _ in range(10)]
    assert [5, 5] == [answers.count("one"), answers.count("two")]


def test_the_target_learns_who_asked(rehearsal):
    """A target gets the client's Host and body, and the forwarding and trace headers of a real load balancer."""
    backend = rehearsal.backend("one")
    _, _, url = rehearsal.serving(backend)
    answer = httpx.post(
        f"{url}/a%2Fb?q=1", content=b"x" * 10, headers={"X-Forwarded-For": "9.9.9.9", "Host": "models.test"}
    )
    seen = backend.seen[-1]
    assert "10" == answer.headers["X-Length"]
    assert "/a%2Fb?q=1" == seen.raw_path
    assert "models.test" == seen.headers["Host"]
    assert "9.9.9.9, 127.0.0.1" == seen.headers["X-Forwarded-For"]
    assert ("http", url.rsplit(":", 1)[1]) == (seen.headers["X-Forwarded-Proto"], seen.headers["X-Forwarded-Port"])
    assert seen.headers["X-Amzn-Trace-Id"].startswith("Root=1-")


def test_bodies_of_any_kind_pass(rehearsal):
    """Large, chunked and streamed bodies arrive whole."""
    _, _, url = rehearsal.serving(rehearsal.backend("one"))
    five_mib = b"m" * 5 * 2**20
    assert str(len(five_mib)) == httpx.post(url, content=five_mib).headers["X-Length"]
    assert "300000" == httpx.post(url, content=(b"y" * 100_000 for _ in range(3))).headers["X-Length"]
    assert "0;1;2;3;4;" == httpx.get(f"{url}/stream").text
    assert ("3", "") == ((head := httpx.head(f"{url}/anything")).headers["Content-Length"], head.text)
    assert [204, 304] == [httpx.get(f"{url}/?status={status}").status_code for status in (204, 304)]


def test_flips_of_weights_lose_no_request(rehearsal, forward):
    """Twenty flips between two groups under concurrent load fail no request, and both groups answer."""
    blue, green = (rehearsal.group(rehearsal.backend(name)) for name in ("blue", "green"))
    balancer = rehearsal.balancer()
    listener, url = rehearsal.listener(
        balancer, [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
    )
    path = [{"Field": "path-pattern", "Values": ["/predict*"]}]
    made = rehearsal.elb.create_rule(
        ListenerArn=listener, Priority=1, Conditions=path, Actions=[forward(blue, green, weights=(100, 0))]
    )
    rule = made["Rules"][0]["RuleArn"]
    rehearsal.healthy(blue, green)
    answers: list[tuple[int, str]] = []

    async def load(done: asyncio.Event) -> None:
        async with aiohttp.ClientSession() as session:
            while not done.is_set():
                async with session.post(f"{url}/predict?sleep=0.005", data=b"x") as answer:
                    answers.append((answer.status, await answer.text()))

    async def flip_under_load() -> None:
        done = asyncio.Event()
        clients = [asyncio.ensure_future(load(done)) for _ in range(8)]
        for turn in range(20):
            weights = (0, 100) if turn % 2 == 0 else (100, 0)
            await rehearsal.context.call(
                "elbv2", "modify_rule", RuleArn=rule, Actions=[forward(blue, green, weights=weights)]
            )
            await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*clients)

    rehearsal.run(flip_under_load())
    assert {(200, "blue"), (200, "green")} == set(answers)
    timeline = [change["weights"] for change in rehearsal.balancing.weights() if change["rule_arn"] == rule]
    assert [{blue: 100, green: 0}, *[{blue: 0, green: 100}, {blue: 100, green: 0}] * 10] == timeline


def test_weights_share_the_requests(rehearsal, forward):
    """A group with a quarter of the weight gets about a quarter of the requests."""
    blue, green = (rehearsal.group(rehearsal.backend(name)) for name in ("blue", "green"))
    _, url = rehearsal.listener(rehearsal.balancer(), [forward(blue, green, weights=(75, 25))])
    rehearsal.healthy(blue, green)
    with httpx.Client() as client:
        answers = [client.get(url).text for _ in range(400)]
    assert 50 < answers.count("green") < 150
