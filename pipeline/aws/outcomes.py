"""A run's error and its release's record: each says how the other must read."""

from __future__ import annotations

from pipeline.errors import GateRefused, Locked, PipelineError, RolledBack, StateUnknown
from pipeline.results import Outcome, Record


def outcome_of(error: PipelineError) -> Outcome | None:
    """How a run that raised `error` ended; None when the run may be taken up again with the same id."""
    endings = {
        GateRefused.exit_code: Outcome.REFUSED,
        RolledBack.exit_code: Outcome.ROLLED_BACK,
        StateUnknown.exit_code: Outcome.UNKNOWN,
    }
    return endings.get(error.exit_code)


def error_of(record: Record, error: PipelineError) -> PipelineError:
    """What a run that broke off with `error` ends with, when its release has this record, by another run.

    What this run itself held against the release stays its word; what it only saw happen, the other one can tell.
    """
    kinds = {Outcome.REFUSED: GateRefused, Outcome.ROLLED_BACK: RolledBack, Outcome.ABORTED: Locked}
    kind = kinds.get(record.outcome)
    if kind is None or (isinstance(error, kind) and outcome_of(error) and not error.is_elsewhere):
        return error
    where = f"--env {record.environment} --service {record.service}"
    return kind(
        f"Release `{record.release_id}` ended as {record.outcome}: {record.reason.rstrip('.')}.",
        f"ask them; nothing was found wrong with the release itself. What serves now: `onnxship status {where}`; "
        f"to ship it after all: `onnxship ship {where}`",
    )
