"""`provision.fatbin`: what a binary holds, read from its headers."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path
from struct import pack

import pytest
from fatbin.build import Entry, archive, container, elf, elf_with_fatbin, pe_with_fatbin, stub
from fatbin.corrupt import damaged
from provision import fatbin
from provision.fatbin import Format, Library, scan_bytes, scan_file, scan_wheel

# What a library holds


def test_a_library_tells_what_each_container_holds() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_75", "sm_120"], ["sm_120", "sm_90a", "compute_120"], ["sm_120"]]))
    assert library.format is Format.ELF
    assert library.cubins == ("sm_75", "sm_90a", "sm_120")
    assert library.ptx == ("compute_120",)
    assert library.ptx_isa == ("9.0",)
    assert library.every_container == ("sm_120",)
    assert library.containers == library.wrappers == 3
    assert not (library.zstd or library.unread or library.unknown)


def test_a_and_f_targets_keep_their_letter() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_90a", "sm_100f", "sm_103", "compute_120f", "compute_90a"]]))
    assert library.cubins == ("sm_90a", "sm_100f", "sm_103")
    assert library.ptx == ("compute_90a", "compute_120f")


def test_ptx_tells_its_isa_versions_in_their_order() -> None:
    images = [Entry(arch="compute_80", isa="9.10"), Entry(arch="compute_90", isa="9.2")]
    assert scan_bytes(elf_with_fatbin([images])).ptx_isa == ("9.2", "9.10")


def test_relocatable_code_is_told_apart_because_no_driver_loads_it() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_80"]], relocatable=[["sm_80", "compute_90"]]))
    assert (library.cubins, library.ptx, library.relocatable) == (("sm_80",), (), ("sm_80", "compute_90"))
    assert library.containers == 1


def test_zstd_is_told() -> None:
    assert scan_bytes(elf_with_fatbin([[Entry(arch="sm_120", zstd=True)]])).zstd
    assert not scan_bytes(elf_with_fatbin([["sm_120"]])).zstd


def test_entries_are_counted_as_cuobjdump_lists_them() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_80", "sm_80"], ["sm_80"]], relocatable=[["compute_90"]]))
    assert library.entries() == Counter({"sm_80": 3, "compute_90": 1})


def test_a_program_without_gpu_code_has_none() -> None:
    library = scan_bytes(elf({".text": bytes(64)}))
    assert not library.has_code
    assert library.containers == 0
    assert library.every_container == ()


# Stubs


def test_containers_without_a_kernel_are_left_out() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_120"], stub(["sm_75", "sm_120"]), []]))
    assert (library.cubins, library.containers, library.stubs) == (("sm_120",), 1, 2)


@pytest.mark.parametrize(
    ("arch", "size", "kernel"),
    [  # measured with nvcc 13.0.88
        ("sm_75", 1464, False),
        ("sm_75", 1952, False),  # a device variable
        ("sm_75", 1944, False),  # -lineinfo
        ("sm_75", 2856, True),
        ("sm_90", 2224, False),
        ("sm_90", 3568, True),
        ("sm_100", 3064, False),
        ("sm_120", 2256, False),
        ("sm_100", 5016, True),
        ("compute_75", 56, False),
        ("compute_75", 81, False),
        ("compute_75", 94, True),
    ],
)
def test_a_stub_is_known_by_its_uncompressed_size(arch: str, size: int, kernel: bool) -> None:
    for zstd in (False, True):
        library = scan_bytes(elf_with_fatbin([[Entry(arch=arch, size=size, zstd=zstd)]]))
        assert library.stubs == (0 if kernel else 1)


def test_one_kernel_makes_a_container_count() -> None:
    assert scan_bytes(elf_with_fatbin([[*stub(["sm_75"]), Entry(arch="compute_75")]])).stubs == 0


# Kinds of files


def test_a_windows_library_holds_the_same() -> None:
    windows = scan_bytes(pe_with_fatbin([["sm_75", "sm_120f"]], relocatable=[["compute_90"]]))
    linux = scan_bytes(elf_with_fatbin([["sm_75", "sm_120f"]], relocatable=[["compute_90"]]))
    assert windows.format is Format.PE
    assert (windows.profiles, windows.wrappers) == (linux.profiles, linux.wrappers)


def test_a_static_archive_is_walked_member_by_member() -> None:
    data = archive([b"odd", elf_with_fatbin([["sm_75"]]), elf_with_fatbin([["sm_80"], ["sm_75"]])])
    library = scan_bytes(data)
    assert (library.format, library.containers, library.cubins) == (Format.ARCHIVE, 3, ("sm_75", "sm_80"))


def test_bsd_archives_keep_the_name_before_the_data() -> None:
    member = b"a long name.o".ljust(16, b"\0") + elf_with_fatbin([["sm_75"]])
    header = b"%-16b%-12d%-6d%-6d%-8d%-10d`\n" % (b"#1/16", 0, 0, 0, 644, len(member))
    assert scan_bytes(b"!<arch>\n" + header + member).cubins == ("sm_75",)


def test_windows_archives_hold_objects_whose_long_names_lie_in_a_table() -> None:
    code = container(["sm_75"])
    names = b"\x1b\0\0\0.nv_fatbin\0__nv_relfatbin\0".ljust(32, b"\0")
    rows = pack("<8sIIIIIIHHI", b"/4", 0, 0, len(code), 100, 0, 0, 0, 0, 0)
    rows += pack("<8sIIIIIIHHI", b"/15", 0, 0, len(code), 100 + len(code), 0, 0, 0, 0, 0)
    header = pack("<HHIIIHH", 0x8664, 2, 0, 100 + 2 * len(code), 0, 0, 0)
    library = scan_bytes(archive([header + rows + code + code + names]))
    assert (library.cubins, library.relocatable) == (("sm_75",), ("sm_75",))


def test_a_bare_fatbin_is_read() -> None:
    library = scan_bytes(container(["sm_75"]) + container(["sm_80", "compute_80"]))
    assert (library.format, library.containers, library.cubins) == (Format.FATBIN, 2, ("sm_75", "sm_80"))


@pytest.mark.parametrize(("abi", "flags"), [(51, 0x00500550), (65, 0x06005004)])
def test_a_bare_cubin_tells_its_architecture_and_not_its_letter(abi: int, flags: int) -> None:
    head = bytearray(elf({}, machine=190))
    head[7] = abi
    head[48:52] = flags.to_bytes(4, "little")
    library = scan_bytes(bytes(head))
    assert (library.format, library.cubins, library.bare) == (Format.CUBIN, ("sm_80",), True)
    head[7] = 99
    assert scan_bytes(bytes(head)).unread == ("a cubin of the unknown OS ABI 99",)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"PK\3\4", b"!<thin>\n", b"MZ" + bytes(100), bytes(100)])
def test_other_files_are_other(data: bytes) -> None:
    assert scan_bytes(data) == Library(format=Format.OTHER)


def test_the_section_count_may_lie_in_the_first_section() -> None:
    data = bytearray(elf_with_fatbin([["sm_75"]]))
    table = int.from_bytes(data[40:48], "little")
    data[table + 32 : table + 40] = int.from_bytes(data[60:62], "little").to_bytes(8, "little")
    data[table + 40 : table + 44] = int.from_bytes(data[62:64], "little").to_bytes(4, "little")
    data[60:64] = b"\0\0\xff\xff"
    assert scan_bytes(bytes(data)).cubins == ("sm_75",)


def test_a_debug_file_has_section_headers_without_sections() -> None:
    assert not scan_bytes(elf_with_fatbin([["sm_75"]], nobits=True)).has_code


@pytest.mark.skipif(not shutil.which("gcc") or not shutil.which("objcopy"), reason="needs gcc and objcopy (binutils)")
def test_a_library_of_the_real_linker_is_read_also_when_it_is_stripped(tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(container(["sm_75"]) + container(["sm_80"]))
    (tmp_path / "a.c").write_text("int answer(void) { return 42; }")
    for command in (
        "gcc -shared -fPIC -o liba.so a.c",
        "objcopy --add-section .nv_fatbin=code --set-section-flags .nv_fatbin=alloc,readonly liba.so libb.so",
        "strip -o libc.so libb.so",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    assert not scan_file(tmp_path / "liba.so").has_code
    assert scan_file(tmp_path / "libb.so").cubins == scan_file(tmp_path / "libc.so").cubins == ("sm_75", "sm_80")


# What is not known is never guessed


@pytest.mark.parametrize(
    "strange",
    [
        Entry(arch="sm_120", kind=8),
        Entry(arch="sm_120", kind=4),
        Entry(arch="sm_120", kind=77),
        Entry(arch="sm_120", version=0x0102),
        Entry(arch="sm_120", flags=0x4000000),
        Entry(arch="sm_120a", flags=0x200000),
        Entry(arch="sm_0"),
        Entry(arch="sm_1200"),
    ],
)
def test_an_entry_that_is_not_understood_is_left_out_and_said(strange: Entry) -> None:
    library = scan_bytes(elf_with_fatbin([["sm_75", strange]]))
    assert library.cubins == ("sm_75",)
    assert len(library.unknown) == 1
    assert not library.unread
    assert scan_bytes(elf_with_fatbin([[*stub(["sm_75"]), strange]])).stubs == 0, "it may be a kernel"


def test_long_entry_headers_are_stepped_over() -> None:
    images = [Entry(arch=f"sm_{arch}", header_size=size) for arch, size in [(75, 64), (80, 72), (90, 192)]]
    library = scan_bytes(elf_with_fatbin([images]))
    assert library.cubins == ("sm_75", "sm_80", "sm_90")
    assert not library.unread


def test_a_container_of_another_version_is_not_read() -> None:
    data = container(["sm_75"])
    library = scan_bytes(elf({".nv_fatbin": data[:4] + b"\2" + data[5:] + container(["sm_80"])}))
    assert library.unread[0].startswith("a container of version 2 with a header of 16 bytes")


def test_zeros_between_containers_are_padding_and_anything_else_is_not_read() -> None:
    two = [container(["sm_75"]), container(["sm_80"])]
    padded = scan_bytes(elf({".nv_fatbin": bytes(5000).join(two) + bytes(64)}))
    assert (padded.cubins, padded.unread) == (("sm_75", "sm_80"), ())
    strange = scan_bytes(elf({".nv_fatbin": b"strange!".join(two)}))
    assert strange.unread == ("bytes between the containers that are neither code nor padding",)


@pytest.mark.parametrize(("wrappers", "hidden"), [(2, False), (3, False), (4, True), (1, False), (0, False)])
def test_more_wrappers_than_containers_mean_code_elsewhere(wrappers: int, hidden: bool) -> None:
    assert bool(scan_bytes(elf_with_fatbin([["sm_75"], ["sm_75"]], wrappers=wrappers)).unread) is hidden


def test_no_section_table_means_not_known() -> None:
    data = bytearray(elf_with_fatbin([["sm_75"]]))
    data[40:48] = bytes(8)
    assert scan_bytes(bytes(data)).unread == ("no section table",)


def test_a_file_of_another_word_size_or_byte_order_is_not_read() -> None:
    data = bytearray(elf_with_fatbin([["sm_75"]]))
    data[4] = 1
    assert scan_bytes(bytes(data)).unread == ("an ELF file that is not 64-bit little-endian",)


@pytest.mark.parametrize("cut", [40, 63, 64, 200, 3000, 10_000])
def test_a_file_that_is_cut_off_is_not_read(cut: int) -> None:
    assert scan_bytes(elf_with_fatbin([["sm_75"], ["sm_80"]])[:cut]).unread


def test_three_thousand_damaged_files_end_in_milliseconds_and_little_memory(tmp_path: Path) -> None:
    sound = elf_with_fatbin([["sm_75", "sm_120a"], ["compute_90"]], relocatable=[["sm_80"]])
    wheel = _wheel(tmp_path / "sound.whl", {"a/a.so": sound, "a/b.dll": pe_with_fatbin([["sm_75"]])}).read_bytes()
    kinds = [
        sound,
        pe_with_fatbin([["sm_75"], ["sm_80"]]),
        archive([sound, b"odd", sound]),
        container(["sm_75", "compute_90"]),
        elf_with_fatbin([["sm_75"]], machine=190),
    ]
    slowest = 0.0
    tracemalloc.start()
    for seed, kind in enumerate(kinds):
        for data in damaged(kind, 500, seed=seed):
            began = time.perf_counter()
            assert isinstance(scan_bytes(data), Library)
            slowest = max(slowest, time.perf_counter() - began)
    for data in damaged(wheel, 500, seed=99):
        (tmp_path / "damaged.whl").write_bytes(data)
        began = time.perf_counter()
        with contextlib.suppress(zipfile.BadZipFile):
            assert all(isinstance(library, Library) for _, library in scan_wheel(tmp_path / "damaged.whl"))
        slowest = max(slowest, time.perf_counter() - began)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert slowest < 1
    assert most < 16 << 20


def test_a_file_with_any_number_of_headers_ends() -> None:
    empty = container([]) * 150_000
    library = scan_bytes(elf({".nv_fatbin": empty}))
    assert library.unread == ("more than 100000 headers",)


# Files on disk and wheels


def test_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    data = elf_with_fatbin([["sm_75"], ["compute_90"]])
    (tmp_path / "a.so").write_bytes(data)
    assert scan_file(tmp_path / "a.so") == scan_bytes(data)
    with pytest.raises(FileNotFoundError):
        scan_file(tmp_path / "missing.so")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert scan_file(tmp_path / "pipe").format is Format.OTHER


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_wheel_is_read_without_unpacking_and_says_the_same(tmp_path: Path, method: int) -> None:
    big = elf_with_fatbin([[Entry(arch="sm_75", size=3 << 20)], stub(["sm_75"]), ["sm_120"]], relocatable=[["sm_90"]])
    members = {
        "a/libbig.so": big,
        "a/lib.pyd": pe_with_fatbin([["sm_90a"]]),
        "a/lib.a": archive([elf_with_fatbin([[arch]]) for arch in ("sm_75", "sm_80", "compute_80")]),
        "a/__init__.py": b"",
    }
    wheel = _wheel(tmp_path / "a.whl", members, method)
    found = dict(scan_wheel(wheel, lambda name: not name.endswith(".py")))
    assert found == {name: scan_bytes(data) for name, data in members.items() if not name.endswith(".py")}


def test_a_stream_that_is_sent_back_and_forth_is_given_up() -> None:
    starts = 0

    def start() -> io.BytesIO:
        nonlocal starts
        starts += 1
        return io.BytesIO(bytes(2 << 20))

    from provision.fatbin.source import Inflating

    source = Inflating(start, 2 << 20)
    with pytest.raises(EOFError):
        for _ in range(1000):
            source.read(1 << 20, 16)
            source.read(0, 16)
    assert starts <= 50


def test_a_member_that_lies_about_its_size_is_not_read(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "a.whl", {"a.so": elf_with_fatbin([["sm_75"]])}, zipfile.ZIP_DEFLATED)
    data = wheel.read_bytes()
    at = data.index(b"PK\1\2")
    wheel.write_bytes(data[: at + 24] + (1 << 30).to_bytes(4, "little") + data[at + 28 :])
    ((_, library),) = scan_wheel(wheel)
    assert library.cubins == ("sm_75",) or library.unread


def test_what_is_no_zip_file_is_no_wheel(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"not a zip file")
    with pytest.raises(zipfile.BadZipFile):
        list(scan_wheel(tmp_path / "a.whl"))


def test_the_folder_can_be_copied_and_used_alone(tmp_path: Path) -> None:
    home = Path(fatbin.__file__).parent
    shutil.copytree(home, tmp_path / "anything", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "a.so").write_bytes(elf_with_fatbin([["sm_75"]]))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import anything; print(anything.scan_file('a.so').cubins)"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "('sm_75',)\n"


# Against NVIDIA's compiler


NVCC = shutil.which("nvcc")


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs nvcc, of NVIDIA's CUDA toolkit")
def test_what_nvcc_was_asked_for_is_what_is_found(tmp_path: Path) -> None:
    assert NVCC is not None
    (tmp_path / "kernel.cu").write_text("__global__ void kernel(int *p) { *p = 1; }\n")
    (tmp_path / "empty.cu").write_text("int nothing;\n")
    targets = "-gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_120f,code=sm_120f"
    for options in ("-o plain.so", "-rdc=true -Xfatbin -compress-all -o linked.so"):
        command = f"{NVCC} -shared -Xcompiler -fPIC {targets} kernel.cu empty.cu {options}"
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    plain, linked = scan_file(tmp_path / "plain.so"), scan_file(tmp_path / "linked.so")
    assert plain.cubins == linked.cubins == ("sm_80", "sm_120f")
    assert (plain.containers, plain.stubs, linked.containers) == (1, 2, 1), "empty.cu and the link step are stubs"
    assert (plain.ptx, plain.ptx_isa[0] >= "8.8", plain.relocatable) == (("compute_80",), True, ())
    assert (linked.ptx, linked.relocatable) == ((), ("sm_80", "sm_120f", "compute_80"))
    for library in (plain, linked):
        assert not (library.unread or library.unknown)
        assert library.wrappers == sum(profile.count for profile in library.profiles)


def _wheel(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path
