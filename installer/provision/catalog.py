"""Which builds of torch exist, what does each hold, and where can it be had?

Two answers are put together here: the shipped table (`data/catalog.toml`, one row a build, each with its source) and
what live indexes hold (`Listing` values, read by `index`). `load_catalog` gives the first, `with_listings` the two
together; the index wins. Nothing here asks anything or decides anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from .errors import BadData
from .machine import System

if TYPE_CHECKING:
    from packaging.tags import Tag

PYTORCH_INDEX = "https://download.pytorch.org/whl"
PACKAGE_INDEX_LABEL = "the default package index"
TABLE = Path(__file__).parent / "data" / "catalog.toml"


class Channel(StrEnum):
    STABLE = "stable"
    NIGHTLY = "nightly"
    TEST = "test"


class SourceKind(StrEnum):
    """Kinds of places, in the order of preference of contracts 5.7."""

    PYTORCH_INDEX = "pytorch-index"
    USER_INDEX = "user-index"
    FIND_LINKS = "find-links"
    PACKAGE_INDEX = "package-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that wheels come from. `url` carries no credentials; `label` is what a screen shows.

    For the PyTorch index (or a mirror of it) `url` is the base above the backends: https://download.pytorch.org/whl.
    """

    kind: SourceKind
    url: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel file on a live page."""

    name: str
    version: Version
    tags: frozenset[Tag]
    filename: str
    url: str
    sha256: str | None = None
    size: int | None = None
    requires_python: str | None = None
    yanked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one live page holds; no wheels = the page says that there are none.

    `backend` is the index path that the page was read from, None where a page is not of one backend (find-links
    folders, the default package index).
    """

    source: Source
    channel: Channel
    wheels: tuple[Wheel, ...]
    backend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build of torch for one platform.

    `torch` is the public version. A nightly row of the table stands for a series: `floating` is True and `torch` is
    the newest of it that was seen; which days exist is for the index to say. `pythons` None = ask the index. `arches`
    are spelled as torch spells them (`sm_90`, `gfx1100`), `ptx` as `compute_120`; PTX that nobody has seen counts as
    none. `confidence` is about the contents, `exists` about the publication: primary, reported or inferred.
    `published` is False where the sources that could be reached do not hold it (`with_listings`).
    """

    torch: Version
    backend: str
    system: System
    machine: str
    source: Source
    channel: Channel = Channel.STABLE
    pythons: frozenset[str] | None = None
    arches: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    advertised: bool = True
    confidence: str = "primary"
    exists: str = "primary"
    local: str | None = None
    floating: bool = False
    published: bool = True
    since: date | None = None
    until: date | None = None
    provenance: str = ""
    note: str = ""
    read: date | None = None

    @property
    def toolkit(self) -> str | None:
        """The CUDA version that it was made with: `13.0` of `cu130`; None without CUDA."""
        return toolkit_of(self.backend)

    @property
    def requirement(self) -> str:
        """The exact pin: `2.11.0+cu128`, or `2.15.0` where the wheel's version has no local part."""
        return f"{self.torch}+{self.local}" if self.local else str(self.torch)

    @property
    def name(self) -> str:
        """What a screen calls it, wherever it comes from: `2.11.0+cu128`."""
        return f"{self.torch}+{self.backend}"

    @property
    def index_url(self) -> str:
        """Where the wheel is found: the backend's page of the PyTorch index, else the source itself."""
        if self.source.kind is SourceKind.PYTORCH_INDEX:
            return page_url(self.source, self.backend, self.channel)
        return self.source.url

    @property
    def platform(self) -> str:
        return f"{self.system.value} {self.machine}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All known builds, release days, companions, and what plain wheels are. Immutable.

    `history` holds series of nightlies that have ended; only `as_of` looks at them.
    """

    builds: tuple[Build, ...]
    history: tuple[Build, ...]
    releases: Mapping[Version, date]
    plain: Mapping[tuple[Version, str], str]
    companions: Mapping[Version, Mapping[str, str]]
    read: date
    source: Source

    def release_day(self, torch: Version) -> date | None:
        """The day on which this version was released, or None if unknown."""
        return self.releases.get(torch)

    def plain_wheel(self, torch: Version, system: System, machine: str) -> str | None:
        """The backend of the wheel without a local version on the default package index, or None if unknown."""
        return self.plain.get((torch, f"{system.value} {machine}"))

    def companions_of(self, torch: Version, backend: str, system: System) -> Mapping[str, str]:
        """Package → version specifier of what goes with this torch: {"torchvision": "==0.29.2", …}."""
        row = self.companions.get(Version(torch.base_version), {})
        left_out = {"triton"} if system is not System.LINUX else {"triton-windows"}
        if not backend.startswith("cu"):
            left_out |= {"triton", "triton-windows", "xformers"}
        return MappingProxyType({name: spec for name, spec in row.items() if name not in left_out})

    def on(self, system: System, machine: str) -> tuple[Build, ...]:
        """The builds for one platform."""
        return tuple(build for build in self.builds if build.machine == machine and build.system is system)

    def without(self, build: Build) -> Catalog:
        """The same catalog without one build."""
        return replace(self, builds=tuple(other for other in self.builds if other != build))

    def as_of(self, day: date) -> Catalog:
        """The catalog as it was on `day`: what was released by then, and the nightlies of that day."""
        known = (*self.builds, *self.history)
        return replace(self, builds=tuple(then for build in known if (then := _as_of(self, build, day))), history=())


def _as_of(catalog: Catalog, build: Build, day: date) -> Build | None:
    if not build.floating:
        released = build.since or catalog.release_day(build.torch)
        return build if released is not None and released <= day else None
    if build.since is None or build.since > day or (build.until is not None and build.until < day):
        return None
    return replace(build, torch=Version(f"{build.torch.base_version}.dev{day:%Y%m%d}"))


def toolkit_of(backend: str) -> str | None:
    """`13.0` of `cu130`; None for what is not CUDA."""
    digits = backend.removeprefix("cu")
    return f"{digits[:-1]}.{digits[-1]}" if digits != backend and digits.isdecimal() else None


def pytorch_index(base: str = PYTORCH_INDEX) -> Source:
    """The PyTorch index, or a mirror of it, as a source."""
    base = base.rstrip("/")
    label = base.split("://")[-1].split("@")[-1]
    return Source(kind=SourceKind.PYTORCH_INDEX, url=base, label=label)


def page_url(source: Source, backend: str, channel: Channel) -> str:
    """The page of one backend on the PyTorch index or a mirror."""
    middle = "" if channel is Channel.STABLE else f"/{channel.value}"
    return f"{source.url}{middle}/{backend}"


@lru_cache(maxsize=8)
def load_catalog(index_base: str = PYTORCH_INDEX) -> Catalog:
    """The shipped table, its builds taken from the PyTorch index at `index_base`. Raises BadData if it is broken."""
    import tomllib

    try:
        with TABLE.open("rb") as file:
            return parse_catalog(tomllib.load(file), pytorch_index(index_base))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadData(
            f"the table of builds {TABLE.name} cannot be read: {error}", hint="install torch-provision again"
        ) from error


def parse_catalog(data: Mapping[str, Any], source: Source) -> Catalog:
    """The value of the table's TOML. Fast: `check_catalog` is the strict reading. Raises BadData naming the row."""
    versions: dict[str, Version] = {}

    def version(text: str) -> Version:
        if text not in versions:
            versions[text] = Version(text)
        return versions[text]

    row: Mapping[str, Any] = {}
    try:
        read = data["read"]
        releases = {}
        release_pythons = {}
        for row in data["release"]:
            torch = version(row["torch"])
            releases[torch] = row["day"]
            release_pythons[torch] = frozenset(row["pythons"].split())
        plain = {}
        for row in data["plain"]:
            for text in row["torch"].split():
                plain[version(text), row["on"]] = row["backend"]
        companions = {}
        for row in data["companion"]:
            given = ("torch", "confidence", "source", "note")
            companions[version(row["torch"])] = MappingProxyType({k: v for k, v in row.items() if k not in given})
        builds: list[Build] = []
        history: list[Build] = []
        for row in (*data["build"], *data["nightly"]):
            (history if "until" in row else builds).extend(_builds(row, source, read, version, release_pythons))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadData(f"{TABLE.name}: {error!r} in row {dict(row)!r}", hint="mend the row") from error
    return Catalog(
        builds=tuple(builds),
        history=tuple(history),
        releases=MappingProxyType(releases),
        plain=MappingProxyType(plain),
        companions=MappingProxyType(companions),
        read=read,
        source=source,
    )


