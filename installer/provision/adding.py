"""How do further packages come into an environment without its torch changing? `provision add PACKAGE…`.

torch and its companions are pinned to what is installed, from the index that they came from; what was locked before
stays wherever the new packages allow; the rest is the transaction of every change. Where a package demands another
torch, it is named with what it demands, and with the version of it that fits, which uv is asked for.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .catalog import PACKAGE_INDEX_LABEL, Build, Channel, Source, SourceKind, load_catalog
from .errors import BadData, InstallFailed, NoBuildFits, ProvisionError, TargetUnusable, UsageProblem
from .narrow import demands_in
from .plan import FAMILY
from .profile import COMPANIONS, DEFAULT, load_profile
from .propose import Ready, decision_for, environment_for, pinned, wish
from .report import Result
from .values import frozen, replace

if TYPE_CHECKING:
    from .choose import Decision
    from .console import Console
    from .environment import Environment, Installed
    from .host import Host
    from .job import Job
    from .lock import Lock
    from .machine import Machine
    from .profile import Limit, Profile
    from .uv import Wanted


@frozen
class Scene:
    """What one addition is about: the environment with the torch that is held, and what decides where it is from."""

    job: Job
    host: Host
    console: Console
    machine: Machine
    environment: Environment
    profile: Profile
    decision: Decision
    build: Build
    locked: Lock | None


def add(job: Job, packages: Sequence[str], host: Host, console: Console, *, dry_run: bool = False) -> Result:
    """Install `packages` (PEP 508) with the torch family held; with `dry_run` only tell what would change.

    Raises ProvisionError; InstallFailed (`held`) where a package demands another torch.
    """
    from . import transaction
    from .detect.environment import target_prefix
    from .screens import change_lines, environment_phrase
    from .workflow import Task, change, consent

    began = time.monotonic()
    asked = parse_wishes(packages)
    transaction.recover(target_prefix(job.env, os.environ, Path.cwd()), say=console.progress)
    scene = look(job, host, console)
    refuse_other_torch(asked, scene)
    console.line(f"Holding   torch {scene.build.requirement} from {scene.build.source.label}")
    with tempfile.TemporaryDirectory(prefix="provision-") as name:
        folder = Path(name)
        try:
            ready = ready_for(scene, asked, folder)
        except InstallFailed as error:
            if error.code != "resolution":
                raise
            raise held_against(scene, asked, error, folder) from None
        console.line(f"Env       {environment_phrase(ready.plan)}")
        console.lines(change_lines(ready.plan))
        data = ready.plan.to_json() | {"held": dict(ready_family(scene)), "changed": False}
        if dry_run or not ready.plan.changes:
            there = ", ".join(str(one) for one in asked)
            line = f"{there}: already there" if not ready.plan.changes else "nothing was changed (--dry-run)"
            return Result(command="add", data=data, lines=(line,))
        consent(ready.plan, console)
        task = Task(scene.job, host, console, scene.machine, scene.environment, scene.profile, began)
        done = change(task, ready, folder / "pylock.toml")
        return replace(done, command="add", data=done.data | {"held": dict(ready_family(scene))})


# What is asked for ---------------------------------------------------------------------------------------------------


def parse_wishes(packages: Iterable[str]) -> tuple[Requirement, ...]:
    """The requirements. Raises UsageProblem for what is none, and for torch itself, which is held."""
    found = []
    for text in packages:
        try:
            wish = Requirement(text)
        except InvalidRequirement:
            raise UsageProblem(
                f"{text!r} is not a requirement",
                code="bad-requirement",
                hint="a name, with a version if you like: 'xformers', 'peft>=0.17', 'mine @ file:///path/to/mine.whl'",
            ) from None
        if canonicalize_name(wish.name) == "torch":
            raise UsageProblem(
                "torch itself is held; to have another one is a new plan",
                code="torch-is-held",
                hint=f"provision --torch {str(wish.specifier) or 'VERSION'!r}",
            )
        found.append(wish)
    return tuple(found)


def refuse_other_torch(asked: Iterable[Requirement], scene: Scene) -> None:
    """A companion at a version that was not made for the torch that is held is refused. Raises InstallFailed."""
    known = ready_family(scene)
    for one in asked:
        name = canonicalize_name(one.name)
        fits = known.get(name) or companions_of(scene).get(name, "").removeprefix("==")
        if name in COMPANIONS and not fits:
            raise InstallFailed(
                f"no {name} is known that goes with torch {scene.build.requirement}",
                code="held",
                hint=f"another torch may have one: provision plan {name}",
            )
        if name in COMPANIONS and not one.specifier.contains(fits, prereleases=True):
            raise InstallFailed(
                f"{one} was not made for torch {scene.build.requirement}, which is held; {name} {fits} was",
                code="held",
                hint=f"provision add {name}=={Version(fits).public}",
                data={"fits": [f"{name}=={Version(fits).public}"]},
            )


def wanted(scene: Scene, asked: Iterable[Requirement]) -> Wanted:
    """What uv is to pin: the family as it is, companions that are asked for, everything else that was locked."""
    asked = tuple(asked)
    names = {canonicalize_name(one.name): one for one in asked}
    base = wish(scene.job, scene.decision, scene.build, scene.profile, scene.environment.python)
    family = {name: f"=={version}" for name, version in ready_family(scene).items()}
    family |= {name: companions_of(scene)[name] for name in COMPANIONS if name in names and name not in family}
    installed = scene.environment.installed
    kept = roots(installed, scene.locked.versions) if scene.locked else ()
    others = [str(one) for name, one in names.items() if name not in family]
    held = [f"{name}=={one.version}" for name, one in installed.items() if name in FAMILY and name not in family]
    free = [name for name, one in names.items() if not one.specifier and not one.url]
    known = [text for text in base.constraints if canonicalize_name(Requirement(text).name) in free]
    others += [name for name in kept if name not in names]
    return replace(base, family=family, others=tuple(others), constraints=(*held, *known))


def roots(installed: Mapping[str, Installed], names: Iterable[str]) -> tuple[str, ...]:
    """Of these packages those that are installed outside the torch family and that nothing else installed requires."""
    required = {name for one in installed.values() for name in _requires(one)}
    return tuple(name for name in names if name in installed and name not in FAMILY and name not in required)


def _requires(one: Installed) -> Iterable[str]:
    for text in one.requires:
        try:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield canonicalize_name(requirement.name)
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue


# What is held --------------------------------------------------------------------------------------------------------


def look(job: Job, host: Host, console: Console) -> Scene:
    """The environment and where its torch can be had. Raises TargetUnusable without one, NoBuildFits, InstallFailed."""
    from .facts import machine_for
    from .lock import FILE_NAME, read_lock

    environment = environment_for(job)
    torch = environment.version("torch")
    if not environment.exists or torch is None:
        what = "environment" if not environment.exists else "torch in the environment"
        raise TargetUnusable(
            f"there is no {what} at {environment.prefix}",
            code="no-environment" if not environment.exists else "torch-missing",
            hint="provision puts torch in first",
        )
    try:
        path = environment.prefix.parent / FILE_NAME
        locked = read_lock(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError, BadData):
        locked = None
    machine = machine_for(job, host)
    job = replace(job, profile=_profile_name(locked), depth="quick", **_exactly(torch, job, machine))
    profile = load_profile(job.profile)
    free = replace(profile, torch=None, limits=(), packages=(), companions=())
    decision = decision_for(job, host, console, machine, environment, free, executing=True)
    fitting = decision.resolution.candidates
    build = next((one for one in fitting if one.requirement == torch), None)
    if build is None and fitting and Version(torch).local is None:
        build = replace(fitting[0], local=None, source=_package_index(host, decision))
    if build is None:
        raise NoBuildFits(
            f"torch {torch}, which is installed, is not among the builds that can be had and run on this machine",
            hint="provision chooses one; then add again",
        )
    return Scene(
        job=job,
        host=host,
        console=console,
        machine=machine,
        environment=environment,
        profile=profile,
        decision=decision,
        build=build,
        locked=locked,
    )


def _exactly(torch: str, job: Job, machine: Machine) -> dict[str, str]:
    """The options that ask for just the torch that is installed."""
    version = Version(torch)
    platform = machine.platform
    backend = version.local or load_catalog(job.base).plain_wheel(version, platform.system, platform.machine) or "auto"
    channel = Channel.NIGHTLY if version.is_devrelease else Channel.TEST if version.is_prerelease else Channel.STABLE
    return {"torch": f"=={version.public}", "backend": backend, "channel": channel.value}


def _package_index(host: Host, decision: Decision) -> Source:
    """The default package index, where plain wheels come from."""
    from . import uv
    from .carry import uv_environment

    assert decision.settings is not None
    address = decision.settings.index_url or uv.default_index(
        host, uv.find_uv(host), uv_environment(decision.settings, os.environ)
    )
    return Source(kind=SourceKind.PACKAGE_INDEX, url=(address or "").rstrip("/"), label=PACKAGE_INDEX_LABEL)


def _profile_name(locked: Lock | None) -> str:
    """The profile that the environment was made for, where it is still there."""
    if locked is None:
        return DEFAULT
    try:
        return load_profile(locked.profile).name
    except ProvisionError:
        return DEFAULT


def ready_family(scene: Scene) -> dict[str, str]:
    """torch and its companions as they are installed."""
    versions = {name: scene.environment.version(name) for name in ("torch", *COMPANIONS)}
    return {name: version for name, version in versions.items() if version is not None}


def companions_of(scene: Scene) -> Mapping[str, str]:
    """What the table knows to go with the torch that is held."""
    return load_catalog(scene.job.base).companions_of(scene.build.torch, scene.build.backend, scene.build.system)


def ready_for(scene: Scene, asked: Iterable[Requirement], folder: Path) -> Ready:
    """The pins, and what they change. Raises InstallFailed (`resolution`) where they cannot be had together."""
    return pinned(
        scene.job,
        scene.host,
        scene.decision,
        scene.build,
        scene.machine,
        scene.environment,
        scene.profile,
        folder,
        wanted=wanted(scene, asked),
    )


# Where it does not fit -----------------------------------------------------------------------------------------------


def held_against(scene: Scene, asked: Sequence[Requirement], error: InstallFailed, folder: Path) -> InstallFailed:
    """Which package demands which torch, the versions that fit instead, and the torch that a new plan would have."""
    torch = scene.build.requirement
    demands = [one for one in demands_in(error.text) if one.refuses(scene.build)]
    if not demands:
        return error
    fits = fitting(scene, asked, folder)
    other = other_torch(scene, demands)
    words = "; ".join(f"{one.by} demands torch{one.torch}" for one in demands[:4])
    ways = [f"provision add {' '.join(_quoted(one) for one in fits)}"] if fits else []
    ways += [f"a new plan: provision --torch {_quoted(other)}, then add again"] if other else []
    none = "" if fits else f"; no other version that was asked for takes torch {torch}"
    return InstallFailed(
        f"torch {torch} is held, and {words}{none}",
        code="held",
        hint=", or ".join(ways) or "provision hold --off lets go of torch; nothing then looks after it",
        data={
            "held": ready_family(scene),
            "demands": [{"package": one.by, "torch": one.torch} for one in demands],
            "fits": fits,
            "torch": other,
        },
    )


def fitting(scene: Scene, asked: Sequence[Requirement], folder: Path) -> list[str]:
    """What was asked for, at the nearest versions that take the torch that is held; empty where there are none.

    The nearest below what was asked for comes first, then any: uv takes the newest of what it may.
    """
    for change in (_at_most, _any):
        tries = [change(one) for one in asked]
        try:
            versions = ready_for(scene, tries, folder).pins.versions
        except InstallFailed:
            continue
        found = [(one, versions.get(canonicalize_name(one.name))) for one in asked]
        return [
            f"{one.name}{_extras(one)}=={Version(version).public}" if not _contains(one, version) else str(one)
            for one, version in found
            if version is not None
        ]
    return []


def _at_most(wish: Requirement) -> Requirement:
    """`xformers==0.0.28` → `xformers<0.0.28`; others as they are."""
    exact = [spec.version for spec in wish.specifier if spec.operator in ("==", "===")]
    return Requirement(f"{wish.name}{_extras(wish)}<{exact[0].rstrip('.*')}") if exact else _any(wish)


def _any(wish: Requirement) -> Requirement:
    return wish if wish.url else Requirement(f"{wish.name}{_extras(wish)}")


def _extras(wish: Requirement) -> str:
    return f"[{','.join(sorted(wish.extras))}]" if wish.extras else ""


def _contains(wish: Requirement, version: str) -> bool:
    try:
        return wish.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def other_torch(scene: Scene, demands: Sequence[Limit]) -> str | None:
    """The specifier by which a new plan would find a torch that all of them take; None where none runs here."""
    from packaging.specifiers import SpecifierSet

    from .resolve import Request, resolve

    together = SpecifierSet(",".join(one.torch or "" for one in demands))
    request = Request(torch=together, gpus=scene.job.gpus, python=scene.environment.python)
    try:
        found = resolve(scene.machine, request, load_catalog(scene.job.base))
    except ProvisionError:
        return None
    return str(together) if found.choice else None


def _quoted(text: str) -> str:
    return f"'{text}'" if re.search(r"[<>!*;\[ ]", text) else text
