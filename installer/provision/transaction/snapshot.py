"""What does a tree hold, and has it changed since?

One walk, no file is read: mode, size, mtime and inode of everything but bytecode caches, which any import may write.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import BadData
from . import disk
from .place import SUFFIX

SCHEMA = 1

NOT_OURS = frozenset({SUFFIX, ".lock", "lost+found"})
"""At the top of an environment: our own folder, uv's lock (sharing it would share the locking), a mount's own."""


class Entry(NamedTuple):
    """One file, link or folder. A folder's size, mtime and inode are 0: they change when a cache is written."""

    mode: int
    size: int
    mtime_ns: int
    ino: int


Snapshot = Mapping[str, Entry]
"""Relative path with forward slashes → Entry."""


def walk(
    tree: Path, *, caches: bool = False, passing: Collection[str] = (), closed: Collection[str] = ()
) -> Iterator[tuple[str, os.DirEntry[str], os.stat_result]]:
    """Everything in `tree`, folders before what they hold.

    `__pycache__` only where `caches` asks for it, nothing in `passing`; of the folders in `closed` only themselves.
    """
    pending = [(str(tree), "")]
    while pending:
        folder, prefix = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if not prefix and entry.name in NOT_OURS:
                    continue
                if entry.name == "__pycache__" and not caches:
                    continue
                path = prefix + entry.name
                if path in passing:
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield path, entry, found
                if stat.S_ISDIR(found.st_mode) and path not in closed:
                    pending.append((entry.path, path + "/"))


def entry_of(found: os.stat_result) -> Entry:
    if stat.S_ISDIR(found.st_mode):
        return Entry(found.st_mode, 0, 0, 0)
    return Entry(found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino)


def take(tree: Path) -> dict[str, Entry]:
    """The snapshot of `tree`. Raises OSError."""
    return {path: entry_of(found) for path, _, found in walk(tree)}


def differences(old: Snapshot, new: Snapshot, *, inodes: bool = True) -> list[str]:
    """The paths that were added, removed or changed, sorted."""
    if not inodes:
        old = {path: entry._replace(ino=0) for path, entry in old.items()}
        new = {path: entry._replace(ino=0) for path, entry in new.items()}
    return sorted(
        [path for path, entry in new.items() if old.get(path) != entry] + [path for path in old if path not in new]
    )


def save(path: Path, snapshot: Snapshot, *, durable: bool = False) -> None:
    """Write a seal: the snapshot without inodes. If not `durable`, `swap.flush` flushes it with its tree."""
    text = json.dumps(
        {
            "schema": SCHEMA,
            "files": {name: [entry.mode, entry.size, entry.mtime_ns] for name, entry in snapshot.items()},
        }
    )
    disk.write(path, text, durable=durable)


def load(path: Path) -> dict[str, Entry] | None:
    """Read a seal; None where there is none. Raises BadData for one that a newer provision wrote or that is torn."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] > SCHEMA:
            raise BadData(
                f"{path} was written by a newer provision", code="schema-too-new", hint="update torch-provision"
            )
        return {name: Entry(mode, size, mtime_ns, 0) for name, (mode, size, mtime_ns) in data["files"].items()}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{path} cannot be read as a seal ({error})", code="bad-seal") from error
