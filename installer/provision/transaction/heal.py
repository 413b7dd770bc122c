"""What did an earlier run leave unfinished, and what is done about it?

Nothing here asks a person: a commit that had begun is finished, everything else is discarded. It runs under the lock
and may itself be ended anywhere.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable

from . import disk, swap
from .place import Place, is_undescribed
from .steps import step

_UNFINISHED = (".staging", ".out", ".new")


def heal(place: Place, say: Callable[[str], None]) -> bool:
    """Finish or undo what was begun; whether there was anything. Raises OSError where the disk does not allow it."""
    if not place.untidy():
        return False
    intent = swap.read_intent(place)
    if intent is not None:
        if swap.position(place, intent) is swap.Position.BEFORE:
            swap.forget(place)
            say("an earlier run ended before its commit: the environment is as it was")
        elif swap.superseded(place, intent):
            disk.move(place.gens / str(intent.outgoing), place.gens / str(intent.leaving))
            swap.forget(place)
            say(f"somebody made a new {place.target} after an earlier run ended: it stays, the old one is kept")
        else:
            swap.carry_out(place, intent)
            swap.finish(place, intent)
            say("an earlier run ended after its commit began: its new environment is now in place")
    sweep(place, say)
    return True


def sweep(place: Place, say: Callable[[str], None]) -> None:
    """Discard unfinished trees and empty the trash. What cannot be deleted is said, and tried again next time."""
    held = set(os.listdir(place.gens))
    discard(place, (name for name in held if name.endswith(_UNFINISHED) or is_undescribed(name, held)))
    for name in os.listdir(place.root):
        if name.startswith("probe-") or name.endswith(".new"):
            disk.remove(place.root / name)
    held = set(os.listdir(place.gens))
    live = swap.read_state(place).get("live")
    for name in held:
        stem, suffix = os.path.splitext(name)
        if suffix and stem not in held and stem != live:
            (place.gens / name).unlink()
    empty_trash(place, say)


def discard(place: Place, names: Iterable[str]) -> None:
    """Take trees out of the generations: each is there whole and described, or it is not there."""
    for name in names:
        for suffix in (".json", ".seal"):
            (place.gens / f"{name}{suffix}").unlink(missing_ok=True)
        place.trash.mkdir(mode=0o700, exist_ok=True)
        try:
            os.rename(place.gens / name, place.trash / f"{name}-{secrets.token_hex(3)}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            disk.remove(place.gens / name)  # from a lower image layer: it cannot be renamed


def empty_trash(place: Place, say: Callable[[str], None]) -> None:
    """Delete what lies in the trash."""
    if not place.trash.is_dir():
        return
    step("trash")
    try:
        disk.remove(place.trash)
    except OSError as error:
        say(f"could not delete {error.filename or place.trash} ({error.strerror}); the next command tries again")
