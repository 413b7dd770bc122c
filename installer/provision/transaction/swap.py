"""How does one tree take the place of another, and what is left to do if the process ends in the middle?

The intent is on disk before anything moves. From it and from what lies where, `position` knows whether the commit has
happened; `carry_out` and `finish` may be run again from any position and only ever go forward.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import BadData
from . import disk
from .place import Place
from .snapshot import NOT_OURS
from .steps import step
from .tiers import Tier

SCHEMA = 1

_NEWER = "update torch-provision, or run the newer one once more: it finishes what it began"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a commit is about to do. Names are those below `gens/`.

    `incoming` is the tree that comes (None: the environment goes away), `leaving` the name that the live tree gets
    among the generations (None: there is no live tree), `outgoing` where it lies between the swap and that.
    """

    tier: Tier
    incoming: str | None
    incoming_ino: int | None
    leaving: str | None
    outgoing: str | None
    live: str | None
    before: str | None
    entries: tuple[tuple[str, int], ...] = ()
    """Only for Tier.INSIDE: what `incoming` holds at its top, with inodes."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


class Position(StrEnum):
    BEFORE = "before"
    HALF = "half"
    AFTER = "after"


def read_intent(place: Place) -> Intent | None:
    """The intent that an earlier run left, or None. Raises BadData for one of a newer provision."""
    try:
        data = json.loads(place.intent.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadData(f"{place.intent} cannot be read ({error})", code="bad-intent") from error
    if data.pop("schema") > SCHEMA:
        raise BadData(
            f"{place.intent} was written by a newer provision",
            code="schema-too-new",
            hint=_NEWER,
        )
    return Intent(**{**data, "tier": Tier(data["tier"]), "entries": tuple((n, i) for n, i in data["entries"])})


def position(place: Place, intent: Intent) -> Position:
    """Whether the commit has happened, seen from what lies where."""
    comes = intent.incoming is not None and os.path.lexists(place.gens / intent.incoming)
    left = any(name is not None and os.path.lexists(place.gens / name) for name in (intent.outgoing, intent.leaving))
    if intent.tier is Tier.INSIDE:
        return _position_inside(place, intent)
    if intent.incoming is None:
        return Position.AFTER if left and not os.path.lexists(place.target) else Position.BEFORE
    if intent.leaving is None or intent.tier is Tier.EXCHANGE:
        arrived = disk.identity(place.target) == intent.incoming_ino
        return Position.AFTER if arrived else Position.BEFORE
    begun = not os.path.lexists(place.target / "pyvenv.cfg") if intent.tier is Tier.COPY_UP else left
    if comes and not begun:
        return Position.BEFORE
    return Position.HALF if comes else Position.AFTER


def superseded(place: Place, intent: Intent) -> bool:
    """Whether, between our two renames, somebody else has put something at the environment's path."""
    return intent.tier is Tier.RENAMES and position(place, intent) is Position.HALF and os.path.lexists(place.target)


def flush(place: Place, changed: Iterable[Path] = ()) -> None:
    """Everything that a commit will make visible is on the disk when this returns. Raises OSError."""
    step("flush")
    disk.flush(place.gens, changed)
    step("flushed")


def commit(place: Place, intent: Intent) -> None:
    """From a flushed tree to a live one, durable at the end. Raises OSError wherever it fails."""
    step("intent")
    disk.write(place.intent, json.dumps(intent.to_json()))
    step("intended")
    carry_out(place, intent)
    step("swapped")
    finish(place, intent)


def carry_out(place: Place, intent: Intent) -> None:
    """Put the incoming tree in place, from wherever an earlier attempt stopped."""
    target = place.target
    incoming = place.gens / intent.incoming if intent.incoming else None
    outgoing = place.gens / intent.outgoing if intent.outgoing else None
    now = position(place, intent)
    if now is Position.AFTER:
        return
    if intent.tier is Tier.INSIDE:
        _carry_out_inside(place, intent)
    elif incoming is None:
        assert outgoing is not None
        disk.move(target, outgoing)
    elif outgoing is None:
        disk.move(incoming, target)
    elif intent.tier is Tier.EXCHANGE:
        disk.exchange(incoming, target)
    else:
        if intent.tier is Tier.COPY_UP:
            disk.remove(target / "pyvenv.cfg")  # from now on nobody takes it for an environment: see `position`
            disk.remove(target)
        elif now is Position.BEFORE:
            disk.move(target, outgoing)
        step("swap-half")
        disk.move(incoming, target)


def undo(place: Place, intent: Intent) -> None:
    """After an error between two renames: put the leaving tree back at once. Raises OSError.

    The other tiers only go forward: their incoming tree is proven and complete, and so is the way to it.
    """
    if intent.tier is Tier.RENAMES and position(place, intent) is Position.HALF and intent.outgoing:
        disk.move(place.gens / intent.outgoing, place.target)


