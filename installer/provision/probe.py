"""Does torch work in this very interpreter? Imports torch, runs kernels, prints one JSON object.

This file imports nothing of ours and nothing of ours imports it. `verify` passes its text on stdin to the target
interpreter (`python -I - ORDER`, an empty working directory, a reduced environment). It must run on Python 3.8 and
with any torch 2.x: the targets are old.

Order (JSON, first argument): `{"checks": {NAME: LIMIT_SECONDS, …}, "done": ["NAME@DEVICE", …]}`. Each check runs on
every GPU that torch sees, or else on the CPU, where it is not `done`. Without checks nothing is imported.

Answer (stdout): `{"python": …, "torch": …, "packages": …, "devices": […], "results": […], "complete": BOOL}`. A failed
check ends the process (a GPU that took a fault answers nothing true afterwards), so `complete` is false and `verify`
starts a fresh process for the rest. Before each check its name goes to stderr, so that a crash has a name; a check over
its limit is ended by a watchdog thread, which needs no GIL.

What a check at the default depth needs of torch as a minimum (a check whose further needs are missing in the target is
skipped, and says so; a stand-in for torch must have at least these):

    torch.__version__                     torch.manual_seed(0)          tensor.to("cuda:0")   tensor @ tensor
    torch.version.cuda / .hip             torch.randn(rows, columns)    tensor.cpu()          tensor - tensor
    torch.cuda.is_available()             torch.cuda.device_count()     tensor.abs().max().item()
    torch.cuda.get_device_name(index)     torch.cuda.get_device_capability(index) -> (major, minor)
    torch.cuda.get_arch_list()            on the CPU also: torch.tensor(lists), tensor.t().tolist()
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import operator
import os
import sys
import time
import traceback
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK = "\x1eprovision-check "

PACKAGES = ("torchvision", "torchaudio", "torchcodec", "triton", "bitsandbytes", "xformers", "flash_attn", "numpy")
"""Packages that some check needs: the answer says which can be found (nothing is imported for that)."""


class Skip(Exception):
    """This check cannot run here; the argument says why."""


class Wrong(Exception):
    """The check ran and the answer is wrong: expected, actual, detail."""

    def __init__(self, expected: str, actual: str, detail: str | None = None) -> None:
        super().__init__(expected, actual, detail)
        self.expected = expected
        self.actual = actual
        self.detail = detail


class Context:
    """What a check gets: torch, the device's name ("cuda:0", "cpu"), and the scaffolding of a comparison."""

    def __init__(self, torch: Any, device: str) -> None:
        self.torch = torch
        self.device = device
        self.kind, _, index = device.partition(":")
        self.index = int(index or 0)

    def need(self, *names: str) -> None:
        """Skip unless torch has these dotted names."""
        for name in names:
            value = self.torch
            for part in name.split("."):
                if not hasattr(value, part):
                    raise Skip(f"this torch has no torch.{name}")
                value = getattr(value, part)

    def capability(self) -> tuple[int, int]:
        """The compute capability of an NVIDIA GPU; (0, 0) elsewhere (ROCm answers with its own numbers)."""
        if self.kind != "cuda" or getattr(self.torch.version, "hip", None):
            return (0, 0)
        major, minor = self.torch.cuda.get_device_capability(self.index)
        return (int(major), int(minor))

    def same(self, what: str, actual: Any, wanted: Any, tolerance: float) -> tuple[str, str]:
        """Compare with the CPU: the largest error relative to the largest value. NaN is wrong."""
        error = float((actual.cpu() - wanted).abs().max().item())
        scale = float(wanted.abs().max().item())
        relative = error / scale if scale else float("nan")  # a product of random numbers that is zero is wrong
        expected = f"{what} as on the CPU within {tolerance:.0e}"
        found = f"max error {relative:.1e}"
        if not relative <= tolerance:
            raise Wrong(expected, found)
        return expected, found


