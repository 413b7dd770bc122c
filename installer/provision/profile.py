"""What does a workload want beside torch? Profiles as values, read from TOML.

A profile is a file `NAME.toml`: those that come with the tool, and the user's own in the configuration directory, which
go first. It limits the choice (`torch`), names companions and packages, and the checks that prove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BadData, UsageProblem
from .values import frozen

SCHEMA = 1

DEFAULT = "torch"
"""torch alone: what is meant when no profile is named, so no file of the user's own may change it."""


@frozen
class Profile:
    """`torch` is a version specifier, `packages` are PEP 508 requirements, `environment` maps variables to values."""

    name: str
    summary: str
    path: Path
    torch: str | None = None
    companions: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    environment: Mapping[str, str]
    notes: tuple[str, ...] = ()


_KEYS = {
    "schema": int,
    "summary": str,
    "torch": str,
    "companions": list,
    "packages": list,
    "checks": list,
    "environment": dict,
    "notes": list,
}


def profile_folders() -> tuple[Path, ...]:
    """Where profiles are looked for, the most binding first: the user's own, then those that came with the tool."""
    import platformdirs

    return Path(platformdirs.user_config_dir("torch-provision", appauthor=False)) / "profiles", _packed()


def _packed() -> Path:
    """The profiles that came with the tool: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    packed = here / "profiles"
    return packed if packed.is_dir() else here.parents[1] / "profiles"


def load_profile(name: str, folders: tuple[Path, ...] | None = None) -> Profile:
    """The profile called `name`. Raises UsageProblem (with the nearest name) or BadData."""
    if name == DEFAULT and folders is None:
        path: Path | None = _packed() / f"{DEFAULT}.toml"
    else:
        found = find_profiles(folders)
        path = found.get(name)
    if path is None:
        import difflib

        near = difflib.get_close_matches(name, found, n=1)
        raise UsageProblem(
            f"there is no profile {name!r}",
            code="unknown-profile",
            hint=f"did you mean {near[0]!r}?" if near else f"the profiles are: {', '.join(sorted(found))}",
        )
    return parse_profile(path.read_text(encoding="utf-8"), path)


def find_profiles(folders: tuple[Path, ...] | None = None) -> dict[str, Path]:
    """Name → file of every profile."""
    found: dict[str, Path] = {}
    for folder in folders if folders is not None else profile_folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def parse_profile(text: str, path: Path) -> Profile:
    """A profile from its text. Raises BadData naming the file, the line or the key."""
    import tomllib

    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad(path, str(error)) from None
    for key, value in data.items():
        if key not in _KEYS:
            raise _bad(path, f"unknown key `{key}`; the keys are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise _bad(path, f"`{key}` must be of type {_KEYS[key].__name__}")
    if data.get("schema", SCHEMA) > SCHEMA:
        raise _bad(path, f"schema {data['schema']} is newer than this provision reads ({SCHEMA})")
    if "summary" not in data:
        raise _bad(path, "`summary` is missing")
    return Profile(
        name=path.stem,
        summary=data["summary"],
        path=path,
        torch=data.get("torch"),
        companions=tuple(data.get("companions", ())),
        packages=tuple(data.get("packages", ())),
        checks=tuple(data.get("checks", ())),
        environment=data.get("environment", {}),
        notes=tuple(data.get("notes", ())),
    )


def _bad(path: Path, problem: str) -> BadData:
    return BadData(f"profile {path}: {problem}", code="bad-profile", hint="correct the file; see provision profiles")
