"""The Open Inference Protocol's own client package speaks to real services on their GRPC_PORT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceStub

from tests.model_service.conftest import START_DEADLINE_S, Launch, Service, addition, write_manifest

InferRequest = protocol.ModelInferRequest
INFER_PATH = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    words: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class Client:
    """A client of one service."""

    service: Service
    channel: grpc.Channel
    stub: GRPCInferenceServiceStub

    def call(self, name: str, request: Any, **options: Any) -> Any:
        return getattr(self.stub, name)(request, timeout=START_DEADLINE_S, **options)

    def refusal(self, name: str, request: Any, **options: Any) -> Refusal:
        """How a call ends that must be refused."""
        with pytest.raises(grpc.RpcError) as raised:
            self.call(name, request, **options)
        metadata = {item.key: item.value for item in raised.value.trailing_metadata()}
        return Refusal(raised.value.code(), raised.value.details(), metadata)

    def is_ready(self) -> bool:
        return bool(self.call("ServerReady", protocol.ServerReadyRequest()).ready)


Connect = Callable[[Service], Client]


@pytest.fixture(scope="session")
def connect() -> Iterator[Connect]:
    """Connects to the GRPC_PORT of a service that listens."""
    channels: list[grpc.Channel] = []

    def to(service: Service) -> Client:
        port = next(line["grpc_port"] for line in service.log() if "grpc_port" in line)
        # A channel of its own: grpc would share one connection among all that look the same.
        channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)],
        )
        channels.append(channel)
        return Client(service, channel, GRPCInferenceServiceStub(channel))

    yield to
    for channel in channels:
        channel.close()


@pytest.fixture(scope="module")
def adder(launch: Launch, connect: Connect, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """sum = a + b, served over gRPC with small limits."""
    manifest = write_manifest(tmp_path_factory.mktemp("grpc"), addition(), name="adder")
    return connect(launch(manifest, GRPC_PORT="0", MAX_ROWS="100", MAX_BODY_BYTES="200000").wait_ready())


def add_input(request: Any, name: str, datatype: str, shape: list[int], *, field: str = "", values: Any = ()) -> None:
    """An input of a ModelInferRequest; typed where a field of its contents is named."""
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    if field:
        getattr(tensor.contents, field).extend(values)


def typed_sum(rows: int = 1, **members: Any) -> Any:
    """A request to `adder` with typed contents: ones and twos."""
    request = InferRequest(model_name="adder", **members)
    for name, value in (("a", 1.0), ("b", 2.0)):
        add_input(request, name, "FP32", [rows, 2], field="fp32_contents", values=[value] * 2 * rows)
    return request


def raw_sum(rows: int = 1, **members: Any) -> Any:
    """The same with raw contents."""
    request = InferRequest(model_name="adder", **members)
    for name, value in (("a", 1.0), ("b", 2.0)):
        add_input(request, name, "FP32", [rows, 2])
        request.raw_input_contents.append(np.full((rows, 2), value, "<f4").tobytes())
    return request
