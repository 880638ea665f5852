"""ONNX Runtime's execution providers: which one is asked for and how, and which one really runs.

ONNX Runtime falls back to the CPU without an error, so what was asked for says nothing:
https://github.com/microsoft/onnxruntime/issues/17801
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnxruntime as ort

from model_service.errors import StartRefused
from model_service.runtime import cuda

CPU = "CPUExecutionProvider"
PROVIDERS = {"cpu": CPU, "cuda": "CUDAExecutionProvider"}
DEVICES = {provider: device for device, provider in PROVIDERS.items()}
MIB = 1024 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a session runs on. The versions of CUDA are those of the libraries in this process; None on the CPU."""

    device: str
    provider: str
    onnxruntime_version: str
    cuda_version: str | None = None
    cudnn_version: str | None = None
    driver_cuda_version: str | None = None

    def describe(self) -> dict[str, str]:
        """What is known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def session_providers(
    device: str, available: Sequence[str], *, gpu_mem_limit_mib: int = 0
) -> list[tuple[str, dict[str, str]]]:
    """What `InferenceSession(providers=...)` is given; a `gpu_mem_limit_mib` of 0 is no limit.

    A provider that is not `available` would only be warned of: the CPU is asked for then, and `keep_to_device` refuses.
    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#configuration-options
    """
    if device == "cpu" or PROVIDERS[device] not in available:
        return [(CPU, {})]
    options = {
        "device_id": "0",
        # The default tries every algorithm for every new shape: minutes, once batches vary.
        # https://github.com/PaddlePaddle/PaddleX/issues/5057
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles the arena whenever it grows.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if gpu_mem_limit_mib:
        options["gpu_mem_limit"] = str(gpu_mem_limit_mib * MIB)
    return [(PROVIDERS[device], options)]


def preload(device: str) -> None:
    """Load CUDA's libraries out of their packages; before the first session, which looks for them in the system only.

    What cannot be loaded ONNX Runtime prints, and goes on; here it is logged.
    """
    if device != "cuda":
        return
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        ort.preload_dlls()
    for line in printed.getvalue().splitlines():
        logger.warning("ONNX Runtime, while loading CUDA: %s", line)


def keep_to_device(session: Any, device: str, model: str) -> DeviceFacts:
    """What the session runs on. Raises StartRefused if that is not `device`, and lets no later run change it.

    Without `disable_fallback` a run that fails on the GPU is made again on the CPU, and so is every one after it.
    """
    facts = describe_device(session)
    if facts.provider != PROVIDERS[device]:
        cause = f": {why_no_cuda()}" if device == "cuda" else ""
        raise StartRefused(f"DEVICE={device}, but ONNX Runtime runs {model} on {facts.provider}{cause}")
    session.disable_fallback()
    return facts


def describe_device(session: Any) -> DeviceFacts:
    """What an InferenceSession runs on: its first provider, and the versions of what is loaded for it."""
    provider = session.get_providers()[0]
    device = DEVICES.get(provider, provider)
    if device != "cuda":
        return DeviceFacts(device, provider, ort.__version__)
    return DeviceFacts(
        device,
        provider,
        ort.__version__,
        cuda.runtime_version(ort.cuda_version.partition(".")[0]),
        cuda.cudnn_version(),
        cuda.driver_version(),
    )


def why_no_cuda() -> str:
    """The first thing that keeps ONNX Runtime from CUDA here, in words."""
    if PROVIDERS["cuda"] not in ort.get_available_providers():
        return f"this ONNX Runtime ({ort.package_name} {ort.__version__}) is built without CUDA"
    return cuda.fault(ort.cuda_version) or "ONNX Runtime does not say why"
