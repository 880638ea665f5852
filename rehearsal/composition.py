"""Which parts the local AWS is made of, in which order they start, and what it tells about itself."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from rehearsal.context import Context
from rehearsal.ecr_front import Ecr
from rehearsal.front_door import ApiServer
from rehearsal.limits import sentences

TEMP = [
    ("rehearsal.balancer", "Balancing"),
    ("rehearsal.metering", "Metering"),
    ("rehearsal.ecs", "Ecs"),
    ("rehearsal.cloudformation_front", "CloudFormation"),
]

if TYPE_CHECKING:
    from rehearsal.supervisor import Part


class Composition:
    """All parts, installed before the first request: moto builds a service's routes when it is first asked."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.ecr = Ecr(context)
        self.parts: list[Part] = [self.ecr]
        for module, name in TEMP:
            try:
                part = getattr(importlib.import_module(module), name)(context)
            except (ImportError, AttributeError) as e:
                logging.warning("not there yet: %s %s", name, e)
                continue
            setattr(self, name.lower(), part)
            self.parts.append(part)
        for part in self.parts:
            part.install()
        self.api = ApiServer()
        self._add_pages()

    def _add_pages(self) -> None:
        door = self.api.door
        door.add("GET", "health", lambda _: {"status": "up"})
        door.add("GET", "report", lambda _: self._report())
        door.add("GET", "access-log", lambda _: self.balancing.access_log_lines())
        door.add("GET", "weights", lambda _: self.balancing.weight_changes())
        door.add("POST", "scan-findings", self.ecr.scans.seed)

    def _report(self) -> dict[str, Any]:
        settings = self._context.settings
        return {
            "seconds_per_aws_minute": settings.seconds_per_minute,
            "engine": settings.engine,
            "not_rehearsed": sentences(settings),
            "recorded_only": self.cloudformation.recorded_only() if hasattr(self, "cloudformation") else [],
            "not_rehearsed_calls": self.api.gaps.calls(),
        }
