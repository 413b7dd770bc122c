"""Will this environment, wheel or library run on that GPU? Judged from the binaries, without a GPU.

`fatbin` says what a file holds, `coverage` what a GPU loads, `packages` what that means for a package; here they meet:
`verdict` judges one library, `scan` whole environments, wheels and files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
from .errors import UsageProblem
from .fatbin import Format, Image, Library, scan_file
from .packages import WITHOUT_CUDA, PackageVerdict, Part, judge_package, known_by_version

_LOADED = {Format.ELF, Format.PE}
"""Formats that a process loads; archives, objects and bare cubins decide nothing about a package."""

_TEXT = re.compile(
    r"\.(pyc?|pyi|pyx|pxd|ipynb|[hc]|hpp|hh|cuh|inl|inc|cc|cpp|cu|in|cmake|f90|txt|md|rst|json|ya?ml|toml|cfg|ini|typed"
    r"|html?|css|m?js|ts|map|svg|png|jpe?g|gif|ico|ttf|woff2?|csv|tsv|np[yz]|mat|pth?|tcl|po|mo|sh|bat|ps1|gz|bz2|xz|zip"
    r"|whl|egg|pem|crt)$",
    re.IGNORECASE,
)
"""Names that are no binaries: not opened when a folder is looked through. Anything else is recognised by its bytes."""


def verdict(
    library: Library, capability: str, *, driver_cuda: str | None = None, toolkit: str | None = None
) -> Judgement:
    """What `library` means for a GPU of this capability ("12.0").

    `driver_cuda` is the newest CUDA that the driver serves; without it a driver is assumed that is new enough.
    `toolkit` ("13.2") made the library, where known.
    """
    judged = judge(
        (
            [_loads(library, image, capability, driver_cuda, toolkit) for image in profile.images if not image.ptx],
            [_compiles(image, capability, driver_cuda) for image in profile.images if image.ptx],
            profile.count,
        )
        for profile in library.loadable
    )
    why = None
    if library.format is Format.OTHER and not library.unread:
        why = "not a kind of file that is known to hold GPU code"
    elif library.unread:
        why = library.unread[0]
    elif library.unknown and judged.verdict not in (Verdict.COVERED, Verdict.COVERED_JIT):
        why = library.unknown[0]
    elif not library.loadable and library.profiles:
        why = "only link inputs" if library.relocatable else "only stubs without kernels"
    if why is None:
        return judged
    return Judgement(
        verdict=Verdict.UNKNOWN,
        cubin=judged.cubin,
        ptx=judged.ptx,
        unclear=judged.unclear,
        containers=judged.containers,
        why=why,
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedFile:
    """One file with GPU code (or one that was asked for), and what it means for each GPU (`sm_120`)."""

    path: str
    library: Library
    package: str | None = None
    verdicts: Mapping[str, Judgement] = field(default_factory=lambda: MappingProxyType({}))

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedPackage:
    name: str
    version: str | None = None
    verdicts: Mapping[str, PackageVerdict] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "verdicts": {arch: judged.verdict.value for arch, judged in self.verdicts.items()},
            "decided_by": {arch: list(judged.decided_by) for arch, judged in self.verdicts.items()},
            "notes": {arch: list(judged.notes) for arch, judged in self.verdicts.items() if judged.notes},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
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
        found = _find(path)
        beside = found.torch_cuda or torch_cuda
        rows: list[ScannedFile] = []
        for name, owner, library in found.libraries:
            looked_at += 1
            if library.has_code or found.explicit:
                judged = {sm(at): verdict(library, at, driver_cuda=driver_cuda) for at in capabilities}
                rows.append(ScannedFile(path=name, library=library, package=owner, verdicts=judged))
        files += rows
        packages += _packages(found.distributions, rows, capabilities, beside)
    return ScanReport(
        archs=tuple(map(sm, capabilities)), files=tuple(files), packages=tuple(packages), looked_at=looked_at
    )


def _packages(
    distributions: Mapping[str, str | None],
    rows: Iterable[ScannedFile],
    capabilities: Sequence[str],
    torch_cuda: str | None,
) -> Iterator[ScannedPackage]:
    """The packages that have GPU code, or are known to have some, or are torch."""
    parts: dict[str, list[tuple[ScannedFile, bool]]] = {}
    for row in rows:
        if row.package is not None:
            archs = [image.arch for profile in row.library.loadable for image in profile.images]
            parts.setdefault(row.package, []).append((row, bool(archs) and all(arch[-1] in "af" for arch in archs)))
    for name, version in sorted(distributions.items()):
        if name not in parts and name != "torch" and not known_by_version(name):
            continue
        verdicts = {
            sm(capability): judge_package(
                name,
                version,
                [
                    Part(
                        path=row.path,
                        judgement=row.verdicts[sm(capability)],
                        loads=row.library.format in _LOADED,
                        specific=specific,
                    )
                    for row, specific in parts.get(name, ())
                ],
                capability,
                torch_cuda=torch_cuda,
            )
            for capability in capabilities
        }
        yield ScannedPackage(name=name, version=version, verdicts=verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One path: its libraries (name, normalized name of the distribution, contents) and distributions with versions."""

    libraries: Iterable[tuple[str, str | None, Library]]
    distributions: Mapping[str, str | None] = field(default_factory=dict)
    torch_cuda: str | None = None
    explicit: bool = False


