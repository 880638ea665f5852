"""Loading and running ONNX models: what is refused, and in which words."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.datasets
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_service.errors import RequestRefused, StartRefused
from model_service.runtime.model import Model, load_model
from tests.model_service.conftest import addition, graph, identity


def load(directory: Path, content: bytes, **options: Any) -> Model:
    path = directory / "model.onnx"
    path.write_bytes(content)
    return load_model(path, **({"name": "m", "version": "1", "platform": "onnx_onnxv1", "device": "cpu"} | options))


def relu(ir_version: int, opset: int) -> bytes:
    shape = {"x": (TensorProto.FLOAT, [None])}
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return graph(nodes, shape, {"y": (TensorProto.FLOAT, [None])}, ir_version=ir_version, opset=opset)


def zipmap_model() -> bytes:
    return Path(onnxruntime.datasets.get_example("logreg_iris.onnx")).read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, this is text", r"model\.onnx is not an ONNX model, or only a part of one \(19 bytes\)"),
        (b"", r"is not an ONNX model, or only a part of one \(0 bytes\)"),
        (addition()[:60], "is not an ONNX model, or only a part of one"),
        (
            relu(14, 22),
            r"needs IR version 14; ONNX Runtime \S+ loads up to IR version 13: save it with `ir_version=13`",
        ),
        (relu(10, 28), r"needs opset 28 of ai\.onnx; ONNX Runtime \S+ loads up to opset 26"),
        (zipmap_model(), r"`probabilities` is seq\(map\(.*this is a ZipMap: convert with .*'zipmap': False"),
    ],
    ids=["text", "empty", "truncated", "ir", "opset", "zipmap"],
)
def test_refuses_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that cannot be served is refused with its cause and the way out, not with ONNX Runtime's own text."""
    with pytest.raises(StartRefused, match=words):
        load(tmp_path, content)


def test_does_not_fall_back_to_the_cpu(tmp_path: Path) -> None:
    """DEVICE=cuda where ONNX Runtime has no CUDA is a refusal, never a slow service."""
    with pytest.raises(StartRefused, match=r"DEVICE=cuda, but ONNX Runtime runs model\.onnx on CPUExecutionProvider"):
        load(tmp_path, addition(), device="cuda")


def test_loads_external_data_beside_the_model(tmp_path: Path) -> None:
    """Weights in a file of their own are found beside the .onnx file."""
    weights = numpy_helper.from_array(np.arange(600, dtype=np.float32), "w")
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "external",
        [value("x", TensorProto.FLOAT, [600])],
        [value("y", TensorProto.FLOAT, [600])],
        [weights],
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    loaded = load(tmp_path, (tmp_path / "model.onnx").read_bytes())
    outputs = loaded.run({"x": np.ones(600, np.float32)})
    assert 600.0 == outputs.arrays["y"][-1]


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin"])
def test_refuses_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    """A model that points outside its own directory is not loaded."""
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "outside",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [tensor],
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    (tmp_path / "inner").mkdir()
    with pytest.raises(StartRefused, match="cannot be loaded"):
        load(tmp_path / "inner", model.SerializeToString())


def test_blames_the_caller_for_values_that_the_graph_refuses(tmp_path: Path) -> None:
    """An index out of range is found only inside the graph; it is the caller's fault, told without build paths."""
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"])]
    inputs = {"table": (TensorProto.FLOAT, [3]), "i": (TensorProto.INT64, [1])}
    model = load(tmp_path, graph(nodes, inputs, {"y": (TensorProto.FLOAT, [1])}))
    with pytest.raises(RequestRefused) as refused:
        model.run({"table": np.zeros(3, np.float32), "i": np.array([9])})
    assert (400, "the model cannot run on these values (INVALID_ARGUMENT)") == (
        refused.value.status,
        refused.value.message,
    )


def test_describes_its_signature(tmp_path: Path) -> None:
    """Dimensions without a size are -1, whether they have a name or not."""
    model = load(tmp_path, identity(TensorProto.STRING, [None, "length", 3]))
    assert {"name": "x", "datatype": "BYTES", "shape": [-1, -1, 3]} == model.inputs[0].describe()
