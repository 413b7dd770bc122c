"""What is true where sources differ? The earlier answer in the list of sources wins; the rest is kept as facts.

GPUs are matched by PCI address, else by UUID, else by index. A later source fills what an earlier one left open. It
adds GPUs of its own only where no earlier source counted that vendor's: PCI shows a container the whole host's GPUs,
NVML only those that it may use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..machine import Driver, Fact, Gpu, Platform, System, Vendor
from ..values import replace
from .answer import Answer, Seen

KEPT = ("name", "arch", "memory_mib", "pci_device_id", "uuid")
"""Fields that a later source may fill, and whose disagreement is told."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """A GPU in the making: the `source` that found it, and the one that told its arch."""

    seen: Seen
    source: str
    arch_from: str


def merge_gpus(answers: Sequence[Answer]) -> tuple[tuple[Gpu, ...], tuple[Fact, ...]]:
    """(the GPUs, what sources said otherwise). A GPU that does not answer and that PCI cannot name is left out, unless
    it is the only one: then it stays, its arch unknown, so that nobody takes the machine for one without a GPU."""
    entries: list[Entry] = []
    facts: list[Fact] = []
    counted: set[Vendor] = set()
    for answer in answers:
        new: list[Seen] = []
        taken: list[Entry] = []
        for seen in answer.gpus:
            entry = _match([entry for entry in entries if entry not in taken], seen)
            if entry is None:
                new.append(seen)
            else:
                taken.append(entry)
                facts += _fill(entry, seen, answer.source)
        for vendor in dict.fromkeys(seen.vendor for seen in new):
            facts += _place(entries, [seen for seen in new if seen.vendor is vendor], answer, vendor in counted)
        if not answer.silent and not answer.partial:
            counted |= {seen.vendor for seen in answer.gpus}
    known = [entry for entry in entries if entry.seen.arch or not entry.seen.lost]
    lost = [entry for entry in entries if entry.seen.lost]
    facts += [Fact(name="gpu.lost", value=f"{_label(entry.seen)}: {entry.seen.lost}", source="nvml") for entry in lost]
    return tuple(_gpu(entry) for entry in known or entries), tuple(facts)


def _match(entries: Iterable[Entry], seen: Seen) -> Entry | None:
    """The entry that is this GPU. An index alone decides only where nothing contradicts it."""
    for entry in entries:
        old = entry.seen
        if old.vendor is not seen.vendor:
            continue
        if seen.bus and old.bus:
            same = seen.bus == old.bus
        elif seen.uuid and old.uuid:
            same = seen.uuid == old.uuid
        else:
            same = seen.index == old.index and not (seen.arch and old.arch and seen.arch != old.arch) and not old.lost
        if same:
            return entry
    return None


def _fill(entry: Entry, seen: Seen, source: str) -> list[Fact]:
    """Take from `seen` what the entry lacks; what it says otherwise becomes a fact."""
    facts = []
    old = entry.seen
    filled = {}
    for name in KEPT:
        mine, theirs = getattr(old, name), getattr(seen, name)
        if mine is None:
            filled[name] = theirs
        elif theirs is not None and not _same(name, mine, theirs):
            facts.append(Fact(name=f"gpu{old.index}.{name.replace('_', '-')}", value=str(theirs), source=source))
    if old.arch is None and seen.arch is not None:
        entry.arch_from = source
        filled["note"] = seen.note
    entry.seen = replace(old, bus=old.bus or seen.bus, **filled)
    return facts


def _same(name: str, mine: object, theirs: object) -> bool:
    """Whether two spellings are one: a name with or without its maker, memory within one part in twenty."""
    if name == "memory_mib" and isinstance(mine, int) and isinstance(theirs, int):
        return abs(mine - theirs) * 20 <= mine
    if name == "name":
        known = [part.removeprefix("NVIDIA ") for part in str(theirs).split(" / ")]
        return str(mine).removeprefix("NVIDIA ") in known
    return mine == theirs


def _place(entries: list[Entry], new: list[Seen], answer: Answer, counted: bool) -> list[Fact]:
    """Put one vendor's GPUs that no earlier source named where they belong: in the place of a GPU that was lost, among
    the GPUs, or (where an earlier source counted the usable ones) among the facts."""
    facts: list[Fact] = []
    lost = [
        entry for entry in entries if entry.seen.lost and entry.seen.bus is None and entry.seen.vendor is new[0].vendor
    ]
    if lost and len(lost) == len(new):
        for entry, seen in zip(lost, new, strict=True):
            facts += _fill(entry, seen, answer.source)
    elif counted:
        facts += [Fact(name="gpu.not-served", value=_label(seen), source=answer.source) for seen in new]
    else:
        entries += [Entry(seen=seen, source=answer.source, arch_from=answer.source) for seen in new]
    return facts


def _label(seen: Seen) -> str:
    """`NVIDIA GeForce GTX 1080 at 0000:02:00.0 (6.1)`."""
    name = seen.name or " ".join(filter(None, [seen.vendor.value, seen.pci_device_id or f"GPU {seen.index}"]))
    return name + (f" at {seen.bus}" if seen.bus else "") + (f" ({seen.arch})" if seen.arch else "")


def _gpu(entry: Entry) -> Gpu:
    seen = entry.seen
    source = entry.source
    if seen.note:
        source += f"; {seen.note}"
    elif seen.arch and entry.arch_from != source:
        source += f"; arch from {entry.arch_from}"
    return Gpu(
        vendor=seen.vendor,
        name=seen.name,
        arch=seen.arch,
        index=seen.index,
        memory_mib=seen.memory_mib,
        pci_device_id=seen.pci_device_id,
        uuid=seen.uuid,
        mig=seen.mig,
        source=source,
    )


def merge_drivers(answers: Sequence[Answer], platform: Platform) -> tuple[tuple[Driver, ...], tuple[Fact, ...]]:
    """One driver a vendor: the first that a source found at work, with what later ones add; NVIDIA's CUDA checked."""
    found: list[Driver] = []
    facts: tuple[Fact, ...] = ()
    for vendor in Vendor:
        drivers = [driver for answer in answers for driver in answer.drivers if driver.vendor is vendor]
        if vendor is Vendor.NVIDIA:
            driver, facts = nvidia_driver(drivers, answers, platform)
            found += [driver] if driver else []
        elif drivers:
            found.append(
                replace(drivers[0], version=next((driver.version for driver in drivers if driver.version), None))
            )
    return tuple(found), facts


