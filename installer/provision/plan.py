"""What is proposed? A plan is a value: it is shown, saved, read back and compared before anything moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .environment import Environment
from .machine import Machine
from .profile import COMPANIONS
from .resolve import Resolution
from .values import frozen

SCHEMA = 1

FAMILY = frozenset({"torch", *COMPANIONS, "triton", "triton-windows", "pytorch-triton", "pytorch-triton-rocm",
                    "pytorch-triton-xpu", "triton-rocm", "triton-xpu"})  # fmt: skip
"""What a change of torch may replace without asking."""


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
        import hashlib
        import json

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
