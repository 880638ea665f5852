"""The open-loop generator sends at its own times and hides nothing."""

from collections import Counter
from collections.abc import Callable
from itertools import count, pairwise

import pytest
import uvloop

from benchmarks.open_loop import BROKEN, TIMED_OUT, Generator, Outcome, arrivals
from benchmarks.processes import free_port
from benchmarks.rows import overload


def request(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def offer(port: int, requests: list[bytes], *, timeout_s: float = 5.0) -> list[Outcome]:
    """100 requests a second for half a second."""
    return uvloop.run(Generator(port, requests, timeout_s).offer(100, 0.5, seed=1))


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    """Poisson: as many as rate x time within 5 %, unevenly spaced, the same for the same seed."""
    times = list(arrivals(1000, 10, seed=1))
    gaps = [later - earlier for earlier, later in pairwise(times)]

    assert 10000 == pytest.approx(len(times), rel=0.05)
    assert max(gaps) > 5 * sum(gaps) / len(gaps)
    assert times == list(arrivals(1000, 10, seed=1))


def test_each_request_is_sent_and_its_answer_counted(tiny: Callable) -> None:
    """All bodies in rotation; every outcome has its status."""
    turns = count()
    server = tiny(lambda body: (503, b"") if next(turns) % 2 else (200, b"right"))

    outcomes = offer(server.port, [request(b"a"), request(b"bb")])

    assert len(list(arrivals(100, 0.5, seed=1))) == len(outcomes)
    assert abs(server.bodies.count(b"a") - server.bodies.count(b"bb")) <= 1
    assert {200, 503} == {outcome.status for outcome in outcomes}


def test_a_server_that_says_nothing_times_out(tiny: Callable) -> None:
    """A time-out is an outcome of its own, counted from the time at which the request was meant to be sent."""
    server = tiny(lambda body: None)

    outcomes = offer(server.port, [request(b"a")], timeout_s=0.2)

    assert {TIMED_OUT} == {outcome.status for outcome in outcomes}
    assert all(outcome.latency_s > 0.19 for outcome in outcomes)


def test_a_port_that_nobody_listens_on_is_broken() -> None:
    """A refused connection is an outcome, not an exception."""
    assert {BROKEN: len(list(arrivals(100, 0.5, seed=1)))} == Counter(
        o.status for o in offer(free_port(), [request(b"a")])
    )


def test_goodput_counts_what_was_answered_while_the_load_lasted() -> None:
    """Neither the warm-up nor what the queue still held at the end; refusals have a latency of their own."""
    answered = [Outcome(200, 0.0, ended_s) for ended_s in (1.0, 2.5, 3.5, 4.5, 6.0)]
    refused = [Outcome(503, 1.0, 1.004)]

    burst = overload.judge([*answered, *refused, Outcome(TIMED_OUT, 1.0, 31.0)], 5.0, before=1, after=1)

    assert (1.0, 1) == (burst.goodput_per_s, burst.others)
    assert 4.0 == pytest.approx(burst.refused_p99_ms)


def test_an_overload_without_refusals_is_not_judged_by_them() -> None:
    """A missing figure is said, never made up."""
    rows = overload.rows_of([20.0], [overload.Burst(19.5, None, 0, 100, 100)])

    assert [True, None, True, True] == [row.ok for row in rows]
    assert "no request was refused" == rows[1].note


def test_one_time_out_misses_the_bar() -> None:
    """None may be left without an answer."""
    assert [False] == [
        row.ok for row in overload.rows_of([20.0], [overload.Burst(20, 1.0, 1, 1, 1)]) if "none" in row.reference
    ]
