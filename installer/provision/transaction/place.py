"""Where does a change keep its things?

Beside the environment, so that one rename can exchange the two (never inside it, unless the environment is a mount
point or its parent cannot be written):

    .venv/                         the live environment, always a real directory
    .venv.provision/               0700, with its own .gitignore and CACHEDIR.TAG
        lock                       flock; never unlinked while anything else is here; workers inherit it
        holder                     who has the lock, for messages only
        intent                     what the commit is about to do, synced before it does
        state.json                 which generation is live, which one was before
        gens/000007-a1b2c3.staging the copy that is being changed
        gens/000006-d4e5f6         an earlier generation, and beside it .json (what it is) and .seal (what it holds)
        trash/                     renamed first, deleted after: a generation is never half deleted
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import TargetUnusable

SUFFIX = ".provision"
STAGING = ".staging"
_TIDY = frozenset({".gitignore", "CACHEDIR.TAG", "lock", "gens", "state.json"})
"""What lies in the state folder when nobody works and nothing is unfinished."""

_TIDY_SUFFIXES = frozenset({"", ".json", ".seal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One environment and the folder with its generations. `target` is the real directory, no link."""

    target: Path
    inside: bool = False

    @property
    def root(self) -> Path:
        return self.target / SUFFIX if self.inside else self.target.with_name(self.target.name + SUFFIX)

    @property
    def gens(self) -> Path:
        return self.root / "gens"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def holder(self) -> Path:
        return self.root / "holder"

    @property
    def intent(self) -> Path:
        return self.root / "intent"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    def untidy(self) -> tuple[str, ...]:
        """What an unfinished (or running) change has left here; two directory listings, no lock."""
        try:
            left = [name for name in os.listdir(self.root) if name not in _TIDY]
            held = os.listdir(self.gens)
        except FileNotFoundError:
            return ("gens",)
        except OSError:
            return ()
        unfinished = (name for name in held if os.path.splitext(name)[1] not in _TIDY_SUFFIXES)
        left += [f"gens/{name}" for name in (*unfinished, *(name for name in held if is_undescribed(name, held)))]
        return tuple(sorted(left if held else [*left, "gens"]))


def is_undescribed(name: str, held: Collection[str]) -> bool:
    """Whether a tree among the generations has no description: what is left of one that is being removed."""
    return "." not in name and f"{name}.json" not in held


def real(target: Path) -> Path:
    """The directory that `target` means: absolute, links followed (a link is never replaced, what it names is).

    Raises TargetUnusable for a link that leads nowhere or that another user has put there.
    """
    target = Path(os.path.abspath(target))
    if not target.name:
        raise TargetUnusable(
            f"{target} is no environment", code="not-an-environment", hint="give another path with --env"
        )
    if not target.is_symlink():
        return Path(os.path.realpath(target.parent)) / target.name
    found = Path(os.path.realpath(target))
    if not found.exists():
        raise TargetUnusable(
            f"{target} is a link to {found}, which does not exist",
            code="dangling-link",
            hint=f"remove the link (rm {target}) or bring back what it names",
        )
    if os.name == "posix" and os.lstat(target).st_uid not in (os.geteuid(), 0):
        raise TargetUnusable(
            f"the link {target} belongs to another user (uid {os.lstat(target).st_uid})",
            code="not-ours",
            hint=f"name the environment itself: --env {found}",
        )
    return found


def existing(target: Path) -> tuple[Place, ...]:
    """The state folders that this environment has: none before its first change, rarely both kinds."""
    places = (Place(target=target), Place(target=target, inside=True))
    return tuple(place for place in places if os.path.isdir(place.root))


@contextlib.contextmanager
def unnoticed(place: Place) -> Iterator[None]:
    """Making and removing the state folder inside an environment does not change the environment's own mtime."""
    before = os.stat(place.target) if place.inside else None
    yield
    if before is not None:
        os.utime(place.target, ns=(before.st_atime_ns, before.st_mtime_ns))


def establish(place: Place) -> None:
    """Make the state folder. Raises TargetUnusable where somebody else has put something there, and OSError."""
    try:
        with unnoticed(place):
            os.mkdir(place.root, 0o700)
    except FileExistsError:
        found = os.lstat(place.root)
        import stat

        if not stat.S_ISDIR(found.st_mode):
            raise TargetUnusable(
                f"{place.root} is in the way: it is not a folder that provision made",
                code="state-folder",
                hint="move it away; provision keeps earlier generations of the environment there",
            ) from None
        if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
            raise TargetUnusable(
                f"{place.root} belongs to uid {found.st_uid} and has mode {found.st_mode & 0o777:o}; "
                "others could change what is put there",
                code="state-folder",
                hint=f"if it is yours: chmod 700 {place.root}; if not, remove it or ask its owner to",
            ) from None
    for name, text in (
        (".gitignore", "*\n"),
        ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# Generations kept by torch-provision.\n"),
    ):
        path = place.root / name
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    place.gens.mkdir(mode=0o700, exist_ok=True)
