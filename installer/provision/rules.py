"""May this build run here, and which of two is better? The rules of the choice (contracts 5), one function each.

A rule takes a build and a situation and gives the two values that disagree, or None where the build passes. `RULES`
holds them in the order in which a reason is told: what was asked for, what exists, what the GPU is, what the driver
is. `preference` is the order of the builds that pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from . import coverage, drivers
from .catalog import Build, Channel, SourceKind
from .coverage import Served, version_tuple
from .environment import Python
from .machine import Driver, Gpu, Platform, System, Vendor
from .values import frozen

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from .profile import Limit


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


@frozen
class Rejection:
    """A build that is not the choice, with the two values that disagreed."""

    build: Build
    reason: Reason
    wanted: str
    found: str


@frozen
class Situation:
    """What the rules look at: the machine and the request, after the GPUs that count were selected.

    `driver` is NVIDIA's, with version and CUDA, or None; other vendors' drivers are no rule. `plain_on_cpu`: no cpu
    build is within reach, so that a plain wheel does the CPU's work (contracts 5.6).
    """

    platform: Platform
    gpus: tuple[Gpu, ...] = ()
    driver: Driver | None = None
    python: Python | None = None
    torch: SpecifierSet | None = None
    backend: str | None = None
    channel: Channel = Channel.STABLE
    plain_on_cpu: bool = False
    limits: tuple[Limit, ...] = ()

    @property
    def windows(self) -> bool:
        """Whether driver versions are numbered as on Windows."""
        return drivers.is_windows(self.platform)


Verdict = tuple[Reason, str, str] | None
"""(reason, wanted, found), or None: the build passes."""

Rule = Callable[[Build, Situation], Verdict]


def asked_for(build: Build, situation: Situation) -> Verdict:
    """`--backend` and `--torch` are obeyed."""
    if situation.backend and build.backend != situation.backend and not runs_plainly(build, situation):
        return Reason.EXCLUDED_BY_REQUEST, f"--backend {situation.backend}", build.backend
    if situation.torch is not None and not _satisfies(build, situation.torch):
        return Reason.EXCLUDED_BY_REQUEST, f"torch {situation.torch}", str(build.torch)
    return None


def in_channel(build: Build, situation: Situation) -> Verdict:
    """Only builds of the channel count."""
    if build.channel is not situation.channel:
        return Reason.CHANNEL, situation.channel.value, build.channel.value
    return None


def left_by_profile(build: Build, situation: Situation) -> Verdict:
    """What a package of the profile does not work with is no candidate."""
    for limit in situation.limits:
        if refused := limit.refuses(build):
            return Reason.EXCLUDED_BY_REQUEST, *refused
    return None


def published(build: Build, situation: Situation) -> Verdict:
    """What no reachable source holds is no candidate (5.7)."""
    if not build.published:
        return Reason.NOT_PUBLISHED, build.name, "held by no source that was reached"
    return None


def libc_new_enough(build: Build, situation: Situation) -> Verdict:
    """torch 2.7 and later wants glibc 2.28, older ones 2.17; there are no builds for musl (5.2)."""
    if situation.platform.libc is None or build.system is not System.LINUX:
        return None
    name, version = situation.platform.libc
    wanted = "2.28" if build.torch >= _MANYLINUX_2_28 else "2.17"
    if name != "glibc":
        return Reason.PLATFORM_NOT_BUILT, f"glibc >={wanted}", f"{name} {version}"
    if version_tuple(version) < version_tuple(wanted):
        return Reason.LIBC_TOO_OLD, f"glibc >={wanted}", f"glibc {version}"
    return None


_MANYLINUX_2_28 = Version("2.7.dev0")


def python_built(build: Build, situation: Situation) -> Verdict:
    """There is a wheel for this Python; where the table does not know, the index is to be asked."""
    python = situation.python
    if python is None:
        return None
    if python.implementation != "cpython":
        return Reason.PYTHON_NOT_BUILT, "cpython", python.implementation
    if build.pythons is None or python.tag in build.pythons:
        return None
    return Reason.PYTHON_NOT_BUILT, pythons_phrase(build.pythons), python.tag


def for_this_hardware(build: Build, situation: Situation) -> Verdict:
    """A build for GPUs wants GPUs of its vendor; one without GPU code is right only where no GPU counts (5.6)."""
    if runs_plainly(build, situation) or build.backend == "cpu" == situation.backend:
        return None
    vendor = vendor_of(build.backend)
    if not situation.gpus:
        if vendor is None or situation.backend == build.backend:
            return None
        return Reason.DRIVER_MISSING, f"a GPU of {vendor.value} and its driver", "no GPU that counts"
    serves = vendor or (Vendor.APPLE if build.system is System.MACOS else None)
    for gpu in situation.gpus:
        if gpu.vendor is not serves:
            return Reason.ARCH_MISSING, gpu_phrase(gpu), f"only {vendor.value if vendor else 'CPU'} code"
    return None


def driver_there(build: Build, situation: Situation) -> Verdict:
    """Without a driver no CUDA build can work (5.6)."""
    if _wants_driver(build, situation) and situation.driver is None:
        oldest = drivers.floor(build.toolkit or "", windows=situation.windows)
        return Reason.DRIVER_MISSING, f">={oldest}" if oldest else f"a driver for CUDA {build.toolkit}", "none"
    return None


def code_there(build: Build, situation: Situation) -> Verdict:
    """The build runs on every GPU that counts, given a driver that is new enough for its PTX (5.3)."""
    if vendor_of(build.backend) is None or runs_plainly(build, situation):
        return None
    for gpu in situation.gpus:
        if gpu.arch is None:
            return Reason.ARCH_UNKNOWN, "the architecture of the GPU", f"unknown for {gpu_phrase(gpu)}"
        if gpu.arch == "12.1" and build.toolkit and version_tuple(build.toolkit) < (13, 0):
            return Reason.ARCH_MISSING, "CUDA >=13.0 for sm_121", f"CUDA {build.toolkit}"
        if serving(build, gpu, None) is None:
            return Reason.ARCH_MISSING, arch_name(gpu), " ".join((*build.arches, *build.ptx)) or "code unknown"
    return None


def driver_serves_gpus(build: Build, situation: Situation) -> Verdict:
    """The driver serves each GPU: it is neither older nor newer than NVIDIA's support for it (5.2)."""
    if _wants_driver(build, situation) and situation.driver and situation.driver.version:
        version = situation.driver.version
        for gpu in situation.gpus:
            served, wanted = drivers.serves(gpu.arch or "", version, windows=situation.windows)
            if not served:
                return Reason.DRIVER_DOES_NOT_SERVE_GPU, f"{wanted} for {arch_name(gpu)}", version
    return None


