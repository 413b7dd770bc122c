"""Small binaries with fatbins in them, built byte by byte from the format facts in `provision.fatbin`.

`elf_with_fatbin([["sm_75", "sm_120"], ["sm_120", "compute_120"]])` is a valid ELF64 shared object of some kilobytes
with two containers. The images have no code inside; their sizes are those of a real kernel, or of a stub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import pack

KERNEL, STUB = 5016, 1464
"""Uncompressed sizes of a cubin with an empty kernel (for sm_100) and of one without any (for sm_75), nvcc 13.0.88."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One image, as the header says it. `stored` is its payload; a compressed one says its full size in `size`."""

    arch: str
    size: int = KERNEL
    isa: str = "9.0"
    zstd: bool = False
    flags: int = 0
    kind: int | None = None
    version: int = 0x0101
    header_size: int = 64

    def to_bytes(self) -> bytes:
        match = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", self.arch)
        assert match, self.arch
        ptx = match[1] == "compute"
        major, minor = (int(part) for part in (self.isa if ptx else "1.7").split("."))
        flags = 0x11 | {"": 0, "a": 0x100000, "f": 0x200000}[match[3]] | (0x8000 if self.zstd else 0) | self.flags
        stored = 64 if self.zstd else -(-self.size // 8) * 8
        kind = self.kind if self.kind is not None else 1 if ptx else 2
        compressed = stored if self.zstd else 0
        full = self.size if self.zstd else 0
        header = pack(
            "<HHIQIIHHIIIQQQ",
            *(kind, self.version, self.header_size, stored, compressed, 0, minor, major, int(match[2]), 0, 0),
            *(flags, 0, full),
        )
        return header.ljust(self.header_size, b"\0") + bytes(stored)


Images = Iterable["str | Entry"]


def container(images: Images) -> bytes:
    """One fatbin."""
    body = b"".join((Entry(arch=image) if isinstance(image, str) else image).to_bytes() for image in images)
    return pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def stub(archs: Iterable[str]) -> list[Entry]:
    """The images of a container without kernels, as nvcc adds one to each library."""
    return [Entry(arch=arch, size=STUB) for arch in archs]


def elf_with_fatbin(
    containers: Sequence[Images] = (),
    *,
    relocatable: Sequence[Images] = (),
    wrappers: int | None = None,
    machine: int = 62,
    nobits: bool = False,
) -> bytes:
    """An ELF64 shared object: `.nv_fatbin`, `__nv_relfatbin`, `.nvFatBinSegment` (one wrapper a container)."""
    count = len(containers) + len(relocatable) if wrappers is None else wrappers
    return elf(
        {
            ".text": bytes(32),
            ".nv_fatbin": b"".join(map(container, containers)),
            "__nv_relfatbin": b"".join(map(container, relocatable)),
            ".nvFatBinSegment": pack("<IIQQ", 0x466243B1, 1, 0, 0) * count,
        },
        machine=machine,
        nobits=nobits,
    )


def elf(sections: dict[str, bytes], *, machine: int = 62, nobits: bool = False) -> bytes:
    """An ELF64 shared object with these sections (empty ones left out), their names and the section table."""
    held = {name: data for name, data in sections.items() if data}
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*held, ".shstrtab"])
    body = bytearray()
    rows = [bytes(64)]
    for name, data in [*held.items(), (".shstrtab", names)]:
        body += bytes(-(64 + len(body)) % 8)
        kind = 8 if nobits and name.startswith((".nv", "__nv")) else 3 if name == ".shstrtab" else 1
        rows.append(
            pack("<IIQQQQIIQQ", names.index(name.encode() + b"\0"), kind, 2, 0, 64 + len(body), len(data), 0, 0, 8, 0)
        )
        body += b"" if kind == 8 else data
    body += bytes(-(64 + len(body)) % 8)
    header = pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(rows), len(rows) - 1),
    )
    return header + bytes(body) + b"".join(rows)


def pe_with_fatbin(containers: Sequence[Images] = (), *, relocatable: Sequence[Images] = ()) -> bytes:
    """A PE file with the sections that nvcc makes on Windows, their names cut to eight letters."""
    sections = {
        ".nv_fatb": b"".join(map(container, containers)),
        "__nv_rel": b"".join(map(container, relocatable)),
        ".nvFatBi": bytes(24) * (len(containers) + len(relocatable)),
    }
    held = {name: data for name, data in sections.items() if data}
    start, optional = 64, 240
    at = -(-(start + 24 + optional + 40 * len(held)) // 512) * 512
    rows, body = b"", b""
    for name, data in held.items():
        raw = -(-len(data) // 512) * 512
        rows += pack("<8sIIIIIIHHI", name.encode(), len(data), 4096, raw, at + len(body), 0, 0, 0, 0, 0x40000040)
        body += data.ljust(raw, b"\0")
    head = b"MZ".ljust(60, b"\0") + pack("<I", start)
    head += b"PE\0\0" + pack("<HHIIIHH", 0x8664, len(held), 0, 0, 0, optional, 0x2022) + bytes(optional) + rows
    return head.ljust(at, b"\0") + body


def archive(members: Iterable[bytes]) -> bytes:
    """A static archive (`ar`) of these members."""
    return b"!<arch>\n" + b"".join(
        b"%-16b%-12d%-6d%-6d%-8s%-10d`\n" % (b"m%d.o/" % place, 0, 0, 0, b"644", len(data))
        + data
        + b"\n" * (len(data) % 2)
        for place, data in enumerate(members)
    )
