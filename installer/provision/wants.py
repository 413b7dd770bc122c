"""What is asked for besides torch, for one build and one profile? Pure: values in, the installer's order out.

torch and its companions come from the source of the build alone; the packages of the profile come from the user's own
indexes, and what the table knows to fit this torch bounds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from .catalog import Build
from .profile import COMPANIONS, Package, Profile
from .report import Message
from .uv import Wanted


def wanted_for(
    build: Build,
    profile: Profile,
    companions: Mapping[str, str],
    *,
    arches: Collection[str] = (),
    installed: Collection[str] = (),
) -> Wanted:
    """What to pin. `companions` are the table's versions for this build (`Catalog.companions_of`), `arches` the GPU
    architectures that count, as torch spells them; companions that are `installed` already go along.
    """
    family = {"torch": f"=={build.requirement}"}
    for name in COMPANIONS:
        if name in companions and (name in installed or name in profile.companions):
            family[name] = companions[name]
    return Wanted(
        family=family,
        others=tuple(package.requires for package in packages_for(build, profile, companions, arches)),
        source=build.source,
        index_url=build.index_url,
        constraints=tuple(
            f"{name}{spec}" for name, spec in sorted(companions.items()) if name not in COMPANIONS and _outside(name)
        ),
    )


def packages_for(
    build: Build, profile: Profile, companions: Mapping[str, str], arches: Iterable[str]
) -> tuple[Package, ...]:
    """The packages of the profile that are for this build and these GPUs."""
    return tuple(one for one in profile.packages if one.refuses(build, arches, companions) is None)


def checks_for(build: Build, profile: Profile, companions: Mapping[str, str], arches: Iterable[str]) -> tuple[str, ...]:
    """The checks of the profile, and those of its packages that are for this build."""
    own = [check for one in packages_for(build, profile, companions, arches) for check in one.checks]
    return tuple(dict.fromkeys([*profile.checks, *own]))


def left_out(
    build: Build, profile: Profile, companions: Mapping[str, str], arches: Collection[str]
) -> tuple[Message, ...]:
    """What the profile names and this build does not get, each with the reason: nothing goes silently.

    A package of several rows, each for other machines, is left out only where all of them are.
    """
    here = {one.name for one in packages_for(build, profile, companions, arches)}
    missing: dict[str, str] = {}
    for one in profile.packages:
        if one.name not in here:
            missing.setdefault(one.name, one.refuses(build, arches, companions) or "")
    for name in profile.companions:
        if name not in companions:
            missing[name] = f"none is known to fit torch {build.name}"
    return tuple(
        Message(level="warning", code="package-left-out", text=f"{name} of profile {profile.name} is left out: {why}")
        for name, why in missing.items()
    )


def _outside(name: str) -> bool:
    """torch itself says which triton it wants."""
    return not name.startswith(("triton", "pytorch-triton"))
