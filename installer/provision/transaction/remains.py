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
    """Paths relative to an environment: single `files`, and `folders` with everything in them."""

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()


NOTHING = Remains()


def remains(tree: Path, names: Collection[str]) -> Remains:
    """All that belongs to these distributions (normalized names) and to no other, and the litter of broken uninstalls.

    A folder goes as a whole where no other distribution owns anything in it, so that what nobody lists goes too.
    """
    rows: set[str] = set()
    theirs: set[str] = set()
    folders: set[str] = set(litter(tree))
    for info in records.infos(tree):
        listed = {row.path for row in getattr(records.read(tree, info), "rows", ())}
        if records.name_of(info) in names:
            rows |= listed
            folders.add(info)
        else:
            theirs |= listed
    shared = {folder for path in theirs for folder in _above(path)}
    for site in records.sites(tree):
        shared |= {site, *_above(site)}
        imported = {one for name in names for one in _IMPORTED_AS.get(name, (name.replace("-", "_"),))}
        folders |= {f"{site}/{one}" for one in imported} - shared
        for path in rows:
            if path.startswith(f"{site}/"):
                own = [folder for folder in _above(path) if folder not in shared and len(folder) > len(site)]
                folders.update(own[-1:])
    return Remains(files=frozenset(rows - theirs), folders=frozenset(folders))


def _above(path: str) -> Iterator[str]:
    """The folders of a path, the nearest first."""
    while path := posixpath.dirname(path):
        yield path


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
