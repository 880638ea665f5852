"""The steps of the story, in the order in which a user would type them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from rich.console import Console

from demo import ledger, models, traffic
from demo.repository import SERVICE, Repository

FIRST_ANSWER_TIMEOUT_S = 20


@dataclass
class Step:
    """One command of the story and how it ended."""

    name: str
    command: str
    exit_code: int
    duration_s: float
    ok: bool


@dataclass
class Story:
    """Everything that happened, as report.json tells it."""

    directory: Path
    console: Console
    steps: list[Step] = field(default_factory=list)
    releases: list[dict[str, Any]] = field(default_factory=list)
    traffic: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    rehearsal: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    _environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    _users: subprocess.Popen[bytes] | None = None

    @property
    def repository(self) -> Path:
        return self.directory / "digits"

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps) and not self.problems

    def tell(self) -> None:
        """Run every step; a step that does not end as told ends the story."""
        try:
            self._tell()
        except StoryBroke as broke:
            self.problems.append(str(broke))
        except KeyboardInterrupt:
            self.problems.append("interrupted")

    def _tell(self) -> None:
        trained = self._train()
        project = Repository(self.repository)
        project.create(self.directory / "models" / "golden.npz")
        self.run("start the local AWS", ["rehearse", "up"], LOCAL_AWS)
        self._point_at_local_aws()
        self.run("bootstrap", ["bootstrap"], BOOTSTRAP)

        project.commit("Logistic regression", trained["v1"].path)
        self.ship("v1", FIRST_SHIP)
        self._start_users(trained)

        project.commit("A neural network, and the three likeliest digits", trained["v2"].path, SERVICE)
        self.ship("v2", SECOND_SHIP)
        again = self.run("ship v2 again", ["ship", "--release", "v2", "--output", "json"], SHIP_AGAIN)
        self._expect(again.get("outcome") == "nothing-to-do", f"shipping v2 again ended as {again.get('outcome')!r}")

        project.commit("A wider network", trained["v3"].path)
        self.ship("v3", MODEL_ONLY)
        images = [release["image_digest"] for release in self.releases]
        self._expect(images[-1] == images[-2], "the model-only release v3 was given another image than v2")

        back = self.run("roll back to v1", ["rollback", "v1", "--yes", "--output", "json"], ROLLBACK)
        self.releases.append(_release("rollback to v1", back, 0))
        time.sleep(2)
        self._stop_users()
        self.run("look at the history", ["history"], HISTORY)
        self._check_traffic(["v1", "v2", "v3", "v1"])

    def ship(self, release: str, why: str) -> None:
        """Ship one release, expect exit 0, and keep what its record says."""
        result = self.run(f"ship {release}", ["ship", "--release", release, "--yes", "--output", "json"], why)
        self.releases.append(_release(release, result, self.steps[-1].exit_code))
        self.url = result["production_url"]
        self._expect(result["outcome"] == "live", f"{release} ended as {result['outcome']!r}")

    def run(self, name: str, words: list[str], why: str, expected_exit: int = 0) -> dict[str, Any]:
        """Show the command and why it is typed, run it, and note how it ended; JSON on stdout is returned."""
        shown = "onnxship " + " ".join(word for word in words if word not in ("--output", "json"))
        self.console.print(f"\n[bold cyan]$ {shown}[/bold cyan]")
        for line in why.strip().splitlines():
            self.console.print(f"  [dim]{line.strip()}[/dim]")
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "pipeline", *words],
            cwd=self.repository,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        duration_s = round(time.monotonic() - started, 1)
        ok = ended.returncode == expected_exit
        self.steps.append(Step(name, shown, ended.returncode, duration_s, ok))
        as_json = "json" in words
        if ended.stdout.strip() and not as_json:
            self.console.print(ended.stdout.rstrip(), highlight=False, markup=False)
        self.console.print(f"  exit {ended.returncode} after {duration_s} s", style="green" if ok else "bold red")
        if not ok:
            raise StoryBroke(f"`{shown}` ended with exit code {ended.returncode}, not {expected_exit}")
        return dict(json.loads(ended.stdout)) if as_json else {}

    def close(self) -> None:
        """End the users and the local AWS, whatever happened before."""
        self._stop_users()
        if (self.repository / ".onnxship").exists():
            subprocess.run(
                [sys.executable, "-m", "pipeline", "rehearse", "down"],
                cwd=self.repository,
                check=False,
                stdout=subprocess.DEVNULL,
            )

    def _train(self) -> dict[str, models.Trained]:
        started = time.monotonic()
        trained = models.train(self.directory / "models")
        self.steps.append(Step("train the models", "", 0, round(time.monotonic() - started, 1), True))
        for release, model in trained.items():
            self.console.print(f"  {release}.onnx: {model.path.stat().st_size:,} bytes, accuracy {model.accuracy:.3f}")
        return trained

    def _point_at_local_aws(self) -> None:
        exports = subprocess.run(
            [sys.executable, "-m", "pipeline", "rehearse", "env"],
            cwd=self.repository,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        self._environment = {k: v for k, v in self._environment.items() if not k.startswith("AWS_")}
        for line in exports.splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                self._environment[name] = value.strip("'")
        self.rehearsal = self._ask("report")

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self._environment['AWS_ENDPOINT_URL']}/_rehearsal/{what}", timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
        return [json.loads(line) for line in text.splitlines()] if what == "access-log" else json.loads(text)

    def _start_users(self, trained: dict[str, models.Trained]) -> None:
        with np.load(self.directory / "models" / "golden.npz") as golden:
            recorded: dict[str, Any] = {"X": golden["X"]}
        for release, model in trained.items():
            recorded |= {f"label:{release}": model.labels, f"confidence:{release}": model.confidences}
        np.savez(self.directory / "expected.npz", **recorded)
        self._users = subprocess.Popen(
            [sys.executable, "-m", "demo.traffic", self.url, self.directory / "expected.npz", self._requests_file]
        )
        self.console.print(
            f"\n  Users arrive at {self.url}: {traffic.REQUESTS_PER_SECOND} requests a second until the end.",
            style="bold",
        )
        deadline = time.monotonic() + FIRST_ANSWER_TIMEOUT_S
        while not (self._requests_file.exists() and self._requests_file.stat().st_size):
            self._expect(time.monotonic() < deadline and self._users.poll() is None, "the users got no first answer")
            time.sleep(0.1)

    @property
    def _requests_file(self) -> Path:
        return self.directory / "requests.jsonl"

    def _stop_users(self) -> None:
        if self._users and self._users.poll() is None:
            self._users.send_signal(signal.SIGTERM)
            self._users.wait(timeout=15)

    def _check_traffic(self, order: list[str]) -> None:
        """Users, weights and the load balancer's log must tell the same story."""
        requests = ledger.read(self._requests_file)
        self.traffic = ledger.summary(requests)
        port = int(self.url.rsplit(":", 1)[1])
        shifts = _shifts(self._ask("weights"), port, after=requests[0].start)
        self.traffic["shifts"] = [round(shift - requests[0].start, 3) for shift in shifts]
        self.problems += ledger.against_weights(requests, order, shifts)[:5]
        self.problems += ledger.against_log(requests, self._log_by_release())
        if self.traffic["failed"]:
            self.problems.append(f"{self.traffic['failed']} requests failed: {self.traffic['failures']}")

    def _log_by_release(self) -> dict[str, int]:
        """The load balancer's own count of the users' requests, by the release of the task that answered."""
        entries = [e for e in self._ask("access-log") if e["user_agent"] == traffic.USER_AGENT]
        ecs = boto3.client(
            "ecs",
            endpoint_url=self._environment["AWS_ENDPOINT_URL"],
            region_name=self._environment["AWS_REGION"],
            aws_access_key_id="rehearsal",
            aws_secret_access_key="rehearsal",  # noqa: S106 - the local AWS takes any
        )
        release_of: dict[str, str] = {}
        for arn in {entry["task_arn"] for entry in entries}:
            (task,) = ecs.describe_tasks(cluster=arn.split("/")[1], tasks=[arn])["tasks"]
            revision = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
            environment = revision["containerDefinitions"][0]["environment"]
            release_of[arn] = next(item["value"] for item in environment if item["name"] == "RELEASE_ID")
        counts: dict[str, int] = {}
        for entry in entries:
            release = release_of[entry["task_arn"]]
            counts[release] = counts.get(release, 0) + 1
        return counts

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise StoryBroke(otherwise)


