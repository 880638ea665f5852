"""What CUDA says of itself: versions of the libraries in this process, and what keeps it from working."""

from __future__ import annotations

import ctypes
import os

DRIVER = "libcuda.so.1"
CUDNN = "libcudnn.so.9"
# What libonnxruntime_providers_cuda.so of ONNX Runtime 1.31 is linked with; cuDNN it opens later, if a model needs it.
LIBRARIES = ("libcudart.so.{}", "libcublasLt.so.{}", "libcublas.so.{}", "libcurand.so.10")
NO_DEVICE = 100


def runtime_version(major: str) -> str | None:
    """Version of the loaded libcudart, as `13.0`; None if none of that major version is loaded.

    https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART____VERSION.html
    """
    library = _loaded(LIBRARIES[0].format(major))
    return _toolkit(_asked(library, "cudaRuntimeGetVersion")) if library else None


def driver_version() -> str | None:
    """The newest CUDA that the driver is for, as `13.0`; None without a driver."""
    driver = _loaded(DRIVER)
    return _toolkit(_asked(driver, "cuDriverGetVersion")) if driver else None


def cudnn_version() -> str | None:
    """Version of the loaded cuDNN, as `9.28.1`; None if none is loaded.

    https://docs.nvidia.com/deeplearning/cudnn/backend/latest/api/cudnn-graph-library.html#cudnngetversion
    """
    library = _loaded(CUDNN)
    if library is None:
        return None
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return _cudnn(library.cudnnGetVersion())


def has_driver() -> bool:
    """Whether there is an NVIDIA driver here, with a GPU or without."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def fault(wanted: str) -> str:
    """The first thing that keeps CUDA `wanted` (`13.0`) from working here, in words; "" if nothing is found."""
    if not has_driver():
        return f"there is no NVIDIA driver here ({DRIVER})"
    driver = ctypes.CDLL(DRIVER)
    if code := driver.cuInit(0):
        return f"the NVIDIA driver {'sees no GPU' if code == NO_DEVICE else 'does not start'} (cuInit: {code})"
    version = _toolkit(_asked(driver, "cuDriverGetVersion"))
    major = wanted.partition(".")[0]
    if int(version.partition(".")[0]) < int(major):
        return f"the NVIDIA driver is for CUDA {version}; CUDA {wanted} is needed"
    for name in LIBRARIES:
        try:
            ctypes.CDLL(name.format(major))
        except OSError as error:
            return str(error)
    return ""


def _loaded(name: str) -> ctypes.CDLL | None:
    """The library, if this process has it already."""
    try:
        return ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None


def _asked(library: ctypes.CDLL, function: str) -> int:
    """What `function(int *)` writes."""
    number = ctypes.c_int()
    library[function](ctypes.byref(number))
    return number.value


def _toolkit(number: int) -> str:
    """`13.0` of 13000: major * 1000 + minor * 10."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _cudnn(number: int) -> str:
    """`9.28.1` of 92801: major * 10000 + minor * 100 + patch, since version 9."""
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}"
