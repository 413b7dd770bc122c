"""What around the environment stands in its way? Search paths, variables, index settings, disks, earlier runs."""

from __future__ import annotations

import re

from .. import drivers
from ..coverage import version_tuple
from ..machine import System
from .case import Case, listed

LEAST_FREE = 6 << 30
"""A torch with CUDA is 2 to 3 GB packed and up to 6 GB unpacked (the wheels of 2.11 to 2.15)."""

LEAST_SHARED = 1 << 30

_PINNED = re.compile(r"/whl/(?:nightly/|test/)?(cpu|cu\d+|rocm[\d.]+|xpu)/?$")


def shadowed_libraries(case: Case) -> str | None:
    """Libraries that a search path puts before those of the environment: which file wins."""
    words = [f"{one.name}: {one.wins} ({one.by}) comes before {one.loses}" for one in case.around.shadows]
    if not words:
        return None
    return "; ".join(words[:3]) + (f"; and {len(words) - 3} more" if len(words) > 3 else "")


def stub_library(case: Case) -> str | None:
    """A toolkit's folder of stubs on the library path."""
    return f"{listed(case.around.stubs)} on the library path holds a stub of libcuda" if case.around.stubs else None


def python_path(case: Case) -> str | None:
    """A torch on PYTHONPATH is imported instead of the environment's."""
    return f"PYTHONPATH names {listed(case.around.pythonpath)}, which holds a torch" if case.around.pythonpath else None


def user_site(case: Case) -> str | None:
    """A torch in the user's own site-packages is imported instead of the environment's."""
    return f"there is a torch in {case.around.user_site}" if case.around.user_site else None


def wrong_index(case: Case) -> str | None:
    """Index settings that would bring a build which this machine cannot use."""
    chosen = case.around.variables.get("UV_TORCH_BACKEND", "")
    named = [(chosen, "UV_TORCH_BACKEND")] if chosen else []
    settings = case.around.settings
    if settings is not None:
        urls = [(settings.index_url, "index_url"), *((url, "extra_index_urls") for url in settings.extra_index_urls)]
        for url, field in urls:
            match = _PINNED.search(url or "")
            if match:
                named.append((match[1], settings.origin(field)))
    for backend, where in named:
        problem = _unusable(case, backend)
        if problem:
            return f"{where} asks for {backend} builds: {problem}"
    return None


def _unusable(case: Case, backend: str) -> str | None:
    """Why this machine cannot use a backend."""
    gpus = case.gpus()
    if not gpus or case.driver() is None:
        return None
    if backend == "cpu":
        return f"they do not use {gpus[0].name or 'the GPU'}"
    cuda = re.fullmatch(r"cu(\d+)(\d)", backend)
    if cuda is None:
        return f"they are not for {gpus[0].name or 'an NVIDIA GPU'}" if backend.startswith(("rocm", "xpu")) else None
    toolkit = f"{cuda[1]}.{cuda[2]}"
    floor = drivers.floor(toolkit, windows=case.windows)
    version = case.driver()
    if version and floor and not drivers.at_least(version, floor, windows=case.windows):
        return f"CUDA {toolkit} needs driver {floor}, this is {version}"
    new = [gpu for gpu in gpus if gpu.arch and version_tuple(gpu.arch) >= (10, 0)]
    if new and version_tuple(toolkit) < (12, 8):
        return f"none before CUDA 12.8 has code for {new[0].name or new[0].arch}"
    return None


def little_space(case: Case) -> str | None:
    """Too little room for temporary files to unpack a torch."""
    free = case.around.temporary_free
    if free is None or free >= LEAST_FREE:
        return None
    where = case.around.variables.get("TMPDIR", "the default folder")
    return f"{free / (1 << 30):.1f} GB free for temporary files ({where})"


def shared_memory(case: Case) -> str | None:
    """The 64 MB that a container gets by default."""
    size = case.around.shared_memory
    if size is None or size >= LEAST_SHARED or case.machine.platform.container is None:
        return None
    return f"/dev/shm has {size >> 20} MB in this {case.machine.platform.container} container"


def missing_runtime(case: Case) -> str | None:
    """Parts of the Visual C++ runtime that torch needs."""
    if case.machine.platform.system is not System.WINDOWS or not case.around.missing_dlls:
        return None
    return f"{listed(case.around.missing_dlls)} not found in Windows's own folder"


def unfinished(case: Case) -> str | None:
    """An earlier change that did not end."""
    return case.around.unfinished


def drift(case: Case) -> str | None:
    """Packages that are not at their locked version."""
    words = [f"{name}: locked {locked}, installed {has}" for name, (locked, has) in case.around.drift.items()]
    return listed(words, most=3) if words else None


def hold_broken(case: Case) -> str | None:
    """Packages of the torch family that are not what the environment holds."""
    words = [f"{name} {held} was held, {now or 'none'} is there" for name, (held, now) in case.around.escaped.items()]
    return listed(words, most=3) if words else None
