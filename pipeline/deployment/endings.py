"""How a deployment ended: the result, or the error with the exit code that fits what production saw.

3: the release never had production weight. 4: it had, and has none now. 5: a person must look.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.aws.ecs import Deployment, describe_revision
from pipeline.aws.session import Aws
from pipeline.deployment.diagnosis import Witness, explain_tasks
from pipeline.deployment.place import Place
from pipeline.deployment.settling import has_served, is_superseded
from pipeline.errors import GateRefused, PipelineError, RolledBack, StateUnknown
from pipeline.results import GateResult, RolledOut, StageSpan, Verdict


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the release was turned down, and the evidence.

    `is_elsewhere`: it may not have been this run that stopped it; then `remedy`, if any, stands for the usual one.
    """

    reason: str
    lines: tuple[str, ...] = ()
    tasks: tuple[Witness, ...] = ()
    is_elsewhere: bool = False
    remedy: str = ""

    def explain(self, aws: Aws, place: Place) -> tuple[str, ...]:
        """The evidence as lines; log lines are read late, when the tasks have had time to write them."""
        return self.lines + explain_tasks(aws, place, self.tasks)

    def error(self, place: Place, details: tuple[str, ...], *, had_production: bool = False) -> PipelineError:
        remedy = self.remedy or (
            f"correct it and run `onnxship ship {place.options}`; what serves now: `onnxship status {place.options}`"
        )
        reason = self.reason.rstrip(".")
        error: PipelineError
        if had_production:
            what = f"The release had production traffic and was taken back: {reason}."
            error = RolledBack(what, remedy, details=details)
        else:
            ended = "stopped" if self.remedy else "refused"
            error = GateRefused(f"The release was {ended} before production saw it: {reason}.", remedy, details=details)
        error.is_elsewhere = self.is_elsewhere
        return error


def overruled(place: Place, reason: str) -> Refusal:
    """What a run that lost its lock says when whoever took it has stopped the deployment."""
    remedy = (
        f"ask them why, and then `onnxship ship {place.options}`; what serves now: `onnxship status {place.options}`"
    )
    return Refusal(reason, is_elsewhere=True, remedy=remedy)


def _by_ecs(place: Place, deployment: Deployment, lines: tuple[str, ...] = ()) -> Refusal:
    """ECS went back without this run: on an alarm or a time-out, or because somebody asked it to."""
    if deployment.triggered_alarms:
        return Refusal(f"alarm {', '.join(deployment.triggered_alarms)} went off", lines)
    return Refusal(
        _reasons(deployment) or f"ECS ended it as {deployment.status} and gives no reason",
        lines,
        is_elsewhere=True,
        remedy=f"if a person stopped it, `onnxship history {place.options}` says who; otherwise mend what ECS names, "
        f"and `onnxship ship {place.options}`",
    )


def conclude(
    aws: Aws, place: Place, deployment: Deployment, *, task_definition_arn: str, image_digest: str,
    refusal: Refusal | None, had_production: bool, gates: tuple[GateResult, ...],
    stages: tuple[StageSpan, ...], duration_s: float,
) -> RolledOut | PipelineError:  # fmt: skip
    """The result of a deployment that is over, or the error that it means."""
    if deployment.status == "SUCCESSFUL":
        if refusal and deployment.strategy != "ROLLING":  # there it may be over before it can be stopped
            return _contradiction(
                place, deployment, f"ECS finished it although it was to be rolled back: {refusal.reason}"
            )
        if not refusal and (problem := _mismatch(aws, deployment, task_definition_arn, image_digest)):
            return _contradiction(place, deployment, problem)
        return RolledOut(
            service_arn=deployment.service_arn, deployment_arn=deployment.arn, task_definition_arn=task_definition_arn,
            image_digest=image_digest, status=deployment.status, gates=gates, stages=stages,
            production_url=place.production_url, duration_s=round(duration_s, 3),
        )  # fmt: skip
    if deployment.status == "ROLLBACK_SUCCESSFUL" and deployment.rollback_revision == deployment.target_revision:
        return _contradiction(place, deployment, "ECS rolled back to the very revision it was rolling out")
    if had_production:
        return _after_production(aws, place, deployment, refusal)
    return _before_production(aws, place, deployment, refusal, gates)


def gate_lines(results: tuple[GateResult, ...]) -> tuple[str, ...]:
    """A line per gate: verdict and reason. The numbers they rest on stand in the record."""
    return tuple(f"{result.name}: {result.verdict} - {result.reason}" for result in results)


def _mismatch(aws: Aws, deployment: Deployment, task_definition_arn: str, image_digest: str) -> str:
    revision = describe_revision(aws, deployment.target_revision)
    if revision is None or revision.task_definition != task_definition_arn:
        return (
            f"its task definition is {revision.task_definition if revision else 'unknown'}, not {task_definition_arn}"
        )
    if image_digest not in revision.image_digests:
        return f"its image is {', '.join(revision.image_digests) or 'unknown'}, not {image_digest}"
    return ""


def _before_production(
    aws: Aws, place: Place, deployment: Deployment, refusal: Refusal | None, gates: tuple[GateResult, ...]
) -> PipelineError:
    is_first = not deployment.source_revisions
    if is_superseded(aws, place, deployment) and not has_served(deployment):
        told = refusal or Refusal("a newer deployment of the service took its place", gate_lines(gates))
        return told.error(place, told.explain(aws, place))
    if deployment.status != "ROLLBACK_SUCCESSFUL" and not is_first:
        return _contradiction(place, deployment, _reasons(deployment) or "ECS gives no reason")
    alarms = ", ".join(deployment.triggered_alarms)
    told = refusal or _by_ecs(place, deployment, gate_lines(gates))
    details = told.explain(aws, place)
    if is_first:
        details += ("It was the first release: nothing was serving before, and nothing serves now.",)
    if refusal and alarms:
        by_gate = any(gate.verdict is Verdict.FAIL for gate in gates)
        cause = ": the gate's own requests, failed or slow, set it off" if by_gate else " meanwhile"
        details += (f"alarm {alarms} went off{cause}",)
    return told.error(place, details)


def _after_production(aws: Aws, place: Place, deployment: Deployment, refusal: Refusal | None) -> PipelineError:
    if refusal and (deployment.status == "ROLLBACK_SUCCESSFUL" or not deployment.source_revisions):
        return refusal.error(place, refusal.explain(aws, place), had_production=True)
    if deployment.status != "ROLLBACK_SUCCESSFUL":
        return _contradiction(place, deployment, _reasons(deployment) or "ECS gives no reason")
    if not deployment.triggered_alarms:
        return _by_ecs(place, deployment).error(place, (), had_production=True)
    alarms = ", ".join(deployment.triggered_alarms)
    return RolledBack(
        f"The release had production traffic and was rolled back: alarm {alarms} went off.",
        f"read its tasks' output with `onnxship logs {place.options}`, correct it, and ship again",
        details=tuple(part for part in (_reasons(deployment),) if part),
    )


def _contradiction(place: Place, deployment: Deployment, problem: str) -> StateUnknown:
    return StateUnknown(
        f"Deployment {deployment.arn} ended as {deployment.status}: {problem}.",
        f"look what runs with `onnxship status {place.options}`; go to a known release with "
        f"`onnxship rollback RELEASE {place.options}`",
    )


def _reasons(deployment: Deployment) -> str:
    said = (part.strip().rstrip(".") for part in (deployment.rollback_reason, deployment.status_reason))
    return "; ".join(dict.fromkeys(part for part in said if part))
