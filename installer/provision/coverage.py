"""Which code can run on which GPU? The loading rules of CUDA as pure functions.

Code is named as torch names it: `sm_90`, `sm_90a`, `sm_100f` are cubins, `compute_120` is PTX. A GPU is named by its
compute capability, "12.0". Rules: torch 2.15.0 `torch/cuda/__init__.py` (DEVICE_REQUIREMENT and
DEVICE_REQUIREMENT_POST_JETSON_SBSA_UNIFICATION, read 2026-11-20), CUDA C++ Programming Guide 13.4 (families).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A GPU's capability is served `by` this code; `kind` is "cubin" or "ptx" (compiled at first use)."""

    by: str
    kind: str


def parse_code(text: str) -> Code:
    """`sm_120`, `sm_90a`, `compute_120` → Code. Raises ValueError for anything else."""
    match = _CODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a GPU architecture such as sm_120, sm_90a or compute_120")
    return Code(ptx=match[1] == "compute", major=int(match[2]), minor=int(match[3]), suffix=match[4])


def sm(capability: str) -> str:
    """`12.0` → `sm_120`."""
    return "sm_" + capability.replace(".", "")


def version_tuple(text: str) -> tuple[int, ...]:
    """`570.124.06` → (570, 124, 6); what follows the dotted number is left out."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise ValueError(f"{text!r} does not start with a version number")
    return tuple(int(part) for part in match[0].split("."))


def cubin_runs(code: Code, capability: str, *, toolkit: str | None = None) -> bool:
    """Whether a cubin can be loaded by a GPU of this capability. `toolkit` ("13.2") made the cubin, where known."""
    capability = _RENAMED.get(capability, capability)
    built_for = _RENAMED.get(code.capability, code.capability)
    major, minor = version_tuple(capability)
    if code.suffix == "a":
        return built_for == capability
    if code.suffix == "f":
        return capability in _FAMILIES.get(built_for, {built_for})
    built_major, built_minor = version_tuple(built_for)
    if built_major != major or built_minor > minor:
        return False
    if capability in _TEGRA and built_for != capability:
        return toolkit is not None and version_tuple(toolkit) >= (13, 2) and capability in {"7.2", "8.7"}
    return not (built_for in _TEGRA and built_for != capability)


def ptx_runs(code: Code, capability: str, *, toolkit: str | None, driver_cuda: str | None) -> bool:
    """Whether this driver can compile this PTX for the GPU.

    The PTX of a toolkit needs a driver of at least that CUDA: minor version compatibility does not cover it. PTX older
    than 9.0 is never enough for torch (its cuBLAS and cuDNN have no code for newer GPUs): contracts 5.3.
    """
    capability = _RENAMED.get(capability, capability)
    if code.suffix == "a":
        usable = code.capability == capability
    elif code.suffix == "f":
        usable = capability in _FAMILIES.get(code.capability, {code.capability})
    else:
        usable = version_tuple(capability) >= (code.major, code.minor)
    if not usable or (code.major, code.minor) < (9, 0):
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