def _find(path: Path) -> _Found:
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise UsageProblem(
            f"{path} is not there",
            code="no-such-path",
            hint="name an environment, a site-packages folder, a wheel or a library",
        )
    if path.suffix == ".whl":
        return _wheel(path)
    return _Found(libraries=[(str(path), None, _read(path))], explicit=True)


def _wheel(path: Path) -> _Found:
    import zipfile

    from .fatbin import scan_wheel

    name, _, rest = path.name.removesuffix(".whl").partition("-")
    package = _normalized(name)
    try:
        version_file = _member(path, f"{name}/version.py") if package == "torch" else None
        libraries = [
            (member, package, library) for member, library in scan_wheel(path, lambda member: not _is_text(member))
        ]
    except (zipfile.BadZipFile, OSError) as problem:
        raise UsageProblem(
            f"{path} cannot be read as a wheel: {problem}", code="bad-wheel", hint="download it again"
        ) from problem
    return _Found(
        libraries=libraries,
        distributions={package: rest.partition("-")[0] or None},
        torch_cuda=parse_torch_cuda(version_file) if version_file else None,
    )


def _member(path: Path, name: str) -> str | None:
    import zipfile

    with zipfile.ZipFile(path) as wheel:
        try:
            return wheel.read(name).decode("utf-8", "replace")
        except KeyError:
            return None


def _folder(path: Path) -> _Found:
    """An environment's site-packages (and, under conda, its libraries), or any folder."""
    roots = [path]
    if (path / "pyvenv.cfg").is_file() or (path / "conda-meta").is_dir():
        roots = [*path.glob("lib/python*/site-packages"), *path.glob("Lib/site-packages")]
        if (path / "conda-meta").is_dir():
            roots.append(path / ("Library" if os.name == "nt" else "lib"))
    libraries: list[tuple[str, str | None, Library]] = []
    distributions: dict[str, str | None] = {}
    torch_cuda = None
    seen: set[tuple[int, int]] = set()
    for root in roots:
        owners, here = _records(root)
        distributions |= here
        version_file = root / "torch" / "version.py"
        if version_file.is_file():
            torch_cuda = parse_torch_cuda(version_file.read_text(encoding="utf-8", errors="replace"))
        for name in _binaries(root, skip={other for other in roots if other != root}):
            try:
                status = os.stat(root / name)
            except OSError:
                continue  # a dangling link
            identity = status.st_dev, status.st_ino
            if identity in seen or not stat.S_ISREG(status.st_mode):
                continue  # a second name of the same file, or no file
            if status.st_ino:
                seen.add(identity)
            owner = owners.get(name) or _by_folder(name, here)
            libraries.append((name, owner, _read(root / name)))
    return _Found(libraries=libraries, distributions=distributions, torch_cuda=torch_cuda)


def _read(path: Path) -> Library:
    try:
        return scan_file(path)
    except OSError as problem:
        return Library(format=Format.OTHER, unread=(f"cannot be read ({problem.strerror or problem})",))


def _binaries(root: Path, skip: set[Path]) -> list[str]:
    """The files below `root` that may be binaries, as posix paths: links after files, otherwise sorted."""
    found: list[tuple[bool, str]] = []
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            entries = list(os.scandir(root / below))
        except OSError:
            continue
        for entry in entries:
            name = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__" and root / name not in skip:
                    pending.append(name + "/")
            elif not _is_text(entry.name):
                found.append((entry.is_symlink(), name))
    return [name for _, name in sorted(found)]


def _is_text(name: str) -> bool:
    return _TEXT.search(name) is not None


def _records(root: Path) -> tuple[dict[str, str], dict[str, str | None]]:
    """Which distribution each binary below `root` belongs to (by RECORD), and the distributions with their versions."""
    owners: dict[str, str] = {}
    distributions: dict[str, str | None] = {}
    for folder in root.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        name = _normalized(name)
        distributions[name] = version or None
        try:
            record = (folder / "RECORD").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for path in parse_record(record):
            if not _is_text(path):
                owners[path] = name
    return owners, distributions


def parse_record(text: str) -> list[str]:
    """The paths of a RECORD (PEP 376: rows of path, hash, size), as they are written there, with forward slashes."""
    paths = []
    for line in text.splitlines():
        quoted = line.startswith('"')
        path = line[1:].partition('",')[0].replace('""', '"') if quoted else line.partition(",")[0]
        paths.append(path.replace("\\", "/"))
    return paths


def parse_torch_cuda(text: str) -> str | None:
    """The CUDA version in the text of `torch/version.py`: "12.8", WITHOUT_CUDA where it says None; None: not found."""
    match = re.search(r"^cuda\b[^=\n]*=\s*(?:['\"](\d+\.\d+)['\"]|None)", text, re.M)
    return match and (match[1] or WITHOUT_CUDA)


def _by_folder(name: str, distributions: Mapping[str, str | None]) -> str | None:
    """Without a RECORD: the distribution that is named like the top folder (or its vendored `torch.libs`)."""
    top = _normalized(name.partition("/")[0].removesuffix(".libs"))
    return top if top in distributions else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