def _builds(
    row: Mapping[str, Any],
    source: Source,
    read: date,
    version: Any,
    release_pythons: Mapping[Version, frozenset[str]],
) -> list[Build]:
    """The builds of one row: one for each version that it names."""
    system, machine = row["on"].split()
    channel = Channel(row.get("channel", "stable"))
    last = row.get("until") or row.get("seen")
    floating = channel is Channel.NIGHTLY
    pythons = frozenset(row["pythons"].split()) if "pythons" in row else None
    local = row.get("local", row["backend"])
    shared: dict[str, Any] = {
        "backend": row["backend"],
        "system": System(system),
        "machine": machine,
        "source": source,
        "channel": channel,
        "arches": tuple(row.get("code", "").split()),
        "ptx": tuple(row.get("ptx", "").replace("unknown", "").split()),
        "advertised": row.get("advertised", True),
        "confidence": row["contents"],
        "exists": row["exists"],
        "local": local or None,
        "floating": floating,
        "since": row.get("since"),
        "until": row.get("until"),
        "provenance": row["contents_source"],
        "note": row.get("note", ""),
        "read": read,
    }
    builds = []
    for text in row["torch"].split():
        torch = version(f"{text}.dev{last:%Y%m%d}" if floating else text)
        builds.append(Build(torch=torch, pythons=pythons or release_pythons.get(torch), **shared))
    return builds


