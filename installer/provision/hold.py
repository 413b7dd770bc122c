"""How does an environment hold on to its torch? The texts by which pip and uv keep to what was proven. Pure.

Two small files inside the environment: `provision-constraints.txt` pins the torch family, and the environment's own
`pip.conf` (`pip.ini` on Windows) names it, so that every `pip install` in the environment keeps to it. Measured with
pip 26.3 and 23.2 (2026-11-20): the key is `constraint` of `[install]` (a section stands over a file, so what a person's
own files say there or under `[global]` does not undo it); a list of files is split at spaces, so the file is named by
its URL.

uv 0.13.8 reads `pyvenv.cfg` in an environment and nothing else there (traced, 2026-11-20): it honours the same file by
the variable UV_CONSTRAINT, which is for the person to set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .plan import FAMILY
from .profile import COMPANIONS
from .values import frozen

FILE = "provision-constraints.txt"
PIP = "pip.ini" if os.name == "nt" else "pip.conf"

NAMED = "!=0+held.by.provision"
"""A clause that every version meets: installers print a constraint when they stop at it, and so say whose it is."""

_HEADER = """\
# The torch that provision has proven in this environment. pip keeps to it (pip.conf beside this file names it), and so
# does uv where UV_CONSTRAINT names it. To install more: provision add PACKAGE. To let go of it: provision hold --off.
"""


@frozen
class Hold:
    """The hold of one environment: what is `pinned` (name → version), and whether pip honours it.

    `pip` and `constraints` are the texts of the two files as they are, None for one that is not there.
    """

    prefix: Path
    constraints: str | None = None
    pip: str | None = None

    @property
    def pinned(self) -> Mapping[str, str]:
        """Name → version; empty where nothing was ever held."""
        return parse_constraints(self.constraints or "")

    @property
    def on(self) -> bool:
        """Whether pip keeps to it."""
        return self.constraints is not None and self.url in constraints_of(self.pip or "")

    @property
    def lifted(self) -> bool:
        """Whether somebody has let go of it."""
        return self.constraints is not None and not self.on

    @property
    def url(self) -> str:
        """The constraints file as an address, in which no space can stand."""
        return (self.prefix / FILE).as_uri()

    def set(self, held: Mapping[str, str]) -> Mapping[str, str | None]:
        """The files that hold `held` (`held_for`), in the order to write."""
        return {FILE: constraints_text(held), PIP: with_constraint(self.pip, self.url)}

    def lift(self) -> Mapping[str, str | None]:
        """The files that let go of it. The constraints stay, as the sign that this was wanted."""
        return {PIP: without_constraint(self.pip, self.url)} if self.on else {}

    def renew(self, held: Mapping[str, str]) -> Mapping[str, str | None]:
        """The files after a change: held as before, for the first time, or not, where somebody has let go of it."""
        return {FILE: constraints_text(held)} if self.lifted else self.set(held)

    def escaped(self, versions: Mapping[str, str]) -> Mapping[str, tuple[str, str | None]]:
        """What got past the hold: name → (held, installed). Nothing where it is not on."""
        if not self.on:
            return {}
        return {
            name: (held, versions.get(name))
            for name, held in self.pinned.items()
            if versions.get(name) != held and (name in versions or name == "torch")
        }


def held_for(versions: Mapping[str, str], companions: Mapping[str, str]) -> dict[str, str]:
    """What to hold (name → version) where `versions` is installed: the torch family, and of the `companions` that the
    table knows to go with this torch (name → specifier) those that are not there yet, in torch's own build.

    Without the latter `pip install torchvision` would bring the build of the default package index, which is for
    another backend.
    """
    torch, _, local = versions.get("torch", "").partition("+")
    known = {name: spec.removeprefix("==") for name, spec in companions.items() if re.fullmatch(r"==[\d.]+", spec)}
    if known.get("torchaudio") != torch:  # from 2.11 on one torchaudio is for every later torch
        known.pop("torchaudio", None)
    absent = {name: f"{known[name]}+{local}" for name in COMPANIONS if local and name in known.keys() - versions}
    return family_of(versions) | absent


def family_of(versions: Mapping[str, str]) -> dict[str, str]:
    """The torch family among what is installed (name → version), torch first."""
    return {name: versions[name] for name in sorted(FAMILY & versions.keys(), key=lambda name: (name != "torch", name))}


def escaped_words(escaped: Mapping[str, tuple[str, str | None]]) -> str | None:
    """`torch 2.15.0+cu130 was held, 2.15.0 is there`; None where nothing got past."""
    words = [f"{name} {held} was held, {now or 'none'} is there" for name, (held, now) in escaped.items()]
    return "; ".join(words) or None


# The constraints file -----------------------------------------------------------------------------------------------


def constraints_text(held: Mapping[str, str]) -> str:
    """What installers must keep to. A version without a local part would let every local one pass: `===` does not."""
    lines = [f"{name}{'==' if '+' in version else '==='}{version},{NAMED}\n" for name, version in held.items()]
    return _HEADER + "".join(lines)


def parse_constraints(text: str) -> dict[str, str]:
    """Name → version of our own constraints file."""
    pins = re.findall(rf"(?m)^([\w.-]+)={{2,3}}([^\s,=]+),{re.escape(NAMED)}\s*$", text)
    return dict(pins)


# pip's own configuration --------------------------------------------------------------------------------------------

_SECTION = re.compile(r"\[([^\]]+)\]\s*$")
_KEY = re.compile(r"(?:--)?constraint\s*[=:](.*)", re.I)
_SECTIONS = ("install", "global")


def constraints_of(conf: str) -> tuple[str, ...]:
    """The constraint files that `pip install` takes from one configuration file."""
    for section in _SECTIONS:
        found = [value for name, _, value in _values(conf.splitlines(keepends=True)) if name == section]
        if found:
            return tuple(found[-1].split())
    return ()


def with_constraint(conf: str | None, url: str) -> str:
    """The configuration with one more constraint file; everything that it says stays, to the byte."""
    lines = (conf or "").splitlines(keepends=True)
    if url in constraints_of(conf or ""):
        return conf or ""
    for section in _SECTIONS:
        places = [at for name, at, _ in _values(lines) if name == section]
        if places:
            at = places[-1]
            first = re.sub(r"^([^=:]*[=:])", lambda found: f"{found[1]} {url}", lines[at], count=1)
            return "".join([*lines[:at], first, *lines[at + 1 :]])
    line = f"constraint = {url}\n"
    headers = [at for name, at in _headers(lines) if name == "install"]
    if headers:
        return "".join([*lines[: headers[-1]], _ended(lines[headers[-1]]), line, *lines[headers[-1] + 1 :]])
    text = "".join([*lines[:-1], *map(_ended, lines[-1:])])
    return f"{text}[install]\n{line}"


def without_constraint(conf: str | None, url: str) -> str | None:
    """The configuration without this constraint file; None where it said nothing else."""
    lines = (conf or "").splitlines(keepends=True)
    for _, at, value in _values(lines):
        if url not in value.split():
            continue
        end = at + 1
        while end < len(lines) and _continues(lines[end]):
            end += 1
        if value.split() != [url]:
            block = re.sub(rf"[ \t]*{re.escape(url)}(?!\S)", "", "".join(lines[at:end]))
            return "".join([*lines[:at], block, *lines[end:]])
        kept = [*lines[:at], *lines[end:]]
        if kept[at - 1 : at] and _SECTION.match(kept[at - 1]) and (at == len(kept) or _SECTION.match(kept[at])):
            del kept[at - 1]
        return "".join(kept) or None
    return conf


def _headers(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    for at, line in enumerate(lines):
        if match := _SECTION.match(line):
            yield match[1].strip(), at


def _values(lines: list[str]) -> Iterator[tuple[str, int, str]]:
    """(section, line, value with its continuation lines) of every `constraint`."""
    section = ""
    for at, line in enumerate(lines):
        if match := _SECTION.match(line):
            section = match[1].strip()
        elif match := _KEY.match(line):
            value, rest = match[1].strip(), at + 1
            while rest < len(lines) and _continues(lines[rest]):
                value += f" {lines[rest].strip()}"
                rest += 1
            yield section, at, value.strip()


def _continues(line: str) -> bool:
    return line[:1] in (" ", "\t") and bool(line.strip()) and not line.lstrip().startswith(("#", ";"))


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n"