def driver_reaches_toolkit(build: Build, situation: Situation) -> Verdict:
    """The driver reaches the floor of the toolkit's major version; of an unknown major, its very CUDA (5.2)."""
    if not (_wants_driver(build, situation) and situation.driver and situation.driver.version and build.toolkit):
        return None
    oldest = drivers.floor(build.toolkit, windows=situation.windows)
    if oldest is None:
        if version_tuple(situation.driver.cuda or "0") < version_tuple(build.toolkit):
            return Reason.DRIVER_TOO_OLD, f"a driver for CUDA {build.toolkit}", situation.driver.version
    elif not drivers.at_least(situation.driver.version, oldest, windows=situation.windows):
        return Reason.DRIVER_TOO_OLD, f">={oldest}", situation.driver.version
    return None


def driver_compiles_ptx(build: Build, situation: Situation) -> Verdict:
    """Where only PTX serves a GPU, the driver's CUDA is the toolkit's or newer (5.3)."""
    if _wants_driver(build, situation) and situation.driver:
        for gpu in situation.gpus:
            if serving(build, gpu, situation.driver.cuda or "0") is None:
                found = f"CUDA {situation.driver.cuda}"
                return Reason.PTX_NEEDS_NEWER_DRIVER, f"a driver for CUDA {build.toolkit}", found
    return None


DRIVER_RULES: tuple[Rule, ...] = (driver_there, driver_serves_gpus, driver_reaches_toolkit, driver_compiles_ptx)

RULES: tuple[Rule, ...] = (
    asked_for,
    in_channel,
    left_by_profile,
    published,
    libc_new_enough,
    python_built,
    for_this_hardware,
    driver_there,
    code_there,
    driver_serves_gpus,
    driver_reaches_toolkit,
    driver_compiles_ptx,
)


def judge(build: Build, situation: Situation, rules: Iterable[Rule] = RULES) -> Rejection | None:
    """The first of the rules that a build breaks, or None: it fits."""
    for rule in rules:
        if verdict := rule(build, situation):
            reason, wanted, found = verdict
            return Rejection(build=build, reason=reason, wanted=wanted, found=found)
    return None