# ── what live sources hold ──────────────────────────────────────────────────────────────────────────────────────────

_BACKEND = re.compile(r"cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+)*")

Key = tuple[Version, str, System, str, Channel]
"""What a build is, wherever it lies: torch, backend, system, machine, channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    source: Source
    local: str | None
    pythons: frozenset[str]


def with_listings(catalog: Catalog, listings: Iterable[Listing], *, reached: Collection[Source]) -> Catalog:
    """The catalog as the live sources have it; they win over the table (contracts 5.7).

    `reached` are the sources that answered at all. A page of the PyTorch index that was asked for comes as a Listing,
    one without wheels where the index has no such page; of pages that nobody asked for the table stays true, as long
    as the index was reached.

    A build is taken from the PyTorch index or its mirror, else from the user's own indexes and folders in their order,
    else from the default package index (a wheel without a local version there is the build that `plain` names). What
    none of them holds stays in the catalog as not `published`. What they hold and the table lacks appears, its
    contents taken over by `_contents`. A series of nightlies becomes the days that the index lists.
    """
    preference = list(SourceKind)
    held: dict[Key, _Held] = {}
    asked: set[tuple[str | None, Channel]] = set()
    for listing in sorted(listings, key=lambda listing: preference.index(listing.source.kind)):
        if listing.source.kind is SourceKind.PYTORCH_INDEX:
            asked.add((listing.backend, listing.channel))
        for key, found in _held(catalog, listing).items():
            held.setdefault(key, found)
    table_stands = any(source.kind is SourceKind.PYTORCH_INDEX for source in reached)
    builds = []
    known = set()
    for build in catalog.builds:
        key = (build.torch, build.backend, build.system, build.machine, build.channel)
        known.add(key)
        unasked = table_stands and (build.backend, build.channel) not in asked
        if found := held.get(key):
            pythons = found.pythons or build.pythons
            builds.append(
                replace(
                    build, source=found.source, local=found.local, pythons=pythons, exists="primary", floating=False
                )
            )
        elif not build.floating or unasked:
            builds.append(build if unasked else replace(build, published=False))
    neighbours = _Neighbours(catalog)
    builds += [neighbours.build(key, found) for key, found in held.items() if key not in known]
    return replace(catalog, builds=tuple(builds))


def _held(catalog: Catalog, listing: Listing) -> dict[Key, _Held]:
    """The torch builds on one page, each with the Pythons that it has wheels for."""
    official = listing.source.kind is SourceKind.PYTORCH_INDEX
    pythons: dict[tuple[Key, str | None], set[str]] = {}
    for wheel in listing.wheels:
        if wheel.name != "torch" or wheel.yanked:
            continue
        torch = Version(wheel.version.public)
        channel = listing.channel if official else _channel_of(torch)
        for tag in wheel.tags:
            platform = _platform_of(tag.platform)
            if platform is None:
                continue
            backend = listing.backend if official else _backend_of(catalog, torch, wheel.version.local, *platform)
            if backend is None or (official and wheel.version.local not in (None, backend)):
                continue
            free_threaded = "t" if tag.abi.endswith("t") and tag.abi.startswith("cp") else ""
            key = (torch, backend, *platform, channel)
            pythons.setdefault((key, wheel.version.local), set()).add(tag.interpreter + free_threaded)
    held: dict[Key, _Held] = {}
    for (key, local), tags in pythons.items():
        if key not in held or local is not None:
            held[key] = _Held(source=listing.source, local=local, pythons=frozenset(tags))
    return held


def _channel_of(torch: Version) -> Channel:
    if torch.is_devrelease:
        return Channel.NIGHTLY
    return Channel.TEST if torch.is_prerelease else Channel.STABLE


def _backend_of(catalog: Catalog, torch: Version, local: str | None, system: System, machine: str) -> str | None:
    """The backend of a wheel that lies on no backend's page: its local version, or what plain wheels are."""
    if local is not None:
        return local if _BACKEND.fullmatch(local) else None
    platform = f"{system.value} {machine}"
    older = [known for known, on in catalog.plain if on == platform and known <= torch]
    return catalog.plain[max(older), platform] if older else None


