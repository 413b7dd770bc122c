"""What does the CUDA driver library say? A script for a child process: cuInit may hang, crash or take the GPU along.

Prints one JSON object a line, each at once. Imports nothing of this package. `cuInit` obeys CUDA_VISIBLE_DEVICES: the
GPUs here are those that torch would see. Numbers: CUDA driver API, `cuda.h` (CUdevice_attribute 75 and 76).
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def loaded_from() -> str | None:
    """The file behind the loaded library, from this process's own map of memory."""
    try:
        with open("/proc/self/maps", errors="replace") as maps:
            return next((line.split()[-1] for line in maps if "libcuda.so" in line), None)
    except OSError:
        return None


def name_of(cuda: ctypes.CDLL, code: int) -> str | None:
    text = ctypes.c_char_p()
    try:
        cuda.cuGetErrorName(code, ctypes.byref(text))
    except AttributeError:
        return None
    return text.value.decode(errors="replace") if text.value else None


def number(cuda: ctypes.CDLL, name: str, *args: int) -> tuple[int | None, Any]:
    """(the number that a function `name(int *, ...)` gives, 0), or (None, the error code)."""
    value = ctypes.c_int()
    try:
        code = getattr(cuda, name)(ctypes.byref(value), *args)
    except AttributeError:
        return None, f"no {name}"
    return (value.value, 0) if code == 0 else (None, code)


def gpu(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    device, code = number(cuda, "cuDeviceGet", index)
    if device is None:
        return {"index": index, "error": code}
    answer: dict[str, Any] = {"index": index}
    buffer = ctypes.create_string_buffer(256)
    if cuda.cuDeviceGetName(buffer, 256, device) == 0:
        answer["name"] = buffer.value.decode(errors="replace")
    answer["capability"] = [number(cuda, "cuDeviceGetAttribute", which, device)[0] for which in (75, 76)]
    total = ctypes.c_size_t()
    if cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device) == 0:
        answer["memory"] = total.value
    try:
        if cuda.cuDeviceGetPCIBusId(buffer, 64, device) == 0:
            answer["bus"] = buffer.value.decode(errors="replace")
    except AttributeError:
        pass
    return answer


def main() -> None:
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        say(library=None, error=str(error))
        return
    say(library=loaded_from())
    cuda_version, code = number(cuda, "cuDriverGetVersion")
    say(cuda=cuda_version, error=code)
    code = cuda.cuInit(0)
    say(init=code, name=name_of(cuda, code))
    if code != 0:
        return
    count, code = number(cuda, "cuDeviceGetCount")
    say(count=count, error=code)
    for index in range(count or 0):
        say(gpu=gpu(cuda, index))
    say(done=True)


main()
