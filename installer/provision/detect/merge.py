"""What is true where sources differ? The earlier answer in the list of sources wins; the rest is kept as facts.

GPUs are matched by PCI address, else by UUID, else by index. A later source fills what an earlier one left open.
It adds GPUs of its own only where no earlier one has any of that vendor: PCI shows a container the whole host's GPUs,
NVML only those that it may use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from ..machine import Driver, Fact, Gpu, Platform, Skipped, System, Vendor
from .answer import Answer, Seen

KEPT = ("name", "arch", "memory_mib", "pci_device_id", "uuid")
"""Fields that a later source may fill, and whose disagreement is told."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """A GPU in the making: `said` maps a field to the source that filled it."""

    seen: Seen
    source: str
    said: dict[str, str]


def merge_gpus(answers: Sequence[Answer]) -> tuple[tuple[Gpu, ...], tuple[Fact, ...], tuple[Skipped, ...]]:
    """(the GPUs, disagreements as facts, GPUs that were lost as skipped)."""
    entries: list[Entry] = []
    facts: list[Fact] = []
    for answer in answers:
        new: list[Seen] = []
        for seen in answer.gpus:
            entry = _match(entries, seen)
            if entry is None:
                new.append(seen)
            else:
                facts += _fill(entry, seen, answer.source)
        facts += _place(entries, new, answer)
    gone = [entry for entry in entries if entry.seen.lost and entry.seen.arch is None]
    gpus = tuple(_gpu(entry) for entry in entries if entry not in gone)
    return gpus, tuple(facts), ()


def _match(entries: Iterable[Entry], seen: Seen) -> Entry | None:
    same = [entry for entry in entries if entry.seen.vendor is seen.vendor]
    for entry in same:
        if seen.bus and entry.seen.bus:
            if seen.bus == entry.seen.bus:
                return entry
        elif seen.uuid and entry.seen.uuid:
            if seen.uuid == entry.seen.uuid:
                return entry
        elif seen.index == entry.seen.index and not (seen.arch and entry.seen.arch and seen.arch != entry.seen.arch):
            return entry
    return None


def _fill(entry: Entry, seen: Seen, source: str) -> list[Fact]:
    """Take from `seen` what the entry lacks; what it has otherwise becomes a fact."""
    facts = []
    old = entry.seen
    changes: dict[str, object] = {}
    for name in KEPT:
        mine, theirs = getattr(old, name), getattr(seen, name)
        if theirs is None or theirs == mine:
            continue
        if mine is None:
            changes[name] = theirs
            entry.said[name] = source
            if name == "arch":
                changes["note"] = seen.note
        elif not _same(name, mine, theirs):
            facts.append(Fact(name=f"gpu{old.index}.{name.replace('_', '-')}", value=str(theirs), source=source))
    if old.bus is None:
        changes["bus"] = seen.bus
    if changes:
        entry.seen = replace(old, **changes)  # type: ignore[arg-type]
    return facts


def _same(name: str, mine: object, theirs: object) -> bool:
    """Whether two spellings are one: names with or without the maker, memory within one part in twenty."""
    if name == "memory_mib" and isinstance(mine, int) and isinstance(theirs, int):
        return abs(mine - theirs) * 20 <= mine
    if name == "name":
        known = [part.removeprefix("NVIDIA ") for part in str(theirs).split(" / ")]
        return str(mine).removeprefix("NVIDIA ") in known
    return False


def _place(entries: list[Entry], new: list[Seen], answer: Answer) -> list[Fact]:
    """Put GPUs that no earlier source named where they belong."""
    facts = []
    for vendor in Vendor:
        arrived = [seen for seen in new if seen.vendor is vendor]
        there = [entry for entry in entries if entry.seen.vendor is vendor]
        lost = [entry for entry in there if entry.seen.lost and entry.seen.bus is None]
        if not there:
            entries += [
                Entry(seen=seen, source=answer.source, said=dict.fromkeys(_told(seen), answer.source))
                for seen in arrived
            ]
        elif lost and len(lost) == len(arrived):
            for entry, seen in zip(lost, arrived, strict=True):
                facts += _fill(entry, seen, answer.source)
        else:
            facts += [
                Fact(
                    name="gpu.not-served",
                    value=f"{seen.name or seen.pci_device_id or vendor.value}"
                    + (f" at {seen.bus}" if seen.bus else "")
                    + (f" ({seen.arch})" if seen.arch else ""),
                    source=answer.source,
                )
                for seen in arrived
            ]
    return facts


def _told(seen: Seen) -> list[str]:
    return [field.name for field in fields(seen) if field.name in KEPT and getattr(seen, field.name) is not None]


def _gpu(entry: Entry) -> Gpu:
    seen = entry.seen
    source = entry.source
    origin = entry.said.get("arch", source)
    if seen.note:
        source += f"; {seen.note}"
    elif origin != source:
        source += f"; arch from {origin}"
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
    found = []
    facts: tuple[Fact, ...] = ()
    for vendor in Vendor:
        drivers = [answer.driver for answer in answers if answer.driver and answer.driver.vendor is vendor]
        if vendor is Vendor.NVIDIA:
            driver, facts = _nvidia_driver(drivers, answers, platform)
            found += [driver] if driver else []
        elif drivers:
            version = next((driver.version for driver in drivers if driver.version), None)
            found.append(replace(drivers[0], version=version))
    return tuple(found), facts


def _fact(answers: Iterable[Answer], name: str) -> str | None:
    return next((value for answer in answers if (value := answer.fact(name)) is not None), None)


def _nvidia_driver(
    drivers: Sequence[Driver], answers: Sequence[Answer], platform: Platform
) -> tuple[Driver | None, tuple[Fact, ...]]:
    module = _fact(answers, "nvidia.module-version")
    silent = any(answer.silent for answer in answers)
    if not drivers:
        if module is None or not silent:
            return None, ()
        # Who could answer hung or crashed: the module that is loaded is the best that is known.
        drivers = [Driver(vendor=Vendor.NVIDIA, version=module, source="kernel module")]
    first = drivers[0]
    version = first.version or (None if first.source == "override" else _version(drivers, answers))
    cuda = first.cuda or (None if first.source == "override" and first.version else _first_cuda(drivers))
    table = served_cuda(version, windows=platform.system is System.WINDOWS or platform.wsl) if version else None
    facts: tuple[Fact, ...] = ()
    if table is not None:
        facts = (Fact(name="nvidia.cuda", value=table, source="driver table"),)
        if cuda is None or (first.source != "override" and _inflated(cuda, table, answers)):
            cuda = table
    return replace(first, version=version, cuda=cuda), facts


def _version(drivers: Sequence[Driver], answers: Sequence[Answer]) -> str | None:
    told = next((driver.version for driver in drivers if driver.version), None)
    return told or _fact(answers, "nvidia.module-version") or _fact(answers, "nvidia.library-version")


def _first_cuda(drivers: Sequence[Driver]) -> str | None:
    return next((driver.cuda for driver in drivers if driver.cuda), None)


def _inflated(cuda: str, table: str, answers: Sequence[Answer]) -> bool:
    """Whether a cuda-compat library on this shell's path makes the driver look newer than it is."""
    newer = [int(part) for part in cuda.split(".")] > [int(part) for part in table.split(".")]
    library = _fact(answers, "nvidia.libcuda-loaded") or _fact(answers, "nvidia.libcuda") or ""
    return newer and "compat" in library


def served_cuda(version: str, *, windows: bool) -> str | None:
    """The newest CUDA of a driver according to the driver table."""
    from .. import drivers

    return drivers.served_cuda(version, windows=windows)