class StoryBroke(Exception):
    """A step did not end as told."""


def clean(directory: Path) -> None:
    """Remove what an earlier demo left, ending its local AWS if that still runs."""
    left = directory / "digits"
    if (left / ".onnxship").exists() and (left / "onnxship.yaml").exists():
        subprocess.run(
            [sys.executable, "-m", "pipeline", "rehearse", "down"], cwd=left, check=False, capture_output=True
        )
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _release(name: str, result: dict[str, Any], exit_code: int) -> dict[str, Any]:
    kept = ("git_sha", "image_digest", "model_sha256", "outcome", "gates", "stages", "durations_s", "duration_s")
    return {"id": name, "exit_code": exit_code} | {key: result.get(key) for key in kept}


def _shifts(weights: list[dict[str, Any]], port: int, after: float) -> list[float]:
    """When the production listener's whole weight moved to another target group, in seconds since the epoch."""
    moved: list[float] = []
    previous = None
    for change in (c for c in weights if c["listener_port"] == port):
        full = [group for group, weight in change["weights"].items() if weight == max(change["weights"].values())]
        at = datetime.fromisoformat(change["time"]).timestamp()
        if previous is not None and full != previous and at > after:
            moved.append(at)
        previous = full
    return moved


LOCAL_AWS = """
The same AWS calls as in your account, answered on this machine: CloudFormation, ECR, S3, and an ECS
whose tasks are real processes behind a load balancer on real ports.
"""
BOOTSTRAP = """
Once per account and environment: the roles that deploy, an image repository that never overwrites a tag,
and one versioned bucket for models and release records.
"""
FIRST_SHIP = """
Build, scan, publish the model, deploy the stacks, and create the service. Even this first release must
pass the gate: its answers and a load test, on a listener that no user reaches.
"""
SECOND_SHIP = """
A new model and new code, while users keep coming. Green starts beside blue, ECS holds at the PAUSE hook,
golden inputs and Locust judge green on the test listener, and only then does production move.
"""
SHIP_AGAIN = """
Nothing has changed since v2: the answer is "nothing to do", exit 0, and no stack or service is touched.
A pipeline that is run twice must be boring.
"""
MODEL_ONLY = """
Only the model file changed. The image is reused by its digest; the new model goes through the same gate.
"""
ROLLBACK = """
v3 disappoints? One command goes back to a release by name: its recorded image and model, judged by the
golden inputs, still without a failed request.
"""
HISTORY = """
Every release is a record: commit, image digest, model digest, gates, who, and how it ended.
"""
