"""Is there room for what is to be downloaded and installed? Asked before anything is fetched.

uv unpacks wheels into its cache while they arrive (they are never there as files, and nothing of them goes to TMPDIR),
and links the files into the environment; where the two are on different file systems, or links are not wanted, it
copies them. How large a wheel is unpacked no index tells: a CUDA torch 2.9.1 with torchvision is 4.10 GB in 29 wheels
and 7.05 GB in 16271 files (measured 2026-11-20), a CPU one grows more, so the demand here is the least that it can be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InstallFailed
from .values import frozen

if TYPE_CHECKING:
    from .host import Host

GROWTH = 1.7
"""Bytes on disk for one byte of download, at least."""

TORCH_FILES = 15_000
"""Files and folders of a torch with what it requires, at least."""

TORCH_FOLDERS = 1_000
"""Folders alone: what a tree of hard links takes."""

RESERVE = 50_000_000
"""Bytes that a change writes besides: copies of what is not linked, the record, bytecode of a first import."""


@frozen
class Room:
    """What a file system has left. `inodes` None: it makes them as it needs them, or does not tell."""

    place: Path
    device: int
    free: int
    inodes: int | None


@frozen
class Demand:
    """What has to be fetched: its bytes, as far as sizes are known, and whether torch is among it."""

    download: int
    torch: bool


def ask_room(place: Path) -> Room | None:
    """What is left where `place` is, or will be; None where the system does not tell."""
    existing = next((folder for folder in (place, *place.parents) if folder.exists()), None)
    if existing is None:
        return None
    try:
        device = os.stat(existing).st_dev
        if os.name == "nt":
            import shutil

            return Room(place=place, device=device, free=shutil.disk_usage(existing).free, inodes=None)
        found = os.statvfs(existing)
    except OSError:
        return None
    inodes = found.f_favail if found.f_files else None
    return Room(place=place, device=device, free=found.f_bavail * found.f_frsize, inodes=inodes)


def shortage(demand: Demand, environment: Room, cache: Room, *, linked: bool = True) -> str | None:
    """What is missing where, in one line; None where all that is known fits.

    `linked`: uv may link files from its cache into the environment (it copies between file systems in any case).
    """
    unpacked = round(demand.download * GROWTH)
    linked = linked and environment.device == cache.device
    copied = 0 if linked else unpacked
    files = TORCH_FILES if demand.torch else 0
    entries = TORCH_FOLDERS if demand.torch and linked else files
    if environment.device == cache.device:
        wants = [(cache, unpacked + copied + RESERVE, files + entries)]
    else:
        wants = [(cache, unpacked, files), (environment, copied + RESERVE, entries)]
    for room, size, number in wants:
        if room.free < size:
            return f"{_size(size)} are needed on the file system of {room.place}, and {_size(room.free)} are free"
        if room.inodes is not None and room.inodes < number:
            return f"some {number} files are needed on the file system of {room.place}, and {room.inodes} can be made"
    return None


def check_room(
    host: Host,
    uv: str,
    *,
    prefix: Path,
    versions: Mapping[str, str],
    variables: Mapping[str, str],
    sizes: Mapping[str, int],
) -> None:
    """Refuse, before anything is fetched, a change for which there is no room. Raises InstallFailed (`no-space`).

    `sizes` are the bytes of the packages to be put in, as far as they are known: nothing is refused for what is not,
    nor for what uv's cache holds at the right one of `versions`.
    """
    if not sizes:
        return
    folder = _cache_folder(host, uv, variables)
    environment, cache = ask_room(prefix), ask_room(folder)
    if environment is None or cache is None:
        return
    linked = variables.get("UV_LINK_MODE") != "copy"
    fetched = dict(sizes)
    for _ in range(2):
        demand = Demand(download=sum(fetched.values()), torch="torch" in fetched)
        problem = shortage(demand, environment, cache, linked=linked)
        if problem is None:
            return
        fetched = {name: size for name, size in sizes.items() if not in_cache(folder, name, versions.get(name, ""))}
    raise InstallFailed(
        f"there is no room for this: {problem}",
        code="no-space",
        hint="free some space (uv cache prune, provision clean), or put UV_CACHE_DIR or --env on a bigger disk",
    )


def in_cache(cache: Path, name: str, version: str) -> bool:
    """Whether uv has a wheel of this version already, by the names of its cache (0.13.8: `wheels-v7`).

    uv itself does not tell: for the packages of a lock, `--dry-run` calls every one uncached.
    """
    places = (f"wheels-v*/{index}/{name}/{version}-*.http" for index in ("*", "*/*"))
    return any(any(cache.glob(place)) for place in places)


def _cache_folder(host: Host, uv: str, variables: Mapping[str, str]) -> Path:
    named = variables.get("UV_CACHE_DIR")
    answer = None if named else host.run([uv, "cache", "dir", "--no-config"], timeout=20, env=dict(variables))
    return Path(named or (answer.stdout.strip() if answer else ""))


def _size(number: int) -> str:
    """`7.1 GB`, `52 MB`."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
