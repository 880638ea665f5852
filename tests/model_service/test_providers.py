"""Which execution provider is asked for, and what a session is found to run on."""

import logging
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from model_service.errors import StartRefused
from model_service.runtime import cuda
from model_service.runtime.providers import describe_device, keep_to_device, preload, session_providers
from tests.model_service.conftest import addition

OF_THE_GPU_WHEEL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """The model with two inputs, on the CPU."""
    (tmp_path / "model.onnx").write_bytes(addition())
    return ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])


def test_asks_for_cuda_alone_with_settings_for_serving() -> None:
    """No TensorRT unasked, heuristic choice of algorithms, an arena that grows by what is needed."""
    expected = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    assert [("CUDAExecutionProvider", expected)] == session_providers("cuda", OF_THE_GPU_WHEEL)


def test_limits_the_memory_of_the_gpu_in_bytes() -> None:
    """GPU_MEM_LIMIT_MIB is ONNX Runtime's gpu_mem_limit; 0 leaves it out."""
    [(_, options)] = session_providers("cuda", OF_THE_GPU_WHEEL, gpu_mem_limit_mib=1536)
    assert "1610612736" == options["gpu_mem_limit"]


def test_never_hands_on_what_onnx_runtime_happens_to_have() -> None:
    """DEVICE=cpu is the CPU and nothing else: the CPU's wheel has Azure's provider too, the GPU's has CUDA."""
    assert [("CPUExecutionProvider", {})] == session_providers("cpu", [*OF_THE_GPU_WHEEL, "AzureExecutionProvider"])


def test_describes_a_session_on_the_cpu(session: Any) -> None:
    """No version of CUDA is told where none is at work."""
    facts = describe_device(session)
    assert ("cpu", "CPUExecutionProvider", ort.__version__) == (facts.device, facts.provider, facts.onnxruntime_version)
    assert (None, None, None) == (facts.cuda_version, facts.cudnn_version, facts.driver_cuda_version)


def test_refuses_a_session_that_fell_back(session: Any) -> None:
    """The refusal names what was asked for, what really runs, and why."""
    words = (
        r"DEVICE=cuda, but ONNX Runtime runs model\.onnx on CPUExecutionProvider: "
        r"this ONNX Runtime \(onnxruntime \S+\) is built without CUDA"
    )
    with pytest.raises(StartRefused, match=words):
        keep_to_device(session, "cuda", "model.onnx")


def test_no_later_run_may_fall_back(session: Any) -> None:
    """ONNX Runtime would repeat a run that fails on the GPU on the CPU, and stay there."""
    assert session._enable_fallback
    assert "cpu" == keep_to_device(session, "cpu", "model.onnx").device
    assert not session._enable_fallback


def test_preloading_prints_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """stdout is the log's; an ONNX Runtime without CUDA has nothing to load."""
    with caplog.at_level(logging.WARNING):
        preload("cuda")
    assert ("", "") == (capfd.readouterr().out, caplog.text)


def test_versions_are_written_as_nvidia_writes_them() -> None:
    """CUDA counts in thousands and tens, cuDNN 9 in ten thousands and hundreds."""
    assert ("13.0", "12.8", "9.28.1") == (cuda._toolkit(13000), cuda._toolkit(12080), cuda._cudnn(92801))


def test_says_what_is_missing_where_there_is_no_driver() -> None:
    """A machine without a GPU is told so, whatever else is missing."""
    if cuda.has_driver():
        pytest.skip("this machine has an NVIDIA driver")
    assert "there is no NVIDIA driver here (libcuda.so.1)" == cuda.fault("13.0")
    assert (None, None, None) == (cuda.runtime_version("13"), cuda.cudnn_version(), cuda.driver_version())
