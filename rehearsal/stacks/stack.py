"""A stack's state: what it should be, what it is, and what happened to it."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rehearsal.stacks.template import Template


@dataclass(frozen=True)
class Target:
    """What a stack is asked to be: a template, its parameters' texts, the stack's tags."""

    template: Template
    parameters: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Resource:
    """One resource of a stack. `properties` are resolved, except dynamic references."""

    logical_id: str
    type_name: str
    physical_id: str = ""
    status: str = ""
    reason: str | None = None
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))
    declaration: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class ChangeSet:
    """A change set of a stack; `changes` are in the API's own words."""

    id: str
    name: str
    type: str
    target: Target
    description: str | None
    capabilities: list[str]
    on_stack_failure: str | None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: str = "CREATE_PENDING"
    reason: str | None = None
    execution_status: str = "UNAVAILABLE"
    changes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Stack:
    """One stack. `lock` guards its status: whoever changes a status holds it."""

    id: str
    name: str
    region: str
    target: Target
    capabilities: list[str] = field(default_factory=list)
    on_failure: str = "ROLLBACK"
    is_protected: bool = False
    role_arn: str | None = None
    status: str = ""
    reason: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated: datetime | None = None
    deleted: datetime | None = None
    change_set_id: str | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)
    restore_point: dict[str, Resource] = field(default_factory=dict)
    replaced: list[Resource] = field(default_factory=list)
    token: str | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def is_busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def exists(self) -> bool:
        return self.status != "DELETE_COMPLETE"

    def become(self, status: str, reason: str | None = None) -> None:
        """Take a status and tell it as an event of the stack itself."""
        with self.lock:
            self.status, self.reason = status, reason
            self._event(self.name, self.id, "AWS::CloudFormation::Stack", status, reason, None)

    def tell(self, resource: Resource, status: str, reason: str | None = None) -> None:
        """Give a resource a status and tell it as an event."""
        with self.lock:
            resource.status, resource.reason, resource.updated = status, reason, datetime.now(UTC)
            self._event(
                resource.logical_id, resource.physical_id, resource.type_name, status, reason, resource.properties
            )

    def _event(
        self, logical_id: str, physical_id: str, kind: str, status: str, reason: str | None, properties: Any
    ) -> None:
        event = {
            "StackId": self.id,
            "StackName": self.name,
            "EventId": f"{logical_id}-{status}-{uuid.uuid4()}",
            "LogicalResourceId": logical_id,
            "PhysicalResourceId": physical_id,
            "ResourceType": kind,
            "Timestamp": datetime.now(UTC),
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
            "ResourceProperties": None if properties is None else json.dumps(properties),
            "ClientRequestToken": self.token,
        }
        self.events.append({name: value for name, value in event.items() if value is not None})