# Tolerances, relative to the largest value of the result. The inputs are rounded to the tested type before both sides
# compute, so what remains is accumulation and the rounding of the result: some units in the last place (2**-24 for fp32
# times the square root of 256 terms; 2**-11 for fp16, 2**-8 for bf16, 2**-11 for the inputs of TF32), taken four times.
FP32, TF32, FP16, BF16 = 1e-5, 4e-3, 4e-3, 3e-2


def _matmul(context: Context, dtype: str | None, tolerance: float) -> tuple[str, str]:
    torch = context.torch
    torch.manual_seed(0)
    left, right = torch.randn(64, 64), torch.randn(64, 64)
    if dtype is None:
        wanted = left @ right if context.kind != "cpu" else by_hand(torch, left, right)
        return context.same("matmul", left.to(context.device) @ right.to(context.device), wanted, tolerance)
    context.need(dtype, "float32")
    low = getattr(torch, dtype)
    left, right = left.to(low), right.to(low)
    wanted = left.to(torch.float32) @ right.to(torch.float32)
    actual = left.to(context.device) @ right.to(context.device)
    return context.same("matmul", actual.cpu().to(torch.float32), wanted, tolerance)


def by_hand(torch: Any, left: Any, right: Any) -> Any:
    """The product in plain Python: the CPU's own matmul needs a judge that is not torch."""
    rows, columns = left.tolist(), right.t().tolist()
    return torch.tensor([[sum(map(operator.mul, row, column)) for column in columns] for row in rows])


def matmul_fp32(context: Context) -> tuple[str, str]:
    return _matmul(context, None, FP32)


def matmul_tf32(context: Context) -> tuple[str, str]:
    if context.capability() < (8, 0):
        raise Skip("TF32 needs an NVIDIA GPU of capability 8.0 or later")
    context.need("backends.cuda.matmul.allow_tf32")
    context.torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return _matmul(context, None, TF32)
    finally:
        context.torch.backends.cuda.matmul.allow_tf32 = False


def matmul_fp16(context: Context) -> tuple[str, str]:
    return _matmul(context, "float16", FP16)


def matmul_bf16(context: Context) -> tuple[str, str]:
    return _matmul(context, "bfloat16", BF16)


CHECKS = {
    "matmul-fp32": matmul_fp32,
    "matmul-tf32": matmul_tf32,
    "matmul-fp16": matmul_fp16,
    "matmul-bf16": matmul_bf16,
}


def devices_of(torch: Any) -> list[dict[str, Any]]:
    """Every GPU that torch can use, else the CPU."""
    found: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties: Any = None
            if hasattr(torch.cuda, "get_device_properties"):
                properties = torch.cuda.get_device_properties(index)
            found.append(
                {
                    "device": f"cuda:{index}",
                    "name": str(torch.cuda.get_device_name(index)),
                    "capability": ".".join(str(part) for part in torch.cuda.get_device_capability(index)),
                    "arch": getattr(properties, "gcnArchName", None) if torch.version.hip else None,
                    "uuid": str(properties.uuid) if hasattr(properties, "uuid") else None,
                }
            )
    elif hasattr(torch, "xpu") and torch.xpu.is_available():
        found = [
            {"device": f"xpu:{index}", "name": str(torch.xpu.get_device_name(index))}
            for index in range(torch.xpu.device_count())
        ]
    elif hasattr(torch, "backends") and hasattr(torch.backends, "mps") and torch.backends.mps.is_available():
        found.append({"device": "mps:0", "name": "Apple GPU"})
    return found or [{"device": "cpu", "name": "CPU"}]


def torch_facts(torch: Any) -> dict[str, Any]:
    """What this torch says of itself."""
    version = getattr(torch, "version", None)
    archs = list(torch.cuda.get_arch_list())
    if not archs and hasattr(getattr(torch, "_C", None), "_cuda_getArchFlags"):
        archs = (torch._C._cuda_getArchFlags() or "").split()  # get_arch_list() is empty where no GPU answers
    facts: dict[str, Any] = {
        "version": str(torch.__version__),
        "cuda": getattr(version, "cuda", None),
        "hip": getattr(version, "hip", None),
        "xpu": getattr(version, "xpu", None),
        "arch_list": archs,
        "available": bool(torch.cuda.is_available()),
        "cudnn": None,
        "unavailable_because": None,
    }
    if facts["available"] and hasattr(getattr(torch, "backends", None), "cudnn"):
        facts["cudnn"] = torch.backends.cudnn.version()
    if not facts["available"] and (facts["cuda"] or facts["hip"]) and hasattr(torch.cuda, "init"):
        try:
            torch.cuda.init()
        except Exception as error:  # noqa: BLE001 - whatever torch raises here is the reason that we want
            facts["unavailable_because"] = first_line(error)
    return facts


