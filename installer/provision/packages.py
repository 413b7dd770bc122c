"""What do the libraries of a package mean for the package? The rules that one library alone does not show.

torch is decided by its main library; bitsandbytes brings a library for each CUDA version and loads one; many packages
bring kernels for single GPUs on purpose; NVIDIA's math libraries keep code where no scan finds it and are judged by
their version. Knowledge is in `data/packages.toml`; pure functions over it. Rules: contracts, section 4, Scan.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from .coverage import Judgement, Verdict, sm, version_tuple, weakest
from .values import frozen, replace

TABLE = Path(__file__).parent / "data" / "packages.toml"

WITHOUT_CUDA = "cpu"
"""What stands for the CUDA version of a torch that was built without it."""


@frozen
class Part:
    """One library of a package. `loads`: a process can load it (an archive or a bare cubin it cannot); `specific`: all
    of its code is for single GPUs (`a` and `f` targets), so its authors have something else for the others."""

    path: str
    judgement: Judgement
    loads: bool = True
    specific: bool = False

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@frozen
class PackageVerdict:
    """`decided_by` are the paths of the libraries that decided; `notes` are gaps and what to do."""

    verdict: Verdict
    decided_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@cache
def load_table() -> Mapping[str, Any]:
    """`data/packages.toml`."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def known_by_version(name: str) -> bool:
    """Whether this package is judged by its version, not by a scan."""
    return any(row["name"] == name for row in load_table()["math"])


def judge_package(
    name: str, version: str | None, parts: Sequence[Part], capability: str, *, torch_cuda: str | None = None
) -> PackageVerdict:
    """The verdict on a package for a GPU of this capability ("12.0").

    `name` is normalized. `torch_cuda` is the CUDA version of the torch beside it ("12.8"), WITHOUT_CUDA, or None where
    it is not known.
    """
    if known_by_version(name):
        return _by_version(name, version, capability)
    rule: Mapping[str, Any] = next((row for row in load_table()["package"] if row["name"] == name), {})
    own = name.startswith("nvidia-")
    loading = [part for part in parts if part.loads and (own or not _vendored(part))]
    if "per_cuda" in rule:
        found = _per_cuda(rule, version, loading, capability, torch_cuda)
    else:
        found = _by_libraries(rule, loading, capability)
    if found.verdict is not Verdict.NOT_COVERED:
        return found
    newer = _first(name, version, capability)
    told = f"nothing loadable on {sm(capability)}" + (f"; {newer}" if newer else "")
    reasons = dict.fromkeys(part.judgement.why for part in parts if part.path in found.decided_by)
    return replace(found, notes=(told, *filter(None, reasons), *found.notes))


def _by_libraries(rule: Mapping[str, Any], parts: Sequence[Part], capability: str) -> PackageVerdict:
    optional = [part for part in parts if _matches(part, rule.get("optional", ()))]
    deciding = [part for part in parts if part not in optional]
    if "decides" in rule:
        deciding = [part for part in parts if _matches(part, rule["decides"])]
    elif not all(part.specific or not _has_code(part) for part in deciding):
        deciding = [part for part in deciding if not part.specific]
    verdict = weakest(part.judgement.verdict for part in deciding)
    decided_by = tuple(part.path for part in deciding if part.judgement.verdict is verdict and _has_code(part))
    if not decided_by and optional:  # the package works without them
        covered = [part for part in optional if part.judgement.verdict in (Verdict.COVERED, Verdict.COVERED_JIT)]
        verdict = weakest(part.judgement.verdict for part in covered) if covered else Verdict.PARTIAL
        decided_by = tuple(part.path for part in covered)
    gaps = [part for part in parts if part.path not in decided_by and _has_gap(part)]
    notes = () if verdict is Verdict.NOT_COVERED else tuple(_gap(part, capability) for part in gaps)
    return PackageVerdict(verdict=verdict, decided_by=decided_by, notes=notes)


