"""How does one get back: after a run that ended in the middle, and to an earlier generation?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import Interrupted, ProvisionError, TargetUnusable
from . import generations, guard, heal, lock, signals, swap, switch
from .generations import Generation
from .outcome import explain
from .place import Place, existing
from .steps import step


def recover(place: Place, say: Callable[[str], None]) -> bool:
    """Heal under the lock; False where another run is at work or where it is not ours to heal."""
    try:
        held = lock.acquire(place)
    except (TargetUnusable, OSError):
        return False
    try:
        with signals.waiting():
            return heal.heal(place, say)
    except ProvisionError as error:
        say(error.text)
        return False
    except OSError as error:
        say(f"an earlier run is still unfinished: {error.strerror or error} ({error.filename or place.root})")
        return False
    finally:
        held.release()


def describe(place: Place) -> str:
    """What is unfinished here, in words."""
    if lock.busy(place):
        return f"{lock.holder(place) or 'another run'} is changing {place.target}"
    left = ", ".join(place.untidy())
    return f"an earlier run ended in the middle and left {left} in {place.root}; any next change finishes or undoes it"


def rollback(
    target: Path,
    generation_id: str | None,
    *,
    check: Callable[[Path], None] | None,
    wait: float,
    say: Callable[[str], None],
) -> Generation | None:
    """See `transaction.rollback`."""
    place = _changed(target)
    if os.path.lexists(target):
        guard.check(target)
    held = lock.acquire(place, wait=wait, say=say)
    try:
        with signals.waiting():
            heal.heal(place, say)
            step("locked")
            goal = _goal(place, generation_id)
            before = switch.go_to(place, goal, say)
            if check is not None:
                try:
                    with signals.interrupting():
                        check(target)
                except BaseException:
                    switch.go_back(place, before, say)
                    raise
            return next((found for found in generations.of_place(place) if found.live), None)
    except OSError as error:
        raise explain(error, f"going back to an earlier {target}") from error
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the environment is as it was") from None
    finally:
        held.release()


def aim(target: Path, generation_id: str | None) -> Generation | None:
    """See `transaction.aim`."""
    place = _changed(target)
    goal = _goal(place, generation_id)
    return next((found for found in generations.of_place(place) if found.id == goal), None)


def _changed(target: Path) -> Place:
    """Where the generations of an environment are kept. Raises TargetUnusable for one that we never changed."""
    place = next((place for place in existing(target) if generations.of_place(place)), None)
    if place is None:
        raise TargetUnusable(
            f"{target} has no earlier generation: provision has not changed it",
            code="no-generation",
            hint="provision history lists what there is",
        )
    return place


def _goal(place: Place, generation_id: str | None) -> str | None:
    """The kept generation that is meant; None for the absence before the first install."""
    kept = {found.id: found for found in generations.of_place(place) if found.path is not None}
    if generation_id is not None:
        matching = [name for name in kept if name == generation_id or name.lstrip("0").startswith(generation_id)]
        if len(matching) == 1:
            return matching[0]
        raise TargetUnusable(
            f"{place.target} has no kept generation {generation_id}",
            code="no-generation",
            hint="kept: " + (", ".join(sorted(kept)) or "none"),
        )
    state = swap.read_state(place)
    before = state.get("before")
    if before is None and state.get("live") is not None and os.path.lexists(place.target):
        return None
    if before in kept:
        return str(before)
    raise TargetUnusable(
        f"the generation before this one of {place.target} is not kept any more",
        code="no-generation",
        hint="kept: " + (", ".join(sorted(kept)) or "none") + "; provision rollback ID",
    )


def clean(
    target: Path, *, keep: int, older_than_days: float | None, everything: bool, say: Callable[[str], None]
) -> tuple[str, ...]:
    """See `transaction.clean`."""
    gone: list[str] = []
    for place in existing(target):
        held = lock.acquire(place)
        try:
            heal.heal(place, say)
            gone += generations.collect(place, keep=0 if everything else keep, say=say, older_than_days=older_than_days)
            if everything:
                for path in place.gens.iterdir():
                    path.unlink()
                place.state.unlink(missing_ok=True)
        finally:
            held.release()
    return tuple(gone)
