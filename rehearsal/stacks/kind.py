"""What a resource type is to the engine (`Kind`), and one resource under one operation's hands (`Work`)."""

from __future__ import annotations

import secrets
import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from rehearsal.context import Context
from rehearsal.stacks.casing import to_request
from rehearsal.stacks.dynamic import with_secrets
from rehearsal.stacks.errors import Cancelled

MISSING = object()


@dataclass
class Work:
    """One resource while an operation makes, changes or unmakes it.

    `properties` are the resolved ones now wanted, `previous` those of before; `made` tells the engine the physical id
    as soon as there is one, so that a rollback can find what a failed creation left behind.
    """

    context: Context
    region: str
    stack_name: str
    logical_id: str
    type_name: str
    properties: dict[str, Any]
    previous: dict[str, Any] = field(default_factory=dict)
    physical_id: str = ""
    is_rollback: bool = False
    on_made: Callable[[str], None] = lambda _: None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def account(self) -> str:
        return self.context.settings.account

    @property
    def changed(self) -> set[str]:
        """The names of the properties that differ from before."""
        return changed_names(self.previous, self.properties)

    def made(self, physical_id: str) -> None:
        self.physical_id = physical_id
        self.on_made(physical_id)

    def get(self, name: str, default: Any = None) -> Any:
        """One property with its dynamic references read."""
        return with_secrets(self.properties.get(name, default), self.call)

    def only(self, *names: str) -> dict[str, Any]:
        """The named properties that the template gives."""
        return {name: self.get(name) for name in names if name in self.properties}

    def without(self, *names: str) -> dict[str, Any]:
        """All properties that the template gives except the named ones."""
        return {name: self.get(name) for name in self.properties if name not in names}

    def call(self, service: str, operation: str, /, **request: Any) -> dict[str, Any]:
        """One AWS call in the stack's region, with the API's own names."""
        return dict(getattr(self.context.client(service, self.region), operation)(**request))

    def send(self, service: str, operation: str, properties: dict[str, Any], /, **request: Any) -> dict[str, Any]:
        """One AWS call with properties in the template's casing; `request` is added in the API's own names."""
        shape = self.input_shape(service, operation)
        return self.call(service, operation, **to_request(shape, properties, self.type_name), **request)

    def input_shape(self, service: str, operation: str) -> Any:
        """What botocore says that an operation takes."""
        meta = self.context.client(service, self.region).meta
        return meta.service_model.operation_model(meta.method_to_api_mapping[operation]).input_shape

    def name(self, longest: int = 64, lower: bool = False) -> str:
        """A unique name as CloudFormation makes them: stack, logical id, random letters."""
        alphabet = string.ascii_uppercase + string.digits
        unique = "".join(secrets.choice(alphabet) for _ in range(12))
        room = longest - len(unique) - 2
        logical_id = self.logical_id[: max(room // 2, room - len(self.stack_name))]
        name = f"{self.stack_name[: room - len(logical_id)]}-{logical_id}-{unique}"
        return name.lower() if lower else name

    def pause(self, seconds: float) -> None:
        """Wait; Cancelled when the operation ends meanwhile."""
        if self.cancelled.wait(seconds):
            raise Cancelled


def changed_names(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The keys that two sets of properties do not share with equal values."""
    return {name for name in {*before, *after} if before.get(name, MISSING) != after.get(name, MISSING)}


def no_attributes(work: Work) -> dict[str, Any]:
    return {}


def never(properties: dict[str, Any]) -> bool:
    return False


def always(properties: dict[str, Any]) -> bool:
    return True


@dataclass(frozen=True)
class Kind:
    """One resource type. `properties`: all that are rehearsed. `replaces`: those whose change makes a new resource.
    `name_property`: the custom name, which forbids replacement while it stays the same. `recorded_only`: whether the
    rehearsal, for these properties, stores what AWS would act on."""

    type_name: str
    properties: frozenset[str]
    create: Callable[[Work], None]
    delete: Callable[[Work], None]
    update: Callable[[Work], None] | None = None
    replaces: frozenset[str] = frozenset()
    attributes: Callable[[Work], dict[str, Any]] = no_attributes
    name_property: str = ""
    recorded_only: Callable[[dict[str, Any]], bool] = never


def words(text: str) -> frozenset[str]:
    """The words of a text: how the kinds list property names."""
    return frozenset(text.split())


def tag_changes(work: Work) -> tuple[list[dict[str, str]], list[str]]:
    """(tags to set, tag keys to remove) between before and now."""
    before = {tag["Key"]: tag["Value"] for tag in work.previous.get("Tags", [])}
    now = {tag["Key"]: tag["Value"] for tag in work.get("Tags", [])}
    put = [{"Key": key, "Value": str(value)} for key, value in now.items() if before.get(key) != value]
    return put, sorted(set(before) - set(now))


@contextmanager
def ignoring_missing(*codes: str) -> Iterator[None]:
    """A block in which AWS's "there is no such thing" counts as done: what is to be deleted is already gone."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
