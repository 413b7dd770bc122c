"""Was the promise kept? Judges what the probe answered and what the binaries hold against machine and plan. Pure.

The battery of checks stands here as a table; the checks themselves are in `probe`, the asking is in `verify`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .checks import Check, Depth, Status, Torch
from .coverage import Verdict, serve, sm, weakest
from .machine import Gpu, Machine, Vendor
from .values import frozen

if TYPE_CHECKING:
    from .fatbin import Library


@frozen
class Expected:
    """What plan or lock promised: torch's version ("2.11.0", or with its local part) and backend ("cu128")."""

    torch: str | None = None
    backend: str | None = None


@frozen
class Trial:
    """One check of the battery: from which depth it runs (`on_cpu` where no GPU is used, None: never), its limit.

    With a `package` it tries that package, in a process of its own, where it is installed.
    """

    depth: Depth = Depth.DEFAULT
    on_cpu: Depth | None = Depth.QUICK
    limit: float = 60
    package: str | None = None


BATTERY: Mapping[str, Trial] = {
    "matmul-fp32": Trial(depth=Depth.QUICK, limit=180),
    "memory": Trial(),
    "matmul-tf32": Trial(on_cpu=None),
    "matmul-fp16": Trial(),
    "matmul-bf16": Trial(),
    "matmul-fp8": Trial(on_cpu=None),
    "conv2d": Trial(limit=120),
    "lstm": Trial(),
    "gru": Trial(),
    "attention": Trial(),
    "fft": Trial(),
    "sort": Trial(),
    "index": Trial(),
    "embedding": Trial(),
    "autograd": Trial(),
    "linalg": Trial(depth=Depth.FULL, limit=120),
    "numpy": Trial(package="numpy"),
    "compile": Trial(on_cpu=Depth.FULL, limit=240),
    "nccl": Trial(on_cpu=None, limit=120),
    "torchvision-nms": Trial(package="torchvision"),
    "torchaudio": Trial(package="torchaudio"),
    "torchcodec": Trial(package="torchcodec"),
    "bitsandbytes-4bit": Trial(on_cpu=None, package="bitsandbytes", limit=120),
    "xformers-attention": Trial(on_cpu=None, package="xformers", limit=120),
    "flash-attn": Trial(on_cpu=None, package="flash_attn", limit=120),
}
"""Every check that the probe knows, in the order in which they run. The first one after a start may have to load or
compile kernels for minutes; the limits are for the slowest machine on which waiting still makes sense."""

FIRST = "matmul-fp32"
"""The check without which no other on the same device makes sense."""

STEPS = ("import", "devices")


@frozen
class Answer:
    """What the probe's processes answered together."""

    torch: Mapping[str, Any] | None = None
    torch_dir: str | None = None
    packages: frozenset[str] = frozenset()
    devices: tuple[Mapping[str, Any], ...] = ()
    results: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    complete: bool = True

    @property
    def stopped(self) -> bool:
        """Torch could not be imported, or could not say which devices it has: nothing more can be asked."""
        return any(result["name"] in STEPS and result["status"] == "failed" for result in self.results)

    @property
    def broken_devices(self) -> frozenset[str]:
        """Devices on which not even the first matmul ran."""
        return frozenset(
            result["device"] for result in self.results if result["name"] == FIRST and result["status"] == "failed"
        )


@frozen
class Promise:
    """What the answer is judged against. `trials` are the checks that were to run, `required` those by name."""

    machine: Machine
    expected: Expected
    trials: tuple[str, ...]
    required: frozenset[str] = frozenset()
    libraries: Mapping[str, Library] = MappingProxyType({})
    hidden_by: str | None = None


