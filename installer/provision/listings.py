"""What do the live sources hold, and where is each build taken from? The index wins over the table (contracts 5.7).

Pure: `index` asks and reads pages, `with_listings` puts what they hold over the shipped table.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from packaging.version import Version

from .catalog import Build, Catalog, Channel, Listing, Source, SourceKind
from .machine import System
from .values import frozen, replace

Key = tuple[Version, str, System, str, Channel]
"""What a build is, wherever it lies: torch, backend, system, machine, channel."""


@frozen
class Held:
    """A build that a source holds: its version's local part, and the Pythons that there are wheels for."""

    source: Source
    local: str | None
    pythons: frozenset[str]


def with_listings(catalog: Catalog, listings: Iterable[Listing], *, reached: Collection[Source]) -> Catalog:
    """The catalog as the live sources have it.

    `reached` are the sources that answered at all. A page of the PyTorch index that was asked for is a Listing, one
    without wheels where the index has no such page; for pages that nobody asked for the table stays true as long as
    that index was reached.

    A build is taken from the PyTorch index or its mirror, else from the user's own indexes and folders, else from the
    default package index. What none of them holds stays in the catalog, but not `published`. What they hold and the
    table lacks appears, with contents as `neighbour` says. A series of nightlies becomes the days that are listed.
    """
    kinds = list(SourceKind)
    holding: dict[Key, Held] = {}
    asked = set()
    for listing in sorted(listings, key=lambda listing: kinds.index(listing.source.kind)):
        if listing.source.kind is SourceKind.PYTORCH_INDEX:
            asked.add((listing.backend, listing.channel))
        for key, held in held_by(listing, catalog).items():
            holding.setdefault(key, held)
    pytorch_reached = any(source.kind is SourceKind.PYTORCH_INDEX for source in reached)
    builds = []
    for build in catalog.builds:
        key = (build.torch, build.backend, build.system, build.machine, build.channel)
        found = holding.pop(key, None)
        if pytorch_reached and (build.backend, build.channel) not in asked:
            builds.append(build)
        elif found is not None:
            builds.append(_taken_from(found, replace(build, floating=False)))
        elif not build.floating:
            builds.append(replace(build, published=False))
    builds += [_taken_from(held, _unknown(key, held, catalog)) for key, held in holding.items()]
    return replace(catalog, builds=tuple(builds))


def _taken_from(held: Held, build: Build) -> Build:
    return replace(build, source=held.source, local=held.local, pythons=held.pythons, exists="primary")


# ── reading a listing ───────────────────────────────────────────────────────────────────────────────────────────


def held_by(listing: Listing, catalog: Catalog) -> dict[Key, Held]:
    """The torch builds on one page. Wheels of variants that are no backend of ours are passed over."""
    official = listing.source.kind is SourceKind.PYTORCH_INDEX
    pythons: dict[tuple[Key, str | None], set[str]] = {}
    for wheel in listing.wheels:
        if wheel.name != "torch" or wheel.yanked:
            continue
        torch, local = Version(wheel.version.public), wheel.version.local
        channel = listing.channel if official else channel_of(torch)
        for tag in wheel.tags:
            platform = platform_of(tag.platform)
            if platform is None:
                continue
            backend = listing.backend if listing.backend else backend_of(torch, local, *platform, catalog)
            if backend is None or local not in (None, backend):
                continue
            free_threaded = tag.abi.startswith("cp") and tag.abi.endswith("t")
            found = pythons.setdefault(((torch, backend, *platform, channel), local), set())
            found.add(tag.interpreter + ("t" if free_threaded else ""))
    # The wheel whose version says the backend is surer than one of the same page that says nothing: it comes last.
    ordered = sorted(pythons.items(), key=lambda item: item[0][1] is not None)
    return {key: Held(source=listing.source, local=local, pythons=frozenset(tags)) for (key, local), tags in ordered}


def channel_of(torch: Version) -> Channel:
    """The channel that a version number tells."""
    if torch.is_devrelease:
        return Channel.NIGHTLY
    return Channel.TEST if torch.is_prerelease else Channel.STABLE


