"""Does torch really work here? Runs `probe.py` in the target interpreter, reads the binaries, and judges.

Three parts: `verify` asks (through the host), `parse_answer` reads, `judge` decides. The proof is isolated from what
surrounds it: `-I`, an empty working directory, only the environment variables of `PASSED_ON`. Each check has its own
time limit; one that crashes, hangs or fails ends its process, and the rest goes on in a fresh one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import Check, Depth, Status, Torch, Verification
from .coverage import serve, sm
from .machine import Driver, Gpu, Machine, Vendor

if TYPE_CHECKING:
    from .fatbin import Library
    from .host import Completed, Host

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "CC", "CXX",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "ROCM_PATH",
    "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK",
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "PROGRAMFILES", "PROGRAMDATA", "USERPROFILE",
    "APPDATA", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
)  # fmt: skip
"""What the probe's process keeps of the environment: where things are, which GPUs it may use, how libraries are found
(a library path that breaks torch breaks the user's programs too, so it belongs to the proof)."""

SELECTORS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

_MARK = "\x1eprovision-check "
_STEP_LIMITS = 300 + 120
"""The probe's own limits for import and for asking the devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What plan or lock promised: torch's version ("2.11.0", or with its local part) and backend ("cu128")."""

    torch: str | None = None
    backend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One check of the battery: from which depth it runs, its limit in seconds, what it needs."""

    depth: Depth
    limit: float


BATTERY: Mapping[str, _Kind] = {
    "matmul-fp32": _Kind(depth=Depth.QUICK, limit=120),
    "matmul-tf32": _Kind(depth=Depth.DEFAULT, limit=60),
    "matmul-fp16": _Kind(depth=Depth.DEFAULT, limit=60),
    "matmul-bf16": _Kind(depth=Depth.DEFAULT, limit=60),
}
"""Every check that the probe knows, in the order in which they run."""

FIRST = "matmul-fp32"
"""The check without which no other on the same device makes sense."""

_STEPS = ("import", "devices")
_DEPTHS = (Depth.QUICK, Depth.DEFAULT, Depth.FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
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
        return any(result["name"] in _STEPS and result["status"] == "failed" for result in self.results)

    @property
    def broken_devices(self) -> frozenset[str]:
        """Devices on which not even the first matmul ran."""
        return frozenset(
            result["device"] for result in self.results if result["name"] == FIRST and result["status"] == "failed"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the judgement needs besides the answer."""

    machine: Machine
    expected: Expected
    wanted: tuple[str, ...]
    libraries: Mapping[str, Library] = field(default_factory=dict)
    hidden_by: str | None = None


def verify(
    host: Host,
    *,
    python: Path,
    machine: Machine,
    expected: Expected | None = None,
    depth: Depth = Depth.DEFAULT,
    extra_checks: Sequence[str] = (),
) -> Verification:
    """Prove the torch of the interpreter `python` on the GPUs of `machine` (those that count).

    `expected` is what plan or lock promised; `extra_checks` are names of `BATTERY` that run whatever the depth. Never
    raises for what torch does: that is what the checks say.
    """
    start = time.monotonic()
    wanted = tuple(
        name
        for name, kind in BATTERY.items()
        if _DEPTHS.index(kind.depth) <= _DEPTHS.index(depth) or name in extra_checks
    )
    answer = _ask(host, python, {name: BATTERY[name].limit for name in wanted})
    context = Context(
        machine=machine,
        expected=expected or Expected(),
        wanted=wanted,
        libraries=_scan(answer.torch_dir) if machine.gpus else {},
        hidden_by=next((name for name in SELECTORS if host.getenv(name) in ("", "-1")), None),
    )
    return Verification(
        torch=_torch(answer),
        checks=judge(answer, context),
        seconds=time.monotonic() - start,
    )


# Asking


def _ask(host: Host, python: Path, checks: Mapping[str, float]) -> Answer:
    """Run the probe until every check has an answer: a fresh process after each failure."""
    import tempfile

    program = (Path(__file__).parent / "probe.py").read_text(encoding="utf-8")
    environment = {name: value for name in PASSED_ON if (value := host.getenv(name)) is not None}
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # so that indices are NVML's
    whole = Answer()
    with tempfile.TemporaryDirectory(prefix="provision-verify-") as scratch:
        empty = Path(scratch) / "empty"
        empty.mkdir()
        environment |= {
            "TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "inductor"),
            "TRITON_CACHE_DIR": str(Path(scratch) / "triton"),
        }
        while True:
            order = json.dumps({"checks": checks, "done": sorted(_done(whole, checks))})
            try:
                completed = host.run(
                    [str(python), "-I", "-", order],
                    input=program,
                    env=environment,
                    cwd=str(empty),
                    timeout=_STEP_LIMITS + sum(checks.values()) * max(1, len(whole.devices)) + 30,
                )
            except OSError as error:
                actual = f"{python}: {error.strerror}"
                return Answer(results=({"name": "import", "device": "cpu", "status": "failed", "actual": actual},))
            part = parse_answer(completed)
            before = len(whole.results)
            whole = merge(whole, part)
            if whole.torch_dir is None:
                whole = merge(whole, _where(host, python, program, environment, str(empty)))
            if part.complete or whole.stopped or len(whole.results) == before:
                return whole


def _done(whole: Answer, checks: Iterable[str]) -> set[str]:
    """What is not to run again: what has a result, and everything on a device whose first matmul failed."""
    done = {f"{result['name']}@{result['device']}" for result in whole.results}
    for device in whole.broken_devices:
        done |= {f"{name}@{device}" for name in checks}
    return done


def _where(host: Host, python: Path, program: str, environment: Mapping[str, str], cwd: str) -> Answer:
    """Where torch lies, asked without importing it (after a crash, whose process answered nothing)."""
    completed = host.run([str(python), "-I", "-", "{}"], input=program, env=environment, cwd=cwd, timeout=60)
    answer = parse_answer(completed)
    return Answer(torch_dir=answer.torch_dir, packages=answer.packages, complete=False)


def parse_answer(completed: Completed) -> Answer:
    """The probe's JSON; where the process ended without one, the check during which it did, as failed."""
    try:
        data = json.loads(completed.stdout)
    except ValueError:
        return Answer(results=(_ended_in(completed),), complete=False)
    return Answer(
        torch=data["torch"],
        torch_dir=data["torch_dir"],
        packages=frozenset(data["packages"]),
        devices=tuple(data["devices"]),
        results=tuple(data["results"]),
        warnings=tuple(data["warnings"]),
        complete=data["complete"],
    )


def _ended_in(completed: Completed) -> dict[str, Any]:
    """Name the check during which a process died, and how."""
    said, _, _ = completed.stderr.rpartition(_MARK)
    name, _, device = completed.stderr[len(said) + len(_MARK) :].partition("\n")[0].partition("@")
    if _MARK not in completed.stderr:
        name, device = "import", "cpu"
    limit = re.search(r"^Timeout \((\d+:\d+:\d+)[^)]*\)!", completed.stderr, re.M)
    if completed.timed_out or limit:
        actual = f"no answer within {limit[1] if limit else 'the time limit'}"
    elif completed.returncode < 0:
        actual = f"the process was ended by {_signal(-completed.returncode)}"
    else:
        actual = f"the process ended with code {completed.returncode}"
    tail = [line for line in completed.stderr.splitlines() if line.strip() and not line.startswith(_MARK)]
    return {
        "name": name,
        "device": device,
        "status": "failed",
        "actual": actual,
        "detail": "\n".join(tail[-4:]) or None,
    }


def _signal(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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


def _scan(torch_dir: str | None) -> dict[str, Library]:
    """What the deciding libraries of a torch hold: `libtorch_cuda.so`, `torch_cuda.dll` (and older parts of it)."""
    if torch_dir is None:
        return {}
    from .fatbin import scan_file

    found = {}
    for path in sorted((Path(torch_dir) / "lib").glob("*torch_cuda*")):
        if re.fullmatch(r"(lib)?torch_cuda(_cu|_cpp)?\.(so|dll)", path.name):
            try:
                found[path.name] = scan_file(path)
            except OSError:
                continue
    return found


# Judging


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


def judge(answer: Answer, context: Context) -> tuple[Check, ...]:
    """Every check with its verdict, in the order of the proof. Pure."""
    found = {(result["name"], result["device"]): result for result in answer.results}
    imported = found.get(("import", "cpu"), {"status": "failed", "actual": "the interpreter gave no answer"})
    checks = [_check("import", imported, None)]
    backend = backend_of(answer.torch) if answer.torch else context.expected.backend
    toolkit = _toolkit(answer.torch, backend)
    if answer.torch is None:
        asked = found.get(("devices", "cpu"))
        if asked is not None:
            checks.append(_check("gpu-available", asked, None))
        checks += _kernels(context, backend, toolkit)
        why = "torch cannot be imported" if imported["status"] == "failed" else "torch does not answer"
        return (*checks, *(Check(name=name, status=Status.SKIPPED, detail=why) for name in context.wanted))
    assert backend is not None
    checks += _promised(answer.torch, backend, context.expected)
    checks += _available(answer, backend, context)
    checks += _arch_list(answer.torch, backend, toolkit, context)
    checks += _kernels(context, backend, toolkit)
    return (*checks, *_battery(answer, backend, context))


def _torch(answer: Answer) -> Torch:
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


def _available(answer: Answer, backend: str, context: Context) -> list[Check]:
    """Does torch see the GPUs that the machine has?"""
    machine, name = context.machine, "gpu-available"
    usable = [device for device in answer.devices if device["device"] != "cpu"]
    seen = ", ".join(str(device["name"]) for device in usable)
    gpus = _gpus(machine, backend)
    if usable:
        return [Check(name=name, status=Status.PASSED, actual=seen)]
    if not machine.gpus:
        return [Check(name=name, status=Status.SKIPPED, detail="this machine has no GPU")]
    if backend == "cpu" and context.expected.backend == "cpu":
        return [Check(name=name, status=Status.SKIPPED, detail="a CPU build, as asked")]
    if context.hidden_by:
        return [Check(name=name, status=Status.SKIPPED, detail=f"{context.hidden_by} hides every GPU")]
    if gpus and all(gpu.index is None and gpu.name is None for gpu in gpus):
        return [Check(name=name, status=Status.SKIPPED, detail="the GPU that counts is not in this machine")]
    there = ", ".join(gpu.name or gpu.vendor.value for gpu in machine.gpus)
    reason = (answer.torch or {}).get("unavailable_because")
    if not gpus:
        reason = f"a {backend} build cannot use {there}"
    elif (driver := machine.driver(gpus[0].vendor)) is None or driver.version is None:
        reason = reason or f"no {gpus[0].vendor.value} driver answers"
    return [Check(name=name, status=Status.FAILED, expected=there, actual="torch sees no GPU", detail=reason)]


def _arch_list(torch: Mapping[str, Any], backend: str, toolkit: str | None, context: Context) -> list[Check]:
    """Does torch's own list of architectures hold code for each GPU?"""
    archs = tuple(torch["arch_list"])
    checks = []
    for gpu in _gpus(context.machine, backend):
        if gpu.arch is None or gpu.vendor not in (Vendor.NVIDIA, Vendor.AMD):
            continue
        wanted = sm(gpu.arch) if gpu.vendor is Vendor.NVIDIA else gpu.arch
        if not archs:
            detail = "torch names no architectures"
            checks.append(Check(name="arch-list", status=Status.SKIPPED, gpu=gpu.index, expected=wanted, detail=detail))
            continue
        if gpu.vendor is Vendor.NVIDIA:
            driver = context.machine.driver(Vendor.NVIDIA)
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


def _kernels(context: Context, backend: str | None, toolkit: str | None) -> list[Check]:
    """The binaries' own answer for each NVIDIA GPU: what libtorch_cuda holds."""
    if backend is None or not backend.startswith("cu"):
        return []
    driver = context.machine.driver(Vendor.NVIDIA)
    return [
        _kernels_for(gpu, context.libraries, toolkit, driver)
        for gpu in context.machine.gpus
        if gpu.vendor is Vendor.NVIDIA and gpu.arch is not None
    ]


def _kernels_for(gpu: Gpu, libraries: Mapping[str, Library], toolkit: str | None, driver: Driver | None) -> Check:
    assert gpu.arch is not None
    wanted = sm(gpu.arch)
    name = f"kernels-{wanted}"
    if not libraries:
        detail = "torch brings no libtorch_cuda that could be read"
        return Check(name=name, status=Status.SKIPPED, gpu=gpu.index, expected=wanted, detail=detail)
    covered = total = 0
    by: set[str] = set()
    for library in libraries.values():
        if library.unread:
            detail = "; ".join(library.unread[:2])
            return Check(name=name, status=Status.SKIPPED, gpu=gpu.index, expected=wanted, detail=detail)
        for profile in library.loadable:
            total += profile.count
            codes = [image.arch for image in profile.images]
            served = serve(codes, gpu.arch, toolkit=toolkit, driver_cuda=driver.cuda if driver else None)
            if served:
                covered += profile.count
                by.add(served.by)
    held = sorted({code for library in libraries.values() for code in library.cubins + library.ptx})
    where = ", ".join(libraries)
    if covered:
        actual = f"{' '.join(sorted(by))} in {covered} of {total} containers of {where}"
        return Check(name=name, status=Status.PASSED, gpu=gpu.index, expected=wanted, actual=actual)
    actual = f"{' '.join(held) or 'no GPU code'} in {where}"
    detail = f"this build cannot run on a GPU of compute capability {gpu.arch}"
    return Check(name=name, status=Status.FAILED, gpu=gpu.index, expected=wanted, actual=actual, detail=detail)


def _battery(answer: Answer, backend: str, context: Context) -> list[Check]:
    """What ran on the hardware, and what did not."""
    on_gpu = any(device["device"] != "cpu" for device in answer.devices)
    indices = match_devices(answer.devices, _gpus(context.machine, backend))
    checks = []
    for result in answer.results:
        if result["name"] in _STEPS:
            continue
        name = result["name"] if result["device"] != "cpu" else f"cpu-{result['name']}"
        checks.append(_check(name, result, indices.get(result["device"])))
    for device in sorted(answer.broken_devices):
        tried = {result["name"] for result in answer.results if result["device"] == device}
        checks += [
            Check(name=name, status=Status.SKIPPED, gpu=indices.get(device), detail=f"not tried: {FIRST} failed")
            for name in context.wanted
            if name not in tried
        ]
    if not on_gpu and backend != "cpu":
        checks += [Check(name=name, status=Status.SKIPPED, detail="torch sees no GPU") for name in context.wanted]
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
