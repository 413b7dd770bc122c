"""`provision.fatbin`: what a binary holds, read from its headers."""

from __future__ import annotations

from fatbin.build import Entry, archive, elf_with_fatbin, pe_with_fatbin, stub
from provision.fatbin import Format, scan_bytes


def test_an_elf_library_tells_what_each_container_holds() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_75", "sm_120"], ["sm_120", "sm_90a", "compute_120"], ["sm_120"]]))
    assert library.format is Format.ELF
    assert library.cubins == ("sm_75", "sm_90a", "sm_120")
    assert library.ptx == ("compute_120",)
    assert library.ptx_isa == ("9.0",)
    assert library.every_container == ("sm_120",)
    assert library.containers == library.wrappers == 3
    assert not (library.zstd or library.unread or library.unknown)


def test_a_windows_library_holds_the_same() -> None:
    assert (
        scan_bytes(pe_with_fatbin([["sm_75", "sm_120f"]], relocatable=[["compute_90"]])).profiles
        == scan_bytes(elf_with_fatbin([["sm_75", "sm_120f"]], relocatable=[["compute_90"]])).profiles
    )


def test_static_archives_are_walked_member_by_member() -> None:
    library = scan_bytes(archive([b"/ symbols", elf_with_fatbin([["sm_75"]]), elf_with_fatbin([["sm_80"], ["sm_75"]])]))
    assert (library.format, library.containers, library.cubins) == (Format.ARCHIVE, 3, ("sm_75", "sm_80"))


def test_stubs_without_a_kernel_are_left_out() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_120"], stub(["sm_75", "sm_120"]), []]))
    assert (library.cubins, library.containers, library.stubs) == (("sm_120",), 1, 2)


def test_zstd_is_told() -> None:
    assert scan_bytes(elf_with_fatbin([[Entry(arch="sm_120", zstd=True)]])).zstd
