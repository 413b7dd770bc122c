"""Will this environment, wheel or library run on that GPU? Judged from the binaries, without a GPU.

`fatbin` says what a file holds, `coverage` what a GPU loads; here they meet.
"""

from __future__ import annotations

from .coverage import Judgement, Verdict, cubin_loads, judge, parse_code, ptx_compiles, version_tuple
from .fatbin import Format, Image, Library

_PTX_ISA_CUDA = {  # https://docs.nvidia.com/cuda/parallel-thread-execution, release notes
    "8.6": "12.7",
    "8.7": "12.8",
    "8.8": "12.9",
}
"""PTX ISA versions whose CUDA release does not follow from the number; from 6.0 on the others are major + 3 or + 4."""


def verdict(
    library: Library, capability: str, *, driver_cuda: str | None = None, toolkit: str | None = None
) -> Judgement:
    """What `library` means for a GPU of this capability ("12.0").

    `driver_cuda` is the newest CUDA that the driver serves; without it a driver is assumed that is new enough.
    `toolkit` ("13.2") made the library, where known.
    """
    if library.format is Format.OTHER:
        return Judgement(
            verdict=Verdict.UNKNOWN, why="not a kind of file that can hold GPU code as far as is known here"
        )
    judged = judge(
        (
            [_loads(library, image, capability, driver_cuda, toolkit) for image in profile.images if not image.ptx],
            [_compiles(image, capability, driver_cuda) for image in profile.images if image.ptx],
            profile.count,
        )
        for profile in library.loadable
    )
    why = None
    if library.unread:
        why = library.unread[0]
    elif library.unknown and judged.verdict not in (Verdict.COVERED, Verdict.COVERED_JIT):
        why = library.unknown[0]
    elif not library.loadable and library.profiles:
        why = "only link inputs" if library.relocatable else "only stubs without kernels"
    if why is None:
        return judged
    return Judgement(
        verdict=Verdict.UNKNOWN,
        cubin=judged.cubin,
        ptx=judged.ptx,
        unclear=judged.unclear,
        containers=judged.containers,
        why=why,
    )


def _loads(
    library: Library, image: Image, capability: str, driver_cuda: str | None, toolkit: str | None
) -> bool | None:
    if _too_new(image, driver_cuda):
        return False
    answers = {
        cubin_loads(parse_code(image.arch + suffix), capability, toolkit=toolkit)
        for suffix in (("", "a", "f") if library.bare and parse_code(image.arch).major >= 9 else ("",))
    }
    return answers.pop() if len(answers) == 1 else None


def _compiles(image: Image, capability: str, driver_cuda: str | None) -> bool | None:
    if _too_new(image, driver_cuda) or not ptx_compiles(parse_code(image.arch), capability):
        return False
    if driver_cuda is None or image.isa is None:
        return True
    needs = _isa_cuda(image.isa)
    return None if needs is None else version_tuple(driver_cuda) >= version_tuple(needs)


def _too_new(image: Image, driver_cuda: str | None) -> bool:
    """zstd needs driver 550.54, the one of CUDA 12.4 (NVCC guide, --compress-mode)."""
    return image.zstd and driver_cuda is not None and version_tuple(driver_cuda) < (12, 4)


def _isa_cuda(isa: str) -> str | None:
    """The CUDA release that brought a PTX ISA version; None for one that is not known here."""
    major, minor = version_tuple(isa)[:2]
    if isa in _PTX_ISA_CUDA:
        return _PTX_ISA_CUDA[isa]
    return {7: f"11.{minor}", 8: f"12.{minor}", 9: f"13.{minor}"}.get(major)
