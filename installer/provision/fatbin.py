"""Which GPU code does this binary hold? Read from the headers alone, in milliseconds, without CUDA, without an import.

    >>> library = scan_file("torch/lib/libtorch_cuda.so")                                    # doctest: +SKIP
    >>> library.cubins, library.ptx, library.every_container, library.containers             # doctest: +SKIP
    (('sm_75', 'sm_80', …), (), ('sm_75', 'sm_80', …), 476)

Standard library only; this file can be copied and used alone. It reads ELF and PE libraries, object files, static
archives, bare fatbins and bare cubins. Code is named as torch names it: `sm_90a` is a cubin, `compute_120` is PTX.

## The format

It is not a documented ABI: an unknown version, kind or flag makes the answer unknown here, never a guess.

nvcc puts the code of each translation unit into one *container* (a "fatbin") and the containers one after the other
into a section. The driver picks one image **per container**: what counts is what each holds, not their union.

| what                                          | ELF section        | PE section (cut to 8) |
|-----------------------------------------------|--------------------|-----------------------|
| containers that are loaded                    | `.nv_fatbin`       | `.nv_fatb`            |
| relocatable device code (-rdc), link inputs   | `__nv_relfatbin`   | `__nv_rel`            |
| wrappers: 24 bytes a registered container     | `.nvFatBinSegment` | `.nvFatBi`            |

Container header, 16 bytes, little endian, aligned to 8: u32 magic 0xBA55ED50, u16 version 1, u16 header size 16, u64
size of what follows. Then entries; an entry header has at least 64 bytes:

| at | type     | field                                                                                               |
|----|----------|-----------------------------------------------------------------------------------------------------|
|  0 | u16, u16 | kind: 1 PTX, 2 cubin (4 old cubin, 8 NVVM or LTO-IR: not read here); version 0x0101                 |
|  4 | u32      | header size, 64 to 192 seen                                                                         |
|  8 | u64      | payload size as stored; the next entry begins at this one + header size + payload size              |
| 16 | u32, u32 | compressed size (0: not compressed); offset of options                                              |
| 24 | u16, u16 | minor, major: of PTX its ISA version                                                                |
| 28 | u32      | architecture as a decimal number: 75, 120                                                           |
| 32 | u32, u32 | object name: offset, length                                                                         |
| 40 | u64      | flags, below                                                                                        |
| 48 | u64, u64 | 0 or a hash; uncompressed size                                                                      |

Flags: 0x1 64-bit, 0x2 debug, 0x4 CUDA, 0x8 OpenCL, 0x10 Linux, 0x20 Mac, 0x40 Windows, 0x1000 old LZ, 0x2000 LZ4,
0x8000 zstd (driver 550.54 or later), 0x100000 architecture-specific (`sm_90a`), 0x200000 family-specific (`sm_100f`),
0x1000000 longer cubin metadata.

Stubs are left out: nvcc adds a container without kernels to each library that it links and to each file without device
code; its cubins have 1,460 to 2,248 bytes uncompressed, one with an empty kernel has 2,856 or more (nvcc 13.0.88).

Sources, read 2026-11-20: NVIDIA `fatbinary_section.h` (CUDA 13.0: section names, wrapper) and `fatbinary.h` (2010-2018,
public copies: magic, container, kinds, lower flags); the entry layout as in n-eiling/cuda-fatbin-decompression,
jiegec/fatbinary and vosen/ZLUDA; flags 0x100000, 0x200000 and 0x1000000 and the stub sizes by compiling one kernel with
nvcc 13.0.88 for 21 targets. On 219 of 220 libraries the result equals `cuobjdump -all --list-elf --list-ptx`, on the
other cuobjdump is wrong.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct, error, unpack_from
from typing import Protocol

CONTAINER_MAGIC = 0xBA55ED50

_CONTAINER = Struct("<IHHQ")
_ENTRY = Struct("<HHIQIIHHIIIQQQ")
_PTX, _CUBIN = 1, 2
_ENTRY_VERSION = 0x0101
_KINDS = {4: "old cubin", 8: "NVVM or LTO-IR"}
_ZSTD, _SPECIFIC, _FAMILY = 0x8000, 0x100000, 0x200000
_COMPRESSED = 0x1000 | 0x2000 | _ZSTD
_TOLD = _ZSTD | _SPECIFIC | _FAMILY
_KNOWN_FLAGS = 0x7F | _COMPRESSED | _SPECIFIC | _FAMILY | 0x1000000

_LOADED = {".nv_fatbin", ".nv_fatb"}
_RELOCATABLE = {"__nv_relfatbin", "__nv_rel"}
_WRAPPERS = {".nvFatBinSegment", ".nvFatBi"}
_WRAPPER_SIZE = 24

_STUB_CUBIN = 2500
_STUB_PTX = 256
"""Uncompressed sizes below which an image holds no kernel (a PTX file without one has about 60 bytes, or 200 with
its comments; an empty kernel more than 400)."""

_MOST_HEADERS = 100_000
_MOST_SECTIONS = 100_000
_MOST_NAMES = 4 << 20
_MOST_REASONS = 20
"""Bounds on what a damaged file can cost; the largest real library has 6,275 entries."""


class Format(StrEnum):
    ELF = "elf"
    PE = "pe"
    COFF = "coff"
    ARCHIVE = "archive"
    FATBIN = "fatbin"
    CUBIN = "cubin"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image in a container: `arch` is `sm_90a` (a cubin) or `compute_120` (PTX, of the ISA version `isa`).

    A `zstd` image needs driver 550.54 (CUDA 12.4) or later.
    """

    arch: str
    isa: str | None = None
    zstd: bool = False

    @property
    def ptx(self) -> bool:
        return self.isa is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`count` containers hold just these images. `relocatable` ones are link inputs; a `stub` holds no kernel."""

    images: tuple[Image, ...]
    count: int
    relocatable: bool = False
    stub: bool = False

    @property
    def loadable(self) -> bool:
        return not (self.relocatable or self.stub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What one file holds.

    `unread` are reasons for which nothing can be concluded (code outside the sections, a damaged container);
    `unknown` are entries that were met and not understood: they can add to what is listed, never take away from it.
    `bare` says that the file is a cubin by itself, whose `a` or `f` suffix cannot be seen.
    """

    format: Format
    profiles: tuple[Profile, ...] = ()
    wrappers: int | None = None
    bare: bool = False
    unread: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def loadable(self) -> tuple[Profile, ...]:
        """The containers from which the driver loads code: not relocatable, no stubs."""
        return tuple(profile for profile in self.profiles if profile.loadable)

    @property
    def containers(self) -> int:
        """How many containers the driver loads code from."""
        return sum(profile.count for profile in self.loadable)

    @property
    def stubs(self) -> int:
        return sum(profile.count for profile in self.profiles if profile.stub)

    @property
    def cubins(self) -> tuple[str, ...]:
        """The cubins of the loadable containers, by architecture."""
        return _archs(self.loadable, ptx=False)

    @property
    def ptx(self) -> tuple[str, ...]:
        """The PTX of the loadable containers."""
        return _archs(self.loadable, ptx=True)

    @property
    def ptx_isa(self) -> tuple[str, ...]:
        """The PTX ISA versions of the loadable containers; 9.0 needs a driver that serves CUDA 13.0."""
        found = {image.isa for profile in self.loadable for image in profile.images if image.isa}
        return tuple(sorted(found, key=lambda isa: tuple(map(int, isa.split(".")))))

    @property
    def zstd(self) -> bool:
        """Whether some loadable code is compressed with zstd, which needs driver 550.54 (CUDA 12.4) or later."""
        return any(image.zstd for profile in self.loadable for image in profile.images)

    @property
    def every_container(self) -> tuple[str, ...]:
        """The cubins that every loadable container holds."""
        held = [{image.arch for image in profile.images if not image.ptx} for profile in self.loadable]
        return tuple(sorted(set.intersection(*held), key=_by_number)) if held else ()

    @property
    def relocatable(self) -> tuple[str, ...]:
        """Cubins and PTX that are link inputs only; the driver may relink them, it never loads them directly."""
        link = tuple(profile for profile in self.profiles if profile.relocatable and not profile.stub)
        return _archs(link, ptx=False) + _archs(link, ptx=True)

    @property
    def has_code(self) -> bool:
        """Whether there is any sign of GPU code in the file."""
        return bool(self.profiles or self.unread or self.unknown or self.wrappers)

    def entries(self) -> Counter[str]:
        """How often each image occurs, over all containers: what `cuobjdump -all --list-elf --list-ptx` lists."""
        counts: Counter[str] = Counter()
        for profile in self.profiles:
            for image in profile.images:
                counts[image.arch] += profile.count
        return counts


