"""Will this environment, wheel or library run on that GPU? Judged from the binaries, without a GPU.

`fatbin` says what a file holds, `coverage` what a GPU loads, `packages` what that means for a package; here they meet:
`verdict` judges one library, `scan` whole environments, wheels and files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .binaries import find_binaries
from .coverage import (
    Judgement,
    Verdict,
    cubin_loads,
    judge,
    parse_code,
    ptx_compiles,
    ptx_isa_cuda,
    sm,
    version_tuple,
)
from .fatbin import Format, Image, Library
from .packages import PackageVerdict, Part, judge_package, known_by_version
from .values import frozen, replace

_LOADED = {Format.ELF, Format.PE}
"""Formats that a process loads; archives, objects and bare cubins decide nothing about a package."""


def verdict(
    library: Library, capability: str, *, driver_cuda: str | None = None, toolkit: str | None = None
) -> Judgement:
    """What `library` means for a GPU of this capability ("12.0").

    `driver_cuda` is the newest CUDA that the driver serves; without it a driver is assumed that is new enough.
    `toolkit` ("13.2") made the library, where known.
    """
    judged = _judge(library, capability, driver_cuda, toolkit)
    if library.format is Format.OTHER and not library.unread:
        return replace(judged, verdict=Verdict.UNKNOWN, why="not a kind of file that is known to hold GPU code")
    if library.unread:
        return replace(judged, verdict=Verdict.UNKNOWN, why=library.unread[0])
    if judged.verdict in (Verdict.COVERED, Verdict.COVERED_JIT):
        return judged
    if library.unknown:
        return replace(judged, verdict=Verdict.UNKNOWN, why=library.unknown[0])
    if library.profiles and not library.loadable:
        why = "only link inputs" if library.relocatable else "only stubs without kernels"
        return replace(judged, verdict=Verdict.UNKNOWN, why=why)
    if driver_cuda is not None and _judge(library, capability, None, toolkit).verdict is not judged.verdict:
        return replace(judged, why=f"a driver for CUDA {driver_cuda} is too old for its {_needs(library)}")
    return judged


def _judge(library: Library, capability: str, driver_cuda: str | None, toolkit: str | None) -> Judgement:
    return judge(
        (
            [_loads(library, image, capability, driver_cuda, toolkit) for image in profile.images if not image.ptx],
            [_compiles(image, capability, driver_cuda) for image in profile.images if image.ptx],
            profile.count,
        )
        for profile in library.loadable
    )


def _needs(library: Library) -> str:
    """What of a library a driver can be too old for."""
    needs = [f"PTX (ISA {library.ptx_isa[-1]})"] if library.ptx else []
    return " and ".join([*needs, *(["zstd compression"] if library.zstd else [])])


def _loads(
    library: Library, image: Image, capability: str, driver_cuda: str | None, toolkit: str | None
) -> bool | None:
    if _too_new(image, driver_cuda):
        return False
    code = parse_code(image.arch)
    suffixes = ("", "a", "f") if library.bare and code.major >= 9 else ("",)  # there were none before 9.0
    answers = {cubin_loads(parse_code(image.arch + suffix), capability, toolkit=toolkit) for suffix in suffixes}
    return answers.pop() if len(answers) == 1 else None


def _compiles(image: Image, capability: str, driver_cuda: str | None) -> bool | None:
    if _too_new(image, driver_cuda) or not ptx_compiles(parse_code(image.arch), capability):
        return False
    if driver_cuda is None or image.isa is None:
        return True
    needs = ptx_isa_cuda(image.isa)
    return None if needs is None else version_tuple(driver_cuda) >= version_tuple(needs)


def _too_new(image: Image, driver_cuda: str | None) -> bool:
    """zstd needs driver 550.54, the one of CUDA 12.4 (NVCC guide, --compress-mode)."""
    return image.zstd and driver_cuda is not None and version_tuple(driver_cuda) < (12, 4)


@frozen
class ScannedFile:
    """One file with GPU code (or one that was asked for), and what it means for each GPU (`sm_120`)."""

    path: str
    library: Library
    package: str | None = None
    verdicts: Mapping[str, Judgement] = MappingProxyType({})

    @property
    def loads(self) -> bool:
        """A process can load it; an archive, an object or a bare cubin it cannot."""
        return self.library.format in _LOADED

    @property
    def specific(self) -> bool:
        """All of its code is for single GPUs or families (`a` and `f` targets)."""
        archs = [image.arch for profile in self.library.loadable for image in profile.images]
        return bool(archs) and all(arch.endswith(("a", "f")) for arch in archs)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why something could not be said of it."""
        return tuple(dict.fromkeys(judged.why for judged in self.verdicts.values() if judged.why))

    def to_json(self) -> dict[str, Any]:
        library = self.library
        return {
            "path": self.path,
            "package": self.package,
            "format": library.format.value,
            "cubins": list(library.cubins),
            "ptx": list(library.ptx),
            "ptx_isa": list(library.ptx_isa),
            "every_container": list(library.every_container),
            "containers": library.containers,
            "relocatable": list(library.relocatable),
            "zstd": library.zstd,
            "unread": [*library.unread, *library.unknown],
            "verdicts": {arch: judged.verdict.value for arch, judged in self.verdicts.items()},
            "covered": {arch: judged.cubin + judged.ptx for arch, judged in self.verdicts.items()},
        }


