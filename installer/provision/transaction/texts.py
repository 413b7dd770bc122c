"""How are the few files of our own at the top of an environment written, in a staged copy and in a live environment?

Each file is replaced in one step by a new inode (the old one may be shared with a kept generation), in the order given,
so that every state between two of them must be one that may stay.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import TargetUnusable
from . import generations, guard, heal, lock, signals, snapshot, tiers
from .outcome import honest
from .place import real
from .steps import step

Files = Mapping[str, str | None]
"""Name → text; None for a file that shall not be there."""


def put(tree: Path, files: Files, *, temporary: Path | None = None) -> None:
    """Write files at the top of a tree, by way of the folder `temporary` (of the same disk). Raises OSError."""
    for name, text in files.items():
        step("put")
        path = tree / name
        if text is None:
            path.unlink(missing_ok=True)
            continue
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        new = (temporary or tree) / f"{name}.new"
        try:
            with open(new, "wb") as file:
                if mode is not None:
                    os.chmod(new, mode)
                file.write(text.encode("utf-8", "surrogateescape"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def put_live(target: Path, files: Files, *, say: Callable[[str], None]) -> bool:
    """See `transaction.put`."""
    target = real(target)
    if not guard.check(target):
        raise TargetUnusable(f"there is no environment at {target}", code="no-environment", hint="provision makes one")
    with honest(f"writing into {target}"):
        if all(read(target / name) == text for name, text in files.items()):
            return False
        place = tiers.choose_place(target)
        held = lock.acquire(place, say=say)
        try:
            with signals.waiting():
                heal.heal(place, say)
                ours = generations.live_id(place, snapshot.take(target))
                put(target, files, temporary=place.root)  # where a next run sweeps
                if ours is not None:  # it is still what we made: what it holds is known
                    snapshot.save(place.gens / f"{ours}.seal", snapshot.take(target), durable=True)
        finally:
            held.release()
    return True


def read(path: Path) -> str | None:
    """The text of such a file, whatever its bytes are; None where there is none."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