def chosen(depth: Depth, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The checks of a depth, and those by name."""
    return tuple(name for name, trial in BATTERY.items() if trial.depth in _reached(depth) or name in extra)


def on_cpu(name: str, depth: Depth) -> bool:
    """Whether a check also runs where torch uses no GPU."""
    return BATTERY[name].on_cpu in _reached(depth)


def _reached(depth: Depth) -> tuple[Depth, ...]:
    """This depth and the shallower ones."""
    return tuple(Depth)[: tuple(Depth).index(depth) + 1]


def merge(whole: Answer, part: Answer) -> Answer:
    """Two answers as one: facts of the later where it has them, results added (of one name and device, the first)."""
    seen = {(result["name"], result["device"]) for result in whole.results}
    return Answer(
        torch=part.torch or whole.torch,
        torch_dir=part.torch_dir or whole.torch_dir,
        packages=part.packages | whole.packages,
        devices=part.devices or whole.devices,
        results=whole.results
        + tuple(result for result in part.results if (result["name"], result["device"]) not in seen),
        warnings=tuple(dict.fromkeys(whole.warnings + part.warnings)),
        complete=part.complete,
    )


def backend_of(torch: Mapping[str, Any]) -> str:
    """`cu128`, `rocm7.2`, `xpu` or `cpu` from what torch says of itself."""
    local = str(torch.get("version") or "").partition("+")[2]
    if re.fullmatch(r"cu\d+|rocm[\d.]+|xpu|cpu", local):
        return local
    if cuda := torch.get("cuda"):
        return "cu" + str(cuda).replace(".", "")
    if hip := torch.get("hip"):
        return "rocm" + ".".join(str(hip).split(".")[:2])
    return "xpu" if torch.get("xpu") else "cpu"


def vendor_of(backend: str, machine: Machine) -> Vendor | None:
    """Whose GPUs a backend is for; on macOS the CPU build is Apple's GPU build."""
    if backend.startswith("cu"):
        return Vendor.NVIDIA
    if backend.startswith("rocm"):
        return Vendor.AMD
    if backend == "xpu":
        return Vendor.INTEL
    return Vendor.APPLE if any(gpu.vendor is Vendor.APPLE for gpu in machine.gpus) else None


def judge(answer: Answer, promise: Promise) -> tuple[Check, ...]:
    """Every check with its verdict, in the order of the proof. Pure."""
    found = {(result["name"], result["device"]): result for result in answer.results}
    imported = found.get(("import", "cpu"), {"status": "failed", "actual": "the interpreter gave no answer"})
    backend = backend_of(answer.torch) if answer.torch else promise.expected.backend or "unknown"
    toolkit = _toolkit(answer.torch, backend)
    checks = [_check("import", imported, None)]
    if answer.torch is None:
        asked = found.get(("devices", "cpu"))
        checks += [_check("gpu-available", asked, None)] if asked else []
        checks += _kernels(promise, backend, toolkit)
        why = "torch cannot be imported" if asked is None else "torch cannot say which devices it has"
        return (*checks, *(_skipped(name, why) for name in promise.trials if BATTERY[name].package is None))
    checks += _promised(answer.torch, backend, promise.expected)
    checks += _available(answer, backend, promise)
    checks += _arch_list(answer.torch, backend, toolkit, promise)
    checks += _kernels(promise, backend, toolkit)
    checks += _battery(answer, backend, promise)
    return tuple(checks)


def torch_of(answer: Answer) -> Torch:
    said = answer.torch
    if said is None:
        return Torch()
    return Torch(
        version=said["version"], backend=backend_of(said), cuda=said.get("cuda"), arch_list=tuple(said["arch_list"])
    )


def _toolkit(torch: Mapping[str, Any] | None, backend: str | None) -> str | None:
    """The CUDA version that a build was made with."""
    if torch and torch.get("cuda"):
        return str(torch["cuda"])
    match = re.fullmatch(r"cu(\d+)(\d)", backend or "")
    return f"{match[1]}.{match[2]}" if match else None


def _check(name: str, result: Mapping[str, Any], gpu: int | None) -> Check:
    return Check(
        name=name,
        status=Status(result["status"]),
        gpu=gpu,
        expected=result.get("expected"),
        actual=result.get("actual"),
        detail=result.get("detail"),
        seconds=result.get("seconds"),
    )


def _skipped(name: str, why: str, gpu: int | None = None) -> Check:
    return Check(name=name, status=Status.SKIPPED, gpu=gpu, detail=why)


def _promised(torch: Mapping[str, Any], backend: str, expected: Expected) -> list[Check]:
    """Version and backend against plan or lock."""
    checks = []
    version = str(torch["version"])
    if expected.torch is not None:
        same = expected.torch == (version if "+" in expected.torch else version.partition("+")[0])
        status = Status.PASSED if same else Status.FAILED
        checks.append(Check(name="version", status=status, expected=expected.torch, actual=version))
    if expected.backend is not None:
        status = Status.PASSED if expected.backend == backend else Status.FAILED
        checks.append(Check(name="backend", status=status, expected=expected.backend, actual=backend))
    return checks


def _gpus(machine: Machine, backend: str) -> list[Gpu]:
    vendor = vendor_of(backend, machine)
    return [gpu for gpu in machine.gpus if gpu.vendor is vendor]


def _available(answer: Answer, backend: str, promise: Promise) -> list[Check]:
    """Does torch see the GPUs that the machine has?"""
    machine, name = promise.machine, "gpu-available"
    usable = [device for device in answer.devices if device["device"] != "cpu"]
    seen = ", ".join(str(device["name"]) for device in usable)
    gpus = _gpus(machine, backend)
    if usable:
        return [Check(name=name, status=Status.PASSED, actual=seen)]
    if not machine.gpus:
        return [_skipped(name, "this machine has no GPU")]
    if backend == "cpu" and promise.expected.backend == "cpu":
        return [_skipped(name, "a CPU build, as asked")]
    if promise.hidden_by:
        return [_skipped(name, f"{promise.hidden_by} hides every GPU")]
    if gpus and all(gpu.index is None and gpu.name is None for gpu in gpus):
        return [_skipped(name, "the GPU that counts is not in this machine")]
    there = ", ".join(gpu.name or gpu.vendor.value for gpu in machine.gpus)
    reason = (answer.torch or {}).get("unavailable_because")
    if not gpus:
        reason = f"a {backend} build cannot use {there}"
    elif (driver := machine.driver(gpus[0].vendor)) is None or driver.version is None:
        reason = reason or f"no {gpus[0].vendor.value} driver answers"
    return [Check(name=name, status=Status.FAILED, expected=there, actual="torch sees no GPU", detail=reason)]


def _arch_list(torch: Mapping[str, Any], backend: str, toolkit: str | None, promise: Promise) -> list[Check]:
    """Does torch's own list of architectures hold code for each GPU?"""
    archs = tuple(torch["arch_list"])
    checks = []
    for gpu in _gpus(promise.machine, backend):
        if gpu.arch is None or gpu.vendor not in (Vendor.NVIDIA, Vendor.AMD):
            continue
        wanted = sm(gpu.arch) if gpu.vendor is Vendor.NVIDIA else gpu.arch
        if not archs:
            checks.append(_skipped("arch-list", "torch names no architectures", gpu.index))
            continue
        if gpu.vendor is Vendor.NVIDIA:
            driver = promise.machine.driver(Vendor.NVIDIA)
            served = serve(_readable(archs), gpu.arch, toolkit=toolkit, driver_cuda=driver.cuda if driver else None)
            by = served and served.by
        else:
            by = wanted if wanted in {arch.partition(":")[0] for arch in archs} else None
        status = Status.PASSED if by else Status.FAILED
        actual = f"runs {by}" if by else " ".join(archs)
        checks.append(Check(name="arch-list", status=status, gpu=gpu.index, expected=wanted, actual=actual))
    return checks


def _readable(archs: Iterable[str]) -> list[str]:
    return [arch for arch in archs if re.fullmatch(r"(sm|compute)_\d{2,3}[af]?", arch)]


def _kernels(promise: Promise, backend: str, toolkit: str | None) -> list[Check]:
    """The binaries' own answer for each NVIDIA GPU: what the libraries hold that carry torch's kernels."""
    if not promise.libraries and not backend.startswith("cu"):
        return []
    return [
        _kernels_for(gpu, promise, toolkit)
        for gpu in promise.machine.gpus
        if gpu.vendor is Vendor.NVIDIA and gpu.arch is not None
    ]


def _number(code: str) -> tuple[bool, int, str]:
    """Cubins before PTX, `sm_90` before `sm_100`."""
    return code.startswith("compute"), int(re.sub(r"\D", "", code)), code


def _kernels_for(gpu: Gpu, promise: Promise, toolkit: str | None) -> Check:
    from .scan import verdict

    assert gpu.arch is not None
    wanted = sm(gpu.arch)
    name = f"kernels-{wanted}"
    driver = promise.machine.driver(Vendor.NVIDIA)
    judged = {
        file: verdict(library, gpu.arch, driver_cuda=driver.cuda if driver else None, toolkit=toolkit)
        for file, library in promise.libraries.items()
    }
    worst = weakest(judgement.verdict for judgement in judged.values())
    held = {code for library in promise.libraries.values() for code in library.cubins + library.ptx}
    actual = f"{', '.join(judged)}: {worst.value}" + (f" ({' '.join(sorted(held, key=_number))})" if held else "")
    detail = None
    if not judged:
        status, actual, detail = Status.SKIPPED, "", "torch brings no libtorch_cuda that could be read"
    elif worst in (Verdict.NOT_COVERED, Verdict.NONE):
        status, detail = Status.FAILED, f"this build cannot run on a GPU of compute capability {gpu.arch}"
    elif worst is Verdict.UNKNOWN:
        status, detail = Status.SKIPPED, next((one.why for one in judged.values() if one.why), None)
    else:
        status = Status.PASSED
        detail = "; ".join(str(one) for one in judged.values()) if worst is Verdict.PARTIAL else None
    return Check(name=name, status=status, gpu=gpu.index, expected=wanted, actual=actual, detail=detail)


def _battery(answer: Answer, backend: str, promise: Promise) -> list[Check]:
    """What ran on each device, and what did not and why."""
    indices = match_devices(answer.devices, _gpus(promise.machine, backend))
    found = {(result["name"], result["device"]): result for result in answer.results}
    checks = []
    for name in promise.trials:
        package = BATTERY[name].package
        if package is not None and package not in answer.packages:
            if name in promise.required:
                checks.append(Check(name=name, status=Status.FAILED, expected=package, actual="not installed"))
            continue
        for device in (str(one["device"]) for one in answer.devices):
            shown, gpu = (name, indices.get(device)) if device != "cpu" else (f"cpu-{name}", None)
            result = found.get((name, device))
            if result is not None:
                checks.append(_check(shown, result, gpu))
            elif device in answer.broken_devices:
                checks.append(_skipped(shown, f"not tried: {FIRST} failed there", gpu))
            elif device == "cpu" and BATTERY[name].on_cpu is not None:
                checks.append(_skipped(shown, "slow on the CPU: full depth only"))
        if backend != "cpu" and not indices:
            checks.append(_skipped(name, "torch sees no GPU"))
    return checks


def match_devices(devices: Iterable[Mapping[str, Any]], gpus: Sequence[Gpu]) -> dict[str, int | None]:
    """Torch's devices → the machine's GPU indices: by UUID, else by name and capability in order, else torch's own."""
    left = list(gpus)
    found: dict[str, int | None] = {}
    for device in devices:
        name = str(device["device"])
        if name == "cpu":
            continue
        uuid = str(device.get("uuid") or "").removeprefix("GPU-").lower()
        same = [gpu for gpu in left if uuid and (gpu.uuid or "").removeprefix("GPU-").lower() == uuid]
        same = same or [gpu for gpu in left if gpu.name == device["name"] and gpu.arch == device.get("capability")]
        if same:
            left.remove(same[0])
            found[name] = same[0].index
        else:
            found[name] = int(name.partition(":")[2] or 0)
    return found
