"""What would change in this environment? A pure comparison of what is installed with what is wanted.

A plan is a value: it is shown, saved, read back and compared before anything moves.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from .environment import Environment
from .machine import Machine
from .resolve import Resolution
from .values import frozen

SCHEMA = 1

COMPANIONS = ("torchvision", "torchaudio")
"""Built for one torch and taken from the same place as it; kept, at the version that fits, where they are installed."""

FAMILY = frozenset({"torch", *COMPANIONS, "triton", "triton-windows", "pytorch-triton", "pytorch-triton-rocm",
                    "pytorch-triton-xpu", "triton-rocm", "triton-xpu"})  # fmt: skip
"""What a change of torch may replace without asking."""

_RUNTIME = re.compile(r"(nvidia|cuda|rocm|intel|onemkl|mkl|tbb|umf|tcmlib|dpcpp)(-.*)?|triton.*|pytorch-triton.*")
"""Libraries that come with a torch build: they go when nothing that stays needs them."""


@frozen
class Change:
    """One distribution: `old` None is added, `new` None is removed, both equal is put in again."""

    name: str
    old: str | None
    new: str | None


@frozen
class Broken:
    """A package outside the torch family whose requirement the change breaks; `removed` where it cannot work at all."""

    name: str
    version: str
    requirement: str
    removed: bool


@frozen
class Plan:
    """The whole proposal. `download_bytes` sums the sizes that the index tells; None where it tells none."""

    machine: Machine
    resolution: Resolution
    environment: Environment | None
    changes: tuple[Change, ...] | None
    broken: tuple[Broken, ...] = ()
    download_bytes: int | None = None

    @property
    def expected(self) -> Mapping[str, str]:
        """Name → version of every distribution after the change."""
        assert self.environment is not None
        after = {name: installed.version for name, installed in self.environment.installed.items()}
        for change in self.changes or ():
            if change.new is None:
                after.pop(change.name, None)
            else:
                after[change.name] = change.new
        return after

    @property
    def removed(self) -> tuple[str, ...]:
        """What goes without a successor."""
        return tuple(change.name for change in self.changes or () if change.new is None)

    @property
    def digest(self) -> str:
        """sha256 over what the plan would do and on which grounds."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The `data` of `plan --json`."""
        data: dict[str, Any] = {"schema": SCHEMA, "machine": self.machine.to_json(), **self.resolution.to_json()}
        if self.environment is not None:
            data["environment"] = {
                "path": str(self.environment.prefix),
                "python": self.environment.python.version,
                "exists": self.environment.exists,
                "torch": self.environment.version("torch"),
            }
        if self.changes is not None:
            data["changes"] = [{"name": change.name, "old": change.old, "new": change.new} for change in self.changes]
            data["broken"] = [
                {"name": one.name, "version": one.version, "requirement": one.requirement, "removed": one.removed}
                for one in self.broken
            ]
            data["download_bytes"] = self.download_bytes
        return data


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
    if changes or leaving:
        leaving |= _orphans(environment, wanted, leaving)
    broken = _broken(environment, wanted, leaving)
    leaving |= {one.name for one in broken if one.removed}
    for name in leaving:
        changes[name] = Change(name=name, old=installed[name].version, new=None)
    order = sorted(changes.values(), key=lambda change: (change.name not in FAMILY, change.name))
    return tuple(order), broken


def _orphans(environment: Environment, wanted: Mapping[str, str], leaving: Iterable[str]) -> set[str]:
    """Runtime libraries that only what leaves (or is replaced) needed."""
    gone = set(leaving)
    stays = {name for name in environment.installed if name not in gone and name not in wanted}
    candidates = {name for name in stays if _RUNTIME.fullmatch(name)}
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