def _archs(profiles: tuple[Profile, ...], *, ptx: bool) -> tuple[str, ...]:
    found = {image.arch for profile in profiles for image in profile.images if image.ptx is ptx}
    return tuple(sorted(found, key=_by_number))


def _by_number(arch: str) -> tuple[int, str]:
    number = arch.partition("_")[2]
    return int(number.rstrip("af")), number


class Source(Protocol):
    """Bytes at offsets. `read` gives fewer bytes than asked at the end, never more."""

    size: int

    def read(self, offset: int, size: int) -> bytes: ...


def scan_file(path: str | os.PathLike[str]) -> Library:
    """What the file at `path` holds. Reads headers only; raises OSError where it cannot be opened or read."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        return scan(_File(descriptor))
    finally:
        os.close(descriptor)


def scan_bytes(data: bytes) -> Library:
    """What these bytes hold, as if they were a file."""
    return scan(_Bytes(data))


def scan(source: Source) -> Library:
    """What `source` holds. Whatever the bytes are, this ends and returns; only `source` may raise."""
    scanner = _Scanner()
    form = scanner.file(source)
    return scanner.library(form)


class _File:
    """A file by its descriptor, read where asked (no mapping: a truncated one would be a bus error)."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fadvise"):  # read-ahead would multiply what is read
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


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