def _per_cuda(
    rule: Mapping[str, Any], version: str | None, parts: Sequence[Part], capability: str, torch_cuda: str | None
) -> PackageVerdict:
    """A package with one library for each CUDA version, of which it loads that of its torch."""
    if torch_cuda == WITHOUT_CUDA:
        return PackageVerdict(verdict=Verdict.NONE, notes=("its torch is built without CUDA",))
    libraries: dict[tuple[int, ...], Part] = {}
    for part in parts:
        match = re.fullmatch(rule["per_cuda"], part.name)
        if match:
            libraries[int(match[1]), int(match[2])] = part
    if not libraries:
        return PackageVerdict(verdict=weakest(part.judgement.verdict for part in parts))
    if torch_cuda is None:
        verdicts = {part.judgement.verdict for part in libraries.values()}
        if len(verdicts) == 1:
            return PackageVerdict(verdict=verdicts.pop(), decided_by=tuple(part.path for part in libraries.values()))
        having = [_dotted(cuda) for cuda, part in sorted(libraries.items()) if not _has_gap(part)]
        told = f"depends on the CUDA of its torch: {sm(capability)} is in the libraries for {', '.join(having)}"
        return PackageVerdict(verdict=Verdict.UNKNOWN, notes=(told,))
    nearest = _reaches(version, rule["nearest"])
    wanted = version_tuple(torch_cuda)[:2]
    chosen = choose_cuda(tuple(libraries), wanted, nearest=nearest)
    if chosen is None:
        missing = f"it has no library for CUDA {_dotted(wanted)}, which its torch is built for"
        return PackageVerdict(verdict=Verdict.NOT_COVERED, notes=(missing,))
    part = libraries[chosen]
    notes = (
        () if chosen == wanted else (f"no library for CUDA {_dotted(wanted)}; that for {_dotted(chosen)} is loaded",)
    )
    return PackageVerdict(verdict=part.judgement.verdict, decided_by=(part.path,), notes=notes)


def choose_cuda(held: Sequence[tuple[int, ...]], wanted: tuple[int, ...], *, nearest: bool) -> tuple[int, ...] | None:
    """Which of the CUDA versions that it holds a package loads: the same, else (`nearest`) the newest older one of that
    major, else its oldest newer one; None where there is none."""
    if wanted in held:
        return wanted
    same_major = [cuda for cuda in held if nearest and cuda[0] == wanted[0]]
    older = [cuda for cuda in same_major if cuda < wanted]
    return max(older) if older else min(same_major, default=None)


def _by_version(name: str, version: str | None, capability: str) -> PackageVerdict:
    rows = [row for row in load_table()["math"] if row["name"] == name]
    fitting = [row for row in rows if _reaches(version, row["since"])]
    if not fitting:
        return PackageVerdict(verdict=Verdict.UNKNOWN, notes=(f"no version table row for {version}",))
    row = max(fitting, key=lambda row: version_tuple(row["since"]))
    low, high, here = (version_tuple(text) for text in (row["from"], row["to"], capability))
    if here > high:
        later = next((later for later in rows if version_tuple(later["to"]) >= here), None)
        newer = f"; {later['since']} is the first that has it" if later else ""
        return PackageVerdict(verdict=Verdict.NOT_COVERED, notes=(f"made before {sm(capability)}{newer}",))
    if here < low and "feature" in row:
        return PackageVerdict(verdict=Verdict.PARTIAL, notes=(f"{row['feature']} begins at {sm(row['from'])}",))
    if here < low:
        return PackageVerdict(verdict=Verdict.NOT_COVERED, notes=(f"begins at {sm(row['from'])}",))
    return PackageVerdict(verdict=Verdict.COVERED)


def _first(name: str, version: str | None, capability: str) -> str | None:
    for row in load_table()["first"]:
        if (
            row["name"] == name
            and version_tuple(capability) >= version_tuple(row["from"])
            and not _reaches(version, row["version"])
        ):
            return f"{row['version']} is the first that has it (with {row['with']})"
    return None


def _reaches(version: str | None, floor: str) -> bool:
    """Whether a package's version is known to be `floor` or later."""
    known = version is not None and version[:1].isdigit()
    return known and version_tuple(str(version)) >= version_tuple(floor)


def _vendored(part: Part) -> bool:
    return _matches(part, load_table()["vendored"]) or _matches(
        part, [f"lib{pattern}" for pattern in load_table()["vendored"]]
    )


def _matches(part: Part, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(part.name, pattern) for pattern in patterns)


def _has_code(part: Part) -> bool:
    return part.judgement.verdict is not Verdict.NONE


def _has_gap(part: Part) -> bool:
    return part.judgement.verdict in (Verdict.NOT_COVERED, Verdict.PARTIAL, Verdict.UNKNOWN)


def _gap(part: Part, capability: str) -> str:
    judged = part.judgement
    if judged.verdict is Verdict.UNKNOWN:
        return f"{part.name}: unknown for {sm(capability)}" + (f" ({judged.why})" if judged.why else "")
    served = judged.cubin + judged.ptx
    return f"{part.name}: {served or 'none'} of {judged.containers} containers have code for {sm(capability)}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
