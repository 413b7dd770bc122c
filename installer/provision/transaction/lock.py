"""Who may change this environment? One at a time; the lock dies with its last holder.

flock(2) on a file that is never unlinked while the folder holds anything else. Workers inherit the descriptor, so an
orphaned one keeps the next run out until it ends. POSIX record locks would be lost by merely opening the file again
(measured, Linux 6.18).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import TargetUnusable
from .place import Place, establish, unnoticed

_POLL_SECONDS = 0.1


class Lock:
    """The held lock of one environment; `fd` is for workers to inherit."""

    def __init__(self, place: Place, fd: int) -> None:
        self.place = place
        self.fd = fd

    def release(self) -> None:
        """Let go; a state folder that holds nothing goes too."""
        if self.fd < 0:
            return
        with contextlib.suppress(OSError):
            self.place.holder.unlink(missing_ok=True)
            if not any(self.place.gens.iterdir()) and not self.place.intent.exists() and not self.place.trash.exists():
                self._remove_folder()
        os.close(self.fd)
        self.fd = -1

    def _remove_folder(self) -> None:
        """Under the lock: who waits for it sees that the file is gone, and makes a new folder."""
        place = self.place
        place.gens.rmdir()
        for name in ("state.json", ".gitignore", "CACHEDIR.TAG", "lock"):
            (place.root / name).unlink(missing_ok=True)
        with unnoticed(place):
            place.root.rmdir()


def acquire(place: Place, *, wait: float = 0.0, say: Callable[[str], None] | None = None) -> Lock:
    """The lock, within `wait` seconds. Raises TargetUnusable(code="locked") naming who holds it, and OSError."""
    deadline = time.monotonic() + wait
    told = False
    while True:
        lock = _try(place)
        if lock is not None:
            started = time.strftime("%H:%M:%S")
            with contextlib.suppress(OSError):
                place.holder.write_text(f"{os.getpid()} {started}\n", encoding="utf-8")
            return lock
        who = holder(place) or "another run"
        if time.monotonic() >= deadline:
            raise TargetUnusable(
                f"{place.target} is being changed by {who}",
                code="locked",
                hint="wait until it is done; nothing has been changed by this run",
            )
        if not told and say is not None:
            say(f"waiting for {who} to finish with {place.target}")
            told = True
        time.sleep(_POLL_SECONDS)


def holder(place: Place) -> str | None:
    """Who holds (or last held) the lock, in words; for messages only."""
    try:
        pid, started = place.holder.read_text(encoding="utf-8").split()
        number = int(pid)
    except (OSError, ValueError):
        return None
    if os.name == "posix":
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return f"a command that an ended run (pid {pid}, started {started}) left behind"
        except PermissionError:
            pass
    return f"another run (pid {pid}, started {started})"


def busy(place: Place) -> bool:
    """Whether somebody holds the lock just now."""
    if not place.lock.exists():
        return False
    try:
        fd = os.open(place.lock, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        return not _take(fd)
    finally:
        os.close(fd)


def _try(place: Place) -> Lock | None:
    """One attempt. A folder that was removed while we opened the file is made again."""
    for _ in range(100):
        try:
            establish(place)
            fd = os.open(place.lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except FileNotFoundError:
            continue
        if not _take(fd):
            os.close(fd)
            return None
        if _same(fd, place.lock) and place.gens.is_dir():
            return Lock(place, fd)
        os.close(fd)
    return None


def _same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


if os.name == "posix":
    import fcntl

    def _take(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

else:  # not yet seen on Windows
    import msvcrt

    def _take(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True


@contextlib.contextmanager
def neighbours_lock(tree: Path, *, seconds: float = 10.0) -> Iterator[None]:
    """Hold uv's own lock of an environment (`.lock` in it), where uv has made one, so that no uv is half way.

    Raises TargetUnusable(code="locked") when another uv does not let go within `seconds`.
    """
    if os.name != "posix":
        yield
        return
    try:
        fd = os.open(tree / ".lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + seconds
        while not _take(fd):
            if time.monotonic() >= deadline:
                raise TargetUnusable(
                    f"uv is changing {tree} just now", code="locked", hint="wait until it is done, then run it again"
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)
