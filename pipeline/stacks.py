"""One CloudFormation stack, brought to what its template says: change set, refusals, execution, events.

Nothing is executed that was not shown, and nothing that would replace or remove what a release stands on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline import templates
from pipeline.aws import cloudformation
from pipeline.aws.cloudformation import ChangeSet, Event, ResourceChange, Stack
from pipeline.aws.session import Aws
from pipeline.errors import AwsError, GateRefused, PipelineError, StateUnknown, UsageError
from pipeline.results import StackChange
from pipeline.templates import PROJECT_TAG, StackSpec
from pipeline.waiting import Clock, wait_until
from pipeline.words import counted

TIMEOUT_S = 3600.0
# Nothing of these was ever used, or it is gone again: the stack can only be deleted.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
LEFTOVERS = frozenset({"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED", "DELETE_FAILED"})
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-continueupdaterollback.html
STUCK = "UPDATE_ROLLBACK_FAILED"
# What a release stands on, or what holds data.
KEPT_TYPES = frozenset(
    {
        "AWS::ECS::Service",
        "AWS::ECS::Cluster",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS::ElasticLoadBalancingV2::Listener",
        "AWS::ElasticLoadBalancingV2::ListenerRule",
        "AWS::EC2::VPC",
        "AWS::EC2::Subnet",
        "AWS::ECR::Repository",
        "AWS::S3::Bucket",
        "AWS::SecretsManager::Secret",
    }
)
# Reasons that only say that something else failed first.
SECONDARY_REASONS = ("Resource creation cancelled", "Resource update cancelled", "The following resource(s) failed")


def nothing() -> None:
    """A `follow` that does nothing."""


def silent(_line: str) -> None:
    """An `on_progress` that says nothing."""


@dataclass(frozen=True)
class Stacks:
    """How stacks are worked on: whose, with which clock, and who is told.

    `follow` is called on every poll while CloudFormation works, so that a gate can be answered meanwhile.
    """

    aws: Aws
    clock: Clock
    interval_s: float
    on_progress: Callable[[str], None] = silent
    follow: Callable[[], None] = nothing
    timeout_s: float = TIMEOUT_S

    def bring_up(self, spec: StackSpec) -> StackChange:
        """Create or update the stack; `unchanged` when CloudFormation sees no difference.

        Raises GateRefused for a change that replaces or removes what a release stands on, AwsError with the first
        reasons when CloudFormation fails (it has rolled back then), StateUnknown when no end is seen.
        """
        stack = self.settle(spec)
        change_set = self.propose(spec, stack)
        if change_set is None:
            return StackChange(spec.name, "unchanged")
        return self.execute(spec, stack, change_set)

    def settle(self, spec: StackSpec) -> Stack | None:
        """The stack once nobody works on it; a leftover of a failed creation is deleted, and None returned."""
        stack = cloudformation.describe_stack(self.aws, spec.name, region=spec.region)
        if stack and stack.is_in_progress:
            self.on_progress(f"{spec.name}: somebody else's {stack.status} runs; waiting for its end")
            stack = self._until_still(stack, spec.region)
        if stack is None or stack.status == "DELETE_COMPLETE":
            return None
        _refuse_foreign(spec, stack)
        if stack.status == STUCK:
            raise self._stuck(stack, spec.region)
        if stack.status in LEFTOVERS:
            self.on_progress(f"{spec.name}: deleting what a failed creation left ({stack.status})")
            self.delete(stack.name, region=spec.region)
            return None
        return stack

    def propose(self, spec: StackSpec, stack: Stack | None) -> ChangeSet | None:
        """A change set ready to execute, or None when nothing would change."""
        request = cloudformation.change_set_request(
            spec.name,
            f"onnxship-{self.clock.now():%Y%m%dT%H%M%S%f}",
            is_new=stack is None,
            template_body=spec.template_body,
            parameters={**_kept_values(spec, stack), **spec.parameters},
            tags=spec.tags,
        )
        made = cloudformation.create_change_set(self.aws, request, region=spec.region)
        change_set = wait_until(
            lambda: self._made(made, spec.region),
            clock=self.clock,
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            on_timeout=lambda: StateUnknown(f"{spec.name}: its change set is not made yet.", "run the same again"),
        )
        if change_set.is_empty:
            self.discard(spec, stack, change_set)
            return None
        if change_set.status == "FAILED":
            self.discard(spec, stack, change_set)
            raise AwsError(
                f"{spec.name}: CloudFormation refused the change set: {change_set.status_reason}",
                "correct what it names in onnxship.yaml or in the template",
                code="ChangeSetFailed",
                message=change_set.status_reason,
            )
        return change_set

    def discard(self, spec: StackSpec, stack: Stack | None, change_set: ChangeSet) -> None:
        """Throw away a change set, and the empty stack that a first one brings with it."""
        cloudformation.delete_change_set(self.aws, change_set.id, region=spec.region)
        if stack is None:
            self.delete(spec.name, region=spec.region)

    def execute(self, spec: StackSpec, stack: Stack | None, change_set: ChangeSet) -> StackChange:
        """Carry out a change set that was proposed, and follow it to its end."""
        started_s = self.clock.monotonic()
        for line in _shown(change_set, is_new=stack is None):
            self.on_progress(f"{spec.name}: {line}")
        if refused := refused_changes(change_set.changes):
            self.discard(spec, stack, change_set)
            raise _refusal(spec.name, refused)
        target = stack or self._stack(spec.name, spec.region)
        seen = cloudformation.newest_event_id(self.aws, target.id, region=spec.region)
        cloudformation.execute_change_set(self.aws, change_set.id, region=spec.region)
        ended = self._until_ended(target, spec.region, seen)
        if ended.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise self._failure(ended, spec.region, seen)
        lines = tuple(str(change) for change in change_set.changes)
        action = "created" if stack is None else "updated"
        return StackChange(spec.name, action, lines, round(self.clock.monotonic() - started_s, 3))

    def delete(self, name: str, *, region: str | None = None) -> StackChange:
        """Delete a stack and wait for its end; `unchanged` when there is none."""
        started_s = self.clock.monotonic()
        stack = cloudformation.describe_stack(self.aws, name, region=region)
        if stack is None:
            return StackChange(name, "unchanged")
        seen = cloudformation.newest_event_id(self.aws, stack.id, region=region)
        cloudformation.delete_stack(self.aws, stack.id, region=region)
        ended = self._until_ended(stack, region, seen)
        if ended.status != "DELETE_COMPLETE":
            raise self._failure(ended, region, seen)
        return StackChange(name, "deleted", (), round(self.clock.monotonic() - started_s, 3))

    def _made(self, change_set_id: str, region: str | None) -> ChangeSet | None:
        change_set = cloudformation.describe_change_set(self.aws, change_set_id, region=region)
        return change_set if change_set.status in ("CREATE_COMPLETE", "FAILED") else None

    def _stack(self, name_or_id: str, region: str | None) -> Stack:
        stack = cloudformation.describe_stack(self.aws, name_or_id, region=region)
        if stack is None:
            raise StateUnknown(f"Stack {name_or_id} is gone.", "look at its events in the CloudFormation console")
        return stack

    def _until_still(self, stack: Stack, region: str | None) -> Stack:
        """The stack once nobody works on it any more."""

        def probe() -> Stack | None:
            self.follow()
            current = cloudformation.describe_stack(self.aws, stack.id, region=region) or _deleted(stack)
            return None if current.is_in_progress else current

        return self._wait(stack, probe)

    def _until_ended(self, stack: Stack, region: str | None, seen: str) -> Stack:
        """The stack once an event after `seen` says that what was begun has ended; events become progress.

        Its status alone would not do: for a moment after the call it is still the one of before.
        """
        cursor, has_ended = seen, False

        def probe() -> Stack | None:
            nonlocal cursor, has_ended
            current = cloudformation.describe_stack(self.aws, stack.id, region=region)
            events = list(cloudformation.events_after(self.aws, stack.id, cursor, region=region)) if current else []
            for event in latest_of_each(events):
                self.on_progress(f"{stack.name}: {event}")
            for event in events:
                cursor, has_ended = event.id, has_ended or event.is_end_of(stack)
            self.follow()  # after the events, which say what it has come from
            if current is None:
                return _deleted(stack)
            is_over = has_ended and not current.is_in_progress
            return current if is_over or current.status == "DELETE_COMPLETE" else None

        return self._wait(stack, probe)

    def _wait(self, stack: Stack, probe: Callable[[], Stack | None]) -> Stack:
        return wait_until(
            probe,
            clock=self.clock,
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            on_timeout=lambda: StateUnknown(
                f"CloudFormation still works on {stack.name} after {self.timeout_s:.0f} s.",
                "look at its events in the CloudFormation console, then run the same command again: it waits on",
            ),
        )

    def _failure(self, ended: Stack, region: str | None, seen: str) -> PipelineError:
        if ended.status == STUCK:
            return self._stuck(ended, region)
        events = cloudformation.events_after(self.aws, ended.id, seen, region=region)
        what = f"CloudFormation could not bring up {ended.name}: it is {ended.status}."
        details = first_failures(events) or tuple(filter(None, [ended.status_reason]))
        if ended.status.endswith("_FAILED"):
            return StateUnknown(what, "put right what the lines above name, then run the same again", details=details)
        return AwsError(
            what,
            "put right what the lines above name, then run the same command again",
            code=ended.status,
            message="; ".join(details),
            details=details,
        )

    def _stuck(self, stack: Stack, region: str | None) -> StateUnknown:
        """CloudFormation could neither go on nor back; nothing but continuing its rollback helps."""
        events = cloudformation.events_after(self.aws, stack.id, "", region=region)
        back = [n for n, event in enumerate(events) if event.status == "UPDATE_ROLLBACK_IN_PROGRESS"]
        where = f" --region {region}" if region else ""
        return StateUnknown(
            f"Stack {stack.name} is {STUCK}: CloudFormation could not take its last update back either.",
            f"put right what the lines above name, run `aws cloudformation continue-update-rollback --stack-name "
            f"{stack.name}{where}` (with `--resources-to-skip` for what cannot be put right), then the same again",
            details=first_failures(events[back[-1] :] if back else events)
            or tuple(filter(None, [stack.status_reason])),
        )


def latest_of_each(events: Sequence[Event]) -> list[Event]:
    """The events worth a line: of one resource, only the last of those that came together."""
    last = {event.logical_id: event.id for event in events if not event.is_chatter}
    return [event for event in events if last.get(event.logical_id) == event.id]


def _shown(change_set: ChangeSet, *, is_new: bool) -> list[str]:
    """The changes in lines: one for a new stack, one each for what exists already."""
    if is_new:
        return [f"a new stack, resources: {len(change_set.changes)}"]
    return [str(change) for change in change_set.changes]


def refused_changes(changes: Sequence[ResourceChange]) -> tuple[ResourceChange, ...]:
    """The changes that would replace or remove what a release stands on."""
    replaced = _replaced(changes)
    return tuple(
        change
        for change in changes
        if change.resource_type in KEPT_TYPES and (change.action == "Remove" or change.logical_id in replaced)
    )


def _replaced(changes: Sequence[ResourceChange]) -> frozenset[str]:
    """Logical ids that are replaced: said so, or perhaps so and nothing in the change set rules it out.

    CloudFormation calls whatever refers to a changed resource perhaps replaced, even if that one stays itself.
    """
    replaced = frozenset(change.logical_id for change in changes if change.replacement == "True")
    while True:
        more = replaced | {
            change.logical_id
            for change in changes
            if change.replacement == "Conditional" and (not change.hangs_on or change.hangs_on & (replaced | {""}))
        }
        if more == replaced:
            return replaced
        replaced = more


def first_failures(events: Iterable[Event], count: int = 3) -> tuple[str, ...]:
    """The first resources that failed, with their reasons; what failed in their wake is left out."""
    failed = (event for event in events if event.status.endswith("_FAILED") and event.reason)
    causes = (event for event in failed if not event.reason.startswith(SECONDARY_REASONS))
    return tuple(f"{event.logical_id} ({event.resource_type}): {event.reason}" for event in causes)[:count]


def required_outputs(aws: Aws, name: str, remedy: str) -> dict[str, str]:
    """The outputs of a stack that must be there. Raises UsageError with `remedy` when it is not."""
    outputs = cloudformation.outputs(aws, name)
    if not outputs:
        raise UsageError(f"There is no stack {name} yet, or it never came up.", remedy)
    return outputs


def difference(aws: Aws, spec: StackSpec, ignore: frozenset[str] = frozenset()) -> StackChange:
    """What `bring_up` would do, from reads alone: `would-create`, `would-update` or `unchanged`."""
    stack = cloudformation.describe_stack(aws, spec.name, region=spec.region)
    if stack is None or stack.status in LEFTOVERS:
        return StackChange(spec.name, "would-create")
    lines = [
        f"{key}: {stack.parameters.get(key, '(new)')} -> {value}"
        for key, value in sorted(spec.parameters.items())
        if key not in ignore and value is not None and stack.parameters.get(key) != value
    ]
    present = cloudformation.template_body(aws, spec.name, region=spec.region)
    if spec.template_body is not None and present.strip() != spec.template_body.strip():
        lines.insert(0, "the template differs")
    return StackChange(spec.name, "would-update" if lines else "unchanged", tuple(lines))


def _kept_values(spec: StackSpec, stack: Stack | None) -> dict[str, None]:
    """Parameters that the stack has and onnxship.yaml does not speak of keep their values, not their defaults."""
    present = stack.parameters if stack else {}
    declared = templates.parameters_of(spec.template_body) if spec.template_body is not None else present
    return dict.fromkeys(name for name in present if name in declared)


def _deleted(stack: Stack) -> Stack:
    """A deleted stack that CloudFormation no longer describes."""
    return replace(stack, status="DELETE_COMPLETE")


def _refuse_foreign(spec: StackSpec, stack: Stack) -> None:
    # The stack of a change set that was never executed carries no tags yet, and holds nothing.
    if stack.status == "REVIEW_IN_PROGRESS":
        return
    if stack.tags.get(PROJECT_TAG) != spec.tags[PROJECT_TAG]:
        raise StateUnknown(
            f"Stack {spec.name} exists but was not made for project {spec.tags[PROJECT_TAG]}.",
            "give `project` in onnxship.yaml another name, or delete that stack yourself",
        )


def _refusal(name: str, refused: tuple[ResourceChange, ...]) -> GateRefused:
    return GateRefused(
        f"{name}: the change set would replace or remove {counted(len(refused), 'resource')} that releases stand on.",
        "undo that change in onnxship.yaml, or build a new environment beside this one and ship there",
        details=tuple(str(change) for change in refused),
    )
