"""Which package wants another torch, according to uv? Its complaint as a limit of the choice. Pure.

uv explains in sentences (0.13.8, 2026-11-20): "Because needs-old==1.0 depends on torch==2.9.1 and provision-target
depends on torch==2.15.0+cpu, we can conclude …". Only the subjects and their torch are read from them; what cannot be
read stays uv's own error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .catalog import Build
from .profile import COMPANIONS, Limit

_SPEC = r"(?:[<>=!~]=?[^\s,]+)(?:,\s?[<>=!~]=?[^\s,]+)*"
_DEPENDS = re.compile(rf"([\w.-]+)({_SPEC})? depends? on torch(?:\{{[^}}]*\}})?({_SPEC})")
_NAMES = "|".join(COMPANIONS)
_ABSENT = re.compile(rf"(?:no version of ({_NAMES})\b|({_NAMES})(?:{_SPEC})? (?:was not found|has no wheels))")


def demands_in(text: str) -> tuple[Limit, ...]:
    """Every package of which uv says that it depends on torch, with the versions that it takes."""
    found = (
        Limit(by=f"{name} {version.lstrip('=')}".strip(), torch=clean)
        for name, version, specifier in _DEPENDS.findall(" ".join(text.split()))
        if name != "provision-target"
        and not name.startswith("torch")
        and _is_specifier(clean := specifier.replace(" ", "").rstrip(".,"))
    )
    return tuple(dict.fromkeys(found))


def limit_in(text: str, build: Build, candidates: Iterable[Build]) -> Limit | None:
    """What kept `build` from being installed with everything else, as a limit; None where uv's words do not tell.

    Of a package with several versions the one counts whose torch is the newest among the candidates.
    """
    words = " ".join(text.split())
    others = [one for one in candidates if one != build]
    wishes: dict[str, list[Limit]] = {}
    for demand in demands_in(text):
        wishes.setdefault(demand.by.partition(" ")[0], []).append(demand)
    for limits in wishes.values():
        if any(limit.refuses(build) is None for limit in limits):
            continue
        left = [
            (one.torch, " " in limit.by, place)
            for place, limit in enumerate(limits)
            for one in others
            if not limit.refuses(one)
        ]
        if left:
            return limits[max(left)[2]]
    absent = _ABSENT.search(words)
    if absent:
        rest = tuple(sorted({one.backend for one in others} - {build.backend}))
        if rest:
            return Limit(by=absent[1] or absent[2], backends=rest)
    return None


def _is_specifier(text: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return bool(str(SpecifierSet(text)))
    except InvalidSpecifier:
        return False
