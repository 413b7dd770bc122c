"""May this driver run this toolkit, and does it serve this GPU? Two tables, two answers (`data/drivers.toml`).

Under WSL the driver's number is a Windows one: callers pass `windows=True` there too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .coverage import version_tuple
from .errors import BadData
from .machine import Platform, System
from .rows import read_rows
from .values import frozen

TABLE = Path(__file__).parent / "data" / "drivers.toml"


@frozen
class Support:
    """The drivers that serve a compute capability: from version `first` or any, up to branch `last` or without end."""

    first: str | None
    last: str | None


@frozen
class Drivers:
    """The driver table of one numbering (Linux or Windows). `branches` are (first major version, CUDA), ascending."""

    floors: Mapping[int, str]
    branches: tuple[tuple[int, str], ...]
    support: Mapping[str, Support]


def is_windows(platform: Platform) -> bool:
    """Whether driver versions on this platform are numbered as on Windows (true under WSL)."""
    return platform.system is System.WINDOWS or platform.wsl


def floor(toolkit: str, *, windows: bool) -> str | None:
    """The oldest driver that runs builds made with this CUDA: "580" for "13.2"; None for a major not in the table."""
    return _table(windows).floors.get(version_tuple(toolkit)[0])


def served_cuda(version: str, *, windows: bool) -> str | None:
    """The newest CUDA that a driver serves: "12.8" for "570.124.06"; None if older than the table.

    A branch newer than the table gets the table's newest: a lower bound.
    """
    place = _branch(version_tuple(version)[0], windows=windows)
    return _table(windows).branches[place - 1][1] if place else None


def oldest_version(cuda: str, *, windows: bool) -> str | None:
    """The oldest branch that serves this CUDA: "570" for "12.8"; None if no known branch does."""
    wanted = version_tuple(cuda)
    return next((str(major) for major, serves in _table(windows).branches if version_tuple(serves) >= wanted), None)


def support(capability: str, *, windows: bool) -> Support | None:
    """The drivers that serve a compute capability; None if no known driver does."""
    return _table(windows).support.get(capability)


def at_least(version: str, wanted: str, *, windows: bool) -> bool:
    """Whether a driver is `wanted` or newer. A bare branch ("570") stands for all of that branch."""
    number = version_tuple(version)
    if len(number) > 1:
        return number >= version_tuple(wanted)
    return _branch(number[0], windows=windows) >= _branch(version_tuple(wanted)[0], windows=windows)


def _branch(major: int, *, windows: bool) -> int:
    """The place of a version's branch in the table; 0 if older than all."""
    return bisect_right(_table(windows).branches, major, key=lambda branch: branch[0])


def serves(capability: str, version: str, *, windows: bool) -> tuple[bool, str]:
    """Whether a driver serves GPUs of this compute capability, and which drivers do (">=570.86.16", "<=580.x")."""
    row = support(capability, windows=windows)
    if row is None:
        return False, f"a driver that serves compute capability {capability} (none is known)"
    new_enough = row.first is None or at_least(version, row.first, windows=windows)
    old_enough = row.last is None or version_tuple(version)[0] <= int(row.last)
    limits = [f">={row.first}" if row.first else "", f"<={row.last}.x" if row.last else ""]
    return new_enough and old_enough, ", ".join(limit for limit in limits if limit)


def landmarks(capabilities: Iterable[str], toolkits: Iterable[str], *, windows: bool) -> tuple[str, ...]:
    """The versions at which something changes for GPUs of these capabilities and builds of these toolkits, ascending.

    Those are the floors, the branches that serve a toolkit natively, and the ends of the support for a GPU.
    """
    table = _table(windows)
    versions = set(table.floors.values())
    versions |= {oldest for toolkit in toolkits if (oldest := oldest_version(toolkit, windows=windows))}
    for capability in capabilities:
        row = table.support.get(capability)
        versions |= {limit for limit in (row.first, row.last) if limit} if row else set()
    return tuple(sorted(versions, key=version_tuple))


def newest_branch(*, windows: bool) -> str:
    """The newest branch of the table."""
    return str(_table(windows).branches[-1][0])


def beyond_table(version: str, *, windows: bool) -> bool:
    """Whether a driver belongs to the newest branch of the table, or to one that the table does not know."""
    return _branch(version_tuple(version)[0], windows=windows) == len(_table(windows).branches)


@lru_cache(maxsize=2)
def _table(windows: bool) -> Drivers:
    return parse_drivers(read_rows(TABLE), windows=windows)


def parse_drivers(data: Mapping[str, Any], *, windows: bool) -> Drivers:
    """The value of the table's TOML for one numbering. Raises BadData naming the row."""
    system = "windows" if windows else "linux"
    row: Mapping[str, Any] = {}
    try:
        floors = {(row := each)["cuda"]: row[system] for each in data["floor"]}
        branches = tuple(((row := each)[system], row["cuda"]) for each in data["branch"])
        supported: dict[str, Support] = {}
        for row in data["support"]:
            limits = Support(first=row.get(f"first_{system}"), last=row.get(f"last_{system}"))
            supported |= dict.fromkeys(row["capability"].split(), limits)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{TABLE.name}: {error!r} in row {dict(row)!r}", hint="mend the row") from error
    return Drivers(floors=MappingProxyType(floors), branches=branches, support=MappingProxyType(supported))
