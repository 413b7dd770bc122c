"""What belongs to a distribution that is to go, whole or broken?

It is left out of the copy: then installing its successor has nothing to remove. Of a whole distribution that is what
its RECORD lists. A killed installer leaves RECORDs that are torn, packages that no RECORD owns and folders named
`~orch`; uv 0.13.8 refuses some of these for ever ("METADATA: No such file") and believes others to be fine: of such a
distribution everything goes that lies in its packages.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import records

_IMPORTED_AS = {"torch": ("torch", "torchgen", "functorch")}
"""The top-level packages of distributions whose name does not tell them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What goes, relative to an environment: `files`; `folders` that hold nothing else as far as RECORDs tell;
    dist-info folders (`infos`); and `closed`, folders that go whatever they hold."""

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    infos: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()


NOTHING = Remains()


def remains(tree: Path, names: Collection[str]) -> Remains:
    """All that belongs to these distributions (normalized names) and to no other, and broken uninstalls' litter."""
    rows: set[str] = set()
    theirs: set[str] = set()
    infos: set[str] = set()
    broken = set(names)
    for info in records.infos(tree):
        record = records.read(tree, info)
        listed = {row.path for row in record.rows} if record is not None else set()
        name = records.name_of(info)
        if name not in names:
            theirs |= listed
            continue
        rows |= listed
        infos.add(info)
        if f"{info}/RECORD" in listed and os.path.exists(tree / info / "METADATA"):
            broken.discard(name)
    shared = _with_above({posixpath.dirname(path) for path in theirs} | set(records.sites(tree)) | {"bin", "Scripts"})
    packages = {one for name in broken for one in _IMPORTED_AS.get(name, (name.replace("-", "_"),))}
    own = _with_above({posixpath.dirname(path) for path in rows}) - shared - infos
    closed = {f"{site}/{package}" for site in records.sites(tree) for package in packages} - shared
    return Remains(
        files=frozenset(path for path in rows - theirs if posixpath.dirname(path) not in infos),
        folders=frozenset(own),
        infos=frozenset(infos),
        closed=frozenset(litter(tree)) | closed,
    )


def _with_above(folders: set[str]) -> set[str]:
    """These folders and all those that they lie in."""
    found = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    return found


def litter(tree: Path) -> tuple[str, ...]:
    """The folders that pip and uv leave when they are ended in the middle (`~orch`), relative to the environment."""
    return tuple(
        f"{site}/{name}"
        for site in records.sites(tree)
        for name in sorted(os.listdir(tree / site))
        if name.startswith("~")
    )


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
    name = posixpath.basename(info)
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
