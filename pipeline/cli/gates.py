"""The gates of a release as functions of a target, and what a record says they are asked with."""

from __future__ import annotations

from pydantic import TypeAdapter

from pipeline.aws.models import PinnedModel, fetch_model
from pipeline.cli.options import Run
from pipeline.deployment.follower import Gate
from pipeline.errors import UsageError
from pipeline.results import GateResult, Published, Record, Target
from pipeline.stages import golden as golden_stage
from pipeline.stages import loadtest as loadtest_stage


def golden_gate(run: Run, release_id: str, model: PinnedModel) -> Gate:
    """The golden inputs as a gate."""

    def golden(target: Target) -> GateResult:
        return golden_stage.golden(
            run.config, run.clock, service=run.service, target=target, release_id=release_id, model=model
        )

    return golden


def load_gate(run: Run, release_id: str, model: PinnedModel) -> Gate:
    """Locust as a gate."""

    def loadtest(target: Target) -> GateResult:
        tested = loadtest_stage.loadtest(
            run.config, service=run.service, target=target, model=model, release_id=release_id
        )
        return loadtest_stage.as_gate(tested)

    return loadtest


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