def finish(place: Place, intent: Intent) -> None:
    """After the swap: make it durable, name the old tree, say what is live, forget the intent."""
    disk.flush_folder(place.target.parent if not place.inside else place.target)
    step("parents-synced")
    if intent.outgoing is not None and intent.leaving is not None:
        step("retire")
        if os.path.lexists(place.gens / intent.outgoing) and intent.outgoing != intent.leaving:
            disk.move(place.gens / intent.outgoing, place.gens / intent.leaving)
        step("retired")
    if intent.tier is Tier.INSIDE and intent.incoming is not None:
        disk.remove(place.gens / intent.incoming)
    disk.flush_folder(place.gens)
    step("state")
    state = {"schema": SCHEMA, "live": intent.live, "before": intent.before, "ino": disk.identity(place.target)}
    disk.write(place.state, json.dumps(state))
    step("finish")
    forget(place)
    step("finished")


def forget(place: Place) -> None:
    """Remove the intent. If a power cut brings it back, it is seen to have been carried out, and forgotten again."""
    place.intent.unlink(missing_ok=True)


def intent_for(
    place: Place, tier: Tier, *, incoming: str | None, leaving: str | None, live: str | None, before: str | None
) -> Intent:
    """The intent of exchanging the live tree (to be called `leaving`) for `gens/incoming`."""
    if leaving is None:
        outgoing = None
    elif tier is Tier.EXCHANGE and incoming is not None:
        outgoing = incoming
    else:
        outgoing = f"{leaving}.out"
    tree = place.gens / incoming if incoming else None
    entries: tuple[tuple[str, int], ...] = ()
    if tier is Tier.INSIDE and tree is not None:
        entries = tuple((name, os.lstat(tree / name).st_ino) for name in _names(tree))
    return Intent(
        tier=tier,
        incoming=incoming,
        incoming_ino=disk.identity(tree) if tree else None,
        leaving=leaving,
        outgoing=outgoing,
        live=live,
        before=before,
        entries=entries,
    )


def read_state(place: Place) -> dict[str, Any]:
    """`state.json`: {"live": id or None, "before": id or None, "ino": inode of the live tree}; {} where there is none.

    Raises BadData for one that a newer provision wrote.
    """
    try:
        data = json.loads(place.state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    if data.get("schema", SCHEMA) > SCHEMA:
        raise BadData(f"{place.state} was written by a newer provision", code="schema-too-new", hint=_NEWER)
    return data


# Inside an environment: each entry at its top is exchanged (or renamed) by itself. The old ones gather in `outgoing`.


def _names(tree: Path) -> list[str]:
    """The top of a tree, the libraries last: when they come, everything else is there."""
    return sorted((name for name in os.listdir(tree) if name not in NOT_OURS), key=lambda name: (name == "lib", name))


def _position_inside(place: Place, intent: Intent) -> Position:
    if intent.outgoing is None or not os.path.lexists(place.gens / intent.outgoing):
        done = intent.leaving is not None and os.path.lexists(place.gens / intent.leaving)
        return Position.AFTER if done else Position.BEFORE
    arrived = {name: disk.identity(place.target / name) == ino for name, ino in intent.entries}
    waiting = bool(_names(place.gens / intent.incoming)) if intent.incoming else False
    left = set(_names(place.target)) - set(arrived)
    if all(arrived.values()) and not waiting and not left:
        return Position.AFTER
    return Position.HALF if any(arrived.values()) or _names(place.gens / intent.outgoing) else Position.BEFORE


def _carry_out_inside(place: Place, intent: Intent) -> None:
    assert intent.outgoing is not None
    incoming = place.gens / str(intent.incoming)
    outgoing = place.gens / intent.outgoing
    outgoing.mkdir(mode=0o700, exist_ok=True)
    wanted = dict(intent.entries)
    for name in sorted({*_names(place.target), *wanted}, key=lambda name: (name == "lib", name)):
        live = place.target / name
        if name in wanted and disk.identity(live) != wanted[name]:
            if os.path.lexists(live):
                _exchange_or_rename(incoming / name, live, outgoing / name)
            else:
                disk.move(incoming / name, live)
        elif name not in wanted:
            disk.move(live, outgoing / name)
        if name in wanted and os.path.lexists(incoming / name):
            disk.move(incoming / name, outgoing / name)
        step("swap-half")


def _exchange_or_rename(incoming: Path, live: Path, outgoing: Path) -> None:
    try:
        disk.exchange(incoming, live)
    except OSError as error:
        if error.errno not in disk.CANNOT_EXCHANGE:
            raise
        disk.move(live, outgoing)
        disk.move(incoming, live)
