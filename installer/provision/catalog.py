"""Which builds of torch exist, what does each hold, and where can it be had?

The values, and the shipped table (`data/catalog.toml`: one row a build, each with its source). What live indexes hold
comes as `Listing`s from `index`; `listings` puts the two together. Nothing here asks anything or decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packaging.version import Version

from .errors import BadData
from .machine import System, Vendor
from .rows import read_rows
from .values import frozen, replace

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


@frozen
class Source:
    """One place that wheels come from. `label` is what a screen shows; `url` carries no credentials.

    For the PyTorch index (or a mirror of it) `url` is the base above the backends: https://download.pytorch.org/whl.
    `flat`: a mirror with one page of links (as pip's find-links) for each backend instead of an index.
    """

    kind: SourceKind
    url: str
    label: str
    flat: bool = False


@frozen
class Tag:
    """What a wheel is for (PEP 425), in small letters: cp313, cp313t, manylinux_2_28_x86_64."""

    interpreter: str
    abi: str
    platform: str


@frozen
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


@frozen
class Listing:
    """What one live page holds; no wheels = the page says that there are none.

    `backend` is the index path that the page was read from, None where a page is not of one backend (find-links
    folders, the default package index).
    """

    source: Source
    channel: Channel
    wheels: tuple[Wheel, ...]
    backend: str | None = None


@frozen
class Build:
    """One build of torch for one platform.

    `torch` is the public version. `pythons` are wheel tags; None = unknown, ask the index. `arches` are named as torch
    names them (`sm_90`, `gfx1100`), `ptx` as `compute_120`; PTX that nobody has seen counts as none. `confidence` is
    about the contents, `exists` about the publication: primary, reported or inferred. `published` is False where the
    sources that were reached do not hold it (`listings`).

    A nightly row of the table stands for a series: `floating` is True, `torch` is the newest of it that was seen, and
    `pythons` are those of the newest release, unless the row knows them. What there is today, the index says.
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
    provenance: tuple[str, ...] = ()
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


@frozen
class Family:
    """GPUs that share an arch, known by a regular expression for their names. Arch "none": no build ever."""

    vendor: Vendor
    arch: str
    name: str


@frozen
class Bound:
    """Which `version` of a package goes with a range of torch versions (with these backends; none = with all)."""

    package: str
    torch: str
    version: str
    backends: frozenset[str]


@frozen
class Catalog:
    """All known builds, release days, companions, GPU families, and what plain wheels are. Immutable.

    `history` holds what there was and is no more, nightlies above all; only `as_of` looks at it.
    """

    builds: tuple[Build, ...]
    history: tuple[Build, ...]
    releases: Mapping[Version, date]
    plain: Mapping[tuple[Version, str], str]
    companions: Mapping[Version, Mapping[str, str]]
    bounds: tuple[Bound, ...]
    families: tuple[Family, ...]
    read: date
    source: Source

    def release_day(self, torch: Version) -> date | None:
        """The day on which this version was released, or None if unknown."""
        return self.releases.get(torch)

    def plain_wheel(self, torch: Version, system: System, machine: str) -> str | None:
        """The backend of the wheel without a local version on the default package index, or None if unknown."""
        return self.plain.get((torch, f"{system.value} {machine}"))

    def companions_of(self, torch: Version, backend: str, system: System) -> Mapping[str, str]:
        """Package → version specifier of what goes with this torch: {"torchvision": "==0.29.2", …}.

        A package is left out where it has nothing for this torch, backend or system.
        """
        from packaging.specifiers import SpecifierSet

        cuda = backend.startswith("cu")
        wrong = {"triton-windows"} if system is System.LINUX else {"triton"}
        if not cuda:
            wrong |= {"triton", "triton-windows", "xformers"}
        release = Version(torch.base_version)
        found = {name: spec for name, spec in self.companions.get(release, {}).items() if name not in wrong}
        for bound in self.bounds:
            if (not bound.backends or backend in bound.backends) and release in SpecifierSet(bound.torch):
                found[bound.package] = bound.version
        return MappingProxyType(found)

    def sources_of(self, build: Build) -> tuple[str, ...]:
        """The texts of the sources of a build's row: what says that it exists, then what says what it holds."""
        return tuple(sources().get(name, name) for name in build.provenance)

    def on(self, system: System, machine: str) -> tuple[Build, ...]:
        """The builds for one platform."""
        return tuple(build for build in self.builds if build.machine == machine and build.system is system)

    def without(self, build: Build) -> Catalog:
        """The same catalog without one build."""
        return replace(self, builds=tuple(other for other in self.builds if other != build))

    def as_of(self, day: date) -> Catalog:
        """The catalog as it was on `day`: what was released by then, and the nightlies of that day."""
        known = (*self.builds, *self.history)
        return replace(
            self,
            builds=tuple(then for build in known if (then := _as_of(self, build, day))),
            history=(),
            releases={torch: released for torch, released in self.releases.items() if released <= day},
        )


def _as_of(catalog: Catalog, build: Build, day: date) -> Build | None:
    if not build.floating:
        released = catalog.release_day(build.torch)
        there = released is not None and released <= day and (build.until is None or day < build.until)
        return build if there else None
    if build.since is None or build.since > day or (build.until is not None and build.until < day):
        return None
    return replace(build, torch=Version(f"{build.torch.base_version}.dev{day:%Y%m%d}"))


@lru_cache(maxsize=64)
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
    return parse_catalog(read_rows(TABLE), pytorch_index(index_base))


@lru_cache(maxsize=1)
def sources() -> Mapping[str, str]:
    """The texts of the sources that the table's rows name, by id."""
    import tomllib

    found: Mapping[str, str] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["sources"]
    return found


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
        bounds = [
            Bound(
                package=row["package"],
                torch=row["torch"],
                version=row["version"],
                backends=frozenset(row.get("backend", "").split()),
            )
            for row in data["bounds"]
        ]
        families = [Family(vendor=Vendor(row["vendor"]), arch=row["arch"], name=row["name"]) for row in data["family"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadData(f"{TABLE.name}: {error!r} in row {dict(row)!r}", hint="mend the row") from error
    return Catalog(
        builds=tuple(builds),
        history=tuple(history),
        releases=MappingProxyType(releases),
        plain=MappingProxyType(plain),
        companions=MappingProxyType(companions),
        bounds=tuple(bounds),
        families=tuple(families),
        read=read,
        source=source,
    )


def _builds(
    row: Mapping[str, Any],
    source: Source,
    read: date,
    version: Callable[[str], Version],
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
        "provenance": tuple(dict.fromkeys(f"{row['exists_source']} {row['contents_source']}".split())),
        "note": row.get("note", ""),
        "read": read,
    }
    builds = []
    for text in row["torch"].split():
        torch = version(f"{text}.dev{last:%Y%m%d}" if floating else text)
        known = release_pythons[max(release_pythons)] if floating else release_pythons.get(torch)
        builds.append(Build(torch=torch, pythons=pythons or known, **shared))
    return builds
