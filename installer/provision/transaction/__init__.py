"""How does an environment change so that nothing can break it?

The one place that changes a tree. At every instant the environment at its path is the whole old one or the whole new,
verified one (contracts, section 6). The names here are the whole interface; what does the work is imported when it is
asked for, because `recover` runs before every command.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .place import existing, real
from .steps import STEPS

if TYPE_CHECKING:
    from .change import Change
    from .generations import Generation

__all__ = ["STEPS", "begin", "clean", "damaged", "history", "put", "read", "recover", "rollback", "unfinished"]


def _silent(_: str) -> None:
    pass


def begin(
    target: Path,
    *,
    create: Callable[[Path], None] | None = None,
    without: Collection[str] = (),
    keep: int = 1,
    keep_days: int | None = None,
    wait: float = 0.0,
    say: Callable[[str], None] = _silent,
) -> Change:
    """A change of the environment at `target`, to be used in `with`; see `change.Change` for what it offers.

    `without` names distributions that are to be replaced or removed (normalized, whole or broken): nothing of them is
    copied, so the installer only adds. `create(path)` makes a new environment where there is none (`uv venv path`).
    `keep` old generations stay after the commit, each at most `keep_days`. Another run is waited for `wait` seconds.
    `say` gets what a person should know.

    Raises TargetUnusable for an environment that cannot be used, Interrupted, and what `create` raises.
    """
    from .change import Change

    return Change(target, create=create, without=without, keep=keep, keep_days=keep_days, wait=wait, say=say)


def recover(target: Path, *, say: Callable[[str], None] = _silent) -> bool:
    """Finish or undo what an earlier run left; whether there was anything. Every command starts with this.

    Does nothing while another run is at work. Where there is nothing to do it costs a few system calls.
    """
    try:
        untidy = [place for place in existing(real(target)) if place.untidy()]
    except Exception:  # noqa: BLE001  (a target that cannot be used is reported by who uses it)
        return False
    if not untidy:
        return False
    from . import recovery

    healed = [recovery.recover(place, say) for place in untidy]
    return any(healed)


def unfinished(target: Path) -> str | None:
    """What an earlier run left unfinished, or which run is at work, in words for the doctor; None where all is well."""
    for place in existing(real(target)):
        if place.untidy():
            from . import recovery

            return recovery.describe(place)
    return None


def rollback(
    target: Path,
    generation_id: str | None = None,
    *,
    check: Callable[[Path], None] | None = None,
    wait: float = 0.0,
    say: Callable[[str], None] = _silent,
) -> Generation | None:
    """Exchange the environment for an earlier generation (default: the one that was live before this one).

    No network, no uv. Returns the generation that is live now, None where the environment is absent again, as it was
    before the first install. `check` as in `Change.commit`. Raises TargetUnusable where there is no such generation,
    where it was changed while it was kept, or where the environment cannot be used.
    """
    from . import recovery

    return recovery.rollback(real(target), generation_id, check=check, wait=wait, say=say)


def aim(target: Path, generation_id: str | None = None) -> Generation | None:
    """The generation that `rollback` would bring back; None for the absence before the first install.

    Raises TargetUnusable where there is none.
    """
    from . import recovery

    return recovery.aim(real(target), generation_id)


def history(target: Path) -> tuple[Generation, ...]:
    """The environment's generations, the newest first; () for one that was never changed by us."""
    from . import generations

    return generations.history(real(target))


def damaged(target: Path) -> dict[str, str]:
    """The distributions that are not whole (normalized name → what is wrong): torn RECORD, missing or short files.

    Nothing is hashed and nothing is run. A change `without` such names installs them anew.
    """
    from . import remains

    return remains.damaged(real(target))


def put(target: Path, files: Mapping[str, str | None], *, say: Callable[[str], None] = _silent) -> bool:
    """Write small files of our own at the top of a live environment (None: remove one); whether any had to be.

    Each is replaced in one step, in the order given. No generation is made of it: what can be gone back to stays.
    Raises TargetUnusable, and InstallFailed for a disk that does not allow it.
    """
    from . import texts

    return texts.put_live(target, files, say=say)


def read(tree: Path, name: str) -> str | None:
    """The text of such a file, None where there is none. Raises OSError."""
    from . import texts

    return texts.read(tree / name)


def clean(
    target: Path,
    *,
    keep: int = 0,
    older_than_days: float | None = None,
    everything: bool = False,
    say: Callable[[str], None] = _silent,
) -> tuple[str, ...]:
    """Remove kept generations: all but the newest `keep`, and (if given) those retired longer ago; which went.

    `everything` removes all that provision ever put beside the environment. The environment itself is never touched.
    """
    from . import recovery

    return recovery.clean(real(target), keep=keep, older_than_days=older_than_days, everything=everything, say=say)
