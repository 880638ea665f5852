"""One ONNX model in memory: loaded from a verified file, its signature, and a run. The only importer of onnxruntime."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from model_service.errors import RequestRefused, StartRefused
from model_service.tensors import BY_ONNX_TYPE, Array, TensorSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
SILENT = 4  # fatal only: whatever else ONNX Runtime would print in its own format comes as an exception too

# ONNX Runtime has no call for the newest versions it loads, only these sentences.
# https://github.com/microsoft/onnxruntime/issues/14932
IR_TOO_NEW = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
OPSET_TOO_NEW = re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a run gave, and how long ONNX Runtime took for it."""

    arrays: dict[str, Array]
    compute_s: float


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. `run` may be called from several threads at once."""

    name: str
    version: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    _session: Any

    def run(self, inputs: Mapping[str, Array], output_names: Sequence[str] | None = None) -> Outputs:
        """Run the checked `inputs`. Raises RequestRefused(400) where the graph itself finds them invalid."""
        names = list(output_names or [spec.name for spec in self.outputs])
        started = time.perf_counter()
        try:
            arrays = self._session.run(names, dict(inputs))
        except InvalidArgument as error:
            # Only the fact: ONNX Runtime's own words carry paths of its build and values of the request.
            raise RequestRefused(400, "the model cannot run on these values (INVALID_ARGUMENT)") from error
        return Outputs(dict(zip(names, arrays, strict=True)), time.perf_counter() - started)


def load_model(path: Path, *, name: str, version: str, platform: str, device: str) -> Model:
    """The model in the verified file `path`. Raises StartRefused with the cause in words.

    Loaded by path, because external data is looked up beside the file, and only there.
    """
    session = _open_session(path, device)
    if session.get_providers()[0] != PROVIDERS[device]:
        # ONNX Runtime falls back to the CPU without an error: https://github.com/microsoft/onnxruntime/issues/17801
        raise StartRefused(f"DEVICE={device}, but ONNX Runtime runs {path.name} on {session.get_providers()[0]}")
    inputs = tuple(_spec(value, "input") for value in session.get_inputs())
    outputs = tuple(_spec(value, "output") for value in session.get_outputs())
    return Model(name, version, platform, inputs, outputs, session)


def _open_session(path: Path, device: str) -> Any:
    ort.set_default_logger_severity(SILENT)
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    # Requests run side by side, one thread each: on shared CPUs that beats one request on several threads.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    wanted = [PROVIDERS[device]] if PROVIDERS[device] in ort.get_available_providers() else ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise StartRefused(_why_not_loaded(path, error)) from error


def _why_not_loaded(path: Path, error: Exception) -> str:
    message, size = str(error), path.stat().st_size
    if found := IR_TOO_NEW.search(message):
        needs = f"IR version {found[1]}; ONNX Runtime {ort.__version__} loads up to IR version {found[2]}"
        return f"{path.name} needs {needs}: save it with `ir_version={found[2]}` or lower"
    if found := OPSET_TOO_NEW.search(message):
        needs = f"opset {found[1]} of {found[2]}; ONNX Runtime {ort.__version__} loads up to opset {found[3]}"
        return f"{path.name} needs {needs}: export it with opset {found[3]} or lower"
    if type(error).__name__ == "InvalidProtobuf" or "No graph was found" in message:
        return f"{path.name} is not an ONNX model, or only a part of one ({size} bytes)"
    return f"{path.name} cannot be loaded: {message.strip()}"


def _spec(value: Any, kind: str) -> TensorSpec:
    datatype = BY_ONNX_TYPE.get(value.type)
    if datatype is None:
        hint = ""
        if value.type.startswith("seq(map("):
            hint = "; this is a ZipMap: convert with `options={id(model): {'zipmap': False}}` (skl2onnx)"
        raise StartRefused(f"{kind} `{value.name}` is {value.type}, not a tensor that the protocol can carry{hint}")
    return TensorSpec(value.name, datatype, tuple(value.shape))
