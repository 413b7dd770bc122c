"""Where do the bytes come from? A file, memory, a part of either, or a stream while it is inflated."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import IO, Protocol

_STEP = 256 << 10
"""How much is inflated at once, and how much of what went by can still be read: section names precede their table."""

_MOST_STARTS = 50
"""How often a stream is begun anew: a library needs two, a hostile one could ask for any number."""


class Source(Protocol):
    """Bytes at offsets. `read` gives fewer bytes than asked at the end, never more; `forward`: going back is costly."""

    size: int
    forward: bool

    def read(self, offset: int, size: int) -> bytes: ...


class File:
    """A file by its descriptor, read where asked (no mapping: a truncated one would be a bus error)."""

    forward = False

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fadvise"):  # read-ahead would multiply what is read
            with contextlib.suppress(OSError):  # a pipe
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    if hasattr(os, "pread"):

        def read(self, offset: int, size: int) -> bytes:
            return os.pread(self.descriptor, min(size, self.size - offset), offset) if offset < self.size else b""

    else:

        def read(self, offset: int, size: int) -> bytes:
            if offset >= self.size:
                return b""
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.read(self.descriptor, min(size, self.size - offset))


class Memory:
    forward = False

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


class Window:
    """A part of a source: a member of an archive."""

    forward = False

    def __init__(self, source: Source, start: int, size: int) -> None:
        self.source = source
        self.start = start
        self.size = max(0, min(size, source.size - start))

    def read(self, offset: int, size: int) -> bytes:
        return self.source.read(self.start + offset, max(0, min(size, self.size - offset)))


class Inflating:
    """Bytes of a stream at offsets: on costs inflating, back a little is free, further back begins anew."""

    forward = True

    def __init__(self, start: Callable[[], IO[bytes]], size: int) -> None:
        self.start = start
        self.size = size
        self.stream: IO[bytes] | None = None
        self.at = self.starts = 0
        self.kept = self.last = b""

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()

    def read(self, offset: int, size: int) -> bytes:
        offset, end = min(offset, self.size), min(offset + size, self.size)
        if self.stream is None or offset < self.at:
            self.close()
            self.starts += 1
            if self.starts > _MOST_STARTS:
                raise EOFError(f"begun {_MOST_STARTS} times")
            self.stream, self.at = self.start(), 0
            self.kept = self.last = b""
        while self.at + len(self.kept) < end:
            step = self.stream.read(_STEP)
            if not step:
                raise EOFError("it ends early")
            if self.at + len(self.kept) <= offset:  # going by: only the last step stays
                self.at += len(self.kept) - len(self.last)
                self.kept = self.last + step
            else:
                self.kept += step
            self.last = step
        return self.kept[offset - self.at : end - self.at]
