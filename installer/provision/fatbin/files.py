"""Where in this file is the GPU code? ELF and PE libraries, object files, archives, bare fatbins and bare cubins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from struct import error, unpack_from

from .containers import MAGIC, Collector
from .library import Format, Library
from .source import File, Memory, Source, Window

_LOADED = {".nv_fatbin", ".nv_fatb"}
_RELOCATABLE = {"__nv_relfatbin", "__nv_rel"}
_WRAPPERS = {".nvFatBinSegment", ".nvFatBi"}
_WRAPPER_SIZE = 24

_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a named pipe must not block

_MOST_SECTIONS = 100_000
_MOST_NAMES = 4 << 20
_MEMBER = 8 << 20
"""Bounds on what a damaged file can cost. Archive members up to the last are read whole where going back is costly."""


def scan_file(path: str | os.PathLike[str]) -> Library:
    """What the file at `path` holds. Reads headers only; raises OSError where it cannot be opened or read."""
    descriptor = os.open(path, _OPEN)
    try:
        return scan(File(descriptor))
    finally:
        os.close(descriptor)


def scan_bytes(data: bytes) -> Library:
    """What these bytes hold, as if they were a file."""
    return scan(Memory(data))


def scan(source: Source) -> Library:
    """What `source` holds. Whatever the bytes are, this ends and returns; only `source` may raise."""
    reader = _Reader()
    form = reader.file(source)
    return reader.found.library(form)


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    offset: int
    size: int


class _Reader:
    """Recognises files and hands their sections to a collector."""

    def __init__(self) -> None:
        self.found = Collector()

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
            if head[:4] == MAGIC:
                self.found.walk(source, 0, source.size, relocatable=False)
                return Format.FATBIN
            if nested and head[:2] in (b"\x64\x86", b"\x64\xaa") and len(head) >= 20:
                return self.coff(source, head)
        except (error, IndexError) as problem:
            self.found.cannot(f"cut off or damaged header ({problem})")
            return Format.OTHER
        return Format.OTHER

    def elf(self, source: Source, head: bytes) -> Format:
        if head[4:6] != b"\x02\x01":
            self.found.cannot("an ELF file that is not 64-bit little-endian")
            return Format.ELF
        machine = unpack_from("<H", head, 18)[0]
        if machine == 190:
            self.cubin(head)
            return Format.CUBIN
        (table_at,) = unpack_from("<Q", head, 40)
        table_entry, count, names_index = unpack_from("<HHH", head, 58)
        if table_at == 0:
            self.found.cannot("no section table")
            return Format.ELF
        if table_entry < 64:
            self.found.cannot(f"section table with entries of {table_entry} bytes")
            return Format.ELF
        first = source.read(table_at, 64)
        count = count or unpack_from("<Q", first, 32)[0]  # more than 65,279 sections: gABI, e_shnum
        names_index = unpack_from("<I", first, 40)[0] if names_index == 0xFFFF else names_index
        if count > _MOST_SECTIONS or table_at + count * table_entry > source.size or names_index >= count:
            self.found.cannot(f"section table of {count} entries does not fit the file")
            return Format.ELF
        table = source.read(table_at, count * table_entry)
        names_at, names_size = unpack_from("<QQ", table, names_index * table_entry + 24)
        if names_size > _MOST_NAMES or names_at + names_size > source.size:
            self.found.cannot("section names do not fit the file")
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
            self.found.cannot(f"a cubin of the unknown OS ABI {head[7]}")
            return
        self.found.bare_cubin(flags >> shift & 0xFF)

    def pe(self, source: Source, head: bytes) -> Format:
        start = unpack_from("<I", head, 60)[0]
        header = source.read(start, 24)
        if header[:4] != b"PE\0\0":
            return Format.OTHER  # a DOS program
        (count,), (optional,) = unpack_from("<H", header, 6), unpack_from("<H", header, 20)
        self.sections(source, list(_rows(source, start + 24 + optional, count, mapped=True)))
        return Format.PE

    def coff(self, source: Source, head: bytes) -> Format:
        """An object file of a Windows archive; names of more than eight letters lie in the string table."""
        (count,) = unpack_from("<H", head, 2)
        symbols_at, symbols, optional = unpack_from("<IIH", head, 8)
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
                self.found.cannot("damaged member header in the archive")
                break
            if self.found.exhausted():
                break
            member: Source = Window(source, at + 60 + own_name, size - own_name)
            if source.forward and member.size <= _MEMBER:
                member = Memory(member.read(0, member.size))
            self.file(member, nested=True)
            at += 60 + size + size % 2
        return Format.ARCHIVE

    def sections(self, source: Source, sections: list[_Section]) -> None:
        """Count the wrappers, walk the containers."""
        for section in sections:
            if section.name in _WRAPPERS:
                self.found.wrappers = (self.found.wrappers or 0) + section.size // _WRAPPER_SIZE
        for section in sorted(sections, key=lambda section: section.offset):
            if section.size and section.name in _LOADED | _RELOCATABLE:
                if section.offset + section.size > source.size:
                    self.found.cannot(f"section {section.name} does not fit the file")
                else:
                    end = section.offset + section.size
                    self.found.walk(source, section.offset, end, relocatable=section.name in _RELOCATABLE)


def _rows(source: Source, at: int, count: int, *, mapped: bool) -> Iterator[_Section]:
    """The rows of a PE or COFF section table: 40 bytes each. In a `mapped` file the raw size is padded."""
    table = source.read(at, 40 * count)
    for row in range(0, 40 * count, 40):
        name, virtual, _, raw, offset = unpack_from("<8sIIII", table, row)
        yield _Section(name.rstrip(b"\0").decode("latin-1"), offset, min(virtual, raw) if mapped else raw)