def first_line(error: BaseException) -> str:
    """`RuntimeError: CUDA error: no kernel image is available…`, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def last_place(error: BaseException) -> str | None:
    """The innermost file and line of a traceback, for the detail."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def step(name: str, limit: float, action: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Run a step that everything else needs: its result, and what it returned (None where it failed)."""
    os.write(2, (MARK + name + "@cpu\n").encode())
    result: dict[str, Any] = {"name": name, "device": "cpu", "status": "passed"}
    value = None
    start = time.perf_counter()
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        value = action()
    except Exception as error:  # noqa: BLE001 - whatever is raised is the answer
        result.update(status="failed", actual=first_line(error), detail=last_place(error))
    finally:
        faulthandler.cancel_dump_traceback_later()
    result["seconds"] = round(time.perf_counter() - start, 3)
    return result, value


def run_check(name: str, limit: float, torch: Any, device: str) -> dict[str, Any]:
    """Run one check under its watchdog."""
    os.write(2, (MARK + name + "@" + device + "\n").encode())
    result: dict[str, Any] = {"name": name, "device": device, "status": "passed"}
    start = time.perf_counter()
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        result["expected"], result["actual"] = CHECKS[name](Context(torch, device))
    except Skip as skip:
        result.update(status="skipped", detail=str(skip))
    except Wrong as wrong:
        result.update(status="failed", expected=wrong.expected, actual=wrong.actual, detail=wrong.detail)
    except Exception as error:  # noqa: BLE001 - any exception of torch is this check's answer
        result.update(status="failed", actual=first_line(error), detail=last_place(error))
    finally:
        faulthandler.cancel_dump_traceback_later()
    result["seconds"] = round(time.perf_counter() - start, 3)
    return result


def probe(order: dict[str, Any]) -> dict[str, Any]:
    """The whole answer to an order."""
    answer: dict[str, Any] = {
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "torch": None,
        "torch_dir": None,
        "packages": [name for name in PACKAGES if importlib.util.find_spec(name) is not None],
        "devices": [],
        "results": [],
        "warnings": [],
        "complete": True,
    }
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        answer["torch_dir"] = next(iter(spec.submodule_search_locations))
    checks = order.get("checks", {})
    if not checks:
        return answer
    done = set(order.get("done", ()))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        imported, torch = step("import", 300, lambda: importlib.import_module("torch"))
        if torch is not None:
            imported["actual"] = str(getattr(torch, "__version__", None))
        answer["results"].append(imported)
        if torch is None:
            return answer
        asked, found = step("devices", 120, lambda: (torch_facts(torch), devices_of(torch)))
        if found is None:
            answer["results"].append(asked)
            return answer
        answer["torch"], answer["devices"] = found
    answer["warnings"] = sorted({str(warning.message) for warning in heard})
    for device in answer["devices"]:
        for name, limit in checks.items():
            if f"{name}@{device['device']}" in done:
                continue
            result = run_check(name, float(limit), torch, device["device"])
            answer["results"].append(result)
            if result["status"] == "failed":
                answer["complete"] = False
                return answer
    return answer


def main() -> None:
    order = json.loads(sys.argv[1])
    out = os.dup(1)
    os.dup2(2, 1)  # whatever torch prints goes to stderr; stdout is ours
    with os.fdopen(out, "w", encoding="utf-8") as answer:
        answer.write(json.dumps(probe(order)) + "\n")
    os._exit(0)  # a crash while CUDA libraries unload is no failure of a check


if __name__ == "__main__":
    main()
