"""What does NVML say? A script for a child process: NVML may hang or crash, and then only this child is lost.

Prints one JSON object a line, each at once, so that what was said before a crash is kept. Imports nothing of this
package. `sys.argv[1]` is the folder that holds nvidia-ml-py's `pynvml` (11.450 and later).
"""

from __future__ import annotations

import json
import sys
from typing import Any


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def text(value: Any) -> Any:
    """nvidia-ml-py before 11.515 answers with bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def ask(nvml: Any, name: str, *args: Any) -> tuple[Any, Any]:
    """(answer, None), or (None, what NVML said instead)."""
    function = getattr(nvml, name, None)
    if function is None:
        return None, {"code": None, "text": "not in this nvidia-ml-py"}
    try:
        return function(*args), None
    except nvml.NVMLError as error:
        return None, {"code": getattr(error, "value", None), "text": str(error)}
    except Exception as error:  # noqa: BLE001 a binding that does not fit the library fails in any way it likes
        return None, {"code": None, "text": f"{type(error).__name__}: {error}"}


def memory(nvml: Any, handle: Any) -> tuple[Any, Any]:
    """Total bytes. Version 2 of the structure counts the reserved memory too; old WSL libraries have only version 1."""
    if hasattr(nvml, "nvmlMemory_v2"):
        answer, _ = ask(nvml, "nvmlDeviceGetMemoryInfo", handle, nvml.nvmlMemory_v2)
        if answer is not None:
            return answer.total, None
    answer, error = ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    return (None, error) if answer is None else (answer.total, None)


def instances(nvml: Any, handle: Any) -> list[Any]:
    """The names of a GPU's MIG instances (`NVIDIA A100-SXM4-80GB MIG 1g.10gb`)."""
    count, _ = ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle)
    names = []
    for place in range(count or 0):
        instance, _ = ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
        if instance is not None:
            name, _ = ask(nvml, "nvmlDeviceGetName", instance)
            names.append(text(name))
    return names


def gpu(nvml: Any, index: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"index": index}
    errors: dict[str, Any] = {}
    handle, error = ask(nvml, "nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        return dict(answer, errors={"handle": error})

    def keep(key: str, pair: tuple[Any, Any]) -> None:
        value, error = pair
        answer[key] = text(value)
        if error is not None:
            errors[key] = error

    pci, error = ask(nvml, "nvmlDeviceGetPciInfo", handle)
    if pci is None:
        errors["pci"] = error
    else:
        answer.update(bus=text(pci.busId), device=pci.pciDeviceId, subsystem=pci.pciSubSystemId)
    keep("name", ask(nvml, "nvmlDeviceGetName", handle))
    keep("capability", ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle))
    keep("memory", memory(nvml, handle))
    keep("uuid", ask(nvml, "nvmlDeviceGetUUID", handle))
    keep("mig", ask(nvml, "nvmlDeviceGetMigMode", handle))
    if answer["mig"] and answer["mig"][0]:
        answer["instances"] = instances(nvml, handle)
    return dict(answer, errors=errors)


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    import pynvml as nvml

    _, error = ask(nvml, "nvmlInit")
    if error is not None:
        say(init=error)
        return
    say(init=None)
    for key, name in [("driver", "nvmlSystemGetDriverVersion"), ("nvml", "nvmlSystemGetNVMLVersion")]:
        value, error = ask(nvml, name)
        say(**{key: text(value), "error": error})
    for name in ["nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"]:
        value, error = ask(nvml, name)
        if value:
            break
    say(cuda=value, error=error)
    count, error = ask(nvml, "nvmlDeviceGetCount")
    say(count=count, error=error)
    for index in range(count or 0):
        say(gpu=gpu(nvml, index))
    say(done=True)


main()