@frozen
class ScannedPackage:
    name: str
    version: str | None = None
    verdicts: Mapping[str, PackageVerdict] = MappingProxyType({})

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "verdicts": {arch: judged.verdict.value for arch, judged in self.verdicts.items()},
            "decided_by": {arch: list(judged.decided_by) for arch, judged in self.verdicts.items()},
            "notes": {arch: list(judged.notes) for arch, judged in self.verdicts.items() if judged.notes},
        }


@frozen
class ScanReport:
    """What was found for the GPUs `archs` (`sm_120`); `looked_at` binaries were opened."""

    archs: tuple[str, ...] = ()
    files: tuple[ScannedFile, ...] = ()
    packages: tuple[ScannedPackage, ...] = ()
    looked_at: int = 0

    def package(self, name: str) -> ScannedPackage | None:
        """The package of this normalized name, or None."""
        return next((package for package in self.packages if package.name == name), None)

    def unmet(self, arch: str) -> tuple[str, ...]:
        """Why `--require ARCH` is not met: what does not cover it, or that nothing does. Empty: it is met."""
        owned = {package.name for package in self.packages}
        verdicts = {
            f"{package.name} {package.version or ''}".rstrip(): package.verdicts[arch].verdict
            for package in self.packages
        } | {file.path: file.verdicts[arch].verdict for file in self.files if file.package not in owned}
        lacking = tuple(name for name, found in verdicts.items() if found is Verdict.NOT_COVERED)
        served = (Verdict.COVERED, Verdict.COVERED_JIT, Verdict.PARTIAL)
        if lacking or any(found in served for found in verdicts.values()):
            return tuple(f"{name} has no code for {arch}" for name in lacking)
        return (f"nothing here is known to have code for {arch}",)

    def to_json(self) -> dict[str, Any]:
        """The `data` of `scan --json`."""
        return {
            "files": [file.to_json() for file in self.files],
            "packages": [package.to_json() for package in self.packages],
        }