_BACKEND = re.compile(r"cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+)*")


def backend_of(torch: Version, local: str | None, system: System, machine: str, catalog: Catalog) -> str | None:
    """The backend of a wheel that lies on no backend's page: its local version, or what plain wheels are.

    A plain wheel newer than the table is taken to be what the newest one in the table is.
    """
    if local is not None:
        return local if _BACKEND.fullmatch(local) else None
    platform = f"{system.value} {machine}"
    older = [known for known, on in catalog.plain if on == platform and known <= torch]
    return catalog.plain[max(older), platform] if older else None


_PLATFORMS = (
    (re.compile(r"(many)?linux.*_x86_64"), (System.LINUX, "x86_64")),
    (re.compile(r"(many)?linux.*_aarch64"), (System.LINUX, "aarch64")),
    (re.compile(r"win_amd64"), (System.WINDOWS, "x86_64")),
    (re.compile(r"win_arm64"), (System.WINDOWS, "aarch64")),
    (re.compile(r"macosx.*_arm64"), (System.MACOS, "aarch64")),
    (re.compile(r"macosx.*_x86_64"), (System.MACOS, "x86_64")),
)


def platform_of(tag: str) -> tuple[System, str] | None:
    """`manylinux_2_28_x86_64` → linux x86_64; None for platforms that we do not know."""
    return next((platform for pattern, platform in _PLATFORMS if pattern.fullmatch(tag)), None)


# ── what the table lacks ────────────────────────────────────────────────────────────────────────────────────────


def _unknown(key: Key, held: Held, catalog: Catalog) -> Build:
    """A build that the table lacks: contents as its neighbour's, and that only inferred."""
    torch, backend, system, machine, channel = key
    near = neighbour(key, catalog.builds)
    nightlies = channel is Channel.NIGHTLY and near is not None and near.channel is Channel.NIGHTLY
    return Build(
        torch=torch,
        backend=backend,
        system=system,
        machine=machine,
        channel=channel,
        source=held.source,
        arches=near.arches if near else (),
        ptx=near.ptx if near and nightlies else (),
        advertised=near.advertised if near and near.backend == backend else True,
        confidence="inferred",
        provenance=(f"listed by {held.source.label}",),
        note=f"contents as {near.name}" if near else "contents unknown",
    )


def neighbour(key: Key, builds: Sequence[Build]) -> Build | None:
    """The build of the table whose contents a build that it lacks probably has.

    On the same platform: 1. of the same backend, 2. for a new backend of the nearest older one of its kind (of the
    same major for CUDA), else of the nearest newer; there a build of the same channel, else any, and of those the
    newest that is not newer than the build, else the oldest. PTX came and went between releases: it is taken over from
    one nightly to the next only. Without a neighbour no GPU is covered.
    """
    torch, backend, system, machine, channel = key
    here = [build for build in builds if build.system is system and build.machine == machine]
    number = backend_number(backend)
    numbers = {backend_number(build.backend) for build in here if _kind(build.backend) == _kind(backend)}
    older = [known for known in numbers if known <= number]
    nearest = max(older) if older else min(numbers, default=None)
    rows = [
        build for build in here if _kind(build.backend) == _kind(backend) and backend_number(build.backend) == nearest
    ]
    rows = [build for build in rows if build.channel is channel] or rows
    not_newer = [build for build in rows if build.torch <= torch]
    if not_newer:
        return max(not_newer, key=lambda build: build.torch)
    return min(rows, key=lambda build: build.torch, default=None)


def backend_number(backend: str) -> tuple[int, ...]:
    """(13, 0) of `cu130`, (7, 14) of `rocm7.14`, () of `cpu`."""
    if match := re.fullmatch(r"cu(\d+)(\d)", backend):
        return int(match[1]), int(match[2])
    return tuple(int(part) for part in re.findall(r"\d+", backend))


def _kind(backend: str) -> str:
    """Backends of one kind hold alike code: CUDA by its major."""
    return f"cu{backend_number(backend)[0]}" if backend.startswith("cu") else re.sub(r"[\d.]+", "", backend)
