"""What is in this Python environment? Values only; `detect.environment` looks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from .values import frozen


class Manager(StrEnum):
    """Who made the environment, and so who may change it."""

    VENV = "venv"
    UV = "uv"
    CONDA = "conda"
    SYSTEM = "system"


@frozen
class Python:
    """An interpreter. `version` is "3.12.8" (a bare "3.12" where only that is known)."""

    version: str
    implementation: str = "cpython"
    free_threaded: bool = False

    @property
    def minor(self) -> str:
        """`3.12` of `3.12.8`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def tag(self) -> str:
        """The wheel's Python tag as the builds table spells it: `cp312`, `cp313t`."""
        return "cp" + self.minor.replace(".", "") + ("t" if self.free_threaded else "")


@frozen
class Installed:
    """One distribution: its normalized name, version, and what it requires (PEP 508 texts).

    `requested`: somebody installed it by name (and not as a dependency).
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    installer: str | None = None
    editable: bool = False
    record: bool = True
    requested: bool = False


@frozen
class Environment:
    """One environment. `exists` is False for a path where one will be created."""

    prefix: Path
    python: Python
    manager: Manager = Manager.VENV
    exists: bool = True
    installed: Mapping[str, Installed] = MappingProxyType({})

    def version(self, name: str) -> str | None:
        """The installed version of `name` (normalized), or None."""
        found = self.installed.get(name)
        return found.version if found else None
