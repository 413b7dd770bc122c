"""Which of the machine's GPUs count? (contracts 5.3)

All of one vendor, NVIDIA before AMD before Intel before Apple, unless `--gpu` names some. A GPU for which no official
build of any version exists, such as an old integrated one, counts only when named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from . import coverage
from .catalog import Catalog
from .coverage import version_tuple
from .errors import UsageProblem
from .machine import Gpu, Machine, System, Vendor
from .rules import code_for, gpu_phrase, vendor_of
from .values import frozen, replace

VENDORS = (Vendor.NVIDIA, Vendor.AMD, Vendor.INTEL, Vendor.APPLE)


@frozen
class Note:
    """Something to say with the choice: a message of the JSON envelope."""

    code: str
    text: str
    level: str = "info"

    def __str__(self) -> str:
        return self.text


@frozen
class Counted:
    """The GPUs that count, those of other vendors that could have, and what to say of the ones left out."""

    gpus: tuple[Gpu, ...]
    others: tuple[Gpu, ...] = ()
    notes: tuple[Note, ...] = ()


def counting_gpus(
    machine: Machine, catalog: Catalog, *, named: Sequence[str] = (), backend: str | None = None
) -> Counted:
    """Which of the machine's GPUs count.

    `named` are the texts of `--gpu`; where there are none, a `backend` for GPUs makes its vendor the first. GPUs of AMD
    and Intel come back with the arch that their names tell. Raises UsageProblem where a name fits no GPU.
    """
    gpus = [known_gpu(gpu, catalog) for gpu in machine.gpus]
    able = [gpu for gpu in gpus if _can_count(gpu, machine, catalog)]
    if named:
        return Counted(gpus=tuple(dict.fromkeys(gpu for text in named for gpu in _named(text, gpus, able))))
    first = vendor_of(backend) if backend else None
    order = (first, *VENDORS) if first else VENDORS
    vendor = next((each for each in order if any(gpu.vendor is each for gpu in able)), None)
    notes = [
        Note(code="gpu-left-out", text=f"{gpu_phrase(gpu)} does not count: no official build has code for it")
        for gpu in gpus
        if gpu not in able
    ]
    notes += [
        Note(code="gpu-left-out", text=f"{gpu_phrase(gpu)} does not count beside the GPUs of {vendor.value}")
        for gpu in able
        if vendor and gpu.vendor is not vendor
    ]
    return Counted(
        gpus=tuple(gpu for gpu in able if gpu.vendor is vendor),
        others=tuple(gpu for gpu in able if gpu.vendor is not vendor),
        notes=tuple(notes),
    )


def counted(machine: Machine, *, named: Sequence[str] = ()) -> Machine:
    """The machine with the GPUs that count alone: what a proof and the doctor look at. Raises UsageProblem."""
    from .catalog import load_catalog

    return replace(machine, gpus=counting_gpus(machine, load_catalog(), named=named).gpus)


def _can_count(gpu: Gpu, machine: Machine, catalog: Catalog) -> bool:
    """Whether some official build has code for a GPU, or may get some: it is newer than all of them.

    On macOS only Apple's own GPUs are served (by mps, from the cpu index).
    """
    if machine.platform.system is System.MACOS or gpu.vendor is Vendor.APPLE:
        return gpu.vendor is Vendor.APPLE
    return gpu.arch is None or has_code(gpu, catalog) or _newer_than_all(gpu, catalog)


def has_code(gpu: Gpu, catalog: Catalog) -> bool:
    """Whether a build of any version, platform and channel has code for this GPU, whatever the driver."""
    return any(
        code_for(arches, ptx, toolkit, gpu.arch or "", None) for arches, ptx, toolkit in _contents(gpu.vendor, catalog)
    )


def _newer_than_all(gpu: Gpu, catalog: Catalog) -> bool:
    if gpu.vendor is not Vendor.NVIDIA or gpu.arch is None:
        return False
    newest = max(
        (coverage.parse_code(code).major for arches, _, _ in _contents(gpu.vendor, catalog) for code in arches)
    )
    return version_tuple(gpu.arch)[0] > newest


def _contents(vendor: Vendor, catalog: Catalog) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], str | None]]:
    for build in (*catalog.builds, *catalog.history):
        if vendor_of(build.backend) is vendor and build.arches:
            yield build.arches, build.ptx, build.toolkit


def known_gpu(gpu: Gpu, catalog: Catalog) -> Gpu:
    """The GPU with the arch that its name or PCI id tells, where the machine tells none (AMD, Intel)."""
    if gpu.arch is not None or gpu.vendor not in (Vendor.AMD, Vendor.INTEL):
        return gpu
    name = gpu.name
    if name is None and gpu.vendor is Vendor.INTEL and gpu.pci_device_id:
        from .gpus import intel_name

        name = intel_name(gpu.pci_device_id)
    if name is None:
        return gpu
    for family in catalog.families:
        if family.vendor is gpu.vendor and re.search(family.name, name, re.IGNORECASE):
            return replace(gpu, name=name, arch=family.arch, source=f"{gpu.source} (arch: by its name)")
    return replace(gpu, name=name)


# ── --gpu ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _named(text: str, gpus: Sequence[Gpu], able: Sequence[Gpu]) -> list[Gpu]:
    """The GPUs that one `--gpu` names: by index, UUID, name or arch; an arch also stands for one that is not there.

    Each vendor's GPUs are counted from 0: an index is about the first vendor that has it, those `able` to count first.
    """
    text = text.strip()
    if text.isdecimal():
        found = [gpu for place, gpu in enumerate(gpus) if _index(place, gpu) == int(text)]
        found.sort(key=lambda gpu: (gpu not in able, VENDORS.index(gpu.vendor)))
        found = [gpu for gpu in found if gpu.vendor is found[0].vendor]
    elif arch := parse_arch(text):
        vendor = Vendor.AMD if arch.startswith("gfx") else Vendor.NVIDIA
        found = [gpu for gpu in gpus if gpu.vendor is vendor and gpu.arch == arch]
        found = found or [Gpu(vendor=vendor, arch=arch, source=f"--gpu {text}")]
    else:
        lowered = text.lower()
        found = [gpu for gpu in gpus if gpu.uuid and gpu.uuid.lower().startswith(lowered)]
        found = found or [gpu for gpu in gpus if gpu.name and lowered in gpu.name.lower()]
    if not found or not text:
        here = "; ".join(f"{_index(place, gpu)}: {gpu_phrase(gpu)}" for place, gpu in enumerate(gpus))
        raise UsageProblem(
            f"--gpu {text!r} names no GPU of this machine ({here or 'it has none'})",
            code="unknown-gpu",
            hint="give an index, a UUID, a part of the name, or an arch such as sm_120",
        )
    return found


def _index(place: int, gpu: Gpu) -> int:
    return place if gpu.index is None else gpu.index


def parse_arch(text: str) -> str | None:
    """`sm_120`, `12.0` → "12.0"; `gfx1100` → itself; None for what is no arch."""
    if match := re.fullmatch(r"sm_?(\d+)(\d)[af]?", text, re.IGNORECASE):
        return f"{match[1]}.{match[2]}"
    if re.fullmatch(r"gfx[0-9a-f]{3,4}", text, re.IGNORECASE):
        return text.lower()
    return text if re.fullmatch(r"\d{1,2}\.\d", text) else None
