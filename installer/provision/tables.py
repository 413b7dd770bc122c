"""Does a table of data make sense? The strict reading of `data/catalog.toml` and `data/drivers.toml`.

Loading is quick and trusts the tables; this is for their tests and for `scripts/update_catalog.py`, before it writes.
Every complaint names the file and the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from .catalog import Channel
from .coverage import parse_code, version_tuple
from .errors import BadData
from .machine import System, Vendor

LEVELS = frozenset({"primary", "reported", "inferred"})
PLATFORMS = frozenset(f"{system.value} {machine}" for system in System for machine in ("x86_64", "aarch64"))

Row = Mapping[str, Any]


class Complaint(BadData):
    """One row that makes no sense."""

    def __init__(self, table: str, kind: str, row: Row, problem: str) -> None:
        names = ("torch", "package", "backend", "on", "cuda", "capability", "linux", "vendor", "arch", "name", "since")
        which = ", ".join(f"{name} {row[name]}" for name in names if name in row)
        super().__init__(f"{table}: row of `{kind}` ({which}): {problem}", hint="mend the row", code="bad-table")


def check_catalog(table: Mapping[str, Any], *, capabilities: Collection[str], name: str = "catalog.toml") -> None:
    """Raises BadData for the first row that makes no sense. `capabilities` are those of the GPU table ("12.0")."""
    known = frozenset(capabilities) | {row.get("arch", "") for row in table.get("family", ())}
    for kind, row in _rows(table, name, _CATALOG_FIELDS):
        for field, value in row.items():
            if field == "torch":
                problem = (_specifier if kind == "bounds" else _versions)(value)
            elif field in _CODE:
                problem = None if value == "unknown" else _codes(value, row["backend"], _CODE[field], known)
            else:
                problem = _CHECKS[field](value) if field in _CHECKS else None
            if problem:
                raise Complaint(name, kind, row, f"`{field}` {problem}")
        if shared := set(row.get("code", "").split()) & set(row.get("unsure", "").split()):
            raise Complaint(name, kind, row, f"{' '.join(sorted(shared))} is both sure and unsure")
        if kind == "nightly" and ("until" in row) == ("seen" in row):
            raise Complaint(name, kind, row, "a series has ended (`until`) or was last seen (`seen`), one of the two")
    _check_overlaps(table, name)


def _check_overlaps(table: Mapping[str, Any], name: str) -> None:
    """A build, a release, a plain wheel, a companion is told of once; series of one page do not overlap in time."""
    builds: set[tuple[str, ...]] = set()
    for row in table["build"]:
        for torch in row["torch"].split():
            key = (torch, row["backend"], row["on"], row.get("channel", "stable"))
            if key in builds:
                raise Complaint(name, "build", row, f"torch {torch} is told of twice")
            builds.add(key)
    for kind, fields in (("release", ("torch",)), ("plain", ("torch", "on")), ("companion", ("torch",))):
        seen = set()
        for row in table[kind]:
            for torch in row["torch"].split():
                told = (torch, *(row[field] for field in fields[1:]))
                if told in seen:
                    raise Complaint(name, kind, row, f"torch {torch} is told of twice")
                seen.add(told)
                if kind == "plain" and (torch, row["backend"], row["on"], "stable") not in builds:
                    raise Complaint(name, kind, row, f"there is no build of torch {torch} for {row['backend']}")
    released = {row["torch"] for row in table["release"]}
    for row in table["build"]:
        if missing := set(row["torch"].split()) - released:
            raise Complaint(name, "build", row, f"torch {' '.join(sorted(missing))} has no row of `release`")
    for place, row in enumerate(table["nightly"]):
        for other in table["nightly"][:place]:
            same = all(row[field] == other[field] for field in ("backend", "on"))
            if same and row["since"] <= _end(other) and other["since"] <= _end(row):
                raise Complaint(name, "nightly", row, f"overlaps with the series since {other['since']}")


def _end(row: Row) -> date:
    until: date = row.get("until", date.max)
    return until


def check_drivers(table: Mapping[str, Any], *, capabilities: Collection[str], name: str = "drivers.toml") -> None:
    """Raises BadData for the first row that makes no sense. `capabilities` are those of the GPU table."""
    for kind, row in _rows(table, name, _DRIVER_FIELDS):
        for column in ("linux", "windows"):
            for field in (column, f"first_{column}", f"last_{column}"):
                value = row.get(field)
                if value is not None and not re.fullmatch(r"\d{3}(\.\d+)*", str(value)):
                    raise Complaint(name, kind, row, f"{value!r} is no driver version")
        if kind == "support" and (unknown := set(row["capability"].split()) - set(capabilities)):
            raise Complaint(name, kind, row, f"no GPU has compute capability {' '.join(sorted(unknown))}")
    for column in ("linux", "windows"):
        numbers = [row[column] for row in table["branch"]]
        if numbers != sorted(set(numbers)):
            raise BadData(f"{name}: the {column} numbers of `branch` do not ascend", code="bad-table")
    cudas = [version_tuple(row["cuda"]) for row in table["branch"]]
    if cudas != sorted(set(cudas)):
        raise BadData(f"{name}: the CUDA versions of `branch` do not ascend", code="bad-table")
    told = [capability for row in table["support"] for capability in row["capability"].split()]
    if len(told) != len(set(told)):
        raise BadData(f"{name}: a compute capability is told of twice in `support`", code="bad-table")


_SOURCES = ("source", "exists_source", "contents_source")
_BUILD = {"torch", "backend", "on", "exists", "exists_source", "contents", "contents_source"}
_OPTIONAL = {"channel", "code", "ptx", "unsure", "pythons", "local", "note"}

_CATALOG_FIELDS: Mapping[str, tuple[set[str], set[str]]] = {
    "release": ({"torch", "day", "pythons", "source"}, set()),
    "plain": ({"torch", "on", "backend", "source"}, set()),
    "build": (_BUILD, _OPTIONAL | {"advertised", "until"}),
    "nightly": (_BUILD | {"channel", "since"}, _OPTIONAL | {"until", "seen"}),
    "companion": (
        {"torch", "torchvision", "torchaudio", "confidence", "source"},
        {"triton", "triton-windows", "xformers", "note"},
    ),
    "bounds": ({"package", "torch", "version", "confidence", "source"}, {"backend", "note"}),
    "family": ({"vendor", "arch", "name", "source"}, set()),
}
"""Kind → fields that a row must have, fields that it may have."""

_DRIVER_FIELDS: Mapping[str, tuple[set[str], set[str]]] = {
    "floor": ({"cuda", "linux", "windows", "source"}, set()),
    "branch": ({"cuda", "linux", "windows", "source"}, set()),
    "support": (
        {"capability", "confidence", "source"},
        {"first_linux", "first_windows", "last_linux", "last_windows"},
    ),
}


def _rows(
    table: Mapping[str, Any], name: str, fields: Mapping[str, tuple[set[str], set[str]]]
) -> Iterable[tuple[str, Row]]:
    """Every row with its kind, its keys and sources checked."""
    if table.get("schema") != 1 or not isinstance(table.get("read"), date):
        raise BadData(f"{name}: `schema` is not 1, or `read` is not a day", code="bad-table")
    if unknown := set(table) - set(fields) - {"schema", "read", "sources"}:
        raise BadData(f"{name}: unknown key {' '.join(sorted(unknown))}", code="bad-table")
    used = set()
    for kind, (required, optional) in fields.items():
        for row in table[kind]:
            if missing := required - set(row):
                raise Complaint(name, kind, row, f"`{'`, `'.join(sorted(missing))}` is missing")
            if unknown := set(row) - required - optional:
                raise Complaint(name, kind, row, f"unknown key `{'`, `'.join(sorted(unknown))}`")
            for field in _SOURCES:
                sources = str(row.get(field, "")).split()
                if field in row and not sources:
                    raise Complaint(name, kind, row, f"`{field}` is empty")
                if lost := set(sources) - set(table["sources"]):
                    raise Complaint(name, kind, row, f"{' '.join(sorted(lost))} is not in [sources]")
                used.update(sources)
            yield kind, row
    if idle := set(table["sources"]) - used:
        raise BadData(f"{name}: no row names the source {' '.join(sorted(idle))}", code="bad-table")


def _codes(value: Any, backend: str, prefix: str, known: Collection[str]) -> str | None:
    """What is wrong with the code of a build, or None. Every arch is one that some GPU has."""
    for code in str(value).split():
        if backend.startswith("rocm"):
            right = re.fullmatch(r"gfx[0-9a-f]{3,4}", code) is not None
        elif backend.startswith("cu"):
            right = _capability(code, prefix) in known
        else:
            right = backend == "xpu" and code in known
        if not right:
            return f"has {code}, which no GPU has"
    return None if value else "is empty"


def _capability(code: str, prefix: str) -> str | None:
    try:
        return parse_code(code).capability if code.startswith(prefix) else None
    except ValueError:
        return None


def _versions(value: Any) -> str | None:
    try:
        return None if [Version(text) for text in str(value).split()] else "is empty"
    except InvalidVersion as error:
        return str(error)


def _specifier(value: Any) -> str | None:
    try:
        return None if SpecifierSet(str(value)) else "is empty"
    except InvalidSpecifier as error:
        return str(error)


def _each(value: Any, pattern: str) -> str | None:
    wrong = [text for text in str(value).split() if not re.fullmatch(pattern, text)]
    return f"has {wrong[0]!r}" if wrong else None if value else "is empty"


def _one_of(value: Any, allowed: Collection[Any]) -> str | None:
    return None if value in allowed else f"is {value!r}, not one of {', '.join(sorted(map(str, allowed)))}"


def _day(value: Any) -> str | None:
    return None if isinstance(value, date) else f"is {value!r}, not a day"


_CODE = {"code": "sm_", "unsure": "sm_", "ptx": "compute_"}
"""Fields that name code → how CUDA spells it there."""

_CHECKS: Mapping[str, Callable[[Any], str | None]] = {
    "backend": lambda value: _each(value, r"cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+)*"),
    "on": lambda value: _one_of(value, PLATFORMS),
    "channel": lambda value: _one_of(value, set(Channel)),
    "pythons": lambda value: _each(value, r"cp3\d+t?"),
    "local": lambda value: _one_of(value, {""}),
    "advertised": lambda value: _one_of(value, {True, False}),
    **dict.fromkeys(("exists", "contents", "confidence"), lambda value: _one_of(value, LEVELS)),
    "vendor": lambda value: _one_of(value, set(Vendor)),
    **dict.fromkeys(("day", "since", "until", "seen"), _day),
    **dict.fromkeys(("version", "torchvision", "torchaudio", "triton", "triton-windows", "xformers"), _specifier),
}
"""Field → what is wrong with a value, or None."""
