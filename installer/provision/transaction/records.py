"""Which distribution owns which file? RECORD files, read and written.

Format: PyPA specification "Recording installed projects" (https://packaging.python.org/en/latest/specifications/
recording-installed-packages/, read 2026-11-20): CSV rows of path, hash, size; paths relative to site-packages.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ..detect.environment import normalize, parse_metadata


class Row(NamedTuple):
    """One line of a RECORD: `path` relative to the environment, `written` as it stands, `hash` `sha256=…` or ""."""

    path: str
    written: str
    hash: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one distribution owns. `info` is its dist-info folder relative to the environment."""

    info: str
    rows: tuple[Row, ...]

    @property
    def file(self) -> str:
        return f"{self.info}/RECORD"


def sites(tree: Path) -> Iterator[str]:
    """Every site-packages of an environment, relative to it (`lib64` only where it is no link to `lib`)."""
    for library in ("lib", "lib64", "Lib"):
        folder = tree / library
        if folder.is_symlink() or not folder.is_dir():
            continue
        if (folder / "site-packages").is_dir():
            yield f"{library}/site-packages"
        for name in sorted(os.listdir(folder)):
            if (folder / name / "site-packages").is_dir() and not (folder / name).is_symlink():
                yield f"{library}/{name}/site-packages"
        if os.name == "nt":
            break


def infos(tree: Path) -> Iterator[str]:
    """Every dist-info folder of an environment, relative to it (`~…` is what a broken uninstall left)."""
    for site in sites(tree):
        for name in sorted(os.listdir(tree / site)):
            if name.endswith(".dist-info") and not name.startswith("~"):
                yield f"{site}/{name}"


def read(tree: Path, info: str) -> Record | None:
    """The RECORD of a distribution, or None where there is none."""
    path = tree / info / "RECORD"
    try:
        found = os.stat(path)
        return _read(path, info, (found.st_ino, found.st_mtime_ns, found.st_size))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


@lru_cache(maxsize=512)
def _read(path: Path, info: str, _: tuple[int, ...]) -> Record:
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    site = posixpath.dirname(info)
    return Record(info=info, rows=tuple(_row(site, *row) for row in rows))


def _row(site: str, written: str, hash: str = "", size: str = "", *_: str) -> Row:
    path = f"{site}/{written}"
    if ".." in written or "\\" in written or written.startswith("/"):
        path = posixpath.normpath(posixpath.join(site, written.replace("\\", "/")))
    return Row(path, written, hash, size)


def render(record: Record) -> str:
    """The text of a RECORD file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((row.written, row.hash, row.size) for row in record.rows)
    return out.getvalue()


def name_and_version(tree: Path, info: str) -> tuple[str, str] | None:
    """Normalized name and version of a distribution, or None where its METADATA cannot be read."""
    try:
        text = (tree / info / "METADATA").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    parsed = parse_metadata(text)
    return parsed[:2] if parsed else None


def name_of(info: str) -> str:
    """The normalized name of a distribution from its dist-info folder alone: METADATA may be gone."""
    return normalize(posixpath.basename(info).removesuffix(".dist-info").partition("-")[0])


def digest(path: Path) -> str:
    """`sha256=…` of a file as a RECORD writes it."""
    with open(path, "rb") as file:
        return encode(hashlib.file_digest(file, "sha256").digest())


def encode(sha256: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(sha256).rstrip(b"=").decode()
