"""Which images does each container of a section hold? The walk over the format that the package describes."""

from __future__ import annotations

from collections import Counter
from struct import Struct

from .library import Format, Image, Library, Profile
from .source import Source

MAGIC = (0xBA55ED50).to_bytes(4, "little")

_CONTAINER = Struct("<4sHHQ")
_ENTRY = Struct("<HHIQIIHHIIIQQQ")
_PTX, _CUBIN = 1, 2
_ENTRY_VERSION = 0x0101
_KINDS = {4: "old cubin", 8: "NVVM or LTO-IR"}
_ZSTD, _SPECIFIC, _FAMILY = 0x8000, 0x100000, 0x200000
_COMPRESSED = 0x1000 | 0x2000 | _ZSTD
_TOLD = _ZSTD | _SPECIFIC | _FAMILY
_KNOWN_FLAGS = 0x7F | _COMPRESSED | _SPECIFIC | _FAMILY | 0x1000000

_STUB_CUBIN, _STUB_CUBIN_100, _STUB_PTX = 2500, 4000, 89
"""Uncompressed sizes below which a cubin, a cubin for sm_100 or later, and PTX hold no kernel; see the package."""

_MOST_HEADERS = 100_000
_MOST_REASONS = 20
"""Bounds on what a damaged file can cost; the largest real library has 6,275 entries."""

_Key = tuple[int, int, int, str | None]
"""One entry as the walk sees it: kind, architecture, the flags that matter, PTX ISA."""


class Collector:
    """What was met so far in one file."""

    def __init__(self) -> None:
        self.profiles: Counter[tuple[tuple[_Key, ...], bool, bool]] = Counter()
        self.containers = 0
        self.wrappers: int | None = None
        self.bare = False
        self.headers = 0
        self.unread: dict[str, None] = {}
        self.unknown: dict[str, None] = {}

    def library(self, form: Format) -> Library:
        """All of it as a value."""
        if self.wrappers is not None and abs(self.wrappers - self.containers) > 1:
            self.cannot(f"{self.wrappers} wrappers for {self.containers} containers: code outside the known sections")
        profiles = [
            Profile(images=tuple(map(_image, keys)), count=count, relocatable=relocatable, stub=stub)
            for (keys, relocatable, stub), count in self.profiles.items()
        ]
        return Library(
            format=form,
            profiles=tuple(sorted(profiles, key=lambda profile: -profile.count)),
            wrappers=self.wrappers,
            bare=self.bare,
            unread=tuple(self.unread),
            unknown=tuple(self.unknown),
        )

    def cannot(self, reason: str) -> None:
        """Something because of which nothing can be concluded."""
        if len(self.unread) < _MOST_REASONS:
            self.unread[reason] = None

    def not_understood(self, what: str) -> None:
        """An entry that is left out."""
        if len(self.unknown) < _MOST_REASONS:
            self.unknown[what] = None

    def bare_cubin(self, arch: int) -> None:
        """The file is a cubin by itself."""
        self.bare = True
        self.containers += 1
        self.profiles[((_CUBIN, arch, 0, None),), False, False] += 1

    def exhausted(self) -> bool:
        """Count one more header; True (and said) where a file has too many."""
        self.headers += 1
        if self.headers > _MOST_HEADERS:
            self.cannot(f"more than {_MOST_HEADERS} headers")
        return self.headers > _MOST_HEADERS

    def walk(self, source: Source, at: int, end: int, *, relocatable: bool) -> None:
        """The containers from `at` to `end`, with the zero bytes between them."""
        while at + 16 <= end and not self.exhausted():
            head = source.read(at, 16 + 64)
            magic, version, header_size, size = _CONTAINER.unpack_from(head)
            if magic != MAGIC:
                block = source.read(at, min(4096, end - at))
                padding = len(block) - len(block.lstrip(b"\0"))
                if padding < 8:
                    self.cannot("bytes between the containers that are neither code nor padding")
                    return
                at += padding & ~7
            elif version != 1 or header_size < 16 or at + header_size + size > end:
                self.cannot(f"a container of version {version} with a header of {header_size} bytes and {size} more")
                return
            else:
                first = head[16:] if header_size == 16 else b""
                begin, at = at + header_size, at + header_size + size
                self.container(source, begin, at, first, relocatable)

    def container(self, source: Source, at: int, end: int, first: bytes, relocatable: bool) -> None:
        """The entries of one container from `at` to `end`; `first` is the first header, where it is read already."""
        keys: list[_Key] = []
        stub = True
        read, unpack = source.read, _ENTRY.unpack
        while at < end:
            if self.exhausted():
                return
            head = first if len(first) == 64 else read(at, 64)
            if at + 64 > end or len(head) < 64:
                self.cannot("a container that is cut off")
                break
            first = b""
            kind, version, header_size, stored, compressed, _, minor, major, arch, _, _, flags, _, full = unpack(head)
            at += header_size + stored
            if header_size < 64 or at > end:
                self.cannot("an entry that does not fit its container")
                break
            if not self.understood(kind, version, arch, flags):
                stub = False
                continue
            size = full if compressed or flags & _COMPRESSED else stored
            if kind == _CUBIN:
                stub = stub and size < (_STUB_CUBIN if arch < 100 else _STUB_CUBIN_100)
                keys.append((kind, arch, flags & _TOLD, None))
            else:
                stub = stub and size < _STUB_PTX
                keys.append((kind, arch, flags & _TOLD, f"{major}.{minor}"))
        self.containers += 1
        self.profiles[tuple(sorted(keys, key=_order)), relocatable, stub] += 1

    def understood(self, kind: int, version: int, arch: int, flags: int) -> bool:
        """Whether an entry is all known; what is not is noted."""
        if kind not in (_PTX, _CUBIN):
            self.not_understood(f"entry of kind {kind} ({_KINDS.get(kind, 'unknown')})")
        elif version != _ENTRY_VERSION:
            self.not_understood(f"entry of version {version:#06x}")
        elif not 10 <= arch <= 999:
            self.not_understood(f"entry of architecture {arch}")
        elif flags & ~_KNOWN_FLAGS or (flags & _SPECIFIC and flags & _FAMILY):
            self.not_understood(f"entry with flags {flags:#x}")
        else:
            return True
        return False


def _order(key: _Key) -> tuple[int, int, int, str]:
    kind, arch, flags, isa = key
    return -kind, arch, flags, isa or ""


def _image(key: _Key) -> Image:
    kind, arch, flags, isa = key
    suffix = "a" if flags & _SPECIFIC else "f" if flags & _FAMILY else ""
    prefix = "compute" if kind == _PTX else "sm"
    return Image(arch=f"{prefix}_{arch}{suffix}", isa=isa, zstd=bool(flags & _ZSTD))
