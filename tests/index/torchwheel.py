"""What does a torch wheel look like from outside? The stand-in package, packed as the PyTorch index would have it."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Literal, get_args

from fatbin.build import elf_with_fatbin, pe_with_fatbin

from .wheel import Wheel, wheel

Behaviour = Literal[
    "good",
    "not-available",  # torch.cuda.is_available() is False whatever the driver says
    "no-kernel",  # the matmul on a GPU ends with "no kernel image is available"
    "wrong-result",  # the matmul is wrong, on the GPU if there is one, else on the CPU
    "hangs",  # the same matmul does not come back
    "segfault",  # the same matmul ends the process
    "import-fails",
]

HOST_PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
"""The Python tag of the interpreter that runs the tests."""

_WHEEL_PLATFORM = {
    "linux-x86_64": "manylinux_2_28_x86_64",
    "linux-aarch64": "manylinux_2_28_aarch64",
    "windows-x86_64": "win_amd64",
    "macos-aarch64": "macosx_11_0_arm64",
}

_REQUIRES = (
    "filelock",
    "typing-extensions>=4.10.0",
    "sympy>=1.13.3",
    "networkx>=2.5.1",
    "jinja2",
    "fsspec>=0.8.5",
    'setuptools; python_version >= "3.12"',
)
"""What every torch wheel requires, whatever its backend."""


def host_platform() -> str:
    """`linux-x86_64` and so on, of the machine that runs the tests."""
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}[sys.platform]
    machine = sysconfig.get_platform().rpartition("-")[2].lower()
    return f"{system}-{'aarch64' if machine in ('arm64', 'aarch64') else 'x86_64'}"


def toolkit(backend: str) -> str | None:
    """`cu130` → `13.0`; None for a backend without CUDA."""
    match = re.fullmatch(r"cu(\d+)(\d)", backend)
    return f"{match[1]}.{match[2]}" if match else None


def wheel_tag(platform: str, python_tag: str) -> str:
    """`cp313t-cp313t-win_amd64` of a platform and a Python; macOS wheels are built for any ABI."""
    abi = "none" if platform.startswith("macos") else python_tag
    return f"{python_tag.rstrip('t')}-{abi}-{_WHEEL_PLATFORM[platform]}"


@cache
def torch_wheel(
    version: str = "2.15.0",
    backend: str = "cpu",
    python_tag: str = HOST_PYTHON,
    platform: str | None = None,
    arches: Sequence[str] = (),
    behaviour: Behaviour = "good",
    requires: Sequence[str] = (),
    local: bool = True,
) -> Wheel:
    """A torch of `version` (public, `2.15.0`) for `backend`; its GPU code is `arches` (`sm_120`, `compute_120`).

    `requires` comes on top of what every torch requires. `local=False` leaves `+cu130` out of the wheel's version, as
    the default package index has it; `torch.__version__` keeps it, as the real wheel there does. `platform` is that of
    the tests' machine unless named. Tuples only: the same wheel is made once in a process.
    """
    assert behaviour in get_args(Behaviour), behaviour
    platform = platform or host_platform()
    full = f"{version}+{backend}" if not platform.startswith("macos") else version
    files: dict[str, bytes | str] = dict(standin_files("torch"))
    files["torch/version.py"] = _version_file(full, backend)
    files["torch/_build.py"] = f"ARCHES = {tuple(arches)!r}\nBEHAVIOUR = {behaviour!r}\n"
    files.update(_libraries(platform, backend, tuple(arches)))
    return wheel(
        "torch",
        full if local else version,
        tag=wheel_tag(platform, python_tag),
        requires=[*_REQUIRES, *requires],
        requires_python=">=3.9",
        files=files,
        console_scripts={"torchrun": "torch.distributed.run:main"},
    )


@cache
def standin_files(package: str) -> dict[str, bytes]:
    """The files of a stand-in package; one that has no folder is a module with a docstring."""
    root = Path(__file__).parent / "standin"
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.glob(f"{package}/**/*.py"))}
    return found or {f"{package}/__init__.py": f'"""A stand-in for {package}."""\n'.encode()}


def _version_file(full: str, backend: str) -> str:
    rocm, xpu = backend.removeprefix("rocm"), "20260000" if backend == "xpu" else None
    return (
        f"__version__ = {full!r}\ndebug = False\ncuda = {toolkit(backend)!r}\n"
        f"git_version = {sha1(full.encode()).hexdigest()!r}\n"
        f"hip = {rocm if backend != rocm else None!r}\nxpu = {xpu!r}\n"
    )


@cache
def _libraries(platform: str, backend: str, arches: tuple[str, ...]) -> dict[str, bytes]:
    """The native libraries whose GPU code a scan reads: one container of the whole list, and libraries without code."""
    folder = "torch/lib/"
    if platform.startswith("windows"):
        libraries = {"torch_cpu.dll": pe_with_fatbin(), "torch_cuda.dll": pe_with_fatbin([arches])}
    elif platform.startswith("linux"):
        libraries = {"libtorch_cpu.so": elf_with_fatbin(), "libtorch_cuda.so": elf_with_fatbin([arches])}
    else:
        libraries = {}
    return {folder + name: data for name, data in libraries.items() if toolkit(backend) or "cpu" in name}
