"""The stacks of one region: found, started, and changed in the background."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from moto.core.exceptions import ServiceException

from rehearsal.context import Context
from rehearsal.stacks.operations import Operation
from rehearsal.stacks.plan import plan
from rehearsal.stacks.requests import Requests, ValidationError, check_capabilities
from rehearsal.stacks.stack import ChangeSet, Stack, Target
from rehearsal.stacks.template import Template

UPDATABLE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
NOTHING = Target(Template(""), {})


class AlreadyExists(ServiceException):
    code = "AlreadyExistsException"


class ChangeSetNotFound(ServiceException):
    code = "ChangeSetNotFound"


class InvalidChangeSetStatus(ServiceException):
    code = "InvalidChangeSetStatus"


@dataclass
class RegionalStacks:
    """Every stack that one region has or had. Each request is one method; slow work goes to a thread of its own."""

    context: Context
    region: str
    stacks: dict[str, Stack] = field(default_factory=dict)
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def requests(self) -> Requests:
        return Requests(self.context, self.region)

    def find(self, name_or_id: str) -> Stack | None:
        """A stack by name (deleted ones are not found by name) or by id."""
        if name_or_id in self.stacks:
            return self.stacks[name_or_id]
        living = (stack for stack in list(self.stacks.values()) if stack.name == name_or_id and stack.exists)
        return next(living, None)

    def get(self, name_or_id: str, message: str = "Stack with id {} does not exist") -> Stack:
        """A stack that must exist; `message` is how this operation says that it does not."""
        stack = self.find(name_or_id)
        if stack is None:
            raise ValidationError(message.format(name_or_id))
        return stack

    def create(self, request: dict[str, Any]) -> Stack:
        target = self.requests.target(request, None)
        check_capabilities(target.template, request.get("Capabilities", []))
        with self._lock:
            if self.find(request["StackName"]):
                raise AlreadyExists(f"Stack [{request['StackName']}] already exists")
            stack = self._new(request, target)
            self.requests.check_types(stack, target)
            self.stacks[stack.id] = stack
        stack.on_failure = _on_failure(request)
        stack.token = request.get("ClientRequestToken")
        stack.become("CREATE_IN_PROGRESS", "User Initiated")
        self._start(stack, Operation(self.context, stack).create)
        return stack

    def update(self, request: dict[str, Any]) -> Stack:
        stack = self.get(request["StackName"], "Stack [{}] does not exist")
        target = self.requests.target(request, stack)
        check_capabilities(target.template, request.get("Capabilities", []))
        with stack.lock:
            _refuse_unless_updatable(stack)
            self.requests.check_types(stack, target)
            changes = self.requests.checked(lambda: plan(self.context, stack, target))
            if changes.is_empty and target.tags == stack.target.tags:
                raise ValidationError("No updates are to be performed.")
            stack.token = request.get("ClientRequestToken")
            stack.become("UPDATE_IN_PROGRESS", "User Initiated")
        stack.capabilities = request.get("Capabilities", [])
        self._start(stack, lambda: Operation(self.context, stack).update(target))
        return stack

    def delete(self, request: dict[str, Any]) -> None:
        stack = self.find(request["StackName"])
        if stack is None or not stack.exists:
            return
        retained = frozenset(request.get("RetainResources", []))
        with stack.lock:
            if stack.status == "DELETE_IN_PROGRESS":
                return
            _refuse_unless_deletable(stack, retained)
            stack.token = request.get("ClientRequestToken")
            stack.cancelled.set()
            stack.become("DELETE_IN_PROGRESS", "User Initiated")
        previous = self._threads.get(stack.id)

        def delete() -> None:
            if previous:
                previous.join()
            stack.cancelled.clear()
            Operation(self.context, stack).delete(retained)

        self._start(stack, delete)

    def continue_rollback(self, stack: Stack) -> None:
        """Try again to bring a stack back whose rollback failed."""
        with stack.lock:
            if stack.status != "UPDATE_ROLLBACK_FAILED":
                raise ValidationError(f"Stack:{stack.id} is in {stack.status} state and can not continue its rollback.")
            stack.become("UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self._start(stack, Operation(self.context, stack).roll_back)

    def create_change_set(self, request: dict[str, Any]) -> tuple[Stack, ChangeSet]:
        kind, name = request.get("ChangeSetType", "UPDATE"), request["ChangeSetName"]
        with self._lock:
            stack = self._stack_for_change_set(request, kind)
            previous = stack if stack and kind == "UPDATE" else None
            target = self.requests.target(request, previous)
            check_capabilities(target.template, request.get("Capabilities", []), is_change_set=True)
            owner = stack or self._new(request, NOTHING)
            self.requests.check_types(owner, target)
            if name in owner.change_sets:
                raise AlreadyExists(f"ChangeSet {name} already exists")
            change_set = self._new_change_set(request, owner, kind, target)
            owner.change_sets[name] = change_set
            if stack is None:
                self.stacks[owner.id] = owner
                owner.become("REVIEW_IN_PROGRESS", "User Initiated")
        self._start(owner, lambda: self._compute(owner, change_set), key=change_set.id)
        return owner, change_set

    def find_change_set(self, request: dict[str, Any]) -> tuple[Stack, ChangeSet]:
        """The change set that a request names, by ARN or by name and stack."""
        wanted = request["ChangeSetName"]
        if not wanted.startswith("arn:"):
            if "StackName" not in request:
                raise ValidationError("StackName must be specified if ChangeSetName is not specified as an ARN.")
            stacks = [self.get(request["StackName"], "Stack [{}] does not exist")]
        else:
            stacks = list(self.stacks.values())
        for stack in stacks:
            for change_set in list(stack.change_sets.values()):
                if wanted in (change_set.id, change_set.name):
                    return stack, change_set
        raise ChangeSetNotFound(f"ChangeSet [{wanted}] does not exist")

    def execute_change_set(self, request: dict[str, Any]) -> None:
        stack, change_set = self.find_change_set(request)
        with stack.lock:
            if change_set.execution_status != "AVAILABLE":
                raise InvalidChangeSetStatus(
                    f"ChangeSet [{change_set.id}] cannot be executed in its current status of [{change_set.status}]"
                )
            if change_set.type == "UPDATE":
                _refuse_unless_updatable(stack)
            change_set.execution_status = "EXECUTE_IN_PROGRESS"
            stack.change_set_id, stack.token = change_set.id, request.get("ClientRequestToken")
            stack.capabilities = change_set.capabilities
            if change_set.type == "CREATE":
                stack.target = change_set.target
                stack.on_failure = change_set.on_stack_failure or _on_failure(request)
            verb = "UPDATE" if change_set.type == "UPDATE" else "CREATE"
            stack.become(f"{verb}_IN_PROGRESS", "User Initiated")
        self._start(stack, lambda: self._execute(stack, change_set))

    def delete_change_set(self, request: dict[str, Any]) -> None:
        try:
            stack, change_set = self.find_change_set(request)
        except ChangeSetNotFound:
            return
        with stack.lock:
            if change_set.execution_status == "EXECUTE_IN_PROGRESS":
                raise InvalidChangeSetStatus(
                    f"ChangeSet [{change_set.id}] cannot be deleted in its current status of [{change_set.status}]"
                )
            stack.change_sets.pop(change_set.name, None)

    def stop(self, timeout_s: float) -> None:
        """End every operation that runs; what it was doing stays as it is."""
        for stack in self.stacks.values():
            stack.cancelled.set()
        for thread in list(self._threads.values()):
            thread.join(timeout_s)

    def _stack_for_change_set(self, request: dict[str, Any], kind: str) -> Stack | None:
        stack, name = self.find(request["StackName"]), request["StackName"]
        if kind == "UPDATE":
            if stack is None or not stack.exists:
                raise ValidationError(f"Stack [{name}] does not exist")
            _refuse_unless_updatable(stack)
        elif kind != "CREATE":
            raise ValidationError(f"ChangeSetType {kind} is not rehearsed")
        elif stack and stack.status != "REVIEW_IN_PROGRESS":
            raise ValidationError(
                f"Stack [{name}] already exists and cannot be created again with the changeSet "
                f"[{request['ChangeSetName']}]."
            )
        return stack

    def _compute(self, stack: Stack, change_set: ChangeSet) -> None:
        """Fill a change set with what it would do; it fails when that is nothing."""
        change_set.status = "CREATE_IN_PROGRESS"
        try:
            changes = plan(self.context, stack, change_set.target)
        except Exception as error:  # whatever went wrong, a change set must not stay in progress
            change_set.status, change_set.reason = "FAILED", str(error)
            return
        change_set.changes = changes.changes
        if changes.is_empty and change_set.target.tags == stack.target.tags:
            change_set.reason, change_set.status = NO_CHANGES, "FAILED"
        else:
            change_set.execution_status, change_set.status = "AVAILABLE", "CREATE_COMPLETE"

    def _execute(self, stack: Stack, change_set: ChangeSet) -> None:
        operation = Operation(self.context, stack)
        if change_set.type == "CREATE":
            operation.create()
        else:
            operation.update(change_set.target)
        succeeded = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        change_set.execution_status = "EXECUTE_COMPLETE" if succeeded else "EXECUTE_FAILED"
        # The other change sets were made against a stack that is no more.
        stack.change_sets = {change_set.name: change_set}

    def _start(self, stack: Stack, work: Callable[[], None], key: str = "") -> None:
        thread = threading.Thread(target=work, name=f"cloudformation-{stack.name}", daemon=True)
        self._threads[key or stack.id] = thread
        thread.start()

    def _new(self, request: dict[str, Any], target: Target) -> Stack:
        name = request["StackName"]
        stack_id = self._arn("stack", f"{name}/{uuid.uuid4()}")
        return Stack(
            stack_id,
            name,
            self.region,
            target,
            capabilities=request.get("Capabilities", []),
            is_protected=bool(request.get("EnableTerminationProtection")),
            role_arn=request.get("RoleARN"),
        )

    def _new_change_set(self, request: dict[str, Any], stack: Stack, kind: str, target: Target) -> ChangeSet:
        name = request["ChangeSetName"]
        return ChangeSet(
            id=self._arn("changeSet", f"{name}/{uuid.uuid4()}"),
            name=name,
            type=kind,
            target=target,
            description=request.get("Description"),
            capabilities=request.get("Capabilities", []),
            on_stack_failure=request.get("OnStackFailure"),
        )

    def _arn(self, kind: str, rest: str) -> str:
        return f"arn:aws:cloudformation:{self.region}:{self.context.settings.account}:{kind}/{rest}"


def _on_failure(request: dict[str, Any]) -> str:
    if "OnFailure" in request and "DisableRollback" in request:
        raise ValidationError("You can specify either DisableRollback or OnFailure, but not both.")
    return "DO_NOTHING" if request.get("DisableRollback") else str(request.get("OnFailure", "ROLLBACK"))


def _refuse_unless_updatable(stack: Stack) -> None:
    if stack.status not in UPDATABLE:
        raise ValidationError(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")


def _refuse_unless_deletable(stack: Stack, retained: frozenset[str]) -> None:
    if stack.is_protected:
        raise ValidationError(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
    if stack.is_busy and stack.status not in ("CREATE_IN_PROGRESS",):
        raise ValidationError(f"Stack [{stack.name}] cannot be deleted while in status {stack.status}")
    if retained and stack.status != "DELETE_FAILED":
        raise ValidationError(
            "Invalid operation on stack. Specify which resources to retain only when the stack is in the DELETE_FAILED "
            "state."
        )