def _platform_of(tag: str) -> tuple[System, str] | None:
    """`manylinux_2_28_x86_64` → linux x86_64; None for platforms that we do not know."""
    for start, system in (("manylinux", System.LINUX), ("linux", System.LINUX), ("macosx", System.MACOS)):
        if tag.startswith(start):
            for end, machine in (("x86_64", "x86_64"), ("aarch64", "aarch64"), ("arm64", "aarch64")):
                if tag.endswith(end):
                    return system, machine
    return {"win_amd64": (System.WINDOWS, "x86_64"), "win_arm64": (System.WINDOWS, "aarch64")}.get(tag)


class _Neighbours:
    """What a build that the table lacks probably holds, by rows near it.

    1. a nightly: the series of the same backend; 2. the same backend's nearest older torch (else the oldest); 3. for a
    new CUDA backend the same rules with the nearest older toolkit of the same major (else the nearest newer);
    4. nothing: then no GPU counts as covered. PTX is taken over for nightlies only: in releases it came and went.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.by_page: dict[tuple[str, System, str], list[Build]] = {}
        for build in catalog.builds:
            self.by_page.setdefault((build.backend, build.system, build.machine), []).append(build)

    def build(self, key: Key, held: _Held) -> Build:
        torch, backend, system, machine, channel = key
        near = self._nearest(torch, backend, system, machine, channel)
        return Build(
            torch=torch,
            backend=backend,
            system=system,
            machine=machine,
            channel=channel,
            source=held.source,
            local=held.local,
            pythons=held.pythons,
            arches=near.arches if near else (),
            ptx=near.ptx if near and channel is Channel.NIGHTLY is near.channel else (),
            advertised=near.advertised if near and near.backend == backend else True,
            confidence="inferred",
            exists="primary",
            provenance=f"listed by {held.source.label}",
            note=f"contents as {near.name}" if near else "contents unknown",
        )

    def _nearest(self, torch: Version, backend: str, system: System, machine: str, channel: Channel) -> Build | None:
        rows = self.by_page.get((backend, system, machine), [])
        toolkit = toolkit_of(backend)
        if not rows and toolkit is not None:
            pages = [
                (toolkit_number(other), other)
                for other, *platform in self.by_page
                if platform == [system, machine] and other.startswith("cu")
            ]
            wanted = toolkit_number(backend)
            same_major = sorted(page for page in pages if page[0][0] == wanted[0])
            older = [page for page in same_major if page[0] <= wanted]
            if near := older[-1:] or same_major[:1]:
                rows = self.by_page[near[0][1], system, machine]
        same_channel = [row for row in rows if row.channel is channel]
        older_rows = [row for row in same_channel or rows if row.torch <= torch]
        return (
            max(older_rows, key=lambda row: row.torch)
            if older_rows
            else min(same_channel or rows, key=lambda row: row.torch, default=None)
        )


def toolkit_number(backend: str) -> tuple[int, int]:
    """(13, 0) of `cu130`."""
    major, _, minor = (toolkit_of(backend) or "0.0").partition(".")
    return int(major), int(minor)