class _Window:
    """A part of a source: a member of an archive."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        self.source = source
        self.start = start
        self.size = max(0, min(size, source.size - start))

    def read(self, offset: int, size: int) -> bytes:
        return self.source.read(self.start + offset, max(0, min(size, self.size - offset)))


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    offset: int
    size: int


_Key = tuple[int, int, int, str | None]
"""One entry as the walk sees it: kind, architecture, the flags that matter, PTX ISA."""


class _Scanner:
    """Collects the containers of one file."""

    def __init__(self) -> None:
        self.profiles: Counter[tuple[tuple[_Key, ...], bool, bool]] = Counter()
        self.containers = 0
        self.wrappers: int | None = None
        self.bare = False
        self.headers = 0
        self.unread: dict[str, None] = {}
        self.unknown: dict[str, None] = {}

    def library(self, form: Format) -> Library:
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
        if len(self.unread) < _MOST_REASONS:
            self.unread[reason] = None

    def not_understood(self, what: str) -> None:
        if len(self.unknown) < _MOST_REASONS:
            self.unknown[what] = None

    def file(self, source: Source, *, nested: bool = False) -> Format:
        """Recognise `source` by its first bytes and collect what it holds."""
        head = source.read(0, 64)
        try:
            if head[:4] == b"\x7fELF":
                return self.elf(source, head)
            if head[:2] == b"MZ":
                return self.pe(source, head)
            if head[:8] == b"!<arch>\n" and not nested:
                return self.archive(source)
            if head[:4] == CONTAINER_MAGIC.to_bytes(4, "little"):
                self.walk(source, _Section("", 0, source.size))
                return Format.FATBIN
            if nested and head[:2] in (b"\x64\x86", b"\x64\xaa") and len(head) >= 20:
                return self.coff(source, head)
        except (error, IndexError) as problem:
            self.cannot(f"cut off or damaged header ({problem})")
            return Format.OTHER
        return Format.OTHER

    def elf(self, source: Source, head: bytes) -> Format:
        if head[4:6] != b"\x02\x01":
            self.cannot("an ELF file that is not 64-bit little-endian")
            return Format.ELF
        machine = unpack_from("<H", head, 18)[0]
        if machine == 190:
            self.cubin(head)
            return Format.CUBIN
        table_at, table_entry, count, names_index = (
            unpack_from("<Q", head, 40)[0],
            *unpack_from("<HHH", head, 58),
        )
        if table_at == 0:
            self.cannot("no section table")
            return Format.ELF
        if table_entry < 64:
            self.cannot(f"section table with entries of {table_entry} bytes")
            return Format.ELF
        first = source.read(table_at, 64)
        count = count or unpack_from("<Q", first, 32)[0]  # more than 65,279 sections: gABI, e_shnum
        names_index = unpack_from("<I", first, 40)[0] if names_index == 0xFFFF else names_index
        if count > _MOST_SECTIONS or table_at + count * table_entry > source.size or names_index >= count:
            self.cannot(f"section table of {count} entries does not fit the file")
            return Format.ELF
        table = source.read(table_at, count * table_entry)
        names_at, names_size = unpack_from("<QQ", table, names_index * table_entry + 24)
        if names_size > _MOST_NAMES or names_at + names_size > source.size:
            self.cannot("section names do not fit the file")
            return Format.ELF
        names = source.read(names_at, names_size)
        sections = []
        for row in range(count):
            name_at, kind, _, _, offset, size = unpack_from("<IIQQQQ", table, row * table_entry)
            name = names[name_at : names.find(b"\0", name_at)]
            if kind != 8:  # SHT_NOBITS: a .debug file
                sections.append(_Section(name.decode("latin-1"), offset, size))
        self.sections(source, sections)
        return Format.ELF

    def cubin(self, head: bytes) -> None:
        """A bare cubin: OS ABI 51 has the architecture in bits 0 to 7 of e_flags, OS ABI 65 in bits 8 to 15."""
        flags = unpack_from("<I", head, 48)[0]
        shift = {51: 0, 65: 8}.get(head[7])
        if shift is None:
            self.cannot(f"a cubin of the unknown OS ABI {head[7]}")
            return
        self.bare = True
        self.containers += 1
        self.profiles[(((_CUBIN, flags >> shift & 0xFF, 0, None),), False, False)] += 1

    def pe(self, source: Source, head: bytes) -> Format:
        start = unpack_from("<I", head, 60)[0]
        header = source.read(start, 24)
        if header[:4] != b"PE\0\0":
            return Format.OTHER  # a DOS program
        count, optional = unpack_from("<H", header, 6)[0], unpack_from("<H", header, 20)[0]
        self.sections(source, list(_rows(source, start + 24 + optional, count, mapped=True)))
        return Format.PE

    def coff(self, source: Source, head: bytes) -> Format:
        """An object file of a Windows archive; names of more than eight letters lie in the string table."""
        count, symbols_at, symbols, optional = (
            unpack_from("<H", head, 2)[0],
            *unpack_from("<IIH", head, 8),
        )
        sections = []
        for section in _rows(source, 20 + optional, count, mapped=False):
            name = section.name
            if name.startswith("/") and name[1:].isdigit():
                at = symbols_at + 18 * symbols + int(name[1:])
                name = source.read(at, 32).partition(b"\0")[0].decode("latin-1")
            sections.append(_Section(name, section.offset, section.size))
        self.sections(source, sections)
        return Format.COFF

    def archive(self, source: Source) -> Format:
        """`ar`: 60-byte headers, members aligned to 2."""
        at = 8
        while at + 60 <= source.size:
            header = source.read(at, 60)
            try:
                size = int(header[48:58])
                if header[58:60] != b"`\n" or size < 0:
                    raise ValueError
                own_name = int(header[3:16]) if header[:3] == b"#1/" else 0  # BSD: the name precedes the data
            except ValueError:
                self.cannot("damaged member header in the archive")
                break
            self.headers += 1
            if self.exhausted():
                break
            if size > own_name >= 0:
                self.file(_Window(source, at + 60 + own_name, size - own_name), nested=True)
            at += 60 + size + size % 2
        return Format.ARCHIVE

    def sections(self, source: Source, sections: list[_Section]) -> None:
        """Count the wrappers, walk the containers."""
        for section in sections:
            if section.name in _WRAPPERS:
                self.wrappers = (self.wrappers or 0) + section.size // _WRAPPER_SIZE
        for section in sections:
            if section.size and section.name in _LOADED | _RELOCATABLE:
                if section.offset + section.size > source.size:
                    self.cannot(f"section {section.name} does not fit the file")
                else:
                    self.walk(source, section)

    def exhausted(self) -> bool:
        if self.headers > _MOST_HEADERS:
            self.cannot(f"more than {_MOST_HEADERS} headers")
            return True
        return False

    def walk(self, source: Source, section: _Section) -> None:
        """The containers of one section, with the zero bytes between them."""
        at, end = section.offset, section.offset + section.size
        while at + 16 <= end and not self.exhausted():
            self.headers += 1
            head = source.read(at, 16 + 64)
            magic, version, header_size, size = _CONTAINER.unpack_from(head)
            if magic != CONTAINER_MAGIC:
                at = self.padding(source, at, end)
                continue
            if version != 1 or header_size < 16 or at + header_size + size > end:
                self.cannot(f"a container of version {version}, header {header_size}, {size} bytes")
                at += 8
                continue
            at += header_size
            self.container(source, at, at + size, head[16:] if header_size == 16 else b"", section.name in _RELOCATABLE)
            at = at + size + 7 & ~7

    def padding(self, source: Source, at: int, end: int) -> int:
        """Step over what is no container: zero bytes are padding, anything else is not read."""
        block = source.read(at, min(4096, end - at))
        found = block.find(CONTAINER_MAGIC.to_bytes(4, "little"))
        while found > 0 and found % 8:
            found = block.find(CONTAINER_MAGIC.to_bytes(4, "little"), found + 1)
        skipped = block if found < 0 else block[:found]
        if skipped.strip(b"\0"):
            self.cannot("bytes between the containers that are neither code nor padding")
            return end if found < 0 else at + found
        return at + max(8, len(skipped) & ~7)

    def container(self, source: Source, at: int, end: int, first: bytes, relocatable: bool) -> None:
        """The entries of one container; `first` is the first 64 bytes, where they are already read."""
        keys: list[_Key] = []
        stub = True
        read, unpack = source.read, _ENTRY.unpack
        while at + 64 <= end:
            self.headers += 1
            if self.exhausted():
                return
            head = first if len(first) == 64 else read(at, 64)
            first = b""
            kind, version, header_size, stored, compressed, _, minor, major, arch, _, _, flags, _, full = unpack(head)
            if header_size < 64 or at + header_size + stored > end:
                self.cannot("an entry does not fit its container")
                break
            at += header_size + stored
            if not self.understood(kind, version, arch, flags):
                stub = False
                continue
            size = full if flags & _COMPRESSED or compressed else stored
            if kind == _CUBIN:
                stub = stub and size < _STUB_CUBIN
                keys.append((kind, arch, flags & _TOLD, None))
            else:
                stub = stub and size < _STUB_PTX
                keys.append((kind, arch, flags & _TOLD, f"{major}.{minor}"))
        self.containers += 1
        self.profiles[(tuple(sorted(keys, key=_order)), relocatable, stub)] += 1

    def understood(self, kind: int, version: int, arch: int, flags: int) -> bool:
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
    arch_name = f"{'compute' if kind == _PTX else 'sm'}_{arch}{suffix}"
    return Image(arch=arch_name, isa=isa, zstd=bool(flags & _ZSTD))


def _rows(source: Source, at: int, count: int, *, mapped: bool) -> Iterator[_Section]:
    """The rows of a PE or COFF section table: 40 bytes each. In a `mapped` file the raw size is padded."""
    table = source.read(at, 40 * count)
    for row in range(0, 40 * count, 40):
        name, virtual, _, raw, offset = unpack_from("<8sIIII", table, row)
        yield _Section(name.rstrip(b"\0").decode("latin-1"), offset, min(virtual, raw) if mapped else raw)
