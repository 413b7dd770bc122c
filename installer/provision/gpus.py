"""Which GPU is behind a PCI device id or a system-on-chip? Rows of `data/gpus.toml`, read only when asked.

The id decides, never the digits of a name: RTX 3050 A is Ada, RTX 2050 is Ampere, GT 730 is two different chips.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_BLOCK = 0xFF80
"""NVIDIA gives ids out in blocks of 128; 44 of the 50 blocks in the table hold one capability (counted 2026-11-20)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGpu:
    """What the table says of an id. `guessed_from` names the block ("0x2b80") where only its neighbours are known."""

    capability: str
    chip: str | None = None
    name: str | None = None
    guessed_from: str | None = None


def nvidia_gpu(device_id: str) -> KnownGpu | None:
    """The GPU behind NVIDIA's PCI device id ("0x2b85"), a guess from its block of 128 ids, or None."""
    number = int(device_id, 16)
    known = _table()[0].get(f"{number:04x}")
    if known is not None:
        return known
    block = number & _BLOCK
    capabilities = {row.capability for key, row in _table()[0].items() if int(key, 16) & _BLOCK == block}
    if len(capabilities) != 1:
        return None
    return KnownGpu(capability=capabilities.pop(), guessed_from=f"0x{block:04x}")


def tegra_gpu(soc: str) -> KnownGpu | None:
    """The GPU in an NVIDIA system-on-chip ("tegra234"), or None."""
    return _table()[1].get(soc)


@functools.cache
def _table() -> tuple[Mapping[str, KnownGpu], Mapping[str, KnownGpu]]:
    """The rows of (PCI, Tegra) by id. The rows are lines of text: 840 TOML tables would take 50 times as long."""
    import tomllib

    with open(os.path.join(os.path.dirname(__file__), "data", "gpus.toml"), "rb") as file:
        data = tomllib.load(file)
    return parse_rows(data["nvidia"]), parse_rows(data["tegra"])


def parse_rows(text: str) -> Mapping[str, KnownGpu]:
    """`2b85 12.0 GB202 GeForce RTX 5090` a line → KnownGpu by id."""
    rows = {}
    for line in text.splitlines():
        key, capability, chip, *name = line.split(" ", 3)
        rows[key] = KnownGpu(capability=capability, chip=chip, name="NVIDIA " + name[0] if name else None)
    return MappingProxyType(rows)
