"""The hold of one environment, kept through changes, shown, set and lifted. What it says is decided in `hold`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import transaction
from .errors import ProvisionError, TargetUnusable
from .hold import FILE, PIP, Hold, escaped_words, family_of, held_for
from .report import Message, Result

if TYPE_CHECKING:
    from .console import Console
    from .environment import Environment
    from .job import Job
    from .transaction.change import Change


def hold_of(prefix: Path, *, tree: Path | None = None) -> Hold:
    """The hold of the environment at `prefix` (its final path), as the files in `tree` (default: there) say."""
    tree = tree or prefix
    return Hold(prefix=prefix, constraints=transaction.read(tree, FILE), pip=transaction.read(tree, PIP))


def keep(staging: Change, versions: Mapping[str, str]) -> None:
    """Before a commit: let the staged copy hold the torch family of `versions`, unless somebody has let go of it."""
    staging.put(hold_of(staging.target, tree=staging.staged).renew(_held(versions)))


def keep_live(environment: Environment, console: Console) -> None:
    """The same in an environment that is right as it is; one that cannot be written stays right."""
    prefix = _real(environment.prefix)
    try:
        transaction.put(prefix, hold_of(prefix).renew(_held(_versions(environment))), say=console.progress)
    except ProvisionError as error:
        console.message("warning", "hold-not-set", f"any later install may replace torch: {error.text}")


def escaped(environment: Environment) -> Mapping[str, tuple[str, str | None]]:
    """What got past the hold of an environment: name → (held, installed)."""
    try:
        return hold_of(_real(environment.prefix)).escaped(_versions(environment))
    except OSError:
        return {}


def hold(job: Job, console: Console, *, on: bool | None) -> Result:
    """Show the hold of the environment; with `on` set it at what is installed, or lift it. Raises TargetUnusable."""
    from .propose import environment_for

    environment = environment_for(job)
    if not environment.exists:
        raise TargetUnusable(
            f"there is no environment at {environment.prefix}", code="no-environment", hint="provision makes one"
        )
    prefix, versions = _real(environment.prefix), _versions(environment)
    if on and "torch" not in versions:
        raise TargetUnusable(
            f"there is no torch in {environment.prefix} to hold", code="torch-missing", hint="provision puts it in"
        )
    changed = False
    if on is not None:
        found = hold_of(prefix)
        changed = transaction.put(prefix, found.set(_held(versions)) if on else found.lift(), say=console.progress)
    found = hold_of(prefix)
    broken = found.escaped(versions)
    held = {name: version for name, version in found.pinned.items() if found.on}
    data = {
        "environment": str(environment.prefix),
        "on": found.on,
        "changed": changed,
        "held": dict(held),
        "escaped": {name: {"held": was, "installed": now} for name, (was, now) in broken.items()},
        "files": {"constraints": str(prefix / FILE), "pip": str(prefix / PIP)},
        "uv": {"UV_CONSTRAINT": found.url},
    }
    words = escaped_words(broken)
    warning = Message(level="warning", code="hold-broken", text=f"{words}; provision heals that")
    return Result(
        command="hold",
        data=data,
        lines=tuple(_lines(found, environment, versions)),
        messages=(warning,) if words else (),
    )


def _lines(found: Hold, environment: Environment, versions: Mapping[str, str]) -> list[str]:
    where = os.path.relpath(environment.prefix)
    if not found.on:
        now = ", ".join(f"{name} {version}" for name, version in family_of(versions).items()) or "no torch"
        state = "lifted" if found.lifted else "not set"
        return [f"Hold      {state}: any install may replace {now} in {where}", "next: provision hold --on"]
    named = ", ".join(f"{name} {version}" for name, version in found.pinned.items() if name in versions)
    setting = f"$env:UV_CONSTRAINT = '{found.url}'" if os.name == "nt" else f"export UV_CONSTRAINT='{found.url}'"
    return [
        f"Hold      on: {named} in {where}",
        f"  pip     keeps to it: {os.path.join(where, PIP)} names {FILE}",
        "  uv      reads no settings from an environment; it keeps to it with the variable below",
        "  more    provision add PACKAGE installs with torch held; provision hold --off lets go",
        f"next: {setting}",
    ]


def _held(versions: Mapping[str, str]) -> dict[str, str]:
    """What to hold, with the companions that the table knows to go with the torch that is there."""
    from packaging.version import InvalidVersion, Version

    from .catalog import load_catalog
    from .machine import System

    system = {"win32": System.WINDOWS, "darwin": System.MACOS}.get(sys.platform, System.LINUX)
    try:
        torch = Version(versions.get("torch", ""))
    except InvalidVersion:
        return held_for(versions, {})
    companions = load_catalog().companions_of(Version(torch.public), torch.local or "", system)
    return held_for(versions, companions)


def _versions(environment: Environment) -> dict[str, str]:
    return {name: found.version for name, found in environment.installed.items()}


def _real(prefix: Path) -> Path:
    return Path(os.path.realpath(prefix))
