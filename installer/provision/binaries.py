"""Which binaries are in this environment, folder or wheel, what do they hold, and whose are they?

Owners come from RECORD (PEP 376), else from the name of the folder. Nothing is imported, nothing is executed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from .errors import UsageProblem
from .fatbin import Format, Library, scan_file
from .packages import WITHOUT_CUDA
from .values import frozen

_TEXT = re.compile(
    r"\.(pyc?|pyi|pyx|pxd|ipynb|[hc]|hpp|hh|cuh|inl|inc|cc|cpp|cu|in|cmake|f90|txt|md|rst|json|ya?ml|toml|cfg|ini|typed"
    r"|html?|css|m?js|ts|map|svg|png|jpe?g|gif|ico|ttf|woff2?|csv|tsv|np[yz]|mat|pth?|tcl|po|mo|sh|bat|ps1|gz|bz2|xz|zip"
    r"|whl|egg|pem|crt)$",
    re.IGNORECASE,
)
"""Names that are no binaries: not opened when a folder is looked through. Anything else is recognised by its bytes."""

_NO_CODE = ("__pycache__", ".dist-info", ".egg-info")


@frozen
class Binary:
    """One file: its name below what was looked through, what it holds, the normalized name of its distribution."""

    name: str
    library: Library
    owner: str | None = None


@frozen
class Found:
    """What is in one path.

    `distributions` are normalized names with versions; `torch_cuda` is that of the torch in it (`parse_torch_cuda`);
    `one_file`: the path is a file by itself, nothing to look through.
    """

    binaries: tuple[Binary, ...]
    distributions: Mapping[str, str | None] = MappingProxyType({})
    torch_cuda: str | None = None
    one_file: bool = False


def find_binaries(path: Path) -> Found:
    """Everything in an environment, a folder, a wheel; or the one file that `path` is.

    Raises UsageProblem for a path that is not there and for a wheel that cannot be read.
    """
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
    return Found(binaries=(Binary(name=str(path), library=_read(path)),), one_file=True)


def parse_record(text: str) -> list[str]:
    """The paths of a RECORD (rows of path, hash and size), with forward slashes."""
    paths = []
    for line in text.splitlines():
        quoted = line.startswith('"')
        path = line[1:].partition('",')[0].replace('""', '"') if quoted else line.partition(",")[0]
        paths.append(path.replace("\\", "/"))
    return paths


def parse_torch_cuda(text: str) -> str | None:
    """The CUDA version in the text of `torch/version.py`: "12.8", WITHOUT_CUDA where it says None; None: not found."""
    match = re.search(r"^cuda\b[^=\n]*=\s*(?:['\"](\d+\.\d+)['\"]|None)", text, re.MULTILINE)
    return match and (match[1] or WITHOUT_CUDA)


def _wheel(path: Path) -> Found:
    import zipfile

    from .fatbin import scan_wheel

    name, _, rest = path.name.removesuffix(".whl").partition("-")
    owner = _normalized(name)
    torch_cuda = None
    try:
        binaries = tuple(
            Binary(name=member, library=library, owner=owner)
            for member, library in scan_wheel(path, lambda member: not _TEXT.search(member))
        )
        if owner == "torch":
            with zipfile.ZipFile(path) as wheel:
                torch_cuda = parse_torch_cuda(wheel.read("torch/version.py").decode("utf-8", "replace"))
    except (zipfile.BadZipFile, KeyError, OSError) as problem:
        raise UsageProblem(
            f"{path} cannot be read as a wheel: {problem}", code="bad-wheel", hint="download it again"
        ) from problem
    return Found(binaries=binaries, distributions={owner: rest.partition("-")[0] or None}, torch_cuda=torch_cuda)


def _folder(path: Path) -> Found:
    """The site-packages of an environment (and, of a conda one, its libraries), or any folder."""
    roots = [path]
    conda = (path / "conda-meta").is_dir()
    if conda or (path / "pyvenv.cfg").is_file():
        roots = [*path.glob("lib/python*/site-packages"), *path.glob("Lib/site-packages")]
        roots += [path / ("Library" if os.name == "nt" else "lib")] if conda else []
    binaries: list[Binary] = []
    distributions: dict[str, str | None] = {}
    torch_cuda = None
    seen: set[tuple[int, int]] = set()
    for root in roots:
        owners, here = _records(root)
        distributions |= here
        version_file = root / "torch" / "version.py"
        if version_file.is_file():
            torch_cuda = parse_torch_cuda(version_file.read_text(encoding="utf-8", errors="replace"))
        for name in _candidates(root, skip={other for other in roots if other != root}):
            try:
                status = os.stat(root / name)
            except OSError:
                continue  # a dangling link
            identity = status.st_dev, status.st_ino
            if identity in seen or not stat.S_ISREG(status.st_mode):
                continue  # a second name of the same file, or no file
            if status.st_ino:
                seen.add(identity)
            owner = owners.get(name) or _owner_by_folder(name, distributions)
            binaries.append(Binary(name=name, library=_read(root / name), owner=owner))
    return Found(binaries=tuple(binaries), distributions=distributions, torch_cuda=torch_cuda)


def _candidates(root: Path, skip: set[Path]) -> Iterator[str]:
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
                if not entry.name.endswith(_NO_CODE) and root / name not in skip:
                    pending.append(name + "/")
            elif not _TEXT.search(entry.name):
                found.append((entry.is_symlink(), name))
    return (name for _, name in sorted(found))


def _read(path: Path) -> Library:
    try:
        return scan_file(path)
    except OSError as problem:
        return Library(format=Format.OTHER, unread=(f"cannot be read ({problem.strerror or problem})",))


def _records(root: Path) -> tuple[dict[str, str], dict[str, str | None]]:
    """Which distribution each binary below `root` belongs to, and the distributions with their versions."""
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
        owners |= {path: name for path in parse_record(record) if not _TEXT.search(path)}
    return owners, distributions


def _owner_by_folder(name: str, distributions: Mapping[str, str | None]) -> str | None:
    """Without a RECORD: the distribution named like the top folder, or like its copied libraries (`torchvision.libs`).

    conda keeps the libraries of torch in the environment's own folder.
    """
    if re.match(r"(lib)?(torch|c10)[\w-]*\.(so|dll)", name):
        top = "torch"
    else:
        top = _normalized(name.partition("/")[0].removesuffix(".libs"))
    return top if top in distributions else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
