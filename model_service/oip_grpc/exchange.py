"""One call and its answer, whichever of the six it is.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from model_service.errors import RequestRefused
from model_service.inference.protocol import SERVER, model_metadata
from model_service.oip_grpc import messages
from model_service.oip_grpc.work import ModelInferWork
from model_service.scheduling.job import Answer, Job, answer_of
from model_service.served import Served
from model_service.serving import Serving

EXTENSIONS = ["classification"]


class Exchange:
    """A call's message, and what answers it. `remaining_s` is the time to the caller's deadline, if there is one."""

    __slots__ = ("_message", "_remaining_s", "_serving", "served")

    def __init__(self, serving: Serving, message: bytes, remaining_s: float | None) -> None:
        self._serving = serving
        self._message = message
        self._remaining_s = remaining_s
        self.served: Served | None = None

    async def server_live(self) -> bytes:
        """True while the model loads, too."""
        self._read(messages.ServerLiveRequest)
        return _bytes(messages.ServerLiveResponse(live=True))

    async def server_ready(self) -> bytes:
        """Whether requests should come here."""
        self._read(messages.ServerReadyRequest)
        return _bytes(messages.ServerReadyResponse(ready=self._serving.is_ready))

    async def model_ready(self) -> bytes:
        """False, as Triton has it, for a model that is unknown: callers wait for one in a loop."""
        request = self._read(messages.ModelReadyRequest)
        try:
            self.served = self._find(request.name, request.version)
        except RequestRefused:
            return _bytes(messages.ModelReadyResponse(ready=False))
        return _bytes(messages.ModelReadyResponse(ready=self._serving.is_ready))

    async def server_metadata(self) -> bytes:
        """Name, version, extensions: those of them that there are over gRPC."""
        self._read(messages.ServerMetadataRequest)
        return _bytes(messages.ServerMetadataResponse(**SERVER, extensions=EXTENSIONS))

    async def model_metadata(self) -> bytes:
        """The model's signature."""
        request = self._read(messages.ModelMetadataRequest)
        self.served = served = self._find(request.name, request.version)
        described = model_metadata(served.model, self._serving.models.versions(served.model.name))
        return _bytes(_filled(messages.ModelMetadataResponse, described))

    async def model_infer(self) -> bytes:
        """An inference."""
        request = self._read(messages.ModelInferRequest)
        self.served = served = self._find(request.model_name, request.model_version)
        settings = self._serving.settings
        work = ModelInferWork(served.model, request, settings.max_rows, served.labels_of)
        limits_s = (settings.request_timeout_s, self._remaining_s)
        timeout_s = min(limit_s for limit_s in limits_s if limit_s is not None)
        answer = await _answer(served, work, len(self._message), timeout_s)
        return answer.body

    def _find(self, name: str, version: str) -> Served:
        self._serving.refuse_if_loading()
        return self._serving.models.find(name, version or None)

    def _read(self, kind: Any) -> Any:
        try:
            return kind.FromString(self._message)
        except DecodeError as error:
            raise RequestRefused(400, f"the message is not an {messages.PACKAGE}.{kind.DESCRIPTOR.name}") from error


async def _answer(served: Served, work: ModelInferWork, size_bytes: int, timeout_s: float) -> Answer:
    """The answer, unless the caller goes before, which cancels this: then its work is given up."""
    done = asyncio.get_running_loop().create_future()

    def on_done(job: Job) -> None:
        if not done.done():  # cancelled, in the same turn of the loop
            done.set_result(job.outcome)

    job = Job(work, on_done, endpoint="grpc", size_bytes=size_bytes, timeout_s=timeout_s)
    served.scheduler.submit(job)
    try:
        outcome = await done
    finally:
        job.give_up()  # which does nothing once it is done
    return answer_of(outcome)


def _filled(kind: Any, members: Mapping[str, Any]) -> Any:
    """A message with those of `members` that it has a field for: REST's answers may hold more."""
    return kind(**{name: value for name, value in members.items() if name in kind.DESCRIPTOR.fields_by_name})


def _bytes(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


CALLS: Mapping[str, Callable[[Exchange], Awaitable[bytes]]] = {
    "ServerLive": Exchange.server_live,
    "ServerReady": Exchange.server_ready,
    "ModelReady": Exchange.model_ready,
    "ServerMetadata": Exchange.server_metadata,
    "ModelMetadata": Exchange.model_metadata,
    "ModelInfer": Exchange.model_infer,
}
