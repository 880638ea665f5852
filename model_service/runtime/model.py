"""One ONNX model in memory: loaded from a verified file, its signature, and a run.

Besides providers.py the only importer of onnxruntime.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from model_service.errors import RequestRefused, StartRefused
from model_service.runtime.providers import DeviceFacts, keep_to_device, preload, session_providers
from model_service.tensors import BY_ONNX_TYPE, Array, TensorSpec

BFLOAT16 = 16  # TensorProto.DataType
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


@dataclass(frozen=True)
class Model:
    """A loaded model. `run` may be called from several threads at once."""

    name: str
    version: str
    platform: str
    runs_on: DeviceFacts
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    _session: Any

    @property
    def device(self) -> str:
        """`cpu` or `cuda`: what runs the model."""
        return self.runs_on.device

    @cached_property
    def inputs_by_name(self) -> dict[str, TensorSpec]:
        """The inputs' signature by name."""
        return {spec.name: spec for spec in self.inputs}

    @cached_property
    def outputs_by_name(self) -> dict[str, TensorSpec]:
        """The outputs' signature by name."""
        return {spec.name: spec for spec in self.outputs}

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """The outputs' names, in the model's order."""
        return tuple(spec.name for spec in self.outputs)

    @cached_property
    def rows_of(self) -> str | None:
        """The input whose first axis counts the rows of a request; None where no first axis is variable."""
        return next((spec.name for spec in self.inputs if spec.has_variable_rows), None)

    def count_rows(self, arrays: Mapping[str, Array]) -> int:
        """The rows of a request's inputs; 1 where no first axis is variable."""
        return len(arrays[self.rows_of]) if self.rows_of else 1

    @cached_property
    def shares_symbols(self) -> bool:
        """Whether a symbolic dimension stands twice in the inputs, so that its sizes must agree."""
        symbols = [size for spec in self.inputs for size in spec.dimensions if isinstance(size, str)]
        return len(set(symbols)) < len(symbols)

    def run(
        self, inputs: Mapping[str, Array], output_names: Sequence[str] | None = None, options: Any = None
    ) -> Outputs:
        """Run the checked `inputs`. Raises RequestRefused(400) where the graph itself finds them invalid."""
        names = list(output_names or self.output_names)
        started = time.perf_counter()
        try:
            arrays = self._run(names, inputs, options)
        except InvalidArgument as error:
            # Only the fact: ONNX Runtime's own words carry paths of its build and values of the request.
            raise RequestRefused(400, "the model cannot run on these values (INVALID_ARGUMENT)") from error
        return Outputs(dict(zip(names, arrays, strict=True)), time.perf_counter() - started)

    def _run(self, names: list[str], inputs: Mapping[str, Array], options: Any) -> list[Array]:
        if self.device == "cuda":
            return self._run_bound(names, inputs, options)
        if self._has_bf16:
            values = {name: self._to_ort(name, array) for name, array in inputs.items()}
            return [_from_ort(value) for value in self._session.run_with_ort_values(names, values, options)]
        return list(self._session.run(names, inputs, options))

    def _run_bound(self, names: list[str], inputs: Mapping[str, Array], options: Any) -> list[Array]:
        """Inputs are copied to the device once, outputs stay there until all are made.

        https://onnxruntime.ai/docs/api/python/api_summary.html#data-inputs-and-outputs
        """
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._to_ort(name, array))
        for name in names:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding, options)
        return [_from_ort(value) for value in binding.get_outputs()]

    @cached_property
    def _has_bf16(self) -> bool:
        return any(spec.datatype.name == "BF16" for spec in (*self.inputs, *self.outputs))

    def _to_ort(self, name: str, array: Array) -> Any:
        """`array` as ONNX Runtime's own value; numpy has no bfloat16, so its type is told by number."""
        if self.inputs_by_name[name].datatype.name == "BF16":
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), BFLOAT16)
        return ort.OrtValue.ortvalue_from_numpy(array)


def run_options() -> Any:
    """Options of one run; setting `terminate` ends it. A flagged one stays flagged, so each run has its own."""
    return ort.RunOptions()


def load_model(
    path: Path,
    *,
    name: str,
    version: str,
    platform: str,
    device: str,
    gpu_mem_limit_mib: int = 0,
    threads: int = 1,
    spin: bool = False,
) -> Model:
    """The model in the verified file `path`. Raises StartRefused with the cause in words.

    Loaded by path, because external data is looked up beside the file, and only there. `threads` compute one run.
    """
    session = _open_session(path, device, threads, spin, gpu_mem_limit_mib=gpu_mem_limit_mib)
    facts = keep_to_device(session, device, path.name)
    try:
        inputs = tuple(_spec(value, "input") for value in session.get_inputs())
        outputs = tuple(_spec(value, "output") for value in session.get_outputs())
    except UnicodeDecodeError as error:
        raise StartRefused(f"{path.name} names a tensor or a dimension in what is not UTF-8 text") from error
    return Model(name, version, platform, facts, inputs, outputs, session)


def profile(path: Path, inputs: Mapping[str, Array], *, device: str, runs: int, directory: Path) -> bytes:
    """ONNX Runtime's own profile of `runs` runs, as JSON for chrome://tracing and Perfetto.

    In a session of its own: profiling slows a session for good. https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
    """
    session = _open_session(path, device, threads=1, spin=False, profile_prefix=str(directory / "profile"))
    keep_to_device(session, device, path.name)
    try:
        for _ in range(runs):
            session.run(None, dict(inputs))
    finally:
        written = Path(session.end_profiling())
    content = written.read_bytes()
    written.unlink()
    return content


def _open_session(
    path: Path, device: str, threads: int, spin: bool, *, gpu_mem_limit_mib: int = 0, profile_prefix: str | None = None
) -> Any:
    preload(device)
    ort.set_default_logger_severity(SILENT)
    options = ort.SessionOptions()
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    options.log_severity_level = SILENT
    # Requests run side by side, one thread each: on shared CPUs that beats one request on several threads.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait by spinning take the CPU from those of other sessions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    providers = session_providers(device, ort.get_available_providers(), gpu_mem_limit_mib=gpu_mem_limit_mib)
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise StartRefused(_why_not_loaded(path, error)) from error


def _from_ort(value: Any) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(content, np.uint16).reshape(value.shape())


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
