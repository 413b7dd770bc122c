"""Which profiles are there, what does each ask for, and is a file one? The three answers of `provision profiles`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import BadData, UsageProblem
from .judge import BATTERY
from .profile import Profile, find_profiles, load_profile, profile_folders, read_profile
from .report import Result
from .values import fields


def profiles(words: tuple[str, ...]) -> Result:
    """`profiles`, `profiles NAME`, `profiles show NAME`, `profiles validate FILE…`."""
    match words:
        case ():
            return listing()
        case ("validate", *files) if files:
            return validate(files)
        case ("show", name) | (name,) if name not in ("show", "validate"):
            return show(name)
    raise UsageProblem(
        f"provision profiles {' '.join(words)}: not understood",
        hint="provision profiles, provision profiles show NAME, provision profiles validate FILE",
    )


def listing() -> Result:
    """Every profile in a line; one that cannot be read says why."""
    own = profile_folders()[0]
    rows: list[dict[str, Any]] = []
    for name, path in sorted(find_profiles().items()):
        row: dict[str, Any] = {"name": name, "own": path.parent == own, "path": str(path)}
        try:
            row["summary"] = read_profile(path).summary
        except BadData as error:
            row |= {"summary": None, "problem": error.text}
        rows.append(row)
    lines = [
        f"  {row['name']:<14} {row['summary'] or '! ' + row['problem']}" + (" (your own)" if row["own"] else "")
        for row in rows
    ]
    return Result(command="profiles", data={"profiles": rows}, lines=tuple(lines))


def show(name: str) -> Result:
    """One profile with all that it asks for, and why."""
    profile = load_profile(name)
    return Result(command="profiles", data=profile_json(profile), lines=tuple(profile_lines(profile)))


def validate(files: list[str]) -> Result:
    """Read profile files strictly, checks included. Raises BadData for the first that is none."""
    found = []
    for file in files:
        profile = read_profile(Path(file))
        named = [*profile.checks, *(check for one in profile.packages for check in one.checks)]
        unknown = [check for check in named if check not in BATTERY]
        if unknown:
            raise BadData(
                f"profile {file}: `checks` has {unknown[0]!r}, which is no check",
                code="bad-profile",
                hint=f"the checks are {', '.join(BATTERY)}",
            )
        found.append(profile)
    return Result(
        command="profiles",
        data={"valid": [str(one.path) for one in found]},
        lines=tuple(f"  {one.path}: {one.name}, {one.summary}" for one in found),
    )


def profile_json(profile: Profile) -> dict[str, Any]:
    """`profiles show --json`."""
    return {
        "name": profile.name,
        "summary": profile.summary,
        "path": str(profile.path),
        "torch": profile.torch,
        "limits": [_json(one) for one in profile.limits],
        "companions": list(profile.companions),
        "packages": [_json(one) for one in profile.packages],
        "checks": list(profile.checks),
        "environment": {name: fields(one) for name, one in profile.environment.items()},
        "notes": list(profile.notes),
    }


def _json(row: object) -> dict[str, Any]:
    """The fields that say something."""
    said = {name: value for name, value in fields(row).items() if value not in (None, (), "", False)}
    return {
        name: list(value) if isinstance(value, tuple) else value if isinstance(value, str | bool) else str(value)
        for name, value in said.items()
    }


def profile_lines(profile: Profile) -> list[str]:
    """`profiles show`."""
    lines = [f"{profile.name}: {profile.summary}", f"  file          {profile.path}"]
    if profile.torch:
        lines.append(f"  torch         {profile.torch}")
    for limit in profile.limits:
        said = [f"torch {limit.torch}"] if limit.torch else []
        said += [" ".join(allowed) for allowed in (limit.backends, limit.platforms) if allowed]
        lines.append(f"  limit         {limit.by}: {', '.join(said)}" + (f" ({limit.why})" if limit.why else ""))
    if profile.companions:
        lines.append(f"  companions    {' '.join(profile.companions)}")
    for one in profile.packages:
        when = [" ".join(allowed) for allowed in (one.platforms, one.backends, one.arches) if allowed]
        when += [f"torch {one.torch}"] if one.torch else []
        when += ["where one fits the chosen torch"] if one.fits else []
        lines.append(
            f"  package       {one.requires}"
            + (f" [{', '.join(when)}]" if when else "")
            + (f": {one.why}" if one.why else "")
        )
    for name, setting in profile.environment.items():
        lines.append(f"  variable      {name}={setting.value}" + (f": {setting.why}" if setting.why else ""))
    if profile.checks:
        lines.append(f"  checks        {' '.join(profile.checks)}")
    lines += [f"  note          {note}" for note in profile.notes]
    return lines
