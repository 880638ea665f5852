"""Create, update, delete: one stack on its way to a target, resource by resource, and back again when one fails.

Resources are handled one after the other in dependency order, where CloudFormation works on independent ones at once.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-failure-options.html
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from botocore.exceptions import ClientError

from rehearsal.context import Context
from rehearsal.stacks.errors import TemplateError
from rehearsal.stacks.resolving import active_resources, outputs, resolver
from rehearsal.stacks.stack import Resource, Stack, Target
from rehearsal.stacks.steps import StepFailed, Steps
from rehearsal.stacks.template import creation_order, deletion_policy

T = TypeVar("T")


@dataclass
class Operation:
    """One operation on one stack. Everything it does is told in the stack's events."""

    context: Context
    stack: Stack
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self.steps = Steps(self.context, self.stack)

    def create(self) -> None:
        """Make every resource; on failure keep, roll back or delete, as the request said."""
        try:
            self._go_to(self.stack.target)
        except StepFailed as failure:
            self._creation_failed(failure)
        else:
            self._finish("CREATE_COMPLETE")

    def update(self, target: Target) -> None:
        """Bring the stack to `target`; on failure bring it back."""
        stack = self.stack
        before, resources, told = stack.target, copy.deepcopy(stack.resources), stack.outputs
        stack.target, stack.updated = target, datetime.now(UTC)
        try:
            wanted = self._go_to(target)
        except StepFailed as failure:
            stack.become("UPDATE_ROLLBACK_IN_PROGRESS", _because("update", failure))
            stack.target, stack.outputs, stack.restore_point = before, told, resources
            self.roll_back()
        else:
            self._clean_up(wanted, is_rollback=False)
            self._finish("UPDATE_COMPLETE")

    def roll_back(self) -> None:
        """Bring the resources back to the stack's restore point, then delete what the failed update had added."""
        stack, before = self.stack, self.stack.restore_point
        try:
            for logical_id in creation_order({name: resource.declaration for name, resource in before.items()}):
                self.steps.restore(before[logical_id])
        except StepFailed as failure:
            stack.become("UPDATE_ROLLBACK_FAILED", _because("update", failure))
            return
        self._clean_up(set(before), is_rollback=True)
        self._finish("UPDATE_ROLLBACK_COMPLETE")

    def delete(self, retained: frozenset[str] = frozenset(), *, is_creation: bool = False) -> None:
        """Delete the resources in reverse order; what may not be deleted is kept. `is_creation`: a failed creation
        rolls back, and the stack stays, empty."""
        failed = []
        for resource in reversed(self._in_order()):
            kept = resource.logical_id in retained or not _may_delete(resource, is_creation)
            if resource.status != "DELETE_COMPLETE" and not self.steps.remove(resource, kept):
                failed.append(resource.logical_id)
        if failed:
            reason = f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            self.stack.become("ROLLBACK_FAILED" if is_creation else "DELETE_FAILED", reason)
            return
        self.stack.outputs = []
        if not is_creation:
            self.stack.deleted = datetime.now(UTC)
        self.stack.become("ROLLBACK_COMPLETE" if is_creation else "DELETE_COMPLETE")

    def _creation_failed(self, failure: StepFailed) -> None:
        stack, reason = self.stack, _because("create", failure)
        with stack.lock:
            if stack.cancelled.is_set():  # whoever cancelled it says what the stack becomes
                return
            if stack.on_failure == "DO_NOTHING":
                stack.become("CREATE_FAILED", reason)
                return
            status = "DELETE_IN_PROGRESS" if stack.on_failure == "DELETE" else "ROLLBACK_IN_PROGRESS"
            what = "Delete" if stack.on_failure == "DELETE" else "Rollback"
            stack.become(status, f"{reason}{what} requested by user.")
        self.delete(is_creation=status == "ROLLBACK_IN_PROGRESS")

    def _go_to(self, target: Target) -> set[str]:
        """Make and modify the target's resources in order, then its outputs; the names of those resources."""
        resolve = _guarded(lambda: resolver(self.context, self.stack, target))
        order = _guarded(lambda: creation_order(active_resources(resolve)))
        for logical_id in order:
            if logical_id in self.stack.resources:
                self.steps.modify(resolve, target, logical_id)
            else:
                self.steps.make(resolve, target, logical_id)
        self.stack.outputs = _guarded(lambda: outputs(resolve))
        return set(order)

    def _clean_up(self, wanted: set[str], is_rollback: bool) -> None:
        """Delete what the new state no longer holds: replaced resources and those that left the template."""
        stack = self.stack
        stack.become(
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS" if is_rollback else "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        )
        for resource in reversed(self._in_order(extra=stack.replaced)):
            if resource in stack.replaced:
                policy = resource.declaration.get("UpdateReplacePolicy", "Delete")
                self.steps.remove(resource, kept=policy == "Retain" and not is_rollback)
            elif resource.logical_id not in wanted:
                self.steps.remove(resource, kept=not _may_delete(resource, is_rollback))
                del stack.resources[resource.logical_id]
        stack.replaced = []

    def _finish(self, status: str) -> None:
        with self.stack.lock:
            if not self.stack.cancelled.is_set():
                self.stack.become(status)

    def _in_order(self, extra: list[Resource] | None = None) -> list[Resource]:
        """The stack's resources (and `extra` ones), each after those it depends on."""
        resources = self.stack.resources
        order = creation_order({name: resource.declaration for name, resource in resources.items()})
        found = [resources[name] for name in order]
        for resource in extra or []:
            place = order.index(resource.logical_id) if resource.logical_id in order else 0
            found.insert(found.index(resources[order[place]]), resource)
        return found


def _guarded(work: Callable[[], T]) -> T:
    """What `work` gives; a failure of the template itself ends the operation as a failed resource does."""
    try:
        return work()
    except (TemplateError, ClientError) as error:
        raise StepFailed("", str(error)) from error


def _because(verb: str, failure: StepFailed) -> str:
    if not failure.logical_id:
        return f"{failure} "
    return f"The following resource(s) failed to {verb}: [{failure.logical_id}]. "


def _may_delete(resource: Resource, is_creation: bool) -> bool:
    policy = deletion_policy(resource.declaration)
    return policy == "Delete" or (policy == "RetainExceptOnCreate" and is_creation)
