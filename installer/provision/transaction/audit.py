"""Is a changed copy exactly what was asked for?

The exact set of distributions, complete RECORDs, the sha256 of every file of every distribution that was changed,
nothing that nobody owns. uv may leave an empty RECORD on a full disk and still say success, and links whatever its
cache holds without looking at it (measured with uv 0.13.8, 2026-11-20): nothing is believed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import InstallFailed
from . import records
from .records import Record
from .snapshot import Entry

_BATCH = 50
"""Files that one task hashes."""

_MUST_LIST = ("METADATA", "WHEEL", "RECORD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, and of which distribution where one is concerned."""

    text: str
    package: str | None = None


def changed(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[str]:
    """The files and links that are new or other than they were."""
    return [path for path, entry in now.items() if not stat.S_ISDIR(entry.mode) and before.get(path) != entry]


def check(
    tree: Path,
    before: Mapping[str, Entry],
    now: Mapping[str, Entry],
    expected: Mapping[str, str],
    suspects: Iterable[str] = (),
) -> None:
    """Refuse a copy that is not exactly what it should be; `suspects` are files in which its path may stand.

    Raises InstallFailed(code="integrity"), with the names of damaged packages as `data["packages"]`.
    """
    problems = [
        *_wrong_set(tree, expected),
        *_litter(tree),
        *_wrong_records(tree, before, now),
        *_leaks(tree, suspects),
    ]
    if not problems:
        return
    shown = "\n".join(f"  {problem.text}" for problem in problems[:8])
    more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
    packages = sorted({problem.package for problem in problems if problem.package})
    raise InstallFailed(
        f"the new environment is not what was asked for:\n{shown}{more}",
        code="integrity",
        hint="the package cache may be damaged: uv cache clean " + " ".join(packages) + ", then run it again"
        if packages
        else "run it again; the environment is as it was",
        data={"packages": packages},
    )


def _wrong_set(tree: Path, expected: Mapping[str, str]) -> Iterator[Problem]:
    """Distributions that are missing, too many, at another version or there twice."""
    found: dict[str, str] = {}
    for info in records.infos(tree):
        named = records.name_and_version(tree, info)
        if named is None:
            yield Problem(text=f"{info} has no readable METADATA", package=records.name_of(info))
            continue
        name, version = named
        if name in found:
            yield Problem(text=f"{name} is there twice ({found[name]} and {version})")
        found[name] = version
    for name, version in expected.items():
        if name not in found:
            yield Problem(text=f"{name} {version} is missing")
        elif not _same_version(found[name], version):
            yield Problem(text=f"{name} is {found[name]}, not {version}")
    for name in sorted(found.keys() - expected.keys()):
        yield Problem(text=f"{name} {found[name]} is there, but nobody asked for it")


def _same_version(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _litter(tree: Path) -> Iterator[Problem]:
    """What an installer left half done: `~orch`, `.tmp…`."""
    for site in records.sites(tree):
        for name in sorted(os.listdir(tree / site)):
            if name.startswith(("~", ".tmp")):
                yield Problem(text=f"{site}/{name} is the rest of a broken install")


def _wrong_records(tree: Path, before: Mapping[str, Entry], now: Mapping[str, Entry]) -> Iterator[Problem]:
    """RECORDs that are torn, files that are missing, not what a RECORD says, or nobody's."""
    owners: dict[str, list[tuple[Record, str]]] = {}
    concerned: list[Record] = []
    for info in records.infos(tree):
        record = records.read(tree, info)
        is_changed = before.get(f"{info}/RECORD") != now.get(f"{info}/RECORD") or f"{info}/METADATA" not in before
        if record is not None:
            for row in record.rows:
                owners.setdefault(row.path, []).append((record, row.hash))
        if is_changed and record is None:
            yield Problem(text=f"{info} has no readable RECORD", package=records.name_of(info))
        elif is_changed and record is not None:
            concerned.append(record)
    for record in concerned:
        yield from _wrong_record(tree, record, now)
    fresh = set(changed(before, now))
    inside = tuple(f"{site}/" for site in records.sites(tree))
    for path in sorted(fresh - owners.keys()):
        if path.startswith(inside) and not path.endswith(".pyc"):
            yield Problem(text=f"{path} was written, but no RECORD lists it")
    to_hash = {row.path for record in concerned for row in record.rows if row.path in now} | (fresh & owners.keys())
    first = {id(record) for record in concerned}
    wanted = {
        path: {row for record, row in owners[path] if id(record) in first} or {row for _, row in owners[path]}
        for path in to_hash
        if not path.endswith(".pyc")
    }
    for path in _not_as_recorded(tree, wanted):
        yield Problem(text=f"{path} does not match its sha256", package=records.name_of(owners[path][0][0].info))


def _wrong_record(tree: Path, record: Record, now: Mapping[str, Entry]) -> Iterator[Problem]:
    package = records.name_of(record.info)
    listed = {row.path for row in record.rows}
    for name in _MUST_LIST:
        if f"{record.info}/{name}" not in listed:
            yield Problem(text=f"{record.file} does not list {name}", package=package)
    for row in record.rows:
        if row.path not in now and not row.path.endswith(".pyc") and not os.path.lexists(tree / row.path):
            yield Problem(text=f"{row.path} is missing, {record.file} lists it", package=package)


def _not_as_recorded(tree: Path, wanted: Mapping[str, set[str]]) -> Iterator[str]:
    """The paths whose sha256 is none of those that their owners state (a row without a hash states nothing)."""
    stated = {
        path: {one.rstrip("=") for one in hashes}
        for path, hashes in wanted.items()
        if all(one.startswith("sha256=") for one in hashes)
    }

    def differing(paths: Sequence[str]) -> list[str]:
        return [path for path in paths if records.digest(tree / path) not in stated[path]]

    paths = sorted(stated)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for wrong in pool.map(differing, (paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH))):
            yield from wrong


def _leaks(tree: Path, suspects: Iterable[str]) -> Iterator[Problem]:
    """Files and links that name the staging folder."""
    name = os.fsencode(tree.name)
    for path in suspects:
        file = tree / path
        found = os.lstat(file)
        if stat.S_ISLNK(found.st_mode):
            content = os.fsencode(os.readlink(file))
        elif stat.S_ISREG(found.st_mode):
            content = file.read_bytes()
        else:
            continue
        if name in content:
            yield Problem(text=f"{path} names the staging folder {tree.name}")
