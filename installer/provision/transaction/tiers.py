"""How can this environment be replaced here, and what does that weaken?

Probed with the real calls, beside the environment, before anything else happens; `PROVISION_TIER` forces a weaker one.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from ..errors import TargetUnusable
from . import disk
from .place import Place
from .snapshot import NOT_OURS

VARIABLE = "PROVISION_TIER"


class Tier(StrEnum):
    """From the strongest to the weakest."""

    EXCHANGE = "exchange"
    INSIDE = "inside"
    RENAMES = "renames"
    COPY_UP = "copy-up"

    @property
    def weakens(self) -> str | None:
        """What a person must know of this tier, or None for the strongest."""
        return _WEAKENS.get(self)


_WEAKENS = {
    Tier.INSIDE: "the environment is a mount point or its parent cannot be written, so its folders are exchanged one "
    "after another: Python code in one step, scripts in the next. A kill in between is finished by the next command",
    Tier.RENAMES: "this file system cannot exchange two folders in one step: the environment is away for the moment "
    "between two renames. A kill in between is finished by the next command",
    Tier.COPY_UP: "the environment comes from a lower image layer and cannot be renamed: it is copied, removed and put "
    "back. A kill in between is finished by the next command",
}


def choose_place(target: Path) -> Place:
    """Whether the generations lie beside the environment or inside it. Raises TargetUnusable where neither works."""
    beside, inside = Place(target=target), Place(target=target, inside=True)
    if target.is_dir() and (is_mount_point(target) or os.environ.get(VARIABLE) == Tier.INSIDE):
        return inside
    parent = target.parent
    if os.access(parent, os.W_OK | os.X_OK):
        return beside
    if target.is_dir() and os.access(target, os.W_OK | os.X_OK):
        return inside
    unwritable = target if target.is_dir() else parent
    read_only = _read_only(unwritable)
    raise TargetUnusable(
        f"{unwritable} cannot be written"
        + (" (the file system is mounted read-only)" if read_only else f" by {_me()}"),
        code="read-only" if read_only else "permission",
        hint="give another environment with --env" + ("" if read_only else f", or: sudo chown -R $USER {unwritable}"),
    )


def probe(place: Place, *trees: Path) -> Tier:
    """The strongest tier that works here for the environment and `trees`. Raises TargetUnusable and OSError."""
    forced = _forced()
    if forced is not None and (forced is Tier.INSIDE) == place.inside:
        return forced
    if place.inside:
        if not all(_can_be_renamed(place, tree) for tree in place.target.iterdir() if _is_folder(tree)):
            raise TargetUnusable(
                f"{place.target} comes from a lower image layer, and its parent cannot be written: it cannot move",
                code="cannot-be-moved",
                hint="give another environment with --env",
            )
        return Tier.INSIDE
    if not all(_can_be_renamed(place, tree) for tree in (place.target, *trees) if tree.is_dir()):
        return Tier.COPY_UP
    return Tier.EXCHANGE if can_exchange(place.root) else Tier.RENAMES


def _forced() -> Tier | None:
    name = os.environ.get(VARIABLE)
    if name and name not in set(Tier):
        raise TargetUnusable(f"{VARIABLE}={name}: there is no such way", code="tier", hint=f"one of {', '.join(Tier)}")
    return Tier(name) if name else None


def can_exchange(folder: Path) -> bool:
    """Whether two folders can be exchanged here, shown by exchanging two."""
    with _two_folders(folder) as (one, other):
        before = disk.identity(one)
        try:
            disk.exchange(one, other)
        except OSError as error:
            if error.errno in disk.CANNOT_EXCHANGE:
                return False
            raise
        return disk.identity(other) == before


def _can_be_renamed(place: Place, tree: Path) -> bool:
    """Whether an existing tree can be renamed, asked without doing it.

    Only overlayfs refuses (EXDEV, for a folder of a lower layer), and only there is it asked: by a rename onto a folder
    that is not empty, which POSIX forbids everywhere, after overlayfs has looked at what would move.
    """
    if file_system(tree) != "overlay":
        return True
    with _two_folders(place.root) as (one, _):
        (one / "occupied").touch()
        try:
            os.rename(tree, one)
        except OSError as error:
            return error.errno != errno.EXDEV
        finally:
            (one / "occupied").unlink(missing_ok=True)
    return True


def _is_folder(tree: Path) -> bool:
    return tree.is_dir() and not tree.is_symlink() and tree.name not in NOT_OURS


@contextmanager
def _two_folders(folder: Path) -> Iterator[tuple[Path, Path]]:
    pair = folder / f"probe-{os.getpid()}-a", folder / f"probe-{os.getpid()}-b"
    for path in pair:
        path.mkdir()
    try:
        yield pair
    finally:
        for path in pair:
            path.rmdir()


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted exactly here (a bind mount of the same file system included)."""
    if os.path.ismount(path):
        return True
    return any(point == str(path) for point, _ in _mounts())


def file_system(path: Path) -> str | None:
    """The kind of file system that `path` is on (`ext4`, `overlay`, …), or None where it cannot be known."""
    best: tuple[str, str] | None = None
    for point, kind in _mounts():
        if (str(path) + "/").startswith(point.rstrip("/") + "/") and (best is None or len(point) >= len(best[0])):
            best = (point, kind)
    return best[1] if best else None


def _mounts() -> tuple[tuple[str, str], ...]:
    try:
        return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape"))
    except OSError:
        return ()


def parse_mountinfo(text: str) -> tuple[tuple[str, str], ...]:
    """(mount point, file system) of each line of /proc/self/mountinfo, in order; proc_pid_mountinfo(5).

    `36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw` → ("/mnt 2", "ext3")
    """
    found = []
    for line in text.splitlines():
        fields, dash, rest = line.partition(" - ")
        if dash:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4])
            found.append((point, rest.split(" ")[0]))
    return tuple(found)


def _read_only(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _me() -> str:
    return f"uid {os.geteuid()}" if os.name == "posix" else "this user"
