"""Do the packages of this environment fit each other, and are they whole? Names, versions, requirements, files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from ..coverage import version_tuple
from ..packages import choose_cuda
from .case import Case, listed

FAMILY = ("torch", "torchvision", "torchaudio", "triton")

_CUDA_PARTS = re.compile(
    r"nvidia-(cublas|cuda-\w+|cudnn|cufft|cufile|curand|cusolver|cusparse|cusparselt|nccl|nvjitlink|nvshmem|nvtx)"
    r"(?:-cu(\d+))?"
)
"""NVIDIA's libraries; without a suffix they are those of CUDA 13 and later. Other nvidia-* packages are not CUDA."""

_LOADED = re.compile(r"torch\w*|triton|xformers|flash-attn|bitsandbytes|vllm|numpy|nvidia-[\w-]+")
"""torch and what it loads: others may have been trimmed on purpose."""

_UNPINNED_TORCHAUDIO = Version("2.11")
"""From this version on torchaudio is built against torch's stable interface: any later torch will do."""


def half_removed(case: Case) -> str | None:
    """Folders that an interrupted pip left."""
    return f"{listed(case.around.leftovers)} in site-packages" if case.around.leftovers else None


def duplicate(case: Case) -> str | None:
    """Two versions of one distribution."""
    counts = Counter(name for name, _ in case.around.metadata_of)
    twice = [name for name, count in counts.items() if count > 1]
    if not twice:
        return None
    versions = [version for name, version in case.around.metadata_of if name == twice[0]]
    rest = f"; also {listed(twice[1:])}" if twice[1:] else ""
    return f"{twice[0]} is recorded as {' and as '.join(versions)}{rest}"


def broken_metadata(case: Case) -> str | None:
    """Metadata that is incomplete, or packages of the family without any."""
    words = [f"{folder}: {problem}" for folder, problem in case.around.broken_metadata]
    words += [f"{name}/ belongs to no installed package" for name in case.around.unowned]
    return "; ".join(words[:3]) or None


def missing_files(case: Case) -> str | None:
    """Recorded files of torch, or of what it loads, that are gone or cut short."""
    words = [
        f"{name}: {problem}"
        for name, problem in case.around.damaged.items()
        if _LOADED.fullmatch(name) and not re.search(r"METADATA|RECORD", problem)
    ]
    return listed(words, most=3) if words else None


def torchvision(case: Case) -> str | None:
    return _companion(case, "torchvision")


def torchaudio(case: Case) -> str | None:
    found = _companion(case, "torchaudio")
    audio, torch = case.version("torchaudio"), case.torch
    if found is None and audio is not None and torch is not None:
        fits = audio.release[:2] == torch.release[:2] or (audio >= _UNPINNED_TORCHAUDIO and torch >= audio)
        if not fits:
            return f"torchaudio {audio} beside torch {torch}"
    return found


def _companion(case: Case, name: str) -> str | None:
    """A companion of another backend than torch's, or that asks for another torch."""
    version, torch = case.version(name), case.torch
    if version is None or torch is None:
        return None
    if version.local and torch.local and version.local != torch.local:
        return f"{name} {version} beside torch {torch}"
    return next((words for needs, words in _broken(case) if needs == name), None)


def xformers(case: Case) -> str | None:
    """xformers says itself what it was built for; its requirement names one torch."""
    built = case.around.built_for.get("xformers", {})
    torch = case.torch
    if torch is not None and "torch" in built and Version(built["torch"]).release[:2] != torch.release[:2]:
        return f"xformers was built for torch {built['torch']}; this is {torch}"
    if "cuda" in built and case.cuda and version_tuple(built["cuda"])[0] != version_tuple(case.cuda)[0]:
        return f"xformers was built for CUDA {built['cuda']}; torch is for {case.cuda}"
    if built and case.cpu_build:
        return f"xformers was built for torch {built.get('torch', 'with CUDA')}; this is {torch}"
    return next((words for needs, words in _broken(case) if needs == "xformers"), None)


def flash_attn(case: Case) -> str | None:
    """flash-attn's wheels say in their names what they were built for."""
    built = case.around.built_for.get("flash-attn", {})
    torch = case.torch
    if torch is None:
        return None
    if "torch" in built and Version(built["torch"]).release[:2] != torch.release[:2]:
        return f"the flash-attn wheel is for torch {built['torch']}; this is {torch}"
    if "cuda" in built and case.cuda and version_tuple(built["cuda"])[0] != version_tuple(case.cuda)[0]:
        return f"the flash-attn wheel is for CUDA {built['cuda']}; torch is for {case.cuda}"
    return next((words for needs, words in _broken(case) if needs == "flash-attn"), None)


def bitsandbytes(case: Case) -> str | None:
    """bitsandbytes brings a library for each CUDA: is there one for torch's?"""
    version, held = case.version("bitsandbytes"), case.around.library_cudas
    if version is None or case.cuda is None or not held:
        return None
    wanted = version_tuple(case.cuda)[:2]
    if choose_cuda([version_tuple(cuda)[:2] for cuda in held], wanted, nearest=version >= Version("0.50.0")):
        return None
    return f"bitsandbytes {version} has libraries for CUDA {listed(list(held), most=12)}; torch is for {case.cuda}"


