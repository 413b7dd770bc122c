"""What does a wheel hold that is not installed? Read while it is inflated, without a temporary file.

A member of a wheel is a file in which only reading on is cheap, so it is read as any file is: its header, its section
table (near the end), then container after container. That inflates a library with GPU code twice and any other one
once, and gives the same answer as the unpacked file.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from .files import scan
from .library import Format, Library
from .source import Inflating

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    OSError,  # a seek to a negative offset
    OverflowError,
    NotImplementedError,  # another compression, another version
    RuntimeError,  # encrypted
    ValueError,  # names that are no text
)
"""What zipfile raises for files that are none, or are damaged."""


def _any(name: str) -> bool:
    return True


def scan_wheel(path: str | os.PathLike[str], wanted: Callable[[str], bool] = _any) -> Iterator[tuple[str, Library]]:
    """Each member of the wheel whose name is `wanted`, in its order, with what it holds.

    A damaged or encrypted member is a Library with `unread`. Raises OSError where the file cannot be opened and
    zipfile.BadZipFile where it is no zip file.
    """
    with open(path, "rb") as file:
        try:
            wheel = zipfile.ZipFile(file)
        except _DAMAGED as problem:
            raise zipfile.BadZipFile(str(problem)) from problem
        with wheel:
            for member in wheel.infolist():
                if not member.filename.endswith("/") and wanted(member.filename):
                    yield member.filename, _scan_member(wheel, member)


def _scan_member(wheel: zipfile.ZipFile, member: zipfile.ZipInfo) -> Library:
    source = Inflating(lambda: wheel.open(member), member.file_size)
    try:
        return scan(source)
    except _DAMAGED as problem:
        return Library(format=Format.OTHER, unread=(f"the member cannot be inflated ({problem})",))
    finally:
        source.close()
