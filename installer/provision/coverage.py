"""Which code can run on which GPU? The loading rules of CUDA as pure functions.

Code is named as torch names it: `sm_90`, `sm_90a`, `sm_100f` are cubins, `compute_120` is PTX. A GPU is named by its
compute capability, "12.0". Rules: torch 2.15.0 `torch/cuda/__init__.py` (DEVICE_REQUIREMENT and
DEVICE_REQUIREMENT_POST_JETSON_SBSA_UNIFICATION, read 2026-11-20), CUDA C++ Programming Guide 13.4 (families).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from .values import frozen

if TYPE_CHECKING:
    from .machine import Gpu

_CODE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")

_TEGRA = {"5.3", "6.2", "7.2", "8.7"}
"""Capabilities of Jetson chips that the desktop cubins of their major do not serve before CUDA 13.2."""

_FAMILIES = {
    "10.0": {"10.0", "10.3", "10.7"},
    "10.3": {"10.3", "10.7"},
    "10.7": {"10.7"},
    "11.0": {"11.0"},
    "12.0": {"12.0", "12.1"},
    "12.1": {"12.1"},
}
"""Capability of an `f` target → capabilities that can load it (CUDA guide 13.4, family-specific features)."""

_RENAMED = {"10.1": "11.0"}
"""Thor was 10.1 up to CUDA 12.9 and is 11.0 from 13.0 on: the same chip."""

_PTX_ISA = {7: 11, 8: 12, 9: 13}
_PTX_ISA_EXCEPTIONS = {"8.6": "12.7", "8.7": "12.8", "8.8": "12.9"}
_NEWEST_PTX_ISA = (9, 4)
"""PTX ISA 7.x came with CUDA 11.x, 8.x with 12.x, 9.x with 13.x, except these; 9.4 with 13.4 is the newest known
(https://docs.nvidia.com/cuda/parallel-thread-execution, release notes, read 2026-11-20)."""


@frozen
class Code:
    """One image in a binary. `suffix` is "" , "a" (this very capability) or "f" (its family)."""

    ptx: bool
    major: int
    minor: int
    suffix: str = ""

    @property
    def capability(self) -> str:
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        return f"{'compute' if self.ptx else 'sm'}_{self.major}{self.minor}{self.suffix}"


@frozen
class Served:
    """A GPU's capability is served `by` this code; `kind` is "cubin" or "ptx" (compiled at first use)."""

    by: str
    kind: str


@lru_cache(maxsize=512)
def parse_code(text: str) -> Code:
    """`sm_120`, `sm_90a`, `compute_120` → Code. Raises ValueError for anything else."""
    match = _CODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a GPU architecture such as sm_120, sm_90a or compute_120")
    return Code(ptx=match[1] == "compute", major=int(match[2]), minor=int(match[3]), suffix=match[4])


def sm(capability: str) -> str:
    """`12.0` → `sm_120`."""
    return "sm_" + capability.replace(".", "")


def arches_of(gpus: Iterable[Gpu]) -> tuple[str, ...]:
    """The known architectures of GPUs, as torch spells them, sorted: `sm_120`, `gfx1100`."""
    spelled = {sm(gpu.arch) if gpu.vendor.value == "nvidia" else gpu.arch.partition(":")[0] for gpu in gpus if gpu.arch}
    return tuple(sorted(spelled))


@lru_cache(maxsize=512)
def version_tuple(text: str) -> tuple[int, ...]:
    """`570.124.06` → (570, 124, 6); what follows the dotted number is left out."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise ValueError(f"{text!r} does not start with a version number")
    return tuple(int(part) for part in match[0].split("."))


def cubin_loads(code: Code, capability: str, *, toolkit: str | None = None) -> bool | None:
    """Whether a GPU of this capability can load a cubin; None where nobody knows.

    `toolkit` ("13.2") made the cubin, where known. Not known is: a desktop cubin on Jetson without the toolkit (13.2
    lifted the separation), and Thor's two names.
    """
    built_for = code.capability
    if built_for == capability:
        return True
    capability = _RENAMED.get(capability, capability)
    if _RENAMED.get(built_for, built_for) == capability:
        return None
    if code.suffix == "a":
        return False
    if code.suffix == "f":
        return capability in _FAMILIES.get(built_for, {built_for})
    major, minor = version_tuple(capability)
    if code.major != major or code.minor > minor or built_for in _TEGRA:
        return False
    if capability in {"7.2", "8.7"}:
        return None if toolkit is None else version_tuple(toolkit) >= (13, 2)
    return capability not in _TEGRA


def cubin_runs(code: Code, capability: str, *, toolkit: str | None = None) -> bool:
    """Whether torch counts on a cubin for this GPU: what is not known is no, Thor's two names are one chip."""
    renamed = _RENAMED.get(code.capability)
    if renamed is not None:
        major, minor = version_tuple(renamed)
        code = Code(ptx=False, major=major, minor=minor, suffix=code.suffix)
    return cubin_loads(code, _RENAMED.get(capability, capability), toolkit=toolkit) is True


def ptx_compiles(code: Code, capability: str) -> bool:
    """Whether PTX can become code for this GPU at all, given a driver that knows its ISA version."""
    capability = _RENAMED.get(capability, capability)
    if code.suffix == "a":
        return code.capability == capability
    if code.suffix == "f":
        return capability in _FAMILIES.get(code.capability, {code.capability})
    return version_tuple(capability) >= (code.major, code.minor)


def ptx_isa_cuda(isa: str) -> str | None:
    """The CUDA release from which on drivers compile PTX of this ISA version ("9.0" → "13.0"); None: not known."""
    major, minor = version_tuple(isa)[:2]
    if major < min(_PTX_ISA):
        return "11.0"  # or an older one: every driver that torch works with
    if (major, minor) > _NEWEST_PTX_ISA or major not in _PTX_ISA:
        return None
    return _PTX_ISA_EXCEPTIONS.get(isa, f"{_PTX_ISA[major]}.{minor}")


def ptx_runs(code: Code, capability: str, *, toolkit: str | None, driver_cuda: str | None) -> bool:
    """Whether torch counts on this driver to compile this PTX for the GPU.

    The PTX of a toolkit needs a driver of at least that CUDA: minor version compatibility does not cover it. PTX older
    than 9.0 is never enough for torch (its cuBLAS and cuDNN have no code for newer GPUs): contracts 5.3.
    """
    if (code.major, code.minor) < (9, 0) or not ptx_compiles(code, capability):
        return False
    return toolkit is None or driver_cuda is None or version_tuple(driver_cuda) >= version_tuple(toolkit)


def serve(
    codes: Iterable[str], capability: str, *, toolkit: str | None = None, driver_cuda: str | None = None
) -> Served | None:
    """The best of `codes` for a GPU: the nearest cubin, else the newest PTX that the driver can compile, else None."""
    parsed = [parse_code(text) for text in codes]
    cubins = [code for code in parsed if not code.ptx and cubin_runs(code, capability, toolkit=toolkit)]
    if cubins:
        return Served(by=str(max(cubins, key=lambda code: (code.major, code.minor, code.suffix == ""))), kind="cubin")
    ptx = [code for code in parsed if code.ptx and ptx_runs(code, capability, toolkit=toolkit, driver_cuda=driver_cuda)]
    if ptx:
        return Served(by=str(max(ptx, key=lambda code: (code.major, code.minor))), kind="ptx")
    return None


class Verdict(StrEnum):
    """What a binary means for a GPU."""

    COVERED = "covered"
    """Every container has a cubin that the GPU loads."""
    COVERED_JIT = "covered-jit"
    """Every container has one, or PTX that the driver compiles at first use."""
    PARTIAL = "partial"
    """Some containers have; often on purpose (kernels for one GPU), sometimes a gap."""
    NOT_COVERED = "not-covered"
    """No container has: this code cannot run on this GPU."""
    UNKNOWN = "unknown"
    """The binary does not say, or says something that nobody here understands."""
    NONE = "none"
    """No GPU code at all: a CPU build, or everything is compiled at run time."""


@frozen
class Judgement:
    """A verdict with its numbers: of `containers`, how many load a cubin, only PTX, or nobody can say (`unclear`)."""

    verdict: Verdict
    cubin: int = 0
    ptx: int = 0
    unclear: int = 0
    containers: int = 0
    why: str | None = None

    def __str__(self) -> str:
        if self.verdict is Verdict.PARTIAL:
            return f"partial {self.cubin + self.ptx} of {self.containers}"
        return self.verdict.value


def judge(containers: Iterable[tuple[Iterable[bool | None], Iterable[bool | None], int]]) -> Judgement:
    """Judge containers, each given as (do its cubins load, does its PTX compile, how many such containers there are).

    The driver picks an image per container, so one that has neither is a gap whatever the others hold. No container is
    verdict none.
    """
    cubin = ptx = unclear = total = 0
    for cubins, texts, count in containers:
        cubins, texts = set(cubins), set(texts)
        total += count
        if True in cubins:
            cubin += count
        elif True in texts:
            ptx += count
        elif None in cubins | texts:
            unclear += count
    served = cubin + ptx
    if total == 0:
        verdict = Verdict.NONE
    elif served == total:
        verdict = Verdict.COVERED_JIT if ptx else Verdict.COVERED
    elif served + unclear == total or (unclear and not served):
        verdict = Verdict.UNKNOWN
    else:
        verdict = Verdict.PARTIAL if served else Verdict.NOT_COVERED
    return Judgement(verdict=verdict, cubin=cubin, ptx=ptx, unclear=unclear, containers=total)


_SEVERITY = (Verdict.NOT_COVERED, Verdict.PARTIAL, Verdict.UNKNOWN, Verdict.COVERED_JIT, Verdict.COVERED, Verdict.NONE)


def weakest(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that decides about a set of libraries that are all needed; those without GPU code do not count."""
    return min(verdicts, key=_SEVERITY.index, default=Verdict.NONE)