def fact(answers: Iterable[Answer], name: str) -> str | None:
    """The value of the first fact of that name."""
    return next((value for answer in answers if (value := answer.fact(name)) is not None), None)


def nvidia_driver(
    drivers: Sequence[Driver], answers: Sequence[Answer], platform: Platform
) -> tuple[Driver | None, tuple[Fact, ...]]:
    """(the usable driver or None, what the driver table says of it).

    A loaded kernel module alone is no usable driver: its libraries may be missing or of another version. Only where
    those who could tell hung or crashed does it stand for the driver.
    """
    if not drivers:
        module = fact(answers, "nvidia.module-version")
        if module is None or not any(answer.silent for answer in answers):
            return None, ()
        drivers = [Driver(vendor=Vendor.NVIDIA, version=module, source="kernel module")]
    first = drivers[0]
    version, cuda = first.version, first.cuda
    if first.source != "override":
        version = version or next((driver.version for driver in drivers if driver.version), None)
        version = version or fact(answers, "nvidia.module-version") or fact(answers, "nvidia.library-version")
        cuda = cuda or next((driver.cuda for driver in drivers if driver.cuda), None)
    table = served_cuda(version, windows=platform.system is System.WINDOWS or platform.wsl) if version else None
    if table is None:
        return replace(first, version=version, cuda=cuda), ()
    if cuda is None or (first.source != "override" and _inflated(cuda, table, answers)):
        cuda = table
    facts = (Fact(name="nvidia.cuda", value=table, source="driver table"),)
    return replace(first, version=version, cuda=cuda), facts


def _inflated(cuda: str, table: str, answers: Sequence[Answer]) -> bool:
    """Whether a cuda-compat library on this shell's path makes the driver look newer than it is."""
    newer = [int(part) for part in cuda.split(".")] > [int(part) for part in table.split(".")]
    library = fact(answers, "nvidia.libcuda-loaded") or fact(answers, "nvidia.libcuda") or ""
    return newer and "compat" in library


def served_cuda(version: str, *, windows: bool) -> str | None:
    """The newest CUDA of a driver according to the driver table."""
    from .. import drivers

    return drivers.served_cuda(version, windows=windows)
