"""Which GPUs are there? NVML says (in the tests: the small C library that stands in for it), as for the real torch."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

from . import _build, version


class Gpu:
    def __init__(self, name: str, capability: tuple[int, int], memory: int) -> None:
        self.name = name
        self.capability = capability
        self.memory = memory

    @property
    def has_code(self) -> bool:
        """Whether this build holds a cubin of the same major and an equal or lower minor, or PTX that is no newer."""
        major, minor = self.capability
        for arch in _build.ARCHES:
            kind, _, digits = arch.partition("_")
            built = int(digits[:-1]), int(digits[-1])
            if kind == "sm" and built[0] == major and built[1] <= minor:
                return True
            if kind == "compute" and built <= (major, minor):
                return True
        return False


class AcceleratorError(RuntimeError):
    """torch's name for an error of a kernel."""


@cache
def driver() -> tuple[tuple[int, int], tuple[Gpu, ...]] | None:
    """The newest CUDA that the driver serves and its GPUs, or None without a driver."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    number = ctypes.c_int()
    if nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(number)) != 0:
        return None
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    gpus = []
    for index in range(count.value):
        handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        major, minor = ctypes.c_int(), ctypes.c_int()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            continue
        nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(96))
        nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
        gpus.append(Gpu(name.value.decode(), (major.value, minor.value), 32 << 30))
    return (number.value // 1000, number.value % 1000 // 10), tuple(gpus)


def usable() -> tuple[Gpu, ...]:
    """The GPUs that this build can open: none without CUDA in it, or with a driver older than its toolkit's major."""
    found = driver()
    if version.cuda is None or found is None or _build.BEHAVIOUR == "not-available":
        return ()
    (major, _), gpus = found
    if major < int(version.cuda.split(".")[0]):
        return ()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus
    return tuple(gpus[int(one)] for one in chosen.split(",") if one.strip().isdigit() and int(one) < len(gpus))


def require(index: int) -> Gpu:
    """The GPU, or torch's words for why there is none."""
    if version.cuda is None:
        raise AssertionError("Torch not compiled with CUDA enabled")
    gpus = usable()
    if not gpus:
        raise RuntimeError("Found no NVIDIA driver on your system.")
    if index >= len(gpus):
        raise AcceleratorError("CUDA error: invalid device ordinal")
    return gpus[index]


def require_kernel(index: int) -> None:
    """Nothing where the build has code for the GPU, else the error that people paste into forums."""
    if _build.BEHAVIOUR == "no-kernel" or not require(index).has_code:
        raise AcceleratorError(
            "CUDA error: no kernel image is available for execution on the device\n"
            "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might "
            "be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        )
