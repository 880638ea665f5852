"""A gate's program as a one-off ECS task inside the VPC, from where green can be reached.

The task finds its inputs in S3, pinned, and leaves there what it measured, or why it could not. Whatever else happens
to it (it cannot start, is stopped, writes nothing in time) is said with ECS's reason and the task's last log lines, and
decides nothing. It never outlives the one who waits: an interruption stops it, and so does the next gate's start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pipeline.aws import tasks
from pipeline.aws.logs import last_lines
from pipeline.aws.models import golden_pin
from pipeline.aws.s3 import ABSENT_CODES, put_once
from pipeline.aws.session import Aws, body_of
from pipeline.config import Config
from pipeline.deployment.gate_place import (
    CONTAINER,
    LOG_PREFIX,
    NOBODY_WAITS,
    STARTED_BY,
    GatePlace,
    find_gate_place,
    stop_gates,
)
from pipeline.deployment.measuring import Job, Measure
from pipeline.errors import AwsError, StateUnknown
from pipeline.waiting import Clock

JOB = "ONNXSHIP_GATE_JOB"
START_WITHIN_S = 240  # Fargate finds a machine and pulls the image
WRITE_WITHIN_S = 60  # inputs, result and logs, beside the program's own time
SHOWN_LINES = 8
ANOTHER_WAY = "services.<name>.gate.from: runner measures from this machine"


def measure_in_vpc(
    config: Config, aws: Aws, clock: Clock, *, service: str, run: str, tell: Callable[[str], None]
) -> Measure:
    """What runs a job as a task. Results lie in S3 under `loadtests/<environment>/<service>/<run>/`."""

    def measure(job: Job) -> dict[str, Any]:
        place = find_gate_place(config, aws, service)
        prefix = f"loadtests/{config.environment_name}/{service}/{run}/{clock.now():%Y%m%d-%H%M%S}-{job.program}"
        return _Run(aws, clock, place, prefix, config.poll_interval_s, tell).measure(job)

    return measure


def job_document(
    job: Job, bucket: str, inputs: dict[str, dict[str, str]], result_key: str, addresses: list[str]
) -> str:
    """What the task is told. The header's secret is not in it: DescribeTasks shows overrides to whoever may look."""
    hosts = {urlsplit(url).hostname for url in (job.target.url, job.target.live_url) if url}
    resolved = [f"--resolve={host}={','.join(addresses)}" for host in sorted(filter(None, hosts)) if addresses]
    return json.dumps(
        {
            "program": job.program,
            "arguments": [*job.words, *resolved],
            "timeout_s": job.timeout_s,
            "bucket": bucket,
            "inputs": inputs,
            "secret_headers": sorted(job.target.headers),
            "result_key": result_key,
        }
    )


