"""Which GPU code does this binary hold? Read from the headers alone, in milliseconds, without CUDA, without an import.

    >>> library = scan_file("torch/lib/libtorch_cuda.so")                                    # doctest: +SKIP
    >>> library.cubins, library.ptx, library.every_container, library.containers             # doctest: +SKIP
    (('sm_75', 'sm_80', …), (), ('sm_75', 'sm_80', …), 476)

Standard library only; this folder can be copied and used alone. It reads ELF and PE libraries, object files, static
archives, bare fatbins and bare cubins, and all of them in a wheel that is not installed. Code is named as torch names
it: `sm_90a` is a cubin, `compute_120` is PTX.

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
code. It is known by its uncompressed sizes (nvcc 13.0.88, with and without -lineinfo): a cubin without a kernel has
1,460 to 2,224 bytes below sm_100 and 2,248 to 3,064 from there on, one with an empty kernel at least 2,856 and 5,016;
PTX without a kernel has 56 to 81 bytes, with an empty one 94.

Sources, read 2026-11-20: NVIDIA `fatbinary_section.h` (CUDA 13.0: section names, wrapper) and `fatbinary.h` (2010-2018,
public copies: magic, container, kinds, lower flags); the entry layout as in n-eiling/cuda-fatbin-decompression,
jiegec/fatbinary and vosen/ZLUDA; flags 0x100000, 0x200000 and 0x1000000 and the stub sizes by compiling one kernel with
nvcc 13.0.88 for 21 targets. On 219 of 220 libraries the result equals `cuobjdump -all --list-elf --list-ptx`, on the
other cuobjdump is wrong.
"""

from .files import scan, scan_bytes, scan_file
from .library import Format, Image, Library, Profile
from .source import Source
from .wheel import scan_wheel

__all__ = [
    "Format",
    "Image",
    "Library",
    "Profile",
    "Source",
    "scan",
    "scan_bytes",
    "scan_file",
    "scan_wheel",
]
