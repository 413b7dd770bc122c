"""Which states has this environment been in, and how does one get back?"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import BadData
from . import disk, records, snapshot
from .heal import discard, sweep
from .place import Place, existing
from .snapshot import Entry
from .swap import read_state

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One complete state of an environment. `note` is what the command that made it wrote down of it.

    `live`: it is at the environment's path now. `path`: where it is kept (None for the live one). `size`: bytes that it
    shares with no other generation. `until`: the day after which it may go, None for no such day.
    """

    id: str
    live: bool
    made: str
    path: Path | None = None
    retired: str | None = None
    until: str | None = None
    size: int = 0
    torch: str | None = None
    note: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """One row of `history --json`."""
        return {
            "id": self.id,
            "live": self.live,
            "made": self.made,
            "retired": self.retired,
            "until": self.until,
            "size": self.size,
            "torch": self.torch,
            "note": dict(self.note),
        }


def history(target: Path) -> tuple[Generation, ...]:
    """What is known of this environment's states, the newest first. `target` is the real path."""
    return tuple(generation for place in existing(target) for generation in of_place(place))


def of_place(place: Place) -> tuple[Generation, ...]:
    """The generations in one state folder, the newest first."""
    state = read_state(place)
    found = []
    for name in os.listdir(place.gens) if place.gens.is_dir() else ():
        stem, suffix = os.path.splitext(name)
        if suffix != ".json":
            continue
        kept = place.gens / stem
        live = stem == state.get("live") and not kept.exists() and disk.identity(place.target) == state.get("ino")
        if live or kept.is_dir():
            found.append(_read(place, stem, live=live))
    return tuple(sorted(found, key=lambda generation: generation.id, reverse=True))


def _read(place: Place, name: str, *, live: bool) -> Generation:
    data = describe(place, name)
    return Generation(
        id=name,
        live=live,
        made=str(data.get("made", "")),
        path=None if live else place.gens / name,
        retired=None if live else data.get("retired"),
        until=None if live else data.get("until"),
        size=0 if live else int(data.get("size", 0)),
        torch=data.get("torch"),
        note=MappingProxyType(dict(data.get("note") or {})),
    )


def describe(place: Place, name: str) -> dict[str, Any]:
    """The description that is kept beside a generation; {} where there is none. Raises BadData for a newer schema."""
    try:
        data = json.loads((place.gens / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    if data.get("schema", SCHEMA) > SCHEMA:
        raise BadData(
            f"{place.gens / name}.json was written by a newer provision",
            code="schema-too-new",
            hint="update torch-provision",
        )
    return data


def write_description(place: Place, name: str, *, durable: bool = False, **fields: Any) -> None:
    """Add to the description of a generation. If not `durable`, `swap.flush` flushes it with its tree."""
    text = json.dumps({**describe(place, name), **fields, "schema": SCHEMA}, indent=1)
    disk.write(place.gens / f"{name}.json", text, durable=durable)


def new_id(number: int) -> str:
    """A name that was never used before: `000007-a1b2c3`."""
    return f"{number:06d}-{secrets.token_hex(3)}"


def numbers(place: Place) -> tuple[int, int]:
    """The number of the live tree and that of the next one; a tree that we have not seen before counts as new."""
    used = [int(name[:6]) for name in os.listdir(place.gens) if name[:6].isdigit()]
    state = read_state(place)
    live = str(state.get("live") or "")[:6]
    latest = max([*used, int(live) if live.isdigit() else 0])
    if live.isdigit() and state.get("ino") == disk.identity(place.target):
        return int(live), latest + 1
    return latest + 1, latest + (2 if os.path.lexists(place.target) else 1)


def live_id(place: Place, seen: Mapping[str, Entry]) -> str | None:
    """The name of the live tree, if it is still what we made it; None where others have changed or replaced it."""
    state = read_state(place)
    name = state.get("live")
    if not isinstance(name, str) or state.get("ino") != disk.identity(place.target):
        return None
    try:
        sealed = snapshot.load(place.gens / f"{name}.seal")
    except BadData:  # torn: then it is not known to be what we made
        return None
    return name if sealed is not None and not snapshot.differences(sealed, seen, inodes=False) else None


def torch_version(tree: Path) -> str | None:
    """The torch in a tree, from its dist-info's name alone."""
    for info in records.infos(tree):
        name, _, version = info.rpartition("/")[2].removesuffix(".dist-info").partition("-")
        if name == "torch":
            return version
    return None


def day_after(days: int) -> str:
    """The day `days` from today, as `until` writes it."""
    return (dt.date.today() + dt.timedelta(days=days)).isoformat()


def now() -> str:
    """This moment as the descriptions write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def collect(place: Place, *, keep: int, say: Callable[[str], None], older_than_days: float | None = None) -> list[str]:
    """Remove kept generations beyond the newest `keep`, and those past their day; the names that went."""
    kept = [generation for generation in of_place(place) if generation.path is not None]
    kept = sorted(kept, key=lambda generation: (generation.retired or "", generation.id), reverse=True)
    today = dt.date.today().isoformat()
    gone = []
    for rank, generation in enumerate(kept):
        expired = generation.until is not None and generation.until < today
        aged = older_than_days is not None and _age_days(generation) >= older_than_days
        if rank >= keep or expired or aged:
            gone.append(generation.id)
    discard(place, gone)
    sweep(place, say)
    return gone


def _age_days(generation: Generation) -> float:
    try:
        retired = dt.datetime.strptime(generation.retired or "", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return 0.0
    return (dt.datetime.now(retired.tzinfo) - retired).total_seconds() / 86400
