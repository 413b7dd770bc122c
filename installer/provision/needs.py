"""Which of torch's requirements can its own index alone fill?

uv looks for what a package requires on the user's indexes, and on the index of torch only for what is asked of it
directly (0.13.8). But a nightly pins `triton==3.9.0+git…`, ROCm builds want their own triton and the rocm packages, XPU
builds theirs: such requirements, read from the wheel's metadata (PEP 658), are to be asked for directly.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .catalog import Build, SourceKind, Wheel
from .environment import Python
from .index import local_folder
from .kept import Kept
from .listings import platform_of
from .pages import links_in_folder, parse_page
from .settings import Settings

BROUGHT = re.compile(r"(pytorch-)?triton(-.*)?|rocm(-.*)?")
"""Names of what comes from torch's own index wherever that has it."""

DEPTH = 12
"""More packages than this never stood behind one torch."""


def needs_of(
    build: Build,
    wheels: Iterable[Wheel],
    python: Python | None,
    settings: Settings,
    cache: Path | None,
    *,
    offline: bool = False,
) -> tuple[str, ...]:
    """The requirements of a build (PEP 508 texts, markers kept) that are to come from the build's own source.

    `wheels` are those that its source lists. Whatever cannot be read is left to uv.
    """
    if build.source.kind is SourceKind.PACKAGE_INDEX:
        return ()
    kept = Kept(settings, cache, offline=offline)
    first = wheel_of(build, wheels, python)
    queue = [first] if first else []
    found: dict[str, str] = {}
    while queue and len(found) < DEPTH:
        wheel = queue.pop()
        for requirement in parse_requirements(_metadata(wheel, kept) or ""):
            name = canonicalize_name(requirement.name)
            if name in found or not _brought(requirement):
                continue
            listed = [one for one in _listed(build, name, kept) if requirement.specifier.contains(one.version, True)]
            if listed or _only_there(requirement):
                found[name] = str(requirement)
            queue += listed[-1:]
    return tuple(found.values())


def wheel_of(build: Build, wheels: Iterable[Wheel], python: Python | None) -> Wheel | None:
    """The wheel of a build that an interpreter would get (any interpreter's without one)."""
    for wheel in wheels:
        for tag in wheel.tags:
            threads = "t" if tag.abi.startswith("cp") and tag.abi.endswith("t") else ""
            fits = python is None or tag.interpreter + threads == python.tag
            if (
                fits
                and str(wheel.version) == build.requirement
                and platform_of(tag.platform)
                == (
                    build.system,
                    build.machine,
                )
            ):
                return wheel
    return None


def parse_requirements(metadata: str) -> list[Requirement]:
    """The `Requires-Dist` lines of a METADATA text, those of extras left out."""
    found = []
    head = metadata.replace("\r\n", "\n").partition("\n\n")[0]
    for text in re.findall(r"^Requires-Dist: *(.+)$", head, re.M):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if "extra" not in str(requirement.marker or ""):
            found.append(requirement)
    return found


def _only_there(requirement: Requirement) -> bool:
    """A version with a local part: no package index takes it (PEP 440, "Local version identifiers")."""
    return any("+" in one.version for one in requirement.specifier)


def _brought(requirement: Requirement) -> bool:
    return _only_there(requirement) or BROUGHT.fullmatch(canonicalize_name(requirement.name)) is not None


def _listed(build: Build, name: str, kept: Kept) -> list[Wheel]:
    """The wheels of a package that the build's own source has, the oldest first."""
    base = build.index_url.rstrip("/")
    flat = build.source.flat or build.source.kind is SourceKind.FIND_LINKS
    folder = local_folder(base)
    try:
        if folder is not None:
            found = links_in_folder(folder)
        else:
            got = kept.page(f"{base}/" if flat else f"{base}/{name}/")
            found = parse_page(got.page) if got.page.status == 200 else ()
    except OSError:
        return []
    return sorted((one for one in found if one.name == name), key=lambda one: one.version)


def _metadata(wheel: Wheel, kept: Kept) -> str | None:
    """The METADATA of a wheel: beside it (PEP 658), else out of the file where it lies in a folder."""
    path = local_folder(wheel.url)
    if path is None:
        return kept.forever(f"{wheel.url}.metadata")
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return archive.read(name).decode("utf-8", errors="replace")
    except (OSError, zipfile.BadZipFile, StopIteration):
        return None
