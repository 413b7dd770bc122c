"""What does a workload want beside torch? Profiles as values, read from TOML.

A profile is a file `NAME.toml`: those that come with the tool, and the user's own in the configuration directory, which
go first. It limits the choice (`torch`, `[[limit]]`), names companions and packages (some only for certain machines and
builds), variables to set, and the checks that prove it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import BadData, UsageProblem
from .values import frozen

if TYPE_CHECKING:
    from datetime import date

    from .catalog import Build

SCHEMA = 1

DEFAULT = "torch"
"""torch alone: what is meant when no profile is named, so no file of the user's own may change it."""

COMPANIONS = ("torchvision", "torchaudio")
"""Built for one torch and taken from the same place as it; kept, at the version that fits, where they are installed.

They are what may stand in a profile's `companions`.
"""

PLATFORMS = ("linux-x86_64", "linux-aarch64", "windows-x86_64", "windows-aarch64", "macos-aarch64", "macos-x86_64")


@frozen
class Limit:
    """What a package of a profile leaves of the choice, and which package it is. Empty: no limit in this respect.

    `torch` is a version specifier; `backends` and `platforms` are patterns (`cu13*`, `linux-*`).
    """

    by: str
    torch: str | None = None
    backends: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    why: str = ""
    read: date | None = None

    def refuses(self, build: Build) -> tuple[str, str] | None:
        """(wanted, found) where a build is outside of the limit."""
        for allowed, found in ((self.platforms, _platform(build)), (self.backends, build.backend)):
            if allowed and not _matches(found, allowed):
                return f"{self.by} is for {' '.join(allowed)}", found
        if self.torch and not _contains(self.torch, str(build.torch)):
            return f"{self.by} wants torch {self.torch}", str(build.torch)
        return None


@frozen
class Package:
    """A PEP 508 requirement, with the machines and builds that it is for (empty: all of them).

    `fits`: only where the table knows a version that goes with the chosen torch. `checks` prove it where it is there.
    """

    requires: str
    platforms: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    torch: str | None = None
    fits: bool = False
    checks: tuple[str, ...] = ()
    why: str = ""

    @property
    def name(self) -> str:
        """Its normalized name."""
        match = re.match(r"[A-Za-z0-9._-]+", self.requires.strip())
        return re.sub(r"[-_.]+", "-", match[0] if match else self.requires).lower()

    def refuses(self, build: Build, arches: Iterable[str], companions: Mapping[str, str]) -> str | None:
        """Why it is not for a build and the GPU architectures that count; None: it is."""
        here = tuple(arches)
        for name, allowed, found in (
            ("on", self.platforms, (_platform(build),)),
            ("with", self.backends, (build.backend,)),
            ("for", self.arches, here),
        ):
            if allowed and not any(_matches(one, allowed) for one in found):
                return f"it is only {name} {' '.join(allowed)}"
        if self.torch and not _contains(self.torch, str(build.torch)):
            return f"it is only with torch {self.torch}"
        if self.fits and self.name not in companions:
            return f"no version of it is known to fit torch {build.name}"
        return None


@frozen
class Setting:
    """An environment variable's value, and why."""

    value: str
    why: str = ""


_NONE: Mapping[str, Setting] = MappingProxyType({})


