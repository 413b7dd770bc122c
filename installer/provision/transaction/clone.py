"""How is a complete copy of an environment made in a second?

Files that a RECORD owns with a hash, and bytecode, become hard links; everything else (pyvenv.cfg, scripts, RECORDs,
the user's own files) is copied, because tools write such files in place and would reach the old generation through the
link. Into a linked file uv 0.13.8, pip 26.3, ensurepip, compileall and imports never write in place (2026-11-20);
patchelf, strip or chmod do, and the seal of the generation shows it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import TargetUnusable
from . import records
from .remains import NOTHING, Remains
from .snapshot import Entry, entry_of, walk
from .steps import step

_CANNOT_LINK = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})
"""A file system without hard links, a file with too many, a kernel that forbids them: copy then."""

_FICLONE = 0x40049409  # linux/fs.h


@dataclass(slots=True, kw_only=True)
class Cloned:
    """The snapshots of the copy, and of the source as far as it was looked at."""

    source: dict[str, Entry] = field(default_factory=dict)
    copy: dict[str, Entry] = field(default_factory=dict)


def clone(
    source: Path, target: Path, *, link: bool = True, without: Remains = NOTHING, say: Callable[[str], None]
) -> Cloned:
    """Fill the empty folder `target` with a copy of `source`, `without` what is to go.

    `link=False` copies every file. Of a package that goes only the metadata are looked at.
    Raises TargetUnusable for what cannot be copied faithfully (another owner's files, a mount in the middle), and
    OSError; FileNotFoundError means that somebody changes the tree under our hands.
    """
    shared = _shareable(source, without) if link else frozenset()
    cloned = Cloned()
    folders: list[tuple[str, str]] = []
    top = os.lstat(source)
    gone: set[str] = set()

    def make(folder: str) -> None:
        """A folder of the copy; those that would be empty without what goes are made when something else is in them."""
        if folder and folder not in cloned.copy:
            make(folder.rpartition("/")[0])
            os.mkdir(os.path.join(target, folder))
            folders.append((os.path.join(source, folder), os.path.join(target, folder)))
            cloned.copy[folder] = cloned.source[folder]

    for path, entry, found in walk(source, caches=True, passing=without.files, closed=without.closed):
        _check_owner(entry.path, found, top)
        above = path.rpartition("/")[0]
        is_folder = stat.S_ISDIR(found.st_mode)
        if "__pycache__" in path:
            if not _cache_goes(path, without):
                os.mkdir(os.path.join(target, path)) if is_folder else _share(entry.path, os.path.join(target, path))
            continue
        cloned.source[path] = row = entry_of(found)
        if path in without.closed or path in without.infos or above in gone:
            gone.add(path)
        elif is_folder:
            if path not in without.folders:
                make(path)
        else:
            make(above)
            new = os.path.join(target, path)
            linked = _reproduce(entry.path, new, found, link=path in shared)
            if linked is None:
                say(f"not copied, since it is a socket or a device: {entry.path}")
            else:
                cloned.copy[path] = row if linked else entry_of(os.lstat(new))
    for old, new in reversed(folders):
        shutil.copystat(old, new)
    shutil.copystat(source, target)
    return cloned


def _cache_goes(path: str, without: Remains) -> bool:
    """Whether bytecode (or its folder) belongs to what goes."""
    folder, _, name = path.partition("/__pycache__")
    return folder in without.folders or f"{folder}/{name[1:].partition('.')[0]}.py" in without.files


def _shareable(tree: Path, without: Remains) -> frozenset[str]:
    """What may be a hard link: listed in a RECORD with a hash, below site-packages, and no RECORD itself."""
    inside = tuple(f"{site}/" for site in records.sites(tree))
    found: set[str] = set()
    for info in records.infos(tree):
        record = records.read(tree, info) if info not in without.infos else None
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


def _reproduce(old: str, new: str, found: os.stat_result, *, link: bool) -> bool | None:
    """Make `new` what `old` is: True for a hard link, False for a copy, None for what cannot be copied."""
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(old), new)
        shutil.copystat(old, new, follow_symlinks=False)
    elif kind == stat.S_IFREG:
        step("clone-file")
        if link and _link(old, new):
            return True
        _copy(old, new)
    elif kind == stat.S_IFIFO and sys.platform != "win32":
        os.mkfifo(new)
        shutil.copystat(old, new)
    else:
        return None
    return False


def _share(old: str, new: str) -> None:
    """Bytecode, which whoever imports replaces at any time."""
    with contextlib.suppress(FileNotFoundError):
        if not _link(old, new):
            _copy(old, new)


def _link(old: str, new: str) -> bool:
    try:
        os.link(old, new)
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
    if sys.platform != "linux":
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
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        _reproduce(str(source / path), str(target / path), os.lstat(source / path), link=True)
