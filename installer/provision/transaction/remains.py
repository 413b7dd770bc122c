"""What is left of an install that broke, and how does it go?

A killed installer leaves distributions whose RECORD is torn or whose files are gone, folders named `~orch`, and
packages that no RECORD owns. uv refuses some of these for ever ("METADATA: No such file") and believes others to be
fine (reliability notes 0), so they are found by looking, and taken out before anything is installed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from . import disk, records

_IMPORTED_AS = {"torch": ("torch", "torchgen", "functorch")}
"""The top-level packages of distributions whose name does not tell them all."""


def damaged(tree: Path) -> dict[str, str]:
    """The distributions of an environment that are not whole, by normalized name, each with what is wrong.

    Looks at RECORDs and sizes; no file is hashed.
    """
    found: dict[str, str] = {}
    for info in records.infos(tree):
        problem = next(_damage(tree, info), None)
        if problem is not None:
            found.setdefault(records.name_of(info), problem)
    return found


def _damage(tree: Path, info: str) -> Iterator[str]:
    name = os.path.basename(info)
    if records.name_and_version(tree, info) is None:
        yield f"{name} has no METADATA"
    record = records.read(tree, info)
    if record is None:
        yield f"{name} has no RECORD"
        return
    if not any(row.path == record.file for row in record.rows):
        yield f"{name}/RECORD is torn"
    for row in record.rows:
        if row.path.endswith(".pyc"):
            continue
        try:
            size = os.stat(tree / row.path).st_size
        except OSError:
            yield f"{row.path} is missing"
            continue
        if row.size and row.hash and row.size != str(size):
            yield f"{row.path} has {size} bytes, not {row.size}"


def litter(tree: Path) -> tuple[str, ...]:
    """The folders that pip and uv leave when they are ended in the middle (`~orch`), relative to the environment."""
    return tuple(
        f"{site}/{name}"
        for site in records.sites(tree)
        for name in sorted(os.listdir(tree / site))
        if name.startswith("~")
    )


def clear(tree: Path, names: Collection[str]) -> tuple[str, ...]:
    """Take out all that is left of these distributions (normalized names); what went, relative to the environment.

    What another distribution owns stays.
    """
    gone: list[str] = []
    theirs = {
        row.path
        for info in records.infos(tree)
        if records.name_of(info) not in names
        for row in getattr(records.read(tree, info), "rows", ())
    }
    for info in records.infos(tree):
        if records.name_of(info) not in names:
            continue
        for row in getattr(records.read(tree, info), "rows", ()):
            if row.path not in theirs and os.path.lexists(tree / row.path) and not (tree / row.path).is_dir():
                (tree / row.path).unlink()
                gone.append(row.path)
        disk.remove(tree / info)
        gone.append(info)
    for site in records.sites(tree):
        for package in sorted({one for name in names for one in _IMPORTED_AS.get(name, (name.replace("-", "_"),))}):
            gone += _clear_folder(tree, f"{site}/{package}", theirs)
    for folder in sorted({os.path.dirname(path) for path in gone}, key=len, reverse=True):
        _remove_empty(tree, folder)
    return tuple(gone)


def _clear_folder(tree: Path, package: str, theirs: Collection[str]) -> Iterator[str]:
    """Everything below a package's folder that no other distribution owns."""
    for folder, _, files in os.walk(tree / package, topdown=False):
        for name in files:
            path = Path(folder, name).relative_to(tree).as_posix()
            if path not in theirs:
                (tree / path).unlink()
                yield path
        if not os.listdir(folder):
            os.rmdir(folder)


def _remove_empty(tree: Path, folder: str) -> None:
    """Remove a folder that holds nothing but bytecode, and those above it, up to site-packages."""
    while folder and not folder.endswith(("site-packages", "bin", "Scripts")) and (tree / folder).is_dir():
        if set(os.listdir(tree / folder)) - {"__pycache__"}:
            return
        disk.remove(tree / folder)
        folder = os.path.dirname(folder)
