"""Which parts the local AWS is made of, in which order they start, and what it tells about itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from rehearsal.balancer import Balancing
from rehearsal.cloudformation_front import CloudFormation
from rehearsal.context import Context
from rehearsal.ecr_front import Ecr
from rehearsal.ecs.part import NOT_REHEARSED, Ecs
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.front_door import ApiServer
from rehearsal.limits import sentences
from rehearsal.metering import Metering
from rehearsal.s3_front import S3
from rehearsal.unusable import Unusable


class Part(Protocol):
    """A service or two of the local AWS."""

    def install(self) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Composition:
    """All parts, installed before the first request: moto builds a service's routes when it is first asked."""

    def __init__(self, context: Context, assumed: Sequence[str]) -> None:
        self._context = context
        self._questions = _answered(assumed)
        context.assumed = asdict(self._questions)
        self.ecr = Ecr(context)
        self.balancing = Balancing(context)
        self.metering = Metering(context, self.balancing)
        self.ecs = Ecs(context, self._questions)
        self.cloudformation = CloudFormation(context)
        # Stopped in reverse: no stack changes any more, then the tasks, then what stands before them.
        self.parts: list[Part] = [S3(context), self.ecr, self.balancing, self.metering, self.ecs, self.cloudformation]
        for part in self.parts:
            part.install()
        self.api = ApiServer(context.outages, context.names)
        self._add_pages()

    def _add_pages(self) -> None:
        door = self.api.door
        door.add("GET", "health", lambda _: {"status": "up", "pid": os.getpid()})
        door.add("GET", "report", lambda _: self._report())
        door.add("GET", "access-log", lambda _: _lines(self.balancing.access_log()))
        door.add("GET", "weights", lambda _: self.balancing.weights())
        door.add("POST", "scan-findings", self.ecr.scans.seed)
        door.add("GET", "outage", lambda _: self._context.outages.told())
        door.add("POST", "outage", self._context.outages.switch)

    def _report(self) -> dict[str, Any]:
        settings = self._context.settings
        return {
            "seconds_per_aws_minute": settings.seconds_per_minute,
            "engine": settings.engine,
            "assumed": self._context.assumed,
            "not_rehearsed": [
                *sentences(settings),
                *NOT_REHEARSED,
                *self.balancing.not_rehearsed,
                *self.metering.not_rehearsed,
            ],
            "recorded_only": self.cloudformation.recorded_only(),
            "not_rehearsed_calls": self.api.gaps.calls(),
        }


def _answered(words: Sequence[str]) -> OpenQuestions:
    try:
        return OpenQuestions.parse(list(words))
    except ValueError as error:
        raise Unusable(f"--assume: {error}.", "name one of these, as NAME=VALUE") from error


def _lines(entries: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)
