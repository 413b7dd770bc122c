"""What did one source say? Values that travel from the sources to the merge."""

from __future__ import annotations

from ..machine import Driver, Fact, Skipped, Vendor
from ..values import frozen

TIMEOUT = 3.0
"""Seconds that a source may take; then it is skipped and named."""


@frozen
class Seen:
    """One GPU as one source saw it. `bus` is its PCI address, "0000:01:00.0"; `lost` says why it does not answer."""

    vendor: Vendor
    bus: str | None = None
    index: int | None = None
    name: str | None = None
    arch: str | None = None
    memory_mib: int | None = None
    pci_device_id: str | None = None
    uuid: str | None = None
    mig: bool = False
    lost: str | None = None
    note: str | None = None
    """What must be known of `arch`: that it is a guess, and from what."""


@frozen
class Answer:
    """All that one source said.

    `drivers` are those that this source found at work. `silent` says that the source hung, crashed or gave no
    sense: then nothing follows from what it did not say. `partial` says that it may see only some of the GPUs.
    """

    source: str
    gpus: tuple[Seen, ...] = ()
    drivers: tuple[Driver, ...] = ()
    facts: tuple[Fact, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    silent: bool = False
    partial: bool = False

    @classmethod
    def nothing(cls, source: str, reason: str, *, facts: tuple[Fact, ...] = (), silent: bool = False) -> Answer:
        """An answer that only says why there is none."""
        return cls(source=source, facts=facts, skipped=(Skipped(probe=source, reason=reason),), silent=silent)

    def fact(self, name: str) -> str | None:
        """The value of this source's fact, or None."""
        return next((fact.value for fact in self.facts if fact.name == name), None)


def pci_address(text: str) -> str:
    """`00000000:01:00.0` (NVML), `0000:01:00.0` (Linux, CUDA) → `0000:01:00.0`; a domain over 16 bits stays whole."""
    domain, _, rest = text.strip().lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def facts_of(source: str, **values: str | None) -> tuple[Fact, ...]:
    """Facts from keyword arguments (`nvidia__driver_version` → `nvidia.driver-version`); None leaves one out."""
    return tuple(
        Fact(name=name.replace("__", ".").replace("_", "-"), value=value, source=source)
        for name, value in values.items()
        if value is not None
    )
