"""What the clients talk to: one server with a model for each datatype, and some with several tensors."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.model_service.conftest import Launch, Service, addition, graph, identity, write_manifest

FLOAT = TensorProto.FLOAT
ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def two_outputs() -> bytes:
    """x -> positive, negative."""
    nodes = [helper.make_node("Relu", ["x"], ["positive"]), helper.make_node("Neg", ["x"], ["negative"])]
    shape = ["N", 2]
    return graph(nodes, {"x": (FLOAT, shape)}, {"positive": (FLOAT, shape), "negative": (FLOAT, shape)})


@pytest.fixture(scope="session")
def catalogue_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository: `echo-<DATATYPE>` answers with its input, `adder` has two inputs, `two` has two outputs."""
    directory = tmp_path_factory.mktemp("catalogue")
    models = {f"echo-{datatype}": identity(kind, ["N", 2]) for datatype, kind in ELEMENT_TYPES.items()}
    for name, model in (models | {"adder": addition(), "two": two_outputs()}).items():
        write_manifest(directory / name, model, name=name)
    return directory


@pytest.fixture(scope="session")
def catalogue(launch: Launch, catalogue_directory: Path, hot_path: str) -> Service:
    """The repository, served."""
    return launch("", MODEL_REPOSITORY_URI=catalogue_directory.as_uri(), HOT_PATH=hot_path).wait_ready()
