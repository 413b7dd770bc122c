"""Which build of torch is right for this machine, and why not each other one? (contracts, section 5)

One pure function, `resolve`: machine + request + catalog → choice, later candidates, a reason for every other build,
and advice. Each rule of the contract is a function of `RULES`, the order of preference is the one sort key
`preference`; row order in the tables is never policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from . import coverage, drivers
from .catalog import Build, Catalog, Channel, SourceKind
from .coverage import Served, version_tuple
from .environment import Python
from .errors import UsageProblem
from .machine import Driver, Gpu, Machine, Platform, System, Vendor

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

VENDORS = (Vendor.NVIDIA, Vendor.AMD, Vendor.INTEL, Vendor.APPLE)
"""Contracts 5.3: the GPUs that count are all of one vendor, the first of these that has any."""


class Reason(StrEnum):
    """Why a build is not the choice (contracts, section 4)."""

    ARCH_MISSING = "arch-missing"
    ARCH_UNKNOWN = "arch-unknown"
    DRIVER_TOO_OLD = "driver-too-old"
    DRIVER_DOES_NOT_SERVE_GPU = "driver-does-not-serve-gpu"
    DRIVER_MISSING = "driver-missing"
    PYTHON_NOT_BUILT = "python-not-built"
    PLATFORM_NOT_BUILT = "platform-not-built"
    LIBC_TOO_OLD = "libc-too-old"
    NOT_PUBLISHED = "not-published"
    NOT_ADVERTISED = "not-advertised"
    CHANNEL = "channel"
    EXCLUDED_BY_REQUEST = "excluded-by-request"
    PTX_NEEDS_NEWER_DRIVER = "ptx-needs-newer-driver"
    OLDER = "older"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. None means auto; `gpus` are the texts of `--gpu`; `python` None = not considered."""

    torch: SpecifierSet | None = None
    backend: str | None = None
    channel: Channel | None = None
    gpus: tuple[str, ...] = ()
    python: Python | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A build that is not the choice, with the two values that disagreed."""

    build: Build
    reason: Reason
    wanted: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Which code of the choice serves a GPU; `kind` is "cubin" or "ptx" (compiled at first use)."""

    gpu: int | None
    arch: str
    by: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The smallest change of its kind that gains a newer build, and which."""

    do: str
    gains: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something to say with the choice: a message of the JSON envelope."""

    code: str
    text: str
    level: str = "info"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The answer. `candidates` are all builds that fit, in order, the choice first; `rejected` tells of every build of
    the platform but the choice why it was passed over, so later candidates are there too (`older`, `not-advertised`).
    """

    gpus: tuple[Gpu, ...]
    choice: Build | None
    coverage: tuple[Coverage, ...]
    candidates: tuple[Build, ...]
    rejected: tuple[Rejection, ...]
    advice: tuple[Advice, ...]
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """The choice's part of `plan --json` data (contracts, section 4)."""
        return {
            "choice": build_json(self.choice) if self.choice else None,
            "candidates": [build_json(build) for build in self.candidates],
            "coverage": [{"gpu": one.gpu, "arch": one.arch, "by": one.by, "kind": one.kind} for one in self.coverage],
            "rejected": [
                {
                    "torch": str(one.build.torch),
                    "backend": one.build.backend,
                    "reason": one.reason.value,
                    "wanted": one.wanted,
                    "found": one.found,
                }
                for one in self.rejected
            ],
            "advice": [{"do": one.do, "gains": one.gains} for one in self.advice],
        }


