"""Which GPUs are there? libcuda says, as for the real torch (in the tests a small C library stands in for it)."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

from . import _build, version


@dataclass(frozen=True)
class Gpu:
    name: str
    capability: tuple[int, int]
    memory: int

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
def driver() -> tuple[int, tuple[Gpu, ...]] | None:
    """The newest CUDA that the driver serves (as 12080) and the visible GPUs, or None without a driver."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    served, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(served)) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return None
    gpus = []
    for index in range(count.value):
        one, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
        cuda.cuDeviceGet(ctypes.byref(one), index)
        cuda.cuDeviceGetName(name, 256, one)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, one)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, one)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), one)
        gpus.append(Gpu(name.value.decode(), (major.value, minor.value), memory.value))
    return served.value, tuple(gpus)


def usable() -> tuple[Gpu, ...]:
    """The GPUs that this build can open."""
    found = driver()
    return found[1] if found and why_not() is None else ()


def why_not() -> Exception | None:
    """What torch says where it can open no GPU."""
    found = driver()
    if version.cuda is None:
        return AssertionError("Torch not compiled with CUDA enabled")
    if found is None or _build.BEHAVIOUR == "not-available":
        return RuntimeError("Found no NVIDIA driver on your system.")
    if found[0] // 1000 < int(version.cuda.split(".")[0]):
        return RuntimeError(f"The NVIDIA driver on your system is too old (found version {found[0]}).")
    return None


def require(index: int) -> Gpu:
    """The GPU, or torch's words for why there is none."""
    problem = why_not()
    if problem is not None:
        raise problem
    if index >= len(usable()):
        raise AcceleratorError("CUDA error: invalid device ordinal")
    return usable()[index]


def require_kernel(index: int) -> None:
    """Nothing where the build has code for the GPU, else the error that people paste into forums."""
    if _build.BEHAVIOUR == "no-kernel" or not require(index).has_code:
        raise AcceleratorError(
            "CUDA error: no kernel image is available for execution on the device\n"
            "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might "
            "be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        )
