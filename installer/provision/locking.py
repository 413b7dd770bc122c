"""How is a choice written down for others, without touching an environment? `provision lock`, from targets to files.

For each target: decide, pin with uv (pip-tools as a second opinion), write `pylock.NAME.toml` and the same pins as
`requirements.NAME.txt`. What a lock holds already stays as long as it may: a lock becomes stale by what is asked for,
or by files that went away, and not by every release; `--upgrade NAME` takes the newest.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .aims import ALL, Aim, Order, aims
from .console import Console
from .environment import Python
from .errors import InstallFailed, Mismatch, UsageProblem
from .job import Job
from .lock import (
    REQUIREMENTS_HEAD,
    Lock,
    Target,
    check_portable,
    differences,
    lock_text,
    read_lock,
    requirements_text,
)
from .profile import Profile, load_profile
from .report import Result
from .targets import MACOS, uv_platform
from .values import frozen, replace

if TYPE_CHECKING:
    from .catalog import Build
    from .choose import Decision
    from .host import Host
    from .uv import Pins, Wanted

PIP_TOOLS = "pip-tools"


@frozen
class Made:
    """A lock as it is to be: the text, the value, and what it changes."""

    aim: Aim
    build: Build
    text: str
    lock: Lock

    @property
    def changes(self) -> tuple[str, ...]:
        return differences(self.aim.known, self.lock) if self.aim.known else ()

    @property
    def stale(self) -> bool:
        """The file is absent or says something else."""
        return self.aim.known is None or bool(self.changes)


def lock(job: Job, host: Host, console: Console, order: Order) -> Result:
    """Write (or, with `check`, compare) the lock of each target. Raises ProvisionError; Mismatch where one is stale."""
    profile = load_profile(job.profile)
    made = [make(aim, host, console, profile, order) for aim in aims(job, host, order)]
    if order.check:
        return checked(made)
    lines = []
    for one in made:
        said = write(one, console)
        count = len(one.lock.packages)
        lines.append(f"Locked    torch {one.lock.torch} and {count - 1} packages for {one.lock.target}")
        lines.append(f"          {shown(one.aim.path)} {said}, {shown(one.aim.requirements)} beside it")
        lines += [f"  {change}" for change in one.changes]
        for name, value in (one.lock.environment or {}).items():
            setting = profile.environment[name]
            why = f": {setting.why}" if setting.why else ""
            console.message("hint", "environment", f"set {name}={value} where this runs{why}")
    data: dict[str, Any] = {"locks": [as_json(one) for one in made]}
    if order.wheelhouse is not None:
        from .wheelhouse import fill

        filled = fill(order.wheelhouse, [(one.aim.path.name, one.text, one.lock) for one in made], host, console)
        data["wheelhouse"] = {"path": str(order.wheelhouse), "files": filled.files, "bytes": filled.bytes}
        lines.append(f"          {filled.files} files in {order.wheelhouse}")
    for note in dict.fromkeys(profile.notes):
        console.message("hint", "profile-note", note)
    return Result(command="lock", data=data, lines=tuple(lines))


def checked(made: list[Made]) -> Result:
    """`--check`: stale or not. Raises Mismatch, whose data holds every lock."""
    stale = [one for one in made if one.stale]
    data = {"locks": [as_json(one) for one in made]}
    if not stale:
        return Result(
            command="lock",
            data=data,
            lines=tuple(f"{shown(one.aim.path)} is up to date: torch {one.lock.torch}" for one in made),
        )
    said = "; ".join(
        f"{shown(one.aim.path)}: {', '.join(one.changes[:6])}{' …' if len(one.changes) > 6 else ''}"
        if one.aim.known
        else f"{shown(one.aim.path)} does not exist"
        for one in stale
    )
    raise Mismatch(f"stale: {said}", code="lock-stale", hint="provision lock writes it anew", data=data)


def as_json(one: Made) -> dict[str, Any]:
    """One lock in `lock --json`."""
    from .resolve import build_json

    target = one.lock.target
    return {
        "path": str(one.aim.path),
        "requirements": str(one.aim.requirements),
        "target": {
            "system": target.system,
            "machine": target.machine,
            "python": target.python,
            "arches": list(target.arches),
        },
        "choice": build_json(one.build),
        "packages": one.lock.versions,
        "stale": one.stale,
        "changes": list(one.changes),
    }


# Pinning ------------------------------------------------------------------------------------------------------------


def make(aim: Aim, host: Host, console: Console, profile: Profile, order: Order) -> Made:
    """Decide and pin one lock. Raises NoBuildFits, InstallFailed, UsageProblem."""
    from .choose import decide
    from .propose import attainable, bare_plan, no_build, tell_left_out

    python = Python(version=aim.python.rstrip("t"), free_threaded=aim.python.endswith("t"))
    if python.free_threaded:
        raise UsageProblem(
            f"a lock cannot be made for Python {aim.python} from outside of it: uv knows no such target",
            hint="run provision in an environment of it: the lock beside the environment is for it",
        )
    if order.engine == PIP_TOOLS:
        from .second import same_here

        same_here(aim, host)
    request = aim.job.request(python, profile)
    decision = decide(aim.job, host, console, aim.machine, request, executing=True)
    if decision.settings is None:
        raise InstallFailed(
            "no index page was kept that a lock could be made from",
            code="network",
            hint="a lock needs the index: leave out --offline",
        )
    decision = staying(decision, aim, order.upgrade)
    if decision.resolution.choice is None:
        raise no_build(decision.resolution, bare_plan(aim.machine, decision.resolution, None))
    with tempfile.TemporaryDirectory(prefix="provision-") as name:
        folder = Path(name)
        found: dict[str, tuple[Wanted, Pins]] = {}

        def pin(decision: Decision, build: Build) -> None:
            found[build.name] = pins_for(aim, decision, build, profile, python, host, order, folder)

        decision = attainable(decision, aim.machine, pin) if not profile.plain else decision
        build = decision.resolution.choice
        assert build is not None
        if build.name not in found:
            pin(decision, build)
        wanted, pins = found[build.name]
    tell(console, decision, build)
    tell_left_out(aim.job, console, decision, build, profile)
    text = text_of(aim, decision, build, profile, wanted, pins)
    lock = read_lock(text, where=aim.path.name)
    check_portable(lock, where=aim.path.name)
    return Made(aim=aim, build=build, text=text, lock=lock)


def staying(decision: Decision, aim: Aim, upgrade: Collection[str]) -> Decision:
    """The decision for the torch that is locked already, as long as it still fits and nobody asked for a newer one."""
    known = aim.known
    if known is None or {"torch", ALL} & set(upgrade):
        return decision
    build = next(
        (
            one
            for one in decision.resolution.candidates
            if one.requirement == known.torch and one.backend == known.backend
        ),
        None,
    )
    if build is None or build == decision.resolution.choice:
        return decision
    from packaging.specifiers import SpecifierSet

    from .resolve import resolve

    request = replace(decision.request, torch=SpecifierSet(f"=={build.torch}"), backend=build.backend)
    return replace(decision, request=request, resolution=resolve(aim.machine, request, decision.catalog))


def pins_for(
    aim: Aim,
    decision: Decision,
    build: Build,
    profile: Profile,
    python: Python,
    host: Host,
    order: Order,
    folder: Path,
) -> tuple[Wanted, Pins]:
    """What is wanted, and every pin of it with its files."""
    from . import uv
    from .carry import login_variables, uv_environment
    from .propose import base_python, wish

    settings = decision.settings
    assert settings is not None
    wanted = wish(aim.job, decision, build, profile, python)
    keep = kept(aim.known, order.upgrade)
    if order.engine == PIP_TOOLS:
        from .second import second_opinion

        wanted, chosen = second_opinion(wanted, settings, keep, host, folder)
    variables = uv_environment(settings, os.environ, offline=aim.job.offline)
    variables |= login_variables(settings, build.index_url) | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    pins = uv.compile_pins(
        host,
        uv.find_uv(host),
        wanted,
        folder=folder,
        python=base_python(),
        env=variables,
        installed=keep,
        cross=(python.minor, uv_platform(aim.machine.platform, build)),
    )
    if order.engine == PIP_TOOLS:
        from .second import agree

        agree(chosen, pins.versions)
    return wanted, pins


def kept(known: Lock | None, upgrade: Collection[str]) -> dict[str, str]:
    """The versions that stay where they may."""
    if known is None or ALL in upgrade:
        return {}
    return {name: version for name, version in known.versions.items() if name not in upgrade}


def text_of(aim: Aim, decision: Decision, build: Build, profile: Profile, wanted: Wanted, pins: Pins) -> str:
    """The text of the lock."""
    from .catalog import SourceKind
    from .coverage import arches_of
    from .uv import own_names

    asked = aim.job
    request: dict[str, Any] = {"gpus": list(asked.gpus), "backend": asked.backend, "channel": asked.channel}
    return lock_text(
        pins.text,
        backend=build.backend,
        channel=build.channel.value,
        profile=profile.name,
        target=Target(
            system=build.system.value,
            machine=build.machine,
            python=aim.python,
            arches=arches_of(decision.resolution.gpus),
        ),
        index_url=build.index_url,
        from_index=() if build.source.kind is SourceKind.PACKAGE_INDEX else own_names(wanted),
        flat=build.source.flat or build.source.kind is SourceKind.FIND_LINKS,
        machine=aim.machine,
        request=request | ({"torch": asked.torch} if asked.torch else {}),
        environment={name: setting.value for name, setting in profile.environment.items()},
    )


def tell(console: Console, decision: Decision, build: Build) -> None:
    """What the choice rests on, and what a nightly costs."""
    from .catalog import Channel

    for note in decision.resolution.notes:
        console.message(note.level, note.code, note.text)
    if build.channel is Channel.NIGHTLY:
        console.message(
            "warning",
            "nightly-lock",
            "the index gives no hashes of nightlies: the wheels for this target were downloaded to take them, and the "
            "index deletes nightlies after some weeks: keep the files with --wheelhouse DIR",
        )


# Writing ------------------------------------------------------------------------------------------------------------


def write(one: Made, console: Console) -> str:
    """Put lock and requirements in their place, each in one step; in a word what became of it. Raises OSError."""
    path = one.aim.path
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if before != one.text:
        put(path, one.text)
    beside = one.aim.requirements
    if beside.exists() and not beside.read_text(encoding="utf-8", errors="replace").startswith(REQUIREMENTS_HEAD):
        console.message("warning", "foreign-requirements", f"{beside} was not written by provision and stays as it is")
    else:
        put(beside, requirements_text(one.lock, beside=path.name))
    return "unchanged" if before == one.text else "written" if before is None else "renewed"


def put(path: Path, text: str) -> None:
    """A file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def shown(path: Path) -> str:
    return os.path.relpath(path)