def build_json(build: Build) -> dict[str, Any]:
    """`choice` of `plan --json`."""
    return {
        "torch": str(build.torch),
        "backend": build.backend,
        "channel": build.channel.value,
        "index_url": build.index_url,
        "packages": {"torch": build.requirement},
        "confidence": build.confidence,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the rules look at: the machine and the request after selection."""

    platform: Platform
    gpus: tuple[Gpu, ...]
    driver: Driver | None
    python: Python | None = None
    torch: SpecifierSet | None = None
    backend: str | None = None
    channel: Channel = Channel.STABLE
    plain_on_cpu: bool = False

    @property
    def windows(self) -> bool:
        return drivers.is_windows(self.platform)


# ── the rules: build × situation → (reason, wanted, found), or None where the build passes ──────────────────────────

Verdict = tuple[Reason, str, str] | None


def _asked(build: Build, situation: Situation) -> Verdict:
    if situation.backend and build.backend != situation.backend and not _runs_plainly(build, situation):
        return Reason.EXCLUDED_BY_REQUEST, f"--backend {situation.backend}", build.backend
    if situation.torch is not None and not _satisfies(build, situation.torch):
        return Reason.EXCLUDED_BY_REQUEST, f"--torch {situation.torch}", str(build.torch)
    return None


def _channel(build: Build, situation: Situation) -> Verdict:
    if build.channel is not situation.channel:
        return Reason.CHANNEL, situation.channel.value, build.channel.value
    return None


def _published(build: Build, situation: Situation) -> Verdict:
    if not build.published:
        return Reason.NOT_PUBLISHED, build.name, "held by no source that could be reached"
    return None


def _libc(build: Build, situation: Situation) -> Verdict:
    if situation.platform.libc is None or build.system is not System.LINUX:
        return None
    name, version = situation.platform.libc
    wanted = "2.28" if build.torch >= Version("2.7.dev0") else "2.17"
    if name != "glibc":
        return Reason.PLATFORM_NOT_BUILT, f"glibc >={wanted}", f"{name} {version}"
    if version_tuple(version) < version_tuple(wanted):
        return Reason.LIBC_TOO_OLD, f"glibc >={wanted}", f"glibc {version}"
    return None


def _python(build: Build, situation: Situation) -> Verdict:
    if situation.python is None or build.pythons is None or situation.python.tag in build.pythons:
        return None
    return Reason.PYTHON_NOT_BUILT, _span(build.pythons), situation.python.tag


def _hardware(build: Build, situation: Situation) -> Verdict:
    """A build for GPUs wants GPUs of its vendor; a build without GPU code is right only where none counts."""
    if _runs_plainly(build, situation) or build.backend == "cpu" == situation.backend:
        return None
    vendor = vendor_of(build.backend)
    if not situation.gpus:
        if vendor is None or situation.backend == build.backend:
            return None
        return Reason.DRIVER_MISSING, f"a GPU ({vendor.value}) and its driver", "no GPU"
    others = [gpu for gpu in situation.gpus if gpu.vendor is not (vendor or _cpu_vendor(build))]
    if others:
        return (
            Reason.ARCH_MISSING,
            f"code for {gpu_phrase(others[0])}",
            f"only {vendor.value if vendor else 'CPU'} code",
        )
    return None


def _driver(build: Build, situation: Situation) -> Verdict:
    if _needs_cuda(build, situation) and situation.driver is None:
        oldest = drivers.floor(build.toolkit or "", windows=situation.windows)
        return Reason.DRIVER_MISSING, f"driver >={oldest}" if oldest else "a driver", "none"
    return None


def _arch(build: Build, situation: Situation) -> Verdict:
    if vendor_of(build.backend) is None or _runs_plainly(build, situation):
        return None
    for gpu in situation.gpus:
        if gpu.arch is None and gpu.vendor in (Vendor.NVIDIA, Vendor.AMD):
            return Reason.ARCH_UNKNOWN, "the GPU's architecture", f"unknown for {gpu_phrase(gpu)}"
        if gpu.arch == "12.1" and build.toolkit and version_tuple(build.toolkit) < (13, 0):
            return Reason.ARCH_MISSING, "CUDA >=13.0 for compute capability 12.1", f"CUDA {build.toolkit}"
        if serving(build, gpu, None) is None:
            return Reason.ARCH_MISSING, arch_name(gpu), " ".join((*build.arches, *build.ptx)) or "no code"
    return None


def _driver_serves(build: Build, situation: Situation) -> Verdict:
    if not _needs_cuda(build, situation):
        return None
    version = _driver_version(situation)
    for gpu in situation.gpus:
        served, wanted = drivers.serves(gpu.arch or "", version, windows=situation.windows)
        if not served:
            return Reason.DRIVER_DOES_NOT_SERVE_GPU, wanted, version
    return None


def _driver_floor(build: Build, situation: Situation) -> Verdict:
    if not _needs_cuda(build, situation):
        return None
    version = _driver_version(situation)
    toolkit = build.toolkit or ""
    oldest = drivers.floor(toolkit, windows=situation.windows)
    if oldest is None:
        cuda = situation.driver.cuda if situation.driver else None
        if cuda is None or version_tuple(cuda) < version_tuple(toolkit):
            return Reason.DRIVER_TOO_OLD, f"a driver for CUDA {toolkit}", version
    elif not drivers.at_least(version, oldest, windows=situation.windows):
        return Reason.DRIVER_TOO_OLD, f">={oldest}", version
    return None


def _ptx(build: Build, situation: Situation) -> Verdict:
    if not _needs_cuda(build, situation) or situation.driver is None:
        return None
    for gpu in situation.gpus:
        if serving(build, gpu, situation.driver.cuda or "0") is None:
            return (
                Reason.PTX_NEEDS_NEWER_DRIVER,
                f"a driver for CUDA {build.toolkit}, to compile PTX for {arch_name(gpu)}",
                f"CUDA {situation.driver.cuda}",
            )
    return None


RULES: tuple[Callable[[Build, Situation], Verdict], ...] = (
    _asked,
    _channel,
    _published,
    _libc,
    _python,
    _hardware,
    _driver,
    _arch,
    _driver_serves,
    _driver_floor,
    _ptx,
)
"""In the order in which a reason is told: what was asked, what exists, what the GPU is, what the driver is."""


def judge(build: Build, situation: Situation) -> Rejection | None:
    """The first rule that a build breaks, or None: it fits."""
    for rule in RULES:
        if verdict := rule(build, situation):
            reason, wanted, found = verdict
            return Rejection(build=build, reason=reason, wanted=wanted, found=found)
    return None


def preference(build: Build, situation: Situation) -> tuple[Any, ...]:
    """Contracts 5.4 as one sort key; the greatest is the choice."""
    cuda = situation.driver.cuda if situation.driver else None
    toolkit = version_tuple(build.toolkit) if build.toolkit else ()
    native = not toolkit or cuda is None or toolkit <= version_tuple(cuda)
    jit = any(served is not None and served.kind == "ptx" for _, served in _covering(build, situation))
    return (
        build.advertised,
        build.torch,
        not jit,
        native,
        toolkit if native else tuple(-part for part in toolkit),
        tuple(int(part) for part in re.findall(r"\d+", build.backend)),
        build.backend,
    )


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────


def resolve(machine: Machine, request: Request, catalog: Catalog) -> Resolution:
    """The right build for a machine, and why not each other one.

    Raises UsageProblem for a request that makes no sense (an unknown backend, a GPU that is not there).
    """
    check_backend(request.backend, catalog)
    gpus, notes = select_gpus(machine, request, catalog)
    builds = catalog.on(machine.platform.system, machine.platform.machine)
    situation = _situation(machine, request, gpus, builds)
    fits = [build for build in builds if judge(build, situation) is None]
    if not fits and request.channel is None:
        nightly = replace(situation, channel=Channel.NIGHTLY)
        if fits := [build for build in builds if judge(build, nightly) is None]:
            situation = nightly
            notes.append(Note(code="nightly-chosen", text="no stable build fits: this is a nightly", level="warning"))
    candidates = sorted(fits, key=lambda build: preference(build, situation), reverse=True)
    choice = candidates[0] if candidates else None
    if choice:
        notes += _choice_notes(choice, situation)
    return Resolution(
        gpus=gpus,
        choice=choice,
        coverage=_coverage(choice, situation) if choice else (),
        candidates=tuple(candidates),
        rejected=tuple(_rejections(builds, candidates, situation)),
        advice=tuple(advise(choice, builds, situation, request)),
        notes=tuple(notes),
    )


def _situation(machine: Machine, request: Request, gpus: tuple[Gpu, ...], builds: Sequence[Build]) -> Situation:
    vendor = gpus[0].vendor if gpus else None
    driver = known_driver(machine, vendor) if vendor else None
    if driver is None and vendor is Vendor.NVIDIA and all(gpu not in machine.gpus for gpu in gpus):
        driver = Driver(vendor=vendor, version="999999", cuda="999.0", source="assumed: the GPU is not here")
    no_cpu_build = not any(build.backend == "cpu" and build.published for build in builds)
    return Situation(
        platform=machine.platform,
        gpus=gpus,
        driver=driver,
        python=request.python,
        torch=request.torch,
        backend=request.backend,
        channel=request.channel or Channel.STABLE,
        plain_on_cpu=no_cpu_build and (request.backend == "cpu" or not (gpus or request.backend)),
    )


def _rejections(builds: Iterable[Build], candidates: Sequence[Build], situation: Situation) -> Iterable[Rejection]:
    choice = candidates[0] if candidates else None
    for build in builds:
        rejection = judge(build, situation)
        if rejection is None and choice is not None and build is not choice:
            rejection = _passed_over(build, choice, situation)
        if rejection is not None:
            yield rejection


def _passed_over(build: Build, choice: Build, situation: Situation) -> Rejection:
    """Why a build that fits is not the choice."""
    if choice.advertised and not build.advertised:
        return Rejection(
            build=build,
            reason=Reason.NOT_ADVERTISED,
            wanted="a build that the project names",
            found="only on the index",
        )
    wanted, found = str(choice.torch), str(build.torch)
    if build.torch == choice.torch:
        wanted, found = choice.backend, build.backend
    return Rejection(build=build, reason=Reason.OLDER, wanted=wanted, found=found)


def _choice_notes(choice: Build, situation: Situation) -> list[Note]:
    notes = []
    if any(served is not None and served.kind == "ptx" for _, served in _covering(choice, situation)):
        notes.append(Note(code="compiled-at-first-use", text="the driver compiles this build's PTX at first use"))
    if choice.system is System.MACOS and choice.machine == "aarch64":
        notes.append(Note(code="mps", text="on Apple silicon this build runs on the GPU through mps"))
    if _runs_plainly(choice, situation):
        text = f"no cpu build is within reach: {choice.name} from {choice.source.label} runs on the CPU too"
        notes.append(Note(code="plain-wheel-on-cpu", text=text, level="warning"))
    if not choice.advertised:
        notes.append(
            Note(code="not-advertised", text=f"{choice.name} is on the index, but the project does not name it")
        )
    return notes


def _covering(build: Build, situation: Situation) -> list[tuple[Gpu, Served | None]]:
    cuda = situation.driver.cuda if situation.driver else None
    return [(gpu, serving(build, gpu, cuda)) for gpu in situation.gpus]


def _coverage(build: Build, situation: Situation) -> tuple[Coverage, ...]:
    return tuple(
        Coverage(gpu=gpu.index, arch=gpu.arch or "", by=served.by, kind=served.kind)
        for gpu, served in _covering(build, situation)
        if served is not None
    )


# ── GPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def select_gpus(machine: Machine, request: Request, catalog: Catalog) -> tuple[tuple[Gpu, ...], list[Note]]:
    """The GPUs that count (contracts 5.3), and what to say of the others. Raises UsageProblem for a wrong `--gpu`."""
    if request.gpus:
        named = [gpu for text in request.gpus for gpu in _named(text, machine)]
        return tuple(dict.fromkeys(named)), []
    counting = [gpu for gpu in machine.gpus if has_builds(gpu, catalog)]
    wanted = vendor_of(request.backend) if request.backend else None
    order = (wanted, *VENDORS) if wanted else VENDORS
    vendor = next((each for each in order if any(gpu.vendor is each for gpu in counting)), None)
    chosen = tuple(gpu for gpu in counting if gpu.vendor is vendor)
    notes = [
        Note(code="gpu-left-out", text=f"{gpu_phrase(gpu)} does not count: no official build has code for it")
        for gpu in machine.gpus
        if gpu not in counting
    ]
    notes += [
        Note(code="gpu-left-out", text=f"{gpu_phrase(gpu)} does not count: one torch serves one vendor, here {vendor}")
        for gpu in counting
        if gpu not in chosen
    ]
    return chosen, notes


def _named(text: str, machine: Machine) -> list[Gpu]:
    """The GPUs that one `--gpu` names: by index, UUID, name or arch; an arch also stands for one that is not there."""
    text = text.strip()
    if text.isdecimal():
        found = [
            gpu for place, gpu in enumerate(machine.gpus) if (place if gpu.index is None else gpu.index) == int(text)
        ]
    elif arch := parse_arch(text):
        vendor = Vendor.AMD if arch.startswith("gfx") else Vendor.NVIDIA
        found = [gpu for gpu in machine.gpus if gpu.vendor is vendor and gpu.arch == arch]
        found = found or [Gpu(vendor=vendor, arch=arch, source=f"--gpu {text}")]
    else:
        lowered = text.lower()
        found = [gpu for gpu in machine.gpus if gpu.uuid and gpu.uuid.lower().startswith(lowered)]
        found = found or [gpu for gpu in machine.gpus if gpu.name and lowered in gpu.name.lower()]
    if not found:
        here = "; ".join(
            f"{place if gpu.index is None else gpu.index}: {gpu_phrase(gpu)}" for place, gpu in enumerate(machine.gpus)
        )
        raise UsageProblem(
            f"--gpu {text} names no GPU of this machine ({here or 'it has none'})",
            code="unknown-gpu",
            hint="give an index, a UUID, a part of the name, or an arch such as sm_120",
        )
    return found


def parse_arch(text: str) -> str | None:
    """`sm_120`, `12.0` → "12.0"; `gfx1100` → "gfx1100"; None for what is no arch."""
    if match := re.fullmatch(r"(?:sm_?)(\d+)(\d)[af]?", text, re.IGNORECASE):
        return f"{match[1]}.{match[2]}"
    if re.fullmatch(r"\d{1,2}\.\d", text) or re.fullmatch(r"gfx[0-9a-f]{3,4}", text):
        return text
    return None


def has_builds(gpu: Gpu, catalog: Catalog) -> bool:
    """Whether some official build has code for this GPU, or may get some: it is newer than all of them."""
    if gpu.vendor is Vendor.APPLE:
        return True
    kinds = {
        (build.arches, build.ptx, build.toolkit)
        for build in (*catalog.builds, *catalog.history)
        if vendor_of(build.backend) is gpu.vendor
    }
    if gpu.vendor is Vendor.INTEL:
        return bool(kinds) and _intel_served(gpu)
    if gpu.arch is None:
        return True
    if any(_serve(arches, ptx, toolkit, gpu.arch, None) for arches, ptx, toolkit in kinds):
        return True
    if gpu.vendor is not Vendor.NVIDIA:
        return False
    newest = max((coverage.parse_code(code).major for arches, _, _ in kinds for code in arches), default=0)
    return version_tuple(gpu.arch)[0] > newest


def _intel_served(gpu: Gpu) -> bool:
    return gpu.name is None or not re.search(r"\b(U?HD|Iris|GMA)\b", gpu.name)


def gpu_phrase(gpu: Gpu) -> str:
    """`NVIDIA GeForce RTX 5090 (sm_120)`."""
    name = gpu.name or f"{gpu.vendor.value} GPU"
    return f"{name} ({arch_name(gpu)})" if gpu.arch else name


def arch_name(gpu: Gpu) -> str:
    """The arch as torch spells it."""
    return coverage.sm(gpu.arch or "?") if gpu.vendor is Vendor.NVIDIA else gpu.arch or gpu.vendor.value


def vendor_of(backend: str) -> Vendor | None:
    """Whose GPUs a backend is for; None for `cpu`."""
    for prefix, vendor in (("cu", Vendor.NVIDIA), ("rocm", Vendor.AMD), ("xpu", Vendor.INTEL)):
        if backend.startswith(prefix):
            return vendor
    return None


def _cpu_vendor(build: Build) -> Vendor | None:
    """The GPUs that a build without a GPU backend serves all the same: Apple's, through mps."""
    return Vendor.APPLE if build.system is System.MACOS else None


def serving(build: Build, gpu: Gpu, driver_cuda: str | None) -> Served | None:
    """Which code of a build serves a GPU. `driver_cuda` None = whatever the driver."""
    return _serve(build.arches, build.ptx, build.toolkit, gpu.arch or "", driver_cuda)


@lru_cache(maxsize=4096)
def _serve(
    arches: tuple[str, ...], ptx: tuple[str, ...], toolkit: str | None, arch: str, driver_cuda: str | None
) -> Served | None:
    if toolkit is None:
        if not arches:
            return Served(by="xpu", kind="cubin")
        target = arch.partition(":")[0]
        return Served(by=target, kind="cubin") if target in arches else None
    if not arch:
        return None
    return coverage.serve((*arches, *ptx), arch, toolkit=toolkit, driver_cuda=driver_cuda)


# ── drivers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def known_driver(machine: Machine, vendor: Vendor) -> Driver | None:
    """The usable driver of a vendor, its version and CUDA completed from the driver table; None without one."""
    driver = machine.driver(vendor)
    if driver is None or (driver.version is None and driver.cuda is None) or vendor is not Vendor.NVIDIA:
        return None if vendor is Vendor.NVIDIA else driver
    windows = drivers.is_windows(machine.platform)
    if driver.version is None:
        return replace(driver, version=drivers.oldest_version(driver.cuda or "", windows=windows) or "0")
    table = drivers.served_cuda(driver.version, windows=windows)
    return replace(driver, cuda=table or driver.cuda)


def _needs_cuda(build: Build, situation: Situation) -> bool:
    return build.toolkit is not None and bool(situation.gpus) and not _runs_plainly(build, situation)


def _driver_version(situation: Situation) -> str:
    assert situation.driver is not None and situation.driver.version is not None
    return situation.driver.version


# ── small helpers ───────────────────────────────────────────────────────────────────────────────────────────────


def _runs_plainly(build: Build, situation: Situation) -> bool:
    """5.6: without a cpu build within reach, the plain wheel of another index does the CPU's work."""
    return situation.plain_on_cpu and build.local is None and build.source.kind is not SourceKind.PYTORCH_INDEX


def _satisfies(build: Build, specifier: SpecifierSet) -> bool:
    version = f"{build.torch}+{build.backend}" if "+" in str(specifier) else str(build.torch)
    return specifier.contains(version, prereleases=True)


def _span(pythons: Iterable[str]) -> str:
    return " ".join(sorted(pythons, key=lambda tag: (int(re.sub(r"\D", "", tag)[1:] or 0), tag)))


def torch_specifier(text: str) -> SpecifierSet:
    """`--torch SPEC`: a bare version means `==`. Raises UsageProblem."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = text.strip()
    try:
        return SpecifierSet(f"=={text}" if text[:1].isdigit() else text)
    except InvalidSpecifier as error:
        raise UsageProblem(
            f"--torch {text!r} is not a version specifier", hint="for example --torch 2.11.0 or --torch '>=2.11,<2.15'"
        ) from error


def check_backend(backend: str | None, catalog: Catalog) -> None:
    """Raises UsageProblem for a backend that no build has, with the nearest that exists."""
    if backend is None:
        return
    known = sorted({build.backend for build in (*catalog.builds, *catalog.history)})
    if backend not in known:
        from difflib import get_close_matches

        near = get_close_matches(backend, known, n=3, cutoff=0.5)
        raise UsageProblem(
            f"--backend {backend}: there is no such backend",
            code="unknown-backend",
            hint=f"did you mean {', '.join(near)}?" if near else f"known: auto, {', '.join(known)}",
        )


# ── advice ──────────────────────────────────────────────────────────────────────────────────────────────────────


def advise(choice: Build | None, builds: Sequence[Build], situation: Situation, request: Request) -> Iterable[Advice]:
    """The smallest change of each kind that gains a newer build."""
    return ()
