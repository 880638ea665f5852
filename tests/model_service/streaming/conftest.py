"""Models that are quick or slow to stream to."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from websockets.sync.client import ClientConnection

from tests.model_service.conftest import Launch, Service, graph, identity, write_manifest
from tests.model_service.streaming.calls import WIDTH, open_stream


def slow() -> bytes:
    """A model whose time grows with its rows, by some 0.1 ms for each: x -> y."""
    weight = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")
    nodes: list[onnx.NodeProto] = [helper.make_node("Constant", [], ["w"], value=weight)]
    names = ["x", *(f"h{number}" for number in range(40)), "y"]
    nodes += [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    shape = ["N", WIDTH]
    return graph(nodes, {"x": (TensorProto.FLOAT, shape)}, {"y": (TensorProto.FLOAT, shape)})


@pytest.fixture(scope="module")
def slow_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("slow"), slow(), name="slow")


@pytest.fixture(scope="module")
def echo_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers with its input."""
    return write_manifest(tmp_path_factory.mktemp("echo"), identity(TensorProto.FLOAT, ["N", "M"]), name="echo")


@pytest.fixture(scope="module")
def echo(launch: Launch, echo_manifest: Path) -> Service:
    return launch(echo_manifest, MAX_BODY_BYTES="1000000").wait_ready()


@pytest.fixture
def stream(echo: Service) -> Iterator[ClientConnection]:
    with open_stream(echo, "echo") as connection:
        yield connection
