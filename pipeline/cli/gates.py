"""The gates of a release as functions of a target, and what a record says they are asked with."""

from __future__ import annotations

import socket

from pydantic import TypeAdapter

from pipeline.aws.cloudformation import outputs
from pipeline.aws.models import PinnedModel, fetch_model
from pipeline.cli.options import Run
from pipeline.deployment.follower import Gate
from pipeline.deployment.gate_task import measure_in_vpc
from pipeline.deployment.measuring import Measure, measure_here
from pipeline.errors import ConfigError, UsageError
from pipeline.results import GateResult, Published, Record, Target
from pipeline.stages import golden as golden_stage
from pipeline.stages import loadtest as loadtest_stage


def golden_gate(run: Run, release_id: str, model: PinnedModel) -> Gate:
    """The golden inputs as a gate."""

    def golden(target: Target) -> GateResult:
        return golden_stage.golden(
            run.config, service=run.service, target=target, release_id=release_id, model=model,
            measure=measurer(run, release_id),
        )  # fmt: skip

    return golden


def load_gate(run: Run, release_id: str, model: PinnedModel, *, against_live: bool = True) -> Gate:
    """Locust as a gate. Its file of requests is read now: one that is missing must not wait for the gate."""
    settings = run.config.services[run.service].gate
    if not against_live:
        settings = settings.model_copy(update={"against_live": None})
    loadtest_stage.requests_of(run.config, settings.load)

    def load(target: Target) -> GateResult:
        tested = loadtest_stage.loadtest(
            run.config, service=run.service, target=target, model=model, release_id=release_id, gate=settings,
            measure=measurer(run, release_id),
        )  # fmt: skip
        return loadtest_stage.as_gate(tested)

    return load


def measurer(run: Run, release_id: str) -> Measure:
    """What runs a gate's program: a task in the VPC, or this machine (`gate.from`)."""
    if run.config.services[run.service].gate.from_ == "runner":
        return measure_here
    return measure_in_vpc(
        run.config, run.aws, run.clock, service=run.service, run=release_id, tell=run.progress
    )  # fmt: skip


def refuse_unknown_domain(run: Run, release_id: str) -> None:
    """Raises ConfigError when this machine is to call the service by a domain that it cannot find.

    Requests from the VPC ask its own resolver, which may know names (private hosted zones) that nobody else knows.
    """
    domain = run.config.edge.domain
    if not domain or run.settings.gate.from_ != "runner":
        return
    try:
        socket.getaddrinfo(domain, None)
    except OSError as error:
        target = outputs(run.aws, run.config.stack_name("cluster"))["LoadBalancerDnsName"]
        raise ConfigError(
            f"edge.domain {domain} does not resolve ({error.strerror}).",
            f"make a CNAME record for it to {target}, then run `onnxship ship --release {release_id}`: it goes on",
        ) from error


def fetch_published(run: Run, published: Published) -> PinnedModel:
    """Manifest and golden inputs as the release pinned them."""
    return fetch_model(
        run.aws,
        published.bucket,
        published.manifest_key,
        published.manifest_version_id,
        published.manifest_sha256,
    )


def published_of(record: Record) -> Published:
    """What a recorded release had published. Raises UsageError when its record does not say."""
    found = record.results.get("publish")
    if not found:
        raise UsageError(
            f"The record of release `{record.release_id}` does not say which model it published.",
            "choose another release: `onnxship history` lists them",
        )
    return TypeAdapter(Published).validate_python(found)
