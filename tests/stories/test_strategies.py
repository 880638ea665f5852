"""What users get while releases come by CANARY, LINEAR and ROLLING: real requests, counted by who answered.

One local AWS; the strategy changes with every release: created by CANARY, then LINEAR, ROLLING, and CANARY again.
"""

import asyncio
import json
import math
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import Any

import aiohttp
import pytest
import yaml

from tests.stories.conftest import Ended, Project

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(420)]

REQUESTS_PER_S = 60  # what two busy processors still answer while tasks start and models are measured
SECONDS_PER_MINUTE = "3"
# A count of n answers, each the new release's with probability p, differs from n p by sqrt(n p (1 - p)) on average; by
# more than four times that once in 16,000 intervals.
SIGMAS = 4
CANARY = {"strategy": "CANARY", "canary": {"percent": 20, "bake_minutes": 2}, "bake_minutes": 1}
LINEAR = {"strategy": "LINEAR", "linear": {"step_percent": 25, "step_bake_minutes": 2}, "bake_minutes": 1}
ROLLING = {"strategy": "ROLLING"}
NO_GATE = "ROLLING has no gate before production"


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent, when it was answered, and by which release ("" when it failed)."""

    sent_at: float
    at: float
    release: str


@dataclass
class Users:
    """Open-loop traffic: so many requests a second, however long the answers take."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Users":
        self._thread = threading.Thread(target=asyncio.run, args=[self._come()])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _come(self) -> None:
        began, requests = time.monotonic(), 0
        timeout = aiohttp.ClientTimeout(total=30)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
            while not self._over.is_set():
                group.create_task(self._ask(session))
                requests += 1
                await asyncio.sleep(max(0.0, began + requests / REQUESTS_PER_S - time.monotonic()))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        sent_at = time.time()
        try:
            async with session.post(f"{self.url}/predict", json={"input": [5.1, 3.5, 1.4, 0.2]}) as answer:
                body = await answer.text()
                release = answer.headers.get("X-Onnxship-Release", "")
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {release} {body}")
        except (aiohttp.ClientError, TimeoutError) as error:
            release = ""
            self.failures.append(repr(error))
        self.answers.append(Answer(sent_at, time.time(), release))

    def between(self, begin: float, end: float) -> list[str]:
        """The releases that answered what was sent and answered within an interval."""
        return [one.release for one in self.answers if begin <= one.sent_at and one.at <= end]


@dataclass
class Release:
    """What a release was, how its command ended, and what users saw meanwhile."""

    name: str
    ended: Ended
    users: Users
    steps: list[tuple[float, float, float]]  # begin, end, share of the new release

    @property
    def result(self) -> dict[str, Any]:
        return self.ended.json


@pytest.fixture(scope="module")
def local_aws(project: Project) -> Project:
    """A local AWS in which ROLLING watches its alarms for a minute and goes to the target group that is named first.

    Under the other reading it keeps to the group that serves, whatever the service names first.
    """
    assumed = ("--assume", "rolling_alarm_bake_minutes=1", "--assume", "rolling_target_group=primary")
    ended = project.onnxship("rehearse", "up", "--seconds-per-minute", SECONDS_PER_MINUTE, *assumed)
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    assert 0 == project.onnxship("bootstrap").exit_code
    be_patient(project)
    by(project, CANARY)
    return project


@pytest.fixture(scope="module")
def first(local_aws: Project) -> Ended:
    return ship(local_aws, "v1", 1.0)


@pytest.fixture(scope="module")
def linear(local_aws: Project, first: Ended) -> Release:
    """The second release, by LINEAR: the other target group serves after it."""
    return released(local_aws, "v2", 0.5, LINEAR, first)


@pytest.fixture(scope="module")
def rolling(local_aws: Project, first: Ended, linear: Release) -> Release:
    """The third, by ROLLING, in the group that serves."""
    return released(local_aws, "v3", 0.25, ROLLING, first)


@pytest.fixture(scope="module")
def canary(local_aws: Project, first: Ended, rolling: Release) -> Release:
    """The fourth, by CANARY again."""
    return released(local_aws, "v4", 0.125, CANARY, first)


def test_a_first_release_by_canary_has_all_of_production(first: Ended) -> None:
    """There is nobody to share with: it is gated, and then serves alone."""
    assert (["golden", "load"], "live") == ([gate["name"] for gate in first.json["gates"]], first.json["outcome"])


def test_linear_steps_give_users_what_the_weights_say(linear: Release) -> None:
    """25, 50, 75, 100 %: in each step the new release answers its share, within the noise of so many requests."""
    assert [25.0, 50.0, 75.0, 100.0] == [share for *_, share in linear.steps]
    assert_shares(linear)
    for percent in (25, 50, 75, 100):
        assert f"production: {percent} % of the requests go to the new release" in linear.ended.stderr


