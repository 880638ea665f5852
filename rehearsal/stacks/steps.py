"""Steps of an operation: one resource made, modified, replaced, restored or removed, and told about."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from rehearsal.context import Context
from rehearsal.stacks.errors import Cancelled, ResourceFailed, TemplateError
from rehearsal.stacks.intrinsics import Resolver
from rehearsal.stacks.kind import Kind, Work, changed_names
from rehearsal.stacks.kinds import KINDS
from rehearsal.stacks.resolving import wanted_properties
from rehearsal.stacks.stack import Resource, Stack, Target

log = logging.getLogger(__name__)
REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."


class StepFailed(Exception):
    """One resource failed, and its event has been told. `logical_id` is empty when the template itself failed."""

    def __init__(self, logical_id: str, reason: str) -> None:
        super().__init__(reason)
        self.logical_id = logical_id


@dataclass
class Steps:
    """The steps that an operation on `stack` is made of. Each raises StepFailed when it fails."""

    context: Context
    stack: Stack

    def make(self, resolve: Resolver, target: Target, logical_id: str) -> None:
        """Create a resource that the stack does not have."""
        declaration = target.template.resources[logical_id]
        resource = Resource(logical_id, declaration["Type"], declaration=declaration)
        self.stack.resources[logical_id] = resource
        self._bring_up(resolve, target, resource, "CREATE")

    def modify(self, resolve: Resolver, target: Target, logical_id: str) -> None:
        """Bring a resource to what the target wants: nothing, an update in place, or a replacement."""
        resource = self.stack.resources[logical_id]
        declaration = target.template.resources[logical_id]
        kind = KINDS[declaration["Type"]]
        wanted = self._wanted(resolve, target, kind, resource)
        changed = changed_names(resource.properties, wanted)
        if changed & kind.replaces:
            self._replace(resolve, target, resource, wanted)
            return
        resource.declaration = declaration
        if changed:
            self._update(kind, resource, wanted)

    def restore(self, old: Resource) -> None:
        """Undo what a failed update did to one resource."""
        now = self.stack.resources.get(old.logical_id)
        if now is None or now.physical_id != old.physical_id:
            if now is not None:
                self.stack.replaced.append(now)
            self.stack.replaced = [
                resource for resource in self.stack.replaced if resource.physical_id != old.physical_id
            ]
            self.stack.resources[old.logical_id] = old
            return
        now.declaration = old.declaration
        if now.properties != old.properties or now.status == "UPDATE_FAILED":
            self._update(KINDS[old.type_name], now, old.properties, is_rollback=True)

    def remove(self, resource: Resource, kept: bool) -> bool:
        """Delete one resource, or skip it; False when it could not be deleted."""
        if kept:
            self.stack.tell(resource, "DELETE_SKIPPED")
            return True
        if not resource.physical_id:
            self.stack.tell(resource, "DELETE_COMPLETE")
            return True
        self.stack.tell(resource, "DELETE_IN_PROGRESS")
        try:
            self._step(resource, "DELETE", lambda: KINDS[resource.type_name].delete(self._work(resource)))
        except StepFailed:
            return False
        return True

    def _wanted(self, resolve: Resolver, target: Target, kind: Kind, resource: Resource) -> dict[str, Any]:
        if kind.type_name != resource.type_name:
            self._fail(
                resource,
                "UPDATE",
                "Update of resource type is not permitted. The new template modifies resource type of the following "
                f"resources: [{resource.logical_id}]",
            )
        try:
            return wanted_properties(resolve, target, kind, resource.logical_id)
        except (TemplateError, ClientError) as error:
            self._fail(resource, "UPDATE", str(error))

    def _bring_up(self, resolve: Resolver, target: Target, resource: Resource, verb: str) -> None:
        """Create `resource` physically; `verb` is UPDATE when it takes another's place."""
        kind = KINDS[resource.type_name]

        def made(physical_id: str) -> None:
            resource.physical_id = physical_id
            self.stack.tell(resource, f"{verb}_IN_PROGRESS", "Resource creation Initiated")

        def create() -> None:
            resource.properties = wanted_properties(resolve, target, kind, resource.logical_id)
            self.stack.tell(resource, f"{verb}_IN_PROGRESS", REPLACING if verb == "UPDATE" else None)
            _refuse_unknown(kind, resource.properties)
            work = self._work(resource, on_made=made)
            kind.create(work)
            resource.attributes = kind.attributes(work)

        self._step(resource, verb, create)

    def _update(self, kind: Kind, resource: Resource, wanted: dict[str, Any], is_rollback: bool = False) -> None:
        previous, resource.properties = resource.properties, wanted

        def update() -> None:
            _refuse_unknown(kind, wanted)
            if kind.update is None:
                raise ResourceFailed(f"updating {kind.type_name} is not rehearsed", "InvalidRequest")
            work = self._work(resource, previous, is_rollback=is_rollback)
            kind.update(work)
            resource.attributes = kind.attributes(work)

        self.stack.tell(resource, "UPDATE_IN_PROGRESS")
        self._step(resource, "UPDATE", update)

    def _replace(self, resolve: Resolver, target: Target, old: Resource, wanted: dict[str, Any]) -> None:
        name_property = KINDS[old.type_name].name_property
        name = wanted.get(name_property)
        if name is not None and name == old.properties.get(name_property):
            self._fail(
                old,
                "UPDATE",
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {name} and update the stack again.",
            )
        declaration = target.template.resources[old.logical_id]
        new = Resource(old.logical_id, old.type_name, declaration=declaration)
        self.stack.resources[old.logical_id] = new
        self.stack.replaced.append(old)
        self._bring_up(resolve, target, new, "UPDATE")

    def _step(self, resource: Resource, verb: str, work: Callable[[], None]) -> None:
        """Do one thing to one resource and tell how it ended."""
        try:
            if self.stack.cancelled.is_set():
                raise Cancelled
            work()
        except Cancelled:
            noun = {"CREATE": "creation", "UPDATE": "update", "DELETE": "deletion"}[verb]
            self._fail(resource, verb, f"Resource {noun} cancelled")
        except (ResourceFailed, ClientError, BotoCoreError, TemplateError) as error:
            self._fail(resource, verb, _reason(error))
        except Exception as error:  # a defect of the rehearsal must end the stack's operation, not leave it hanging
            log.exception("%s of %s %s", verb, resource.type_name, resource.logical_id)
            self._fail(resource, verb, _handler_message(f"{type(error).__name__}: {error}", "InternalFailure"))
        else:
            self.stack.tell(resource, f"{verb}_COMPLETE")

    def _fail(self, resource: Resource, verb: str, reason: str) -> NoReturn:
        self.stack.tell(resource, f"{verb}_FAILED", reason)
        raise StepFailed(resource.logical_id, reason)

    def _work(
        self,
        resource: Resource,
        previous: dict[str, Any] | None = None,
        *,
        is_rollback: bool = False,
        on_made: Callable[[str], None] = lambda _: None,
    ) -> Work:
        return Work(
            context=self.context,
            region=self.stack.region,
            stack_name=self.stack.name,
            logical_id=resource.logical_id,
            type_name=resource.type_name,
            properties=resource.properties,
            previous=previous or {},
            physical_id=resource.physical_id,
            is_rollback=is_rollback,
            on_made=on_made,
            cancelled=self.stack.cancelled,
        )


def _refuse_unknown(kind: Kind, properties: dict[str, Any]) -> None:
    if unknown := sorted(set(properties) - kind.properties):
        raise ResourceFailed(f"property {kind.type_name}.{unknown[0]} is not rehearsed", "InvalidRequest")


def _reason(error: Exception) -> str:
    if isinstance(error, ResourceFailed):
        return _handler_message(error.message, error.handler_code)
    if isinstance(error, ClientError):
        answer = error.response["Error"]
        exists = "AlreadyExists" in answer["Code"] or "Duplicate" in answer["Code"]
        code = "AlreadyExists" if exists else "GeneralServiceException"
        return _handler_message(
            f"{answer.get('Message', '')} (Operation: {error.operation_name}, Error: {answer['Code']})", code
        )
    return str(error)


def _handler_message(message: str, code: str) -> str:
    return f'Resource handler returned message: "{message}" (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})'
