"""What does the doctor know of a patient? The machine, the environment, what lies around, what was proven. Values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from ..checks import Check, Status, Verification
from ..coverage import Verdict, weakest
from ..environment import Environment
from ..machine import Gpu, Machine, Vendor
from ..values import frozen

if TYPE_CHECKING:
    from ..fatbin import Library
    from ..settings import Settings

_NOTHING: Mapping[str, str] = MappingProxyType({})


@frozen
class Shadow:
    """A library of the environment, and the file of the same name that a search path puts before it."""

    name: str
    wins: str
    loses: str
    by: str


@frozen
class Surroundings:
    """What lies in and around an environment besides its packages' versions. `detect.surroundings` asks.

    torch_version, torch_cuda, torch_hip: what `torch/version.py` says, without importing it
    torch_libraries: the names in `torch/lib`; torch_python: the Python of its `_C` extension ("3.12")
    leftovers: folders that pip left when it was interrupted (`~orch`); metadata_of: every `.dist-info`'s (name,
    version); broken_metadata: (folder, what is wrong); unowned: top folders of the torch family without metadata
    damaged: distribution → what of its recorded files is missing or cut short (`transaction.damaged`)
    built_for: compiled package → what it says it was built for ("torch": "2.7.0", "cuda": "12.8", "python": "3.11")
    library_cudas: the CUDA versions for which bitsandbytes has a library
    variables: the environment variables that matter; shadows, stubs, pythonpath, user_site: what they lead to
    conda_torch: the torch that conda put into the environment ("pytorch-2.5.1-…")
    temporary_free, shared_memory: bytes free for temporary files, and bytes of /dev/shm
    missing_dlls: parts of the Visual C++ runtime that Windows does not have
    unfinished: what an earlier change left, in words; drift: package → (locked, installed)
    escaped: package → (held, installed) of what got past the hold
    """

    torch_version: str | None = None
    torch_cuda: str | None = None
    torch_hip: str | None = None
    torch_libraries: tuple[str, ...] = ()
    torch_python: str | None = None
    leftovers: tuple[str, ...] = ()
    metadata_of: tuple[tuple[str, str], ...] = ()
    broken_metadata: tuple[tuple[str, str], ...] = ()
    unowned: tuple[str, ...] = ()
    damaged: Mapping[str, str] = _NOTHING
    built_for: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    library_cudas: tuple[str, ...] = ()
    variables: Mapping[str, str] = _NOTHING
    shadows: tuple[Shadow, ...] = ()
    stubs: tuple[str, ...] = ()
    pythonpath: tuple[str, ...] = ()
    user_site: str | None = None
    conda_torch: str | None = None
    temporary_free: int | None = None
    shared_memory: int | None = None
    missing_dlls: tuple[str, ...] = ()
    settings: Settings | None = None
    unfinished: str | None = None
    drift: Mapping[str, tuple[str, str]] = MappingProxyType({})
    escaped: Mapping[str, tuple[str, str | None]] = MappingProxyType({})


@frozen
class Case:
    """One patient. `libraries` is what torch's deciding binaries hold (`verify.scan`), by file name."""

    machine: Machine
    environment: Environment
    around: Surroundings = Surroundings()
    libraries: Mapping[str, Library] = MappingProxyType({})
    verification: Verification | None = None

    def version(self, name: str) -> Version | None:
        """The installed version of a distribution, or None."""
        text = self.environment.version(name)
        try:
            return Version(text) if text else None
        except InvalidVersion:
            return None

    @property
    def torch(self) -> Version | None:
        """torch's version with its local part, from its own files where its metadata leaves that out."""
        try:
            return Version(self.around.torch_version) if self.around.torch_version else self.version("torch")
        except InvalidVersion:
            return self.version("torch")

    @property
    def has_torch(self) -> bool:
        return self.torch is not None

    @property
    def cuda(self) -> str | None:
        """The CUDA that torch was made with ("12.8")."""
        return self.around.torch_cuda

    @property
    def cpu_build(self) -> bool:
        """Whether torch was made without any GPU backend."""
        if self.torch is None or self.around.torch_version is None:
            return False
        local = self.torch.local or ""
        return not (self.cuda or self.around.torch_hip) and not local.startswith(("cu", "rocm", "xpu"))

    @property
    def windows(self) -> bool:
        """Whether driver versions are numbered as on Windows."""
        from ..drivers import is_windows

        return is_windows(self.machine.platform)

    def gpus(self, vendor: Vendor = Vendor.NVIDIA) -> list[Gpu]:
        return [gpu for gpu in self.machine.gpus if gpu.vendor is vendor]

    def driver(self, vendor: Vendor = Vendor.NVIDIA) -> str | None:
        """The version of a driver that answers."""
        found = self.machine.driver(vendor)
        return found.version if found else None

    @property
    def driver_cuda(self) -> str | None:
        found = self.machine.driver(Vendor.NVIDIA)
        return found.cuda if found else None

    def served(self, gpu: Gpu, driver_cuda: str | None = None) -> Verdict | None:
        """What torch's deciding libraries mean for a GPU (with this driver, or with one that is new enough)."""
        from ..scan import verdict

        if gpu.arch is None or not self.libraries:
            return None
        judged = [
            verdict(library, gpu.arch, driver_cuda=driver_cuda, toolkit=self.cuda)
            for library in self.libraries.values()
        ]
        return weakest(one.verdict for one in judged)

    def failed(self) -> Iterator[Check]:
        """The checks that failed."""
        if self.verification is not None:
            yield from (check for check in self.verification.checks if check.status is Status.FAILED)


def listed(names: object, most: int = 4) -> str:
    """`a, b, c and 5 more`."""
    every = [str(name) for name in names] if isinstance(names, list | tuple | set | frozenset) else [str(names)]
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")