@frozen
class Profile:
    """`torch` is a version specifier that the profile itself sets; `limits` are those of its packages."""

    name: str
    summary: str
    path: Path
    torch: str | None = None
    companions: tuple[str, ...] = ()
    packages: tuple[Package, ...] = ()
    limits: tuple[Limit, ...] = ()
    checks: tuple[str, ...] = ()
    environment: Mapping[str, Setting] = _NONE
    notes: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Nothing is wanted beside torch."""
        return not (self.packages or self.companions)


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
        path: Path | None = _packed() / f"{name}.toml"
        found: dict[str, Path] = {}
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
    return read_profile(path)


def read_profile(path: Path) -> Profile:
    """The profile in a file. Raises BadData."""
    try:
        return parse_profile(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(f"{path}", getattr(error, "strerror", None) or str(error)) from None


def find_profiles(folders: tuple[Path, ...] | None = None) -> dict[str, Path]:
    """Name → file of every profile."""
    found: dict[str, Path] = {}
    for folder in folders if folders is not None else profile_folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def parse_profile(text: str, path: Path) -> Profile:
    """A profile from its text. Raises BadData naming file, line and key."""
    import tomllib

    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise _bad(f"{path}:{line[1] if line else len(text.splitlines())}", f"not TOML: {error}") from None
    if isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
        raise BadData(
            f"{path}: schema {data['schema']} was written for a newer provision; this one reads up to {SCHEMA}",
            code="schema-too-new",
            hint="update torch-provision",
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", path.stem):
        raise _bad(f"{path}", f"{path.stem!r} cannot name a profile: letters, digits, - and _ only")
    read = _Reader(path, text)
    read.keys(data, _TOP, "")
    if "summary" not in data:
        raise read.bad("", "summary", "is missing")
    return Profile(
        name=path.stem,
        summary=read.text(data, "summary", ""),
        path=path,
        torch=read.specifier(data, "torch", ""),
        companions=read.words(data, "companions", "", COMPANIONS),
        packages=(
            *(Package(requires=one) for one in read.requirements(data, "packages", "")),
            *(
                Package(
                    requires=read.requirement(row, "requires", where),
                    platforms=read.platforms(row, where),
                    backends=read.words(row, "backends", where),
                    arches=read.words(row, "arches", where),
                    torch=read.specifier(row, "torch", where),
                    fits=read.flag(row, "fits", where),
                    checks=read.words(row, "checks", where),
                    why=read.text(row, "why", where, needed=False),
                )
                for where, row in read.rows(data, "package", _PACKAGE)
            ),
        ),
        limits=tuple(
            Limit(
                by=read.text(row, "by", where),
                torch=read.specifier(row, "torch", where),
                backends=read.words(row, "backends", where),
                platforms=read.platforms(row, where),
                why=read.text(row, "why", where, needed=False),
                read=read.day(row, "read", where),
            )
            for where, row in read.rows(data, "limit", _LIMIT)
        ),
        checks=read.words(data, "checks", ""),
        environment=MappingProxyType(read.settings(data)),
        notes=read.words(data, "notes", ""),
    )


_TOP = ("schema", "summary", "torch", "companions", "packages", "package", "limit", "checks", "environment", "notes")
_PACKAGE = ("requires", "platforms", "backends", "arches", "torch", "fits", "checks", "why")
_LIMIT = ("by", "torch", "backends", "platforms", "why", "read")


class _Reader:
    """Typed look-ups in a profile whose errors name the file, the line and the key.

    `where` is the table that a key stands in: "" at the top, `package[1]` for the second [[package]], `environment`.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def bad(self, where: str, key: str, problem: str) -> BadData:
        line = self.line(where, key)
        return _bad(f"{self.path}:{line}" if line else f"{self.path}", f"`{f'{where}.{key}'.strip('.')}` {problem}")

    def line(self, where: str, key: str) -> int | None:
        """The line of a key, else that of its table."""
        table, header = "", None
        seen: dict[str, int] = {}
        for number, line in enumerate(self.lines, 1):
            if found := re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?", line):
                name = found[2]
                if found[1] == "[[":
                    seen[name] = seen.get(name, -1) + 1
                    name = f"{name}[{seen[name]}]"
                table = name
                header = number if table == where else header
            elif table == where and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*(=|\.)", line):
                return number
        return header

    def keys(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in known:
                import difflib

                near = difflib.get_close_matches(key, known, n=1)
                raise self.bad(
                    where, key, f"is no key of a profile; did you mean `{near[0]}`?"
                    if near else f"is no key of a profile; the keys are {', '.join(known)}",
                )  # fmt: skip

    def text(self, table: Mapping[str, Any], key: str, where: str, *, needed: bool = True) -> str:
        value = table.get(key)
        if value is None and not needed:
            return ""
        if not isinstance(value, str) or not value.strip():
            raise self.bad(where, key, "is missing" if value is None else f"must be text, not {_kind(value)}")
        return value

    def flag(self, table: Mapping[str, Any], key: str, where: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self.bad(where, key, f"must be true or false, not {_kind(value)}")
        return value

    def day(self, table: Mapping[str, Any], key: str, where: str) -> date | None:
        from datetime import date

        value = table.get(key)
        if value is not None and not isinstance(value, date):
            raise self.bad(where, key, f"must be a day such as 2026-11-20, not {_kind(value)}")
        return value

    def words(
        self, table: Mapping[str, Any], key: str, where: str, known: tuple[str, ...] | None = None
    ) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.bad(where, key, f"must be a list of texts, not {_kind(value)}")
        for one in value:
            if known and one not in known:
                raise self.bad(where, key, f"has {one!r}; it can hold {', '.join(known)}")
        return tuple(value)

    def platforms(self, table: Mapping[str, Any], where: str) -> tuple[str, ...]:
        patterns = self.words(table, "platforms", where)
        for one in patterns:
            if not any(_matches(platform, [one]) for platform in PLATFORMS):
                known = ", ".join(PLATFORMS)
                raise self.bad(where, "platforms", f"has {one!r}, which is none of {known}, and no pattern of them")
        return patterns

    def specifier(self, table: Mapping[str, Any], key: str, where: str) -> str | None:
        if key not in table:
            return None
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        text = self.text(table, key, where)
        try:
            return str(SpecifierSet(f"=={text}" if text[:1].isdigit() else text))
        except InvalidSpecifier:
            raise self.bad(where, key, f"is {text!r}; a version specifier such as >=2.8,<2.9 was expected") from None

    def requirement(self, table: Mapping[str, Any], key: str, where: str) -> str:
        return self._requirement(self.text(table, key, where), key, where)

    def requirements(self, table: Mapping[str, Any], key: str, where: str) -> list[str]:
        return [self._requirement(text, key, where) for text in self.words(table, key, where)]

    def _requirement(self, text: str, key: str, where: str) -> str:
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            parsed = Requirement(text)
        except InvalidRequirement:
            raise self.bad(where, key, f"has {text!r}, which is no requirement such as transformers>=5") from None
        if parsed.name.lower() in ("torch", *COMPANIONS):
            meant = "torch" if parsed.name.lower() == "torch" else "companions"
            raise self.bad(where, key, f"has {text!r}; that is what `{meant}` is for")
        if parsed.url:
            raise self.bad(where, key, f"has {text!r}; a profile names versions, not addresses")
        return text

    def rows(self, data: Mapping[str, Any], key: str, known: tuple[str, ...]) -> list[tuple[str, Mapping[str, Any]]]:
        value = data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise self.bad("", key, f"must be tables, each under [[{key}]], not {_kind(value)}")
        rows = [(f"{key}[{place}]", row) for place, row in enumerate(value)]
        for where, row in rows:
            self.keys(row, known, where)
        return rows

    def settings(self, data: Mapping[str, Any]) -> dict[str, Setting]:
        table = data.get("environment", {})
        if not isinstance(table, dict):
            raise self.bad("", "environment", f"must be a table, not {_kind(table)}")
        found = {}
        for name, value in table.items():
            if isinstance(value, str):
                found[name] = Setting(value=value)
            elif isinstance(value, dict) and set(value) <= {"value", "why"} and isinstance(value.get("value"), str):
                found[name] = Setting(value=value["value"], why=self.text(value, "why", "environment", needed=False))
            else:
                expected = 'must be text, or { value = "…", why = "…" }'
                raise self.bad("environment", name, f"{expected}, not {_kind(value)}")
        return found


def _platform(build: Build) -> str:
    return f"{build.system.value}-{build.machine}"


def _matches(text: str, patterns: Iterable[str]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(text, pattern) for pattern in patterns)


@lru_cache(maxsize=4096)
def _contains(specifier: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)


def _kind(value: Any) -> str:
    return {"dict": "a table", "list": "a list", "str": "text", "bool": "true or false", "NoneType": "nothing"}.get(
        type(value).__name__, repr(value)
    )


def _bad(where: str, problem: str) -> BadData:
    return BadData(f"profile {where}: {problem}", code="bad-profile", hint="correct the file; see provision profiles")