def best_first(builds: Iterable[Build], situation: Situation) -> list[Build]:
    """Builds in the order of preference."""
    return sorted(builds, key=lambda build: preference(build, situation), reverse=True)


def preference(build: Build, situation: Situation) -> tuple[Any, ...]:
    """Contracts 5.4 as one sort key; the greatest is the choice.

    Advertised before unadvertised, then the newest torch; at equal torch no PTX before PTX, then the newest toolkit
    that the driver serves natively, else the oldest. ROCm's newest first; the last part only makes the order total.
    """
    cuda = situation.driver.cuda if situation.driver else None
    toolkit = version_tuple(build.toolkit) if build.toolkit else ()
    native = not toolkit or cuda is None or toolkit <= version_tuple(cuda)
    compiled = any(served is not None and served.kind == "ptx" for _, served in covering(build, situation))
    return (
        build.advertised,
        build.torch,
        not compiled,
        native,
        toolkit if native else tuple(-part for part in toolkit),
        tuple(int(part) for part in re.findall(r"\d+", build.backend)),
        build.backend,
    )


# ── what serves what ────────────────────────────────────────────────────────────────────────────────────────────


def covering(build: Build, situation: Situation) -> list[tuple[Gpu, Served | None]]:
    """Each GPU that counts with the code that serves it under this driver."""
    cuda = situation.driver.cuda if situation.driver else None
    return [(gpu, serving(build, gpu, cuda)) for gpu in situation.gpus]


def serving(build: Build, gpu: Gpu, driver_cuda: str | None) -> Served | None:
    """Which code of a build serves a GPU. `driver_cuda` None = whatever the driver."""
    if gpu.arch is None or gpu.vendor is not vendor_of(build.backend):
        return None
    return code_for(build.arches, build.ptx, build.toolkit, gpu.arch, driver_cuda)


@lru_cache(maxsize=4096)
def code_for(
    arches: tuple[str, ...], ptx: tuple[str, ...], toolkit: str | None, arch: str, driver_cuda: str | None
) -> Served | None:
    """Which code serves an arch. Without a toolkit (AMD, Intel) there must be code for this very target."""
    if toolkit is not None:
        return coverage.serve((*arches, *ptx), arch, toolkit=toolkit, driver_cuda=driver_cuda)
    target = arch.partition(":")[0]  # gfx90a:sramecc+:xnack-
    return Served(by=target, kind="cubin") if target in arches else None


@lru_cache(maxsize=64)
def vendor_of(backend: str) -> Vendor | None:
    """Whose GPUs a backend is for; None for `cpu`."""
    for prefix, vendor in (("cu", Vendor.NVIDIA), ("rocm", Vendor.AMD), ("xpu", Vendor.INTEL)):
        if backend.startswith(prefix):
            return vendor
    return None


def runs_plainly(build: Build, situation: Situation) -> bool:
    """5.6: without a cpu build within reach, the plain wheel of another source does the CPU's work."""
    return situation.plain_on_cpu and build.local is None and build.source.kind is not SourceKind.PYTORCH_INDEX


def _wants_driver(build: Build, situation: Situation) -> bool:
    return build.toolkit is not None and bool(situation.gpus) and not runs_plainly(build, situation)


def _satisfies(build: Build, specifier: SpecifierSet) -> bool:
    local = "+" in str(specifier)  # ==2.11.0+cu128 is about the build, everything else about the public version
    return specifier.contains(build.name if local else str(build.torch), prereleases=True)


# ── phrases ─────────────────────────────────────────────────────────────────────────────────────────────────────


def gpu_phrase(gpu: Gpu) -> str:
    """`NVIDIA GeForce RTX 5090 (sm_120)`."""
    name = gpu.name or f"a GPU of {gpu.vendor.value}"
    return f"{name} ({arch_name(gpu)})" if gpu.arch not in (None, "none") else name


def arch_name(gpu: Gpu) -> str:
    """The arch as torch spells it: sm_120, gfx1100."""
    return coverage.sm(gpu.arch) if gpu.arch and gpu.vendor is Vendor.NVIDIA else gpu.arch or "unknown"


def pythons_phrase(pythons: Iterable[str]) -> str:
    """`cp310 cp311 … cp314t`, in the order of the versions."""
    return " ".join(sorted(pythons, key=lambda tag: (int(re.sub(r"\D", "", tag)[1:] or 0), tag)))
