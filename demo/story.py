"""The story: what a user would type, in order, with users all the time and bad releases among the good ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import faults, ledger, models, releases, texts, traffic, weights
from demo.commands import Commands, Ended, StoryBroke
from demo.faults import Fault
from demo.local_aws import LocalAws, by_release
from demo.repository import SERVICE, Repository
from demo.users import Users

SECONDS_PER_AWS_MINUTE = 1.0
BUDGET_USD, BILL_USD = 300.0, 412.5  # the budget stands in the repository's onnxship.yaml
ROLLOUTS: dict[str, dict[str, Any]] = {
    "BLUE_GREEN": {},
    "CANARY": {"canary": {"percent": 20, "bake_minutes": 6}},
    "LINEAR": {"linear": {"step_percent": 25, "step_bake_minutes": 3}},
    "ROLLING": {},
}


@dataclass
class Story:
    """Everything that happened, as report.json tells it."""

    directory: Path
    console: Console
    engine: str = "process"
    strategy: str = "BLUE_GREEN"
    releases: list[dict[str, Any]] = field(default_factory=list)
    traffic: dict[str, Any] = field(default_factory=dict)
    billing: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    rehearsal: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    _runs: list[weights.Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        children = self.directory / "children"
        self.commands = Commands(self.directory / "digits", self.console, children)
        self.users = Users(self.directory, children)
        rollout = {"strategy": self.strategy, "bake_minutes": 5} | ROLLOUTS[self.strategy]
        self._project = Repository(self.commands.directory, rollout)

    @property
    def ok(self) -> bool:
        steps = self.commands.steps
        return bool(steps) and all(step.ok for step in steps) and not self.problems

    @property
    def is_gated(self) -> bool:
        """Whether new tasks can be judged before users see them: rolling deployments have no such moment."""
        return self.strategy != "ROLLING"

    def tell(self) -> None:
        """Run every step; a step that does not end as told ends the story."""
        try:
            self._tell()
        except (StoryBroke, KeyboardInterrupt) as broke:
            self.problems.append(str(broke) or "interrupted")
            self.users.stop()
            self._count(self.users.requests())

    def close(self) -> None:
        """End the users and the local AWS, whatever happened before."""
        self.users.stop()
        if (self.commands.directory / ".onnxship").exists():
            self.commands.quietly("rehearse", "down")

    def _tell(self) -> None:
        folder = self.directory / "models"
        self._trained = self.commands.do("train the models", "", "", lambda: models.train(folder))
        for name, model in self._trained.items():
            self.console.print(f"  {name}.onnx: {model.path.stat().st_size:,} bytes, accuracy {model.accuracy:.3f}")
        self._project.create(folder / "golden.npz")
        self._start_local_aws()
        self.commands.run("bootstrap", ["bootstrap"], texts.BOOTSTRAP)
        self._ship("v1", "Logistic regression", "", texts.FIRST_SHIP)
        self.users.start(self.url, self._served())
        self.console.print(f"\n  {texts.USERS.format(url=self.url, rps=traffic.REQUESTS_PER_SECOND)}", style="bold")
        self._ship("v2", "A neural network, and the three likeliest digits", SERVICE, texts.SECOND_SHIP)
        self._ship_again("v2")
        if self.is_gated:
            self._tell_of_bad_releases()
        else:
            self.console.print(f"\n  {texts.NO_GATE}", style="bold yellow")
        self._let_the_bill_grow()
        self._ship("v3", "A wider network", SERVICE, texts.MODEL_ONLY)
        v2, v3 = (next(told for told in self.releases if told["id"] == name) for name in ("v2", "v3"))
        self._expect(v2["image_digest"] == v3["image_digest"], "the model-only release v3 was given another image")
        back = self._in_production("v1", "roll back to v1", ["rollback", "v1"], texts.ROLLBACK)
        self.releases.append(releases.good("rollback to v1", back, "rollback"))
        self.commands.run("look at the history", ["history"], texts.HISTORY)
        self.users.stop()
        self.rehearsal = self.aws.ask("report")  # again: now it knows all that was used
        self._check_traffic()

    def _served(self) -> dict[str, models.Trained]:
        """The model of each release that users may meet."""
        return {name: self._trained[name] for name in ("v1", "v2", "v3")} | {
            faults.NO_BATCHES.release: self._trained[faults.NO_BATCHES.model]
        }

    def _start_local_aws(self) -> None:
        words = ["rehearse", "up", "--seconds-per-minute", f"{SECONDS_PER_AWS_MINUTE:g}"]
        words += ["--engine", self.engine] if self.engine != "process" else []
        self.commands.run("start the local AWS", words, texts.LOCAL_AWS)
        for line in self.commands.quietly("rehearse", "env").splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                self.commands.environment[name] = value.strip("'")
        self.aws = LocalAws(self.commands.environment)
        self.rehearsal = self.aws.ask("report")

    def _ship(self, release: str, message: str, service: str, why: str) -> None:
        """Ship one good release."""
        self._project.commit(message, self._trained[release].path, service)
        ended = self._in_production(release, f"ship {release}", ["ship", "--release", release], why)
        self.releases.append(releases.good(release, ended))
        self.url = ended.result["production_url"]
        self._expect(ended.result["outcome"] == "live", f"{release} ended as {ended.result['outcome']!r}")

    def _ship_again(self, release: str) -> None:
        words = ["ship", "--release", release, "--output", "json"]
        again = self.commands.run(f"ship {release} again", words, texts.SHIP_AGAIN).result
        self._expect(again["outcome"] == "nothing-to-do", f"shipping again ended as {again['outcome']!r}")

    def _tell_of_bad_releases(self) -> None:
        self.console.print(f"\n  {texts.BAD_RELEASES}", style="bold")
        prepare = {faults.ARM64.release: self._push_for_arm, faults.CRITICAL_FINDING.release: self._find_something}
        for fault in faults.FAULTS:
            self._project.commit(fault.commit, self._trained[fault.model].path, fault.service, fault.rollout)
            if fault.release in prepare:
                prepare[fault.release]()
            self._try(fault)

    def _push_for_arm(self) -> None:
        tag = self._tag()
        command = f"docker push {'.../digits-production:' + tag[:7]}...   # by the colleague, for linux/arm64"
        self.commands.do("push an arm64 image", command, "", lambda: self.aws.push_from_an_arm_machine(tag))

    def _find_something(self) -> None:
        self.aws.find_something(self._tag())

    def _tag(self) -> str:
        return str(releases.as_json(self.commands.quietly("build", "--dry-run", "--output", "json"))["tag"])

    def _try(self, fault: Fault) -> None:
        """Ship a bad release, and see that it is stopped by the one who should, for its fault."""
        words = ["ship", "--release", fault.release]
        ended = self._in_production(fault.release, f"ship {fault.release}", words, fault.why, fault.exit_code)
        told = releases.bad(fault, ended, self.aws.record(fault.release))
        self.problems += releases.mismatches(fault, told)
        requests = self.users.requests()
        told["production_requests"], told["failed_requests"] = ledger.count(requests, fault.release)
        self.console.print(f"  {texts.verdict(told, len(requests))}", style="bold", highlight=False)
        self.releases.append(told)

    def _in_production(self, release: str, name: str, words: list[str], why: str, expected_exit: int = 0) -> Ended:
        """Run a command that may move production to `release`, and remember when it ran."""
        began = time.time()
        try:
            return self.commands.run(name, [*words, "--yes", "--output", "json"], why, expected_exit)
        finally:
            self._runs.append(weights.Run(release, began, time.time()))

    def _let_the_bill_grow(self) -> None:
        queue = self.aws.subscribe_to_the_bill()
        command = (
            f"aws cloudwatch put-metric-data --region us-east-1 --namespace AWS/Billing "
            f"--metric-name EstimatedCharges --dimensions Currency=USD --value {BILL_USD:g}"
        )
        began = time.monotonic()

        def grow() -> dict[str, Any]:
            self.aws.put_bill(BILL_USD)
            return self.aws.next_message(queue)

        message = self.commands.do("a bill over the budget", command, texts.BILL, grow)
        told = releases.as_json(message.get("Message", "{}"))
        self.billing = {
            "budget_usd": BUDGET_USD, "data_point_usd": BILL_USD, "alarm": told.get("AlarmName", ""),
            "state": told.get("NewStateValue", ""), "subscriber": queue, "delivered": bool(message),
            "delivered_after_s": round(time.monotonic() - began, 1), "message": message.get("Subject", ""),
        }  # fmt: skip
        self._expect(self.billing["state"] == "ALARM", f"the billing alarm told its subscriber: {self.billing}")
        after_s = self.billing["delivered_after_s"]
        self.console.print(f"  ✓ its subscriber was told after {after_s} s: {self.billing['message']}", style="bold")

    def _check_traffic(self) -> None:
        """Users, weights and the load balancer's log must tell the same story."""
        requests, port = self.users.requests(), int(self.url.rsplit(":", 1)[1])
        started, bad = requests[0].start, faults.NO_BATCHES.release
        changes = weights.changes(self.aws.ask("weights"), port, self._runs)
        answered = self.aws.answered(port)
        offset_s = started - self.commands.began
        self.traffic = ledger.summary(requests, bad) | {
            "started_s": round(offset_s, 3),
            "shifts": [round(change.at - started, 3) for change in changes if change.at > started],
            "weights": [
                {"at_s": round(change.at - self.commands.began, 3), "shares": change.shares} for change in changes
            ],
        }
        self._count(requests)
        self.problems += ledger.against_log(requests, by_release(answered, traffic.USER_AGENT))
        self.problems += self._against_weights(requests, changes)
        self.problems += self._reached_production(by_release(answered))
        if self.traffic["failed"]:
            self.problems.append(f"{self.traffic['failed']} requests failed: {self.traffic['failures']}")

    def _count(self, requests: list[ledger.Request]) -> None:
        """How many requests each release answered; what v1 answered after the way back to it counts for that."""
        back = next((run.began for run in self._runs[1:] if run.release == "v1"), float("inf"))
        for told in self.releases:
            span = {"v1": (float("-inf"), back), "rollback to v1": (back, float("inf"))}.get(told["id"], ())
            release = "v1" if span else told["id"]
            told["production_requests"], told["failed_requests"] = ledger.count(requests, release, *span)

    def _against_weights(self, requests: list[ledger.Request], changes: list[weights.Change]) -> list[str]:
        if not self.is_gated:
            return weights.against_weights(requests, weights.replaced(self._runs))[:5]
        told = weights.against_weights(requests, changes)[:5] + weights.against_shares(requests, changes)
        full = [release for release in weights.in_full(changes) if release != faults.NO_BATCHES.release]
        order = [release for number, release in enumerate(full) if number == 0 or full[number - 1] != release]
        if order != ["v1", "v2", "v3", "v1"]:
            told.append(f"production went to {', '.join(order)}")
        return told

    def _reached_production(self, logged: dict[str, int]) -> list[str]:
        """Refused releases that answered anything on the production listener, whoever asked, in words."""
        refused = [told["id"] for told in self.releases if told["outcome"] == "refused"]
        return [
            f"{release} answered {logged[release]} requests in production" for release in refused if logged[release]
        ]

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise StoryBroke(otherwise)
