"""An ONNX file, read and judged before anything is uploaded; the pipeline's only importer of onnx and onnxruntime.

Every refusal is a ConfigError with the file's name and what to do: a model that passes here is one that the
server's ONNX Runtime loads, with inputs and outputs that the Open Inference Protocol can carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from pipeline.errors import ConfigError
from pipeline.results import Signature, TensorSpec

Array = np.ndarray[Any, Any]

# What the pinned onnxruntime 1.31 loads; it has no API that says so (github.com/microsoft/onnxruntime/issues/14932).
MAX_IR_VERSION = 13
MAX_OPSET = 26

# https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol#tensor-data-types
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
ORT_REFUSALS = tuple(
    getattr(ort_errors, name)
    for name in (
        *("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NoModel", "NotImplemented"),
        *("RuntimeException", "EPFail", "ModelLoaded", "EngineError"),
    )
)


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A model that ONNX Runtime has loaded. `files` are the .onnx first, then its external data, all beside it."""

    path: Path
    files: tuple[Path, ...]
    signature: Signature
    session: onnxruntime.InferenceSession

    def answers(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """ONNX Runtime's own outputs by name; strings as numpy's `str` so that they can be saved without pickle.

        A model that takes one row a run is given them one by one.
        """
        names = [spec.name for spec in self.signature.outputs]
        feed = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in inputs.items()}
        try:
            values = self._by_rows(names, feed) if self.takes_one_row else self.session.run(names, feed)
        except (*ORT_REFUSALS, ValueError) as error:
            raise ConfigError(
                f"{self.path.name} does not run on the golden inputs: {_first_line(error)}",
                "check shapes and values of services.<name>.model.golden",
            ) from error
        return {n: np.asarray(v).astype(str) if v.dtype == object else v for n, v in zip(names, values, strict=True)}

    @property
    def takes_one_row(self) -> bool:
        """Whether the batch, the first axis, is fixed to 1."""
        return any(spec.shape[:1] == (1,) for spec in self.signature.inputs)

    def _by_rows(self, names: list[str], feed: Mapping[str, Array]) -> list[Array]:
        rows = range(len(next(iter(feed.values()))))
        runs = [self.session.run(names, {name: array[n : n + 1] for name, array in feed.items()}) for n in rows]
        return [np.concatenate(found) if np.ndim(found[0]) else found[0] for found in zip(*runs, strict=True)]


def inspect_model(path: Path) -> Signature:
    """The inputs, outputs, IR version and opset of an ONNX file that the server will load.

    Raises ConfigError when it will not: not ONNX, truncated, too new, non-tensor outputs, unsafe external data.
    """
    return load_model(path).signature


def load_model(path: Path) -> OnnxModel:
    """The model, loaded by the same ONNX Runtime as in the image. Raises ConfigError like `inspect_model`."""
    proto = _parse(path)
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    _refuse_too_new(path, proto.ir_version, opset)
    files = (path, *_external_files(path, proto))
    _refuse_non_tensors(path, proto.graph)
    session = _session(path, proto.ir_version, opset)
    inputs = tuple(_spec(path, node) for node in session.get_inputs())
    outputs = tuple(_spec(path, node) for node in session.get_outputs())
    return OnnxModel(path, files, Signature(inputs, outputs, proto.ir_version, opset), session)


def with_data_named(path: Path, names: Mapping[str, str]) -> bytes:
    """The .onnx file's bytes once its external data has other names, given by those that it has now."""
    proto = _parse(path)
    for entry in _locations(proto):
        entry.value = names[entry.value]
    return bytes(proto.SerializeToString(deterministic=True))


