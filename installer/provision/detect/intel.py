"""Does an Intel GPU have a kernel driver? PCI names the device; `i915` and `xe` are its drivers."""

from __future__ import annotations

from collections.abc import Iterable

from ..machine import Driver, Fact, Vendor
from .answer import Answer

DRIVERS = ("xe", "i915")


def from_pci(facts: Iterable[Fact]) -> Answer:
    """The driver that holds an Intel display device, from what PCI said."""
    for fact in facts:
        bound, _, device = fact.value.partition(" ")
        if fact.name == "pci.driver-bound" and "(intel:" in device and bound in DRIVERS:
            return Answer(source="pci", drivers=(Driver(vendor=Vendor.INTEL, source=f"pci ({bound})"),))
    return Answer(source="pci")