def scan(
    paths: Sequence[str | Path],
    capabilities: Sequence[str],
    *,
    driver_cuda: str | None = None,
    torch_cuda: str | None = None,
) -> ScanReport:
    """Look through environments, site-packages folders, wheels and files.

    `capabilities` are those of the GPUs that count ("12.0"); `driver_cuda` is the newest CUDA that their driver serves.
    `torch_cuda` is the CUDA version of the torch that will stand beside ("12.8"), where no torch is in the path itself.
    Raises UsageProblem for a path that is not there or a wheel that is none.
    """
    capabilities = tuple(dict.fromkeys(capabilities))
    files: list[ScannedFile] = []
    packages: list[ScannedPackage] = []
    looked_at = 0
    for path in map(Path, paths):
        found = find_binaries(path)
        looked_at += len(found.binaries)
        rows = [
            ScannedFile(
                path=binary.name,
                library=binary.library,
                package=binary.owner,
                verdicts={sm(at): verdict(binary.library, at, driver_cuda=driver_cuda) for at in capabilities},
            )
            for binary in found.binaries
            if binary.library.has_code or found.one_file
        ]
        files += rows
        packages += _packages(found.distributions, rows, capabilities, found.torch_cuda or torch_cuda)
    return ScanReport(
        archs=tuple(map(sm, capabilities)), files=tuple(files), packages=tuple(packages), looked_at=looked_at
    )


def _packages(
    distributions: Mapping[str, str | None],
    rows: Iterable[ScannedFile],
    capabilities: Sequence[str],
    torch_cuda: str | None,
) -> Iterator[ScannedPackage]:
    """The packages that load GPU code or are known to, and torch (whose CPU build has none)."""
    owned: dict[str, list[ScannedFile]] = {}
    for row in rows:
        if row.package is not None:
            owned.setdefault(row.package, []).append(row)
    for name, version in sorted(distributions.items()):
        here = owned.get(name, [])
        if name != "torch" and not known_by_version(name) and not any(row.loads for row in here):
            continue
        verdicts = {}
        for capability in capabilities:
            parts = [
                Part(path=row.path, judgement=row.verdicts[sm(capability)], loads=row.loads, specific=row.specific)
                for row in here
            ]
            verdicts[sm(capability)] = judge_package(name, version, parts, capability, torch_cuda=torch_cuda)
        yield ScannedPackage(name=name, version=version, verdicts=verdicts)


def report_lines(report: ScanReport) -> list[str]:
    """The report as a person reads it: a line a package (or file without one), then what is worth knowing."""
    deciding = {path for package in report.packages for found in package.verdicts.values() for path in found.decided_by}
    owned = {package.name for package in report.packages}
    rows = [["package", *report.archs, "code"]]
    for package in report.packages:
        held = [file for file in report.files if file.package == package.name and file.loads]
        code = {code_words(file.library) for file in held if file.path in deciding} or {"none"}
        verdicts = [package.verdicts[arch].verdict.value for arch in report.archs]
        name = f"{package.name} {package.version or ''}".rstrip()
        if known_by_version(package.name):
            rows.append([name, *verdicts, "by its version"])
        else:
            rows.append([name, *verdicts, code.pop() if len(code) == 1 else f"{len(code)} sets of code, see --json"])
    alone = [file for file in report.files if file.package is None or (file.package not in owned and file.loads)]
    rows += [
        [file.path, *(str(file.verdicts[arch]) for arch in report.archs), code_words(file.library)] for file in alone
    ]
    if len(rows) == 1:
        return [f"No GPU code found in {report.looked_at} files."]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    notes = dict.fromkeys(
        f"{package.name}: {note}"
        for package in report.packages
        for found in package.verdicts.values()
        for note in found.notes
    ) | dict.fromkeys(f"{file.path}: {reason}" for file in alone for reason in file.reasons)
    return [*lines, *([""] if notes else []), *notes]


def code_words(library: Library) -> str:
    """What a library holds in one line: `sm_75 80 90a + compute_120 (PTX ISA 9.0), 476 containers, zstd`."""
    if not library.loadable:
        return "link inputs only" if library.relocatable else "no kernels" if library.stubs else "none"
    words = " ".join(["sm_" + " ".join(arch[3:] for arch in library.cubins)] if library.cubins else [])
    if library.ptx:
        ptx = " ".join(
            ["compute_" + " ".join(arch[8:] for arch in library.ptx), f"(PTX ISA {' '.join(library.ptx_isa)})"]
        )
        words = f"{words} + {ptx}" if words else ptx
    containers = f"{library.containers} container" + "s" * (library.containers > 1)
    return ", ".join([words, containers, *(["zstd"] if library.zstd else [])])
