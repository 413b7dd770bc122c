"""How is a complete copy of an environment made in a second?

Files that a RECORD owns with a hash, and bytecode, become hard links; everything else (pyvenv.cfg, scripts, RECORDs,
the user's own files) is copied, because tools write such files in place and would reach the old generation through the
link. Measured, with 32 mutating operations: reliability notes 2b.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import TargetUnusable
from . import records
from .snapshot import Entry, entry_of, walk
from .steps import step

_CANNOT_LINK = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})
"""A file system without hard links, a file with too many, a kernel that forbids them: copy then."""

_FICLONE = 0x40049409  # linux/fs.h


def clone(source: Path, target: Path, *, link: bool = True, say: Callable[[str], None]) -> dict[str, Entry]:
    """Fill the empty folder `target` with a copy of `source`; the snapshot of `source` as it was copied.

    `link=False` copies every file. Raises TargetUnusable for what cannot be copied faithfully (another owner's files,
    a mount in the middle), and OSError.
    """
    shared = _shareable(source) if link else frozenset()
    seen: dict[str, Entry] = {}
    folders: list[tuple[str, str]] = []
    top = os.lstat(source)
    for path, entry, found in walk(source, caches=True):
        _check_owner(entry.path, found, top)
        if "__pycache__" not in path:
            seen[path] = entry_of(found)
        new = os.path.join(target, path)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(new)
            folders.append((entry.path, new))
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(entry.path), new)
            shutil.copystat(entry.path, new, follow_symlinks=False)
        elif kind == stat.S_IFREG:
            step("clone-file")
            if not (link and (path in shared or path.endswith(".pyc")) and _link(entry.path, new)):
                _copy(entry.path, new)
        elif kind == stat.S_IFIFO and hasattr(os, "mkfifo"):
            os.mkfifo(new)
            shutil.copystat(entry.path, new)
        else:
            say(f"not copied, since it is a socket or a device: {entry.path}")
    for old, new in reversed(folders):
        shutil.copystat(old, new)
    shutil.copystat(source, target)
    return seen


def _shareable(tree: Path) -> frozenset[str]:
    """What may be a hard link: listed in a RECORD with a hash, below site-packages, and no RECORD itself."""
    inside = tuple(f"{site}/" for site in records.sites(tree))
    found: set[str] = set()
    for info in records.infos(tree):
        record = records.read(tree, info)
        if record is not None:
            found.update(row.path for row in record.rows if row.hash and row.path.startswith(inside))
            found.discard(record.file)
    return frozenset(found)


def _check_owner(path: str, found: os.stat_result, top: os.stat_result) -> None:
    if found.st_dev != top.st_dev:
        raise TargetUnusable(
            f"{path} is on another file system than the environment around it",
            code="mount-inside",
            hint="unmount it, or make an environment without a mount in its middle",
        )
    if os.name == "posix" and found.st_uid != os.geteuid():
        raise TargetUnusable(
            f"{path} belongs to another user (uid {found.st_uid}), probably from an earlier sudo pip",
            code="not-ours",
            hint=f"give the environment back to its user: sudo chown -R {os.geteuid()} {path}",
        )


def _link(old: str, new: str) -> bool:
    try:
        os.link(old, new, follow_symlinks=False) if os.link in os.supports_follow_symlinks else os.link(old, new)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        return False
    return True


def _copy(old: str, new: str) -> None:
    """Copy content, mode and times; copy on write where the file system can (btrfs, xfs)."""
    with open(old, "rb") as source, open(new, "xb") as target:
        if not _reflink(source.fileno(), target.fileno()):
            shutil.copyfileobj(source, target, 1 << 20)
    shutil.copystat(old, new)


def _reflink(source: int, target: int) -> bool:
    if os.uname().sysname != "Linux" if hasattr(os, "uname") else True:
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def restore(source: Path, target: Path, paths: Iterable[str]) -> None:
    """Put files of `source` back into its copy `target`, as they were."""
    for path in paths:
        new = target / path
        new.parent.mkdir(parents=True, exist_ok=True)
        if (source / path).is_symlink():
            os.symlink(os.readlink(source / path), new)
        elif not _link(str(source / path), str(new)):
            _copy(str(source / path), str(new))
