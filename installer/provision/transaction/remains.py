"""What belongs to a distribution that is to go, whole or broken?

A killed installer leaves distributions whose RECORD is torn or whose files are gone, folders named `~orch`, and
packages that no RECORD owns. uv refuses some of these for ever ("METADATA: No such file") and believes others to be
fine (reliability notes 0). So nothing of a distribution that is to be replaced is copied at all: the copy looks as if
it had never been there, and installing into it has nothing to remove.
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
    """Paths relative to an environment: single `files`, and folders with everything in them: `packages` and `infos`."""

    files: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    infos: frozenset[str] = frozenset()

    def __contains__(self, path: str) -> bool:
        return path in self.files or path in self.packages or path in self.infos


NOTHING = Remains()


def remains(tree: Path, names: Collection[str]) -> Remains:
    """All that belongs to these distributions (normalized names) and to no other, and the litter of broken uninstalls.

    A folder goes as a whole where no other distribution owns anything in it, so that what nobody lists goes too.
    """
    rows: set[str] = set()
    theirs: set[str] = set()
    packages: set[str] = set(litter(tree))
    infos: set[str] = set()
    for info in records.infos(tree):
        listed = {row.path for row in getattr(records.read(tree, info), "rows", ())}
        if records.name_of(info) in names:
            rows |= listed
            infos.add(info)
        else:
            theirs |= listed
    shared = _with_above({posixpath.dirname(path) for path in theirs})
    for site in records.sites(tree):
        shared |= _with_above({site})
        packages |= {f"{site}/{one}" for name in names for one in _IMPORTED_AS.get(name, (name.replace("-", "_"),))}
        own = _with_above({posixpath.dirname(path) for path in rows if path.startswith(f"{site}/")}) - shared
        packages |= {folder for folder in own if posixpath.dirname(folder) in shared}
    return Remains(
        files=frozenset(rows - theirs), packages=frozenset(packages - shared - infos), infos=frozenset(infos)
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
