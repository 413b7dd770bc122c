"""Does this torch fit this machine? Its backend, its code, its CUDA against the GPUs and the driver; what failed.

A rule takes the case and gives the evidence for its finding, or None.
"""

from __future__ import annotations

from packaging.version import Version

from .. import drivers
from ..checks import Status
from ..coverage import Verdict, parse_code, serve, sm, version_tuple
from ..machine import Gpu, Vendor
from .case import Case, listed

_UNABLE = (Verdict.NOT_COVERED, Verdict.NONE)
_ABLE = (Verdict.COVERED, Verdict.COVERED_JIT, Verdict.PARTIAL)


def missing(case: Case) -> str | None:
    """There is an environment and no torch in it."""
    if case.environment.exists and not case.has_torch and not case.around.unowned:
        return f"{len(case.environment.installed)} packages in {case.environment.prefix}, torch is not one of them"
    return None


def cpu_build(case: Case) -> str | None:
    """A build without GPU code on a machine whose GPU could be used."""
    for vendor in (Vendor.NVIDIA, Vendor.AMD, Vendor.INTEL):
        gpus = case.gpus(vendor)
        if case.cpu_build and gpus and (case.driver(vendor) or vendor is not Vendor.NVIDIA):
            return f"torch {case.torch}, and {listed([gpu.name or vendor.value for gpu in gpus])} in the machine"
    return None


def no_code_new(case: Case) -> str | None:
    """A GPU newer than everything that torch's binaries hold."""
    return next((words for words, new in _without_code(case) if new), None)


def no_code_old(case: Case) -> str | None:
    """A GPU that torch's binaries no longer hold code for."""
    return next((words for words, new in _without_code(case) if not new), None)


def _without_code(case: Case) -> list[tuple[str, bool]]:
    """For each GPU without code: the evidence, and whether it is too new. From the binaries, else from torch's list."""
    found = []
    for gpu in case.gpus():
        if gpu.arch is None or case.torch is None:
            continue
        held = sorted({code for library in case.libraries.values() for code in library.cubins + library.ptx})
        verdict = case.served(gpu)
        if verdict is not None:
            unable = verdict in _UNABLE
        else:
            held = list(case.verification.torch.arch_list) if case.verification else []
            unable = bool(held) and serve(held, gpu.arch, toolkit=case.cuda, driver_cuda=case.driver_cuda) is None
        if unable and held:
            found.append(
                (f"torch {case.torch} has {' '.join(held)}; {_named(gpu)} needs {sm(gpu.arch)}", _newer(gpu, held))
            )
    return found


def _named(gpu: Gpu) -> str:
    return gpu.name or f"GPU {gpu.index}"


def _newer(gpu: Gpu, held: list[str]) -> bool:
    assert gpu.arch is not None
    newest = max((code.major, code.minor) for code in map(parse_code, held))
    return version_tuple(gpu.arch) > newest


def driver_too_old(case: Case) -> str | None:
    """The driver does not reach the floor of torch's CUDA."""
    version, cuda = case.driver(), case.cuda
    if version is None or cuda is None:
        return None
    floor = drivers.floor(cuda, windows=case.windows)
    if floor is None or drivers.at_least(version, floor, windows=case.windows):
        return None
    return f"driver {version}; torch {case.torch} was made with CUDA {cuda}, which needs {floor} or later"


def compressed(case: Case) -> str | None:
    """Code packed with zstd, and a driver before 550.54."""
    if case.driver_cuda is None or version_tuple(case.driver_cuda) >= (12, 4):
        return None
    packed = [name for name, library in case.libraries.items() if library.zstd]
    return f"{listed(packed)} is packed with zstd; driver {case.driver()} cannot unpack it" if packed else None


def needs_newer_driver(case: Case) -> str | None:
    """Only PTX would serve the GPU, and the driver is too old to compile it."""
    for gpu in case.gpus():
        if case.driver_cuda and case.served(gpu) in _ABLE and case.served(gpu, case.driver_cuda) in _UNABLE:
            if compressed(case):
                return None
            return f"{_named(gpu)} would need torch {case.torch}'s PTX; driver {case.driver()} cannot compile it"
    return None


def false_warning(case: Case) -> str | None:
    """GB10 with a torch up to 2.10, which warns about a GPU that it serves."""
    for gpu in case.gpus():
        old = case.torch is not None and case.torch < Version("2.11")
        if gpu.arch == "12.1" and old and case.served(gpu) in _ABLE:
            return f"torch {case.torch} warns about {_named(gpu)} (12.1); its code for 12.0 runs there"
    return None


def unseen(case: Case) -> str | None:
    """torch sees no GPU although everything seems to be there."""
    for check in case.failed():
        if check.name == "gpu-available" and not case.cpu_build:
            return f"{check.actual}" + (f": {check.detail}" if check.detail else "")
    return None


def failed_check(case: Case) -> str | None:
    """Checks that failed, none of which the words of an error explain."""
    names = [
        check.name for check in case.failed() if check.name not in ("import", "gpu-available", "version", "backend")
    ]
    first = next((check for check in case.failed() if check.name in names), None)
    if first is None:
        return None
    return f"{listed(names)}: {first.actual or first.detail or 'failed'}"


def failed_import(case: Case) -> str | None:
    """import torch fails."""
    check = next((one for one in case.failed() if one.name == "import"), None)
    if check is None or not (case.has_torch or case.around.unowned):
        return None
    return check.actual or "import torch fails"


def proven(case: Case) -> bool:
    """Whether a kernel ran on a GPU: then no rule may call the build unable."""
    checks = case.verification.checks if case.verification else ()
    return any(one.name == "matmul-fp32" and one.gpu is not None and one.status is Status.PASSED for one in checks)
