"""Which code did the binaries of a build hold, when they were looked at on this machine?

What was read from the binaries beats what the table says of them: after a build has been downloaded its libraries are
scanned, and what they hold is remembered in the user's data directory for every later choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .catalog import Build, Catalog
from .proof import data_folder, write_json
from .values import fields, frozen, replace

if TYPE_CHECKING:
    from .fatbin import Library

SCHEMA = 1


@frozen
class Seen:
    """The code in every container of a build's deciding library, as torch names it; `day` is when it was read."""

    torch: str
    backend: str
    system: str
    machine: str
    arches: tuple[str, ...]
    ptx: tuple[str, ...]
    day: str


def seen_path() -> Path:
    """Where it is remembered."""
    return data_folder() / "seen.json"


def seen_in(build: Build, libraries: Mapping[str, Library], day: str) -> Seen | None:
    """What a build's deciding libraries hold; None where they hold no GPU code or could not be read whole."""
    if not libraries or any(library.unread or library.unknown for library in libraries.values()):
        return None
    held = [{image.arch for image in profile.images} for library in libraries.values() for profile in library.loadable]
    codes = sorted(set.intersection(*held), key=_number) if held else []
    if not codes:
        return None
    return Seen(
        torch=str(build.torch),
        backend=build.backend,
        system=build.system.value,
        machine=build.machine,
        arches=tuple(code for code in codes if code.startswith("sm_")),
        ptx=tuple(code for code in codes if code.startswith("compute_")),
        day=day,
    )


def with_seen(catalog: Catalog, seen: Iterable[Seen]) -> Catalog:
    """The catalog in which what was seen stands in place of what the table says; its confidence is `seen`."""
    known = {(one.torch, one.backend, one.system, one.machine): one for one in seen}
    if not known:
        return catalog
    builds = []
    for build in catalog.builds:
        found = known.get((str(build.torch), build.backend, build.system.value, build.machine))
        builds.append(replace(build, arches=found.arches, ptx=found.ptx, confidence="seen") if found else build)
    return replace(catalog, builds=tuple(builds))


def read_seen(path: Path) -> tuple[Seen, ...]:
    """Everything that is remembered; an unreadable file counts as nothing."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            return ()
        return tuple(Seen(**{**row, "arches": tuple(row["arches"]), "ptx": tuple(row["ptx"])}) for row in data["seen"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def remember_seen(path: Path, one: Seen) -> None:
    """Add what was seen, in place of what was seen of the same build before."""
    same = (one.torch, one.backend, one.system, one.machine)
    kept = [old for old in read_seen(path) if (old.torch, old.backend, old.system, old.machine) != same]
    rows = [{**fields(old), "arches": list(old.arches), "ptx": list(old.ptx)} for old in [*kept, one]]
    write_json(path, {"schema": SCHEMA, "seen": rows[-200:]})


def _number(code: str) -> tuple[int, str]:
    digits = "".join(letter for letter in code if letter.isdigit())
    return int(digits), code