@dataclass(frozen=True)
class _Run:
    """One task from its start to its result."""

    aws: Aws
    clock: Clock
    place: GatePlace
    prefix: str
    interval_s: float
    tell: Callable[[str], None]

    def measure(self, job: Job) -> dict[str, Any]:
        cluster = self.place["ClusterName"]
        request = self._request(job, self.place.task_definition())
        stop_gates(self.aws, cluster, self.place.family)
        started: list[str] = []
        try:
            task = tasks.run_task(self.aws, request)
            started.append(task.arn)
            self.tell(f"`{job.program}` runs in the VPC as task {task.task_id}")
            ended = self._wait(cluster, task, job.timeout_s + WRITE_WITHIN_S)
        except BaseException:
            self._abandon(started)
            raise
        return self._result(ended)

    def _abandon(self, started: list[str]) -> None:
        """Stop the task, also one whose start was interrupted; that it cannot be stopped must not hide why it is."""
        try:
            if started:
                tasks.stop_task(self.aws, self.place["ClusterName"], started[0], NOBODY_WAITS)
            else:
                stop_gates(self.aws, self.place["ClusterName"], self.place.family)
        except AwsError as error:
            self.tell(f"The gate's task could not be stopped, and ends by itself: {error.what}")

    def _request(self, job: Job, definition: str) -> dict[str, Any]:
        document = job_document(
            job, self.place["ArtifactBucketName"], self._inputs(job), self._result_key, self.place.addresses()
        )
        return tasks.run_task_request(
            self.place["ClusterName"], definition, container=CONTAINER, environment={JOB: document},
            subnets=self.place.subnets, security_group=self.place["GateSecurityGroupId"], started_by=STARTED_BY,
            tags=self.place.tags,
        )  # fmt: skip

    @property
    def _result_key(self) -> str:
        return f"{self.prefix}/result.json"

    def _inputs(self, job: Job) -> dict[str, dict[str, str]]:
        """The model's files where they were published; other files are put beside the result first."""
        pin = job.model.manifest_pin
        if pin is None:
            raise StateUnknown(
                "The model's manifest is not in S3, where the gate's task reads it.", "run `onnxship publish`"
            )
        published = {"manifest": pin, "golden": golden_pin(pin.bucket, job.model.manifest)}
        inputs = {
            name: {"key": one.key, "version_id": one.version_id, "sha256": one.sha256}
            for name, one in published.items()
        }
        for name, content in job.files.items():
            sha256 = hashlib.sha256(content).hexdigest()
            stored = put_once(
                self.aws, self.place["ArtifactBucketName"], f"{self.prefix}/{name}", content, sha256=sha256
            )
            inputs[name] = {"key": stored.key, "version_id": stored.version_id, "sha256": sha256}
        return inputs

    def _wait(self, cluster: str, task: tasks.OneOffTask, run_within_s: float) -> tasks.OneOffTask:
        """The stopped task. Raises AwsError when it does not start, or does not end, in time."""
        began_s = self.clock.monotonic()
        started_s: float | None = None
        while True:
            seen = tasks.describe_task(self.aws, cluster, task.arn) or task
            if seen.has_stopped:
                return seen
            now_s = self.clock.monotonic()
            if seen.status in ("RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING"):
                started_s = now_s if started_s is None else started_s
            if started_s is None and now_s - began_s > START_WITHIN_S:
                why = self._why_not_started(cluster, seen)
                raise self._broken(seen, f"has not started within {START_WITHIN_S} s (it is {seen.status}{why})")
            if started_s is not None and now_s - started_s > run_within_s:
                raise self._broken(seen, f"has not ended within {run_within_s:.0f} s")
            self.clock.sleep(self.interval_s)

    def _why_not_started(self, cluster: str, task: tasks.OneOffTask) -> str:
        """What ECS says of a task that it tries to start, over and over, once it is told to stop."""
        self._abandon([task.arn])
        seen = tasks.describe_task(self.aws, cluster, task.arn)
        said = (seen.stopped_reason, seen.container_reason) if seen else ()
        reasons = dict.fromkeys(part.rstrip(".") for part in said if part and part != NOBODY_WAITS)
        return f"; ECS says: {', '.join(reasons)}" if reasons else ""

    def _result(self, task: tasks.OneOffTask) -> dict[str, Any]:
        bucket = self.place["ArtifactBucketName"]
        try:
            answer = self.aws.call("s3", "get_object", Bucket=bucket, Key=self._result_key)
        except AwsError as error:
            if error.code not in ABSENT_CODES:
                raise
            raise self._broken(task, f"wrote no result: {task.ending}") from None
        content = json.loads(body_of(answer, f"s3://{bucket}/{self._result_key}"))
        if "failure" in content:
            raise self._broken(task, f"failed: {content['failure']}")
        return dict(content["result"])

    def _broken(self, task: tasks.OneOffTask, how: str) -> AwsError:
        lines = last_lines(
            self.aws, self.place["LogGroupName"], task.task_id, SHOWN_LINES, prefix=f"{LOG_PREFIX}/{CONTAINER}/"
        )
        return AwsError(
            f"The gate's task {task.task_id} {how}; nothing was measured.",
            f"see its log: `aws logs tail {self.place['LogGroupName']} --since 1h`; {ANOTHER_WAY}",
            details=tuple(f"| {line}" for line in lines),
        )  # fmt: skip