def test_rolling_fails_no_request_and_says_that_it_has_no_gate(rolling: Release, local_aws: Project) -> None:
    """Progress, result and record say it; both releases answer for a while, and only the new one in the end."""
    record = local_aws.onnxship("history", "--output", "json").json["releases"][0]
    seen = [one.release for one in rolling.users.answers]

    assert [] == rolling.users.failures
    assert {"v2", "v3"} == set(seen)
    assert {"v3"} == set(seen[-REQUESTS_PER_S:])
    assert ["golden"] == [gate["name"] for gate in rolling.result["gates"]]
    assert [] == rolling.steps
    assert NO_GATE in rolling.ended.stderr
    assert NO_GATE in rolling.result["note"]
    assert ("v3", True) == (record["release_id"], NO_GATE in record["reason"])


def test_a_canary_after_rolling_gives_users_what_the_weights_say(canary: Release) -> None:
    """20 %, then all: the gate stands before production again."""
    assert [20.0, 100.0] == [share for *_, share in canary.steps]
    assert_shares(canary)
    assert ["golden", "load"] == [gate["name"] for gate in canary.result["gates"]]
    assert "" == canary.result["note"]


def test_a_dry_run_of_rolling_says_that_it_has_no_gate(local_aws: Project, canary: Release) -> None:
    """Before anything is done."""
    by(local_aws, ROLLING)
    local_aws.train(2.0)
    local_aws.commit("Another model")

    plan = local_aws.onnxship("ship", "--dry-run", "--output", "json").json

    assert ("ROLLING", ["golden"]) == (plan["strategy"], plan["gates"])
    assert NO_GATE in plan["note"]


def assert_shares(release: Release) -> None:
    """No request failed, and each interval's count agrees with its weight."""
    assert [] == release.users.failures
    for begin, end, percent in release.steps:
        seen = release.users.between(begin, end)
        share = percent / 100
        expected, noise = len(seen) * share, math.sqrt(len(seen) * share * (1 - share))
        assert len(seen) > REQUESTS_PER_S, (begin, end, percent)
        assert abs(seen.count(release.name) - expected) <= SIGMAS * noise, (
            percent,
            len(seen),
            seen.count(release.name),
        )


def released(project: Project, name: str, c: float, rollout: dict[str, Any], first: Ended) -> Release:
    """Ship a release by a strategy while users come, and a second longer."""
    by(project, rollout)
    url = first.json["production_url"]
    began = time.time()
    with Users(url) as users:
        ended = ship(project, name, c)
        done = time.time()
        while users.answers[-1].sent_at < done + 2:  # what the last step is counted on
            time.sleep(0.1)
    return Release(name, ended, users, steps_of(project, url, began, name, users))


def steps_of(project: Project, url: str, began: float, name: str, users: Users) -> list[tuple[float, float, float]]:
    """The intervals between changes of production's weights in which the release answered."""
    with urllib.request.urlopen(f"{project.environment['AWS_ENDPOINT_URL']}/_rehearsal/weights") as answer:
        every = [(datetime.fromisoformat(change["time"]).timestamp(), change) for change in json.load(answer)]
    mine = [(at, one["weights"]) for at, one in every if at >= began and url.endswith(f":{one['listener_port']}")]
    if not mine:
        return []
    new = max(mine[-1][1], key=mine[-1][1].__getitem__)
    ends = [*(at for at, _ in mine[1:]), users.answers[-1].at]
    intervals = [(at, end, _percent(weights, new)) for (at, weights), end in zip(mine, ends, strict=True)]
    return [one for one in intervals if name in users.between(one[0], one[1])]


def _percent(weights: dict[str, int], group: str) -> float:
    return 100.0 * weights[group] / sum(weights.values())


def by(project: Project, rollout: dict[str, Any]) -> None:
    """Choose a strategy in onnxship.yaml."""
    path = project.directory / "onnxship.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["services"]["iris"]["rollout"] = {"start_deadline_s": 120, **rollout}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def be_patient(project: Project) -> None:
    """How fast answers come is not this story's matter: neither gate nor alarm minds a busy machine."""
    template = (files("cloudformation") / "service.yaml").read_text()
    (project.directory / "service.yaml").write_text(template.replace("Default: 2000\n", "Default: 60000\n"))
    path = project.directory / "onnxship.yaml"
    settings = yaml.safe_load(path.read_text()) | {"templates": {"service": "service.yaml"}}
    load = {"rps": 20, "duration_s": 3, "min_requests": 10, "p99_ms": 60000}
    settings["services"]["iris"]["gate"] = {"from": "runner", "against_live": None, "load": load}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def ship(project: Project, name: str, c: float) -> Ended:
    project.train(c)
    project.commit(name)
    ended = project.onnxship("ship", "--release", name, "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    return ended