def _parse(path: Path) -> onnx.ModelProto:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The model {path} cannot be read: {error.strerror}.",
            "name an .onnx file that exists (in onnxship.yaml by services.<name>.model.path)",
        ) from error
    if not content:
        raise ConfigError(f"The model {path} is empty.", "copy or export the model again")
    if content.startswith(b"version https://git-lfs"):
        raise ConfigError(f"{path} is a Git LFS pointer, not the model itself.", "run `git lfs pull`")
    try:
        proto = onnx.load_model_from_string(content)
    except DecodeError as error:
        # An ONNX file begins with field 1, ir_version, as a varint: 0x08, then the number.
        if content[:1] == b"\x08":
            what = f"{path} is truncated: it begins like an ONNX file but ends too early ({len(content)} bytes)."
            raise ConfigError(what, "copy or export the model again") from error
        raise ConfigError(f"{path} is not an ONNX file.", "export the model with `torch.onnx` or skl2onnx") from error
    if not proto.ir_version or not proto.graph.output:
        raise ConfigError(f"{path} is not an ONNX file: it holds no graph.", "export the model again")
    return proto


def _refuse_too_new(path: Path, ir_version: int, opset: int) -> None:
    runtime = f"onnxruntime {onnxruntime.__version__}"
    if ir_version > MAX_IR_VERSION:
        raise ConfigError(
            f"{path} has IR version {ir_version}; {runtime} loads up to {MAX_IR_VERSION}.",
            f"set `model.ir_version = {MAX_IR_VERSION}` before onnx.save, or export with an older onnx",
        )
    if opset > MAX_OPSET:
        raise ConfigError(
            f"{path} has opset {opset}; {runtime} loads up to {MAX_OPSET}.",
            f"export with `opset_version={MAX_OPSET}` or lower",
        )


def _external_files(path: Path, proto: onnx.ModelProto) -> tuple[Path, ...]:
    """The data files that the model names, each safely beside it. Content from elsewhere is never read.

    https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
    """
    named = {entry.value for entry in _locations(proto)}
    for name in sorted(named):
        file = path.parent / name
        if PurePosixPath(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise ConfigError(
                f"{path} keeps weights in `{name}`, which is not a plain file name beside the model.",
                "save it again with onnx.save(..., save_as_external_data=True, location='weights.data')",
            )
        if not file.is_file() or file.resolve().parent != path.resolve().parent:
            raise ConfigError(
                f"{path} keeps weights in `{name}`, which is missing or a link out of {path.parent}.",
                f"put the file {name} itself beside {path.name}",
            )
    return tuple(path.parent / name for name in sorted(named))


def _locations(proto: onnx.ModelProto) -> Iterator[onnx.StringStringEntryProto]:
    """Every place in the model that names a file of external data."""
    for tensor in (*_tensors(proto.graph), *(t for f in proto.functions for t in _attribute_tensors(f.node))):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield from (entry for entry in tensor.external_data if entry.key == "location")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that is stored in a graph, its subgraphs' included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for subgraph in (attribute.g, *attribute.graphs):
            yield from _tensors(subgraph)


def _refuse_non_tensors(path: Path, graph: onnx.GraphProto) -> None:
    for output in graph.output:
        kind = output.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            zipmap = any(node.op_type == "ZipMap" for node in graph.node)
            raise ConfigError(
                f"{path}: output `{output.name}` is a {kind.removesuffix('_type')}, not a tensor"
                f"{' (a ZipMap)' if zipmap else ''}; the inference protocol cannot carry it.",
                "convert with `options={'zipmap': False}` in skl2onnx"
                if zipmap
                else "export the model with tensor outputs only",
            )


def _session(path: Path, ir_version: int, opset: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ORT_REFUSALS as error:
        raise ConfigError(
            f"onnxruntime {onnxruntime.__version__} does not load {path} (IR version {ir_version}, opset {opset}): "
            f"{_first_line(error)}",
            "export the model again for this version of onnxruntime",
        ) from error


def _spec(path: Path, node: Any) -> TensorSpec:
    if node.type not in DATATYPES:
        raise ConfigError(
            f"{path}: `{node.name}` is {node.type}, which the inference protocol cannot carry.",
            f"export it as one of {', '.join(DATATYPES)}",
        )
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return TensorSpec(node.name, DATATYPES[node.type], shape)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
