"""What would change in this environment? A pure comparison of what is installed with what is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from .environment import Environment
from .plan import FAMILY, Broken, Change

_NVIDIA = (
    "cublas|cuda-cccl|cuda-cupti|cuda-nvcc|cuda-nvrtc|cuda-runtime|cudnn|cufft|cufile|curand|cusolver|cusparse|cusparselt"
    "|nccl|nvjitlink|nvshmem|nvtx"
)
_RUNTIME = re.compile(
    rf"nvidia-({_NVIDIA})(-cu\d+)?|cuda-toolkit|triton|triton-windows|triton-rocm|triton-xpu|pytorch-triton(-rocm|-xpu)?"
    r"|intel-(cmplr-lib-rt|cmplr-lib-ur|cmplr-lic-rt|opencl-rt|sycl-rt|pti)|oneccl(-devel)?|onemkl-sycl-\w+|tcmlib|umf"
)
"""What torch's own wheels bring along (Requires-Dist of torch 2.0 to 2.15, cu117 to cu132 and xpu; read 2026-11-20):
it goes when nothing that stays needs it, unless somebody asked for it by name (the REQUESTED file of PEP 376)."""


def changes_between(
    environment: Environment, wanted: Mapping[str, str], *, again: Iterable[str] = ()
) -> tuple[tuple[Change, ...], tuple[Broken, ...]]:
    """What it takes to get from `environment` to `wanted` (normalized name → version), and what that breaks.

    Family members and runtime libraries that nothing needs any more go; everything else stays. Packages named in
    `again` are put in again even where the version is right.
    """
    installed = environment.installed
    again = set(again)
    changes = {
        name: Change(name=name, old=environment.version(name), new=version)
        for name, version in wanted.items()
        if environment.version(name) != version or name in again
    }
    leaving = {name for name in installed if name in FAMILY and name not in wanted}
    leaving |= _orphans(environment, wanted, leaving)
    broken = _broken(environment, wanted, leaving)
    leaving |= {one.name for one in broken if one.removed}
    for name in leaving:
        changes[name] = Change(name=name, old=installed[name].version, new=None)
    order = sorted(changes.values(), key=lambda change: (change.name not in FAMILY, change.name))
    return tuple(order), broken


def brought_along(name: str) -> bool:
    """Whether a package is one that torch's wheels bring along, so that nobody asked for it by name."""
    return bool(_RUNTIME.fullmatch(name))


def _orphans(environment: Environment, wanted: Mapping[str, str], leaving: Iterable[str]) -> set[str]:
    """Runtime libraries that only what leaves (or is replaced) needed."""
    gone = set(leaving)
    stays = {name for name in environment.installed if name not in gone and name not in wanted}
    candidates = {name for name in stays if brought_along(name) and not environment.installed[name].requested}
    # Walk from what certainly stays: whatever it reaches is needed.
    needed: set[str] = set()
    queue = [name for name in stays if name not in candidates]
    while queue:
        for requirement in _requirements(environment, queue.pop()):
            name = _normal(requirement.name)
            if name in candidates and name not in needed:
                needed.add(name)
                queue.append(name)
    return candidates - needed


def _broken(environment: Environment, wanted: Mapping[str, str], leaving: Iterable[str]) -> tuple[Broken, ...]:
    gone = set(leaving)
    found = []
    for name, distribution in environment.installed.items():
        if name in wanted or name in gone:
            continue
        for requirement in _requirements(environment, name):
            target = _normal(requirement.name)
            old, new = environment.version(target), wanted.get(target)
            changed = (target in wanted and old != new) or target in gone
            if changed and _satisfies(requirement, old) and not _satisfies(requirement, new):
                exact = target in FAMILY and any(spec.operator in ("==", "===") for spec in requirement.specifier)
                found.append(
                    Broken(name=name, version=distribution.version, requirement=str(requirement), removed=exact)
                )
                break
    return tuple(found)


def _satisfies(requirement: Requirement, version: str | None) -> bool:
    if version is None:
        return False
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _requirements(environment: Environment, name: str) -> list[Requirement]:
    """What an installed distribution requires in this environment (extras left out)."""
    found = []
    for text in environment.installed[name].requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate(_markers(environment)):
            found.append(requirement)
    return found


def _markers(environment: Environment) -> dict[str, str]:
    values = {key: str(value) for key, value in default_environment().items()}
    values |= {
        "python_version": environment.python.minor,
        "python_full_version": environment.python.version,
        "extra": "",
    }
    return values


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