def vllm(case: Case) -> str | None:
    return next((words for needs, words in _broken(case) if needs == "vllm"), None)


def numpy2(case: Case) -> str | None:
    """numpy 2 beside a torch built for numpy 1 (before 2.3), or beside a package that forbids it."""
    numpy, torch = case.version("numpy"), case.torch
    if numpy is None or numpy.major < 2:
        return None
    if torch is not None and torch < Version("2.3"):
        return f"numpy {numpy} beside torch {torch}, which was built for numpy 1"
    return next((words for needs, words in _broken(case, "numpy") if needs != "torch"), None)


def requirement(case: Case) -> str | None:
    """Any other package whose requirement on the torch family is not met."""
    own = {"torchvision", "torchaudio", "xformers", "flash-attn", "vllm"}
    return "; ".join(dict.fromkeys(words for needs, words in _broken(case) if needs not in own)) or None


def _broken(case: Case, *of: str) -> Iterator[tuple[str, str]]:
    """(package, words) for each requirement on the torch family (or on `of`) that what is installed does not meet."""
    environment = {
        "python_version": case.environment.python.minor,
        "python_full_version": case.environment.python.version,
        "implementation_name": case.environment.python.implementation,
        "extra": "",
        "sys_platform": {"macos": "darwin", "windows": "win32"}.get(case.machine.platform.system, "linux"),
        "platform_system": {"macos": "Darwin"}.get(
            case.machine.platform.system, case.machine.platform.system.capitalize()
        ),
        "platform_machine": case.machine.platform.machine,
        "os_name": "nt" if case.machine.platform.system == "windows" else "posix",
    }
    for package in case.environment.installed.values():
        for text in package.requires:
            if not text.lower().startswith(of or FAMILY):
                continue
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue
            name = re.sub(r"[-_.]+", "-", wanted.name).lower()
            if name not in (of or FAMILY) or (wanted.marker and not wanted.marker.evaluate(environment)):
                continue
            has = case.torch if name == "torch" else case.version(name)
            if has is None and name == "triton":
                continue  # the index has none for this platform
            if has is None or not wanted.specifier.contains(has, prereleases=True):
                there = f"this is {has}" if has else "it is not installed"
                yield package.name, f"{package.name} {package.version} needs {name}{wanted.specifier}; {there}"


def to_put_in_again(case: Case) -> frozenset[str]:
    """The distributions that are not whole: of torch, what it loads, and what an interrupted pip was at."""
    around = case.around
    names = {name for name in around.damaged if _LOADED.fullmatch(name)} | set(around.unowned)
    names |= {name for name, count in Counter(name for name, _ in around.metadata_of).items() if count > 1}
    names |= {re.sub(r"[-_.]+", "-", folder.partition("-")[0]).lower() for folder, _ in around.broken_metadata}
    for left in around.leftovers:  # pip renames torch to ~orch, the next time to ~-rch
        end = left.lstrip("~-").lower().replace("_", "-")
        names |= {name for name in case.environment.installed if name.endswith(end)} or {"torch"}
    return frozenset(names)


def to_remove(case: Case) -> frozenset[str]:
    """NVIDIA's libraries of another CUDA major than torch's."""
    if case.cuda is None:
        return frozenset()
    major = case.cuda.partition(".")[0]
    return frozenset(name for other, names in _cuda_majors(case).items() if other != major for name in names)


def _cuda_majors(case: Case) -> dict[str, list[str]]:
    """CUDA major → NVIDIA's libraries of it that are installed."""
    by_major: dict[str, list[str]] = {}
    for name in case.environment.installed:
        part = _CUDA_PARTS.fullmatch(name)
        if part:
            by_major.setdefault(part[2] or "13", []).append(name)
    return by_major


def two_cuda_majors(case: Case) -> str | None:
    """NVIDIA's libraries of two CUDA majors: those that torch does not use can be loaded instead of its own."""
    by_major = _cuda_majors(case)
    if len(by_major) < 2:
        return None
    words = [f"CUDA {major}: {listed(sorted(names), most=3)}" for major, names in sorted(by_major.items())]
    return "; ".join(words) + (f"; torch is for {case.cuda}" if case.cuda else "")


def python_abi(case: Case) -> str | None:
    """torch's own extension is for another Python."""
    made_for, python = case.around.torch_python, case.environment.python.minor
    if made_for is None or made_for == python:
        return None
    return f"torch's extension is for Python {made_for}; the environment has {python}"


def mixed_managers(case: Case) -> str | None:
    """torch from conda and from pip in one environment."""
    installed = case.environment.installed.get("torch")
    if case.around.conda_torch is None or installed is None or installed.installer in (None, "conda"):
        return None
    return f"conda has {case.around.conda_torch}, {installed.installer} has torch {installed.version}"
