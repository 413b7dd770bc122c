"""How is what is live exchanged for what is kept, with both described and sealed?"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping

from ..errors import AfterCommitFailed, ProvisionError, TargetUnusable
from . import clone, generations, guard, lock, snapshot, swap, tiers
from .outcome import after_commit, explain
from .place import STAGING, Place
from .snapshot import Entry
from .steps import step


def replace(place: Place, intent: swap.Intent) -> None:
    """Commit an intent, with the honest answer wherever it fails."""
    try:
        swap.commit(place, intent)
    except OSError as error:
        with contextlib.suppress(OSError):
            swap.undo(place, intent)
        if swap.position(place, intent) is swap.Position.HALF:
            with contextlib.suppress(OSError):
                swap.carry_out(place, intent)
        if swap.position(place, intent) is swap.Position.BEFORE:
            with contextlib.suppress(OSError):
                swap.forget(place)
            raise explain(error, f"committing {place.target}") from error
        raise after_commit(error) from error


def go_back(place: Place, goal: str | None, say: Callable[[str], None]) -> None:
    """As `go_to`, where not being able to means that what is live has not passed its check."""
    try:
        go_to(place, goal, say)
    except (ProvisionError, OSError) as error:
        raise AfterCommitFailed(
            f"{place.target} did not pass its check, and going back failed: {error}",
            hint="provision rollback tries it again",
        ) from error


def go_to(place: Place, goal: str | None, say: Callable[[str], None]) -> str | None:
    """Make the kept generation `goal` live (None: nothing at all); the name of what was live before."""
    tier = tiers.probe(place, *([place.gens / goal] if goal else []))
    if tier.weakens:
        say(tier.weakens)
    if goal is not None:
        _check_seal(place, goal)
    with contextlib.ExitStack() as stack:
        leaving = None
        if os.path.lexists(place.target):
            stack.enter_context(lock.neighbours_lock(place.target))
            warning = guard.announce_users(place.target)
            if warning:
                say(warning)
            leaving = _describe_leaving(place, goal)
        incoming = goal
        if tier is tiers.Tier.COPY_UP:
            incoming = _copy_up(place, goal, leaving, say)
        step("describe")
        swap.flush(place)
        live = incoming.removesuffix(STAGING) if incoming else None
        replace(place, swap.intent_for(place, tier, incoming=incoming, leaving=leaving, live=live, before=leaving))
    return leaving


def _copy_up(place: Place, goal: str | None, leaving: str | None, say: Callable[[str], None]) -> str | None:
    """Where nothing can be renamed: copies of both trees, the coming one under a name of its own, which is returned."""
    if leaving is not None:
        out = place.gens / f"{leaving}.out"
        out.mkdir(mode=0o700)
        clone.clone(place.target, out, link=False, say=say)
    if goal is None:
        return None
    name = generations.new_id(generations.numbers(place)[1])
    staged = place.gens / (name + STAGING)
    staged.mkdir(mode=0o700)
    clone.clone(place.gens / goal, staged, link=False, say=say)
    known = generations.describe(place, goal)
    generations.write_description(place, name, **known)
    snapshot.save(place.gens / f"{name}.seal", snapshot.take(staged))
    return name + STAGING


def _check_seal(place: Place, name: str) -> None:
    sealed = snapshot.load(place.gens / f"{name}.seal")
    changed = ["its seal is missing"] if sealed is None else []
    if sealed is not None:
        changed = snapshot.differences(sealed, snapshot.take(place.gens / name), inodes=False)
    if changed:
        raise TargetUnusable(
            f"generation {name} is not what it was when it was put away: {', '.join(changed[:3])}",
            code="broken-seal",
            hint="something wrote into it in place; provision sync LOCK makes the environment anew",
        )


def _describe_leaving(place: Place, goal: str | None) -> str:
    seen = snapshot.take(place.target)
    name = generations.live_id(place, seen) or generations.new_id(generations.numbers(place)[0])
    shared: set[int] = set()
    if goal is not None:
        shared = {entry.ino for entry in snapshot.take(place.gens / goal).values()}
    describe_leaving(place, name, seen, shared=shared, until=None)
    return name


def describe_leaving(
    place: Place, name: str, seen: Mapping[str, Entry], *, shared: set[int], until: str | None
) -> None:
    """Write what the tree is that becomes a kept generation. `shared` are the inodes of the tree that stays."""
    moment = generations.now()
    snapshot.save(place.gens / f"{name}.seal", seen, durable=True)
    known = generations.describe(place, name)
    generations.write_description(
        place,
        name,
        durable=True,
        made=known.get("made", moment),
        retired=moment,
        until=until,
        size=sum(entry.size for entry in seen.values() if stat.S_ISREG(entry.mode) and entry.ino not in shared),
        torch=generations.torch_version(place.target),
        note=known.get("note", {}),
    )
