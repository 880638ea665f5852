"""Which ONNX files are taken, and in which words the others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pipeline import onnx_model
from pipeline.errors import ConfigError
from pipeline.onnx_model import inspect_model, load_model
from pipeline.results import Signature, TensorSpec
from tests.pipeline.conftest import WEIGHTS, golden_rows, tiny_onnx


def saved(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def test_the_signature_is_in_the_protocols_words(tmp_path: Path) -> None:
    """Inputs and outputs come as Open Inference Protocol tensors, a variable axis as -1."""
    signature = inspect_model(saved(tmp_path / "m.onnx", tiny_onnx()))

    assert signature == Signature(
        inputs=(TensorSpec("X", "FP32", (-1, 4)),),
        outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3))),
        ir_version=10,
        opset=17,
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<html>not found</html>", "is not an ONNX file"),
        (b"PK\x03\x04 a zip archive", "is not an ONNX file"),
        (b"\x08\x0a", "is not an ONNX file: it holds no graph"),
    ],
)
def test_what_is_not_onnx_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """Anything but an ONNX file is refused by name."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=words):
        inspect_model(path)


def test_a_truncated_model_is_called_truncated(tmp_path: Path) -> None:
    """Half a model is told from a file that never was one."""
    path = saved(tmp_path / "m.onnx", tiny_onnx())
    path.write_bytes(path.read_bytes()[:150])

    with pytest.raises(ConfigError, match=r"is truncated.*150 bytes"):
        inspect_model(path)


def test_a_missing_model_names_the_key_to_correct(tmp_path: Path) -> None:
    """The remedy is the configuration's key."""
    with pytest.raises(ConfigError) as caught:
        inspect_model(tmp_path / "none.onnx")

    assert "services.<name>.model.path" in caught.value.remedy


def test_the_newest_model_that_loads_is_taken(tmp_path: Path) -> None:
    """The limits that the errors name are the pinned ONNX Runtime's own: it loads both."""
    newest = tiny_onnx(ir_version=onnx_model.MAX_IR_VERSION, opset=onnx_model.MAX_OPSET)

    assert inspect_model(saved(tmp_path / "m.onnx", newest)).opset == onnx_model.MAX_OPSET


@pytest.mark.parametrize(
    ("ir_version", "opset", "words"),
    [(14, 17, r"IR version 14; onnxruntime [\d.]+ loads up to 13"), (10, 27, r"opset 27; onnxruntime .* up to 26")],
)
def test_a_model_that_is_too_new_is_refused_with_both_numbers(
    tmp_path: Path, ir_version: int, opset: int, words: str
) -> None:
    """The error names the model's version and the newest that loads; ONNX Runtime itself refuses it too."""
    path = saved(tmp_path / "m.onnx", tiny_onnx(ir_version=ir_version, opset=opset))

    with pytest.raises(ConfigError, match=words):
        inspect_model(path)
    with pytest.raises(onnx_model.ORT_REFUSALS):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_zipmap_is_refused_with_the_option_that_avoids_it(tmp_path: Path) -> None:
    """skl2onnx's default output is a sequence of maps; the remedy is `zipmap: False`."""
    model = tiny_onnx()
    node = helper.make_node("ZipMap", ["probabilities"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    model.graph.node.append(node)
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    model.graph.output.append(helper.make_value_info("maps", kind))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))

    with pytest.raises(ConfigError, match="output `maps` is a sequence") as caught:
        inspect_model(saved(tmp_path / "m.onnx", model))

    assert "'zipmap': False" in caught.value.remedy


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/passwd", "sub/weights.bin", "..", "a\\b"])
def test_weights_outside_the_models_directory_are_refused(tmp_path: Path, location: str) -> None:
    """A model may not name files elsewhere: they would be read, uploaded and served."""
    model = tiny_onnx()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)

    with pytest.raises(ConfigError, match="not a plain file name beside the model"):
        inspect_model(saved(tmp_path / "m.onnx", model))


def test_weights_that_are_a_link_out_are_refused(tmp_path: Path) -> None:
    """A symbolic link beside the model does not lead out of its directory either."""
    directory = tmp_path / "model"
    directory.mkdir()
    onnx.save(tiny_onnx(), directory / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (directory / "w.bin").rename(tmp_path / "outside.bin")
    (directory / "w.bin").symlink_to(tmp_path / "outside.bin")

    with pytest.raises(ConfigError, match=r"`w\.bin`, which is missing or a link out"):
        inspect_model(directory / "m.onnx")


def test_a_graph_that_does_not_run_is_refused(tmp_path: Path) -> None:
    """An operator that ONNX Runtime does not know is an error in the model, said with the runtime's version."""
    model = tiny_onnx()
    model.graph.node[0].op_type = "MatMulOfTomorrow"

    with pytest.raises(ConfigError, match=r"onnxruntime [\d.]+ does not load"):
        inspect_model(saved(tmp_path / "m.onnx", model))


def test_external_weights_are_listed_after_the_model(tmp_path: Path) -> None:
    """The files of a model are the .onnx and the data beside it."""
    path = tmp_path / "m.onnx"
    onnx.save(tiny_onnx(), path, save_as_external_data=True, location="w.bin", size_threshold=0)

    assert load_model(path).files == (path, tmp_path / "w.bin")


def test_answers_are_the_models_own(tmp_path: Path) -> None:
    """`answers` gives every output by name."""
    loaded = load_model(saved(tmp_path / "m.onnx", tiny_onnx()))

    answers = loaded.answers({"X": WEIGHTS.T @ np.eye(4, dtype=np.float32)})

    np.testing.assert_array_equal([0, 1, 2], answers["label"])


def test_a_model_of_one_row_answers_row_by_row(tmp_path: Path) -> None:
    """The answers stand together as those of a model with a dynamic batch do."""
    rows = {"X": golden_rows()["X"]}
    one, any_number = (load_model(saved(tmp_path / "m.onnx", tiny_onnx(rows=n))).answers(rows) for n in (1, "N"))

    np.testing.assert_array_equal(any_number["label"], one["label"])
    np.testing.assert_allclose(any_number["probabilities"], one["probabilities"], rtol=1e-6)


def test_strings_go_in_and_out(tmp_path: Path) -> None:
    """String tensors are BYTES in the protocol, and come back as text that needs no pickle."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["S"], ["T"])],
        "g",
        [helper.make_tensor_value_info("S", TensorProto.STRING, ["N"])],
        [helper.make_tensor_value_info("T", TensorProto.STRING, ["N"])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    loaded = load_model(saved(tmp_path / "m.onnx", model))

    answers = loaded.answers({"S": np.array(["héllo", "x"])})

    assert loaded.signature.inputs == (TensorSpec("S", "BYTES", (-1,)),)
    assert answers["T"].tolist() == ["héllo", "x"]
    assert answers["T"].dtype.kind == "U"
