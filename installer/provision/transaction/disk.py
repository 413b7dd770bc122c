"""How is a directory exchanged, flushed or thrown away on this system? The few calls everything rests on.

Linux: renameat2(2) with RENAME_EXCHANGE and RENAME_NOREPLACE, syncfs(2). macOS: renamex_np(2) with RENAME_SWAP and
RENAME_EXCL, F_FULLFSYNC. Windows: MoveFileExW without replacing, FlushFileBuffers. The macOS and Windows branches are
written from the manuals and have not been seen on those systems yet.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h
_MAC_SWAP, _MAC_EXCL = 2, 4  # sys/stdio.h of macOS
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
"""System call numbers, for a libc without the wrapper (musl before 1.2.6): arch/*/entry/syscalls of Linux 6.18."""

_F_FULLFSYNC = 51

CANNOT_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM})
"""What a file system without the exchange answers."""


def exchange(one: Path, other: Path) -> None:
    """Swap two existing paths in one atomic step. Raises OSError; ENOSYS where the system has no such call."""
    _rename(one, other, linux=_EXCHANGE, mac=_MAC_SWAP)


def move(source: Path, target: Path) -> None:
    """Rename, never onto something that exists: FileExistsError then."""
    if os.name == "nt":
        os.rename(source, target)  # MoveFileExW without MOVEFILE_REPLACE_EXISTING
        return
    try:
        _rename(source, target, linux=_NOREPLACE, mac=_MAC_EXCL)
    except OSError as error:
        if error.errno not in CANNOT_EXCHANGE:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)


def _rename(source: Path, target: Path, *, linux: int, mac: int) -> None:
    import ctypes

    one, other = os.fsencode(source), os.fsencode(target)
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "renameat2"):
            failed = libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, linux)
        else:
            number = _RENAMEAT2.get(os.uname().machine)
            if number is None:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
            failed = libc.syscall(number, _AT_FDCWD, one, _AT_FDCWD, other, linux)
    elif sys.platform == "darwin":
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.renamex_np(one, other, mac)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


def flush(tree: Path, changed: Iterable[Path] = ()) -> None:
    """Everything written into `tree` is on the disk when this returns. Raises OSError.

    One syncfs where there is one; elsewhere every file of `changed` is flushed by itself.
    """
    if sys.platform == "linux":
        import ctypes

        handle = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(tree))
        finally:
            os.close(handle)
        return
    for path in changed:
        with contextlib.suppress(FileNotFoundError), open(path, "r+b" if os.name == "nt" else "rb") as file:
            os.fsync(file.fileno())
    flush_folder(tree)


def flush_folder(folder: Path) -> None:
    """The names in `folder` are on the disk when this returns (Windows keeps them itself)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(handle, _F_FULLFSYNC)
    finally:
        os.close(handle)


def write(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a small file so that it is whole or absent, now and, where `durable`, after a power cut."""
    new = path.with_name(path.name + ".new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(new, path)
    if durable:
        flush_folder(path.parent)


def remove(tree: Path) -> None:
    """Delete a tree, also one with folders that may not be written. Raises OSError for what cannot go."""
    try:
        found = os.lstat(tree)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(tree)
        return
    try:
        shutil.rmtree(tree)
    except PermissionError:
        _make_removable(tree)
        shutil.rmtree(tree)


def _make_removable(folder: Path) -> None:
    os.chmod(folder, stat.S_IRWXU)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _make_removable(Path(entry.path))
            elif os.name == "nt":
                os.chmod(entry.path, stat.S_IWRITE)


def identity(path: Path) -> int | None:
    """The inode (file index on Windows) that is at `path`, or None where nothing is."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None
