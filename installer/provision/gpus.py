"""Which GPU is behind a PCI device id or a system-on-chip? Rows of `data/gpus.toml`, read only when asked.

The id decides, never the digits of a name: RTX 3050 A is Ada, RTX 2050 is Ampere, GT 730 is two different chips.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from .values import frozen

_BLOCK = 0xFF80
"""NVIDIA gives ids out in blocks of 128; 44 of the 50 blocks in the table hold one capability (counted 2026-11-20)."""


@frozen
class KnownGpu:
    """What the table says of an id. `guessed_from` names the block ("0x2b80") where only its neighbours are known."""

    capability: str
    chip: str | None = None
    name: str | None = None
    guessed_from: str | None = None


def nvidia_gpu(device_id: str) -> KnownGpu | None:
    """The GPU behind NVIDIA's PCI device id ("0x2b85"), a guess from its block of 128 ids, or None."""
    rows = _rows("nvidia")
    number = int(device_id, 16)
    row = rows.get(f"{number:04x}")
    if row is not None:
        return parse_row(row)
    block = number & _BLOCK
    capabilities = {row.split(" ", 1)[0] for key, row in rows.items() if int(key, 16) & _BLOCK == block}
    if len(capabilities) != 1:
        return None
    return KnownGpu(capability=capabilities.pop(), guessed_from=f"0x{block:04x}")


def tegra_gpu(soc: str) -> KnownGpu | None:
    """The GPU in an NVIDIA system-on-chip ("tegra234"), or None."""
    row = _rows("tegra").get(soc)
    return parse_row(row) if row is not None else None


def capabilities() -> frozenset[str]:
    """Every compute capability that some GPU of the table has."""
    return frozenset(row.split(" ", 1)[0] for kind in ("nvidia", "tegra") for row in _rows(kind).values())


def intel_name(device_id: str) -> str | None:
    """The family behind Intel's PCI device id ("0xe20b" → "Intel Arc B-series (Battlemage)"), or None."""
    number = f"{int(device_id, 16):04x}"
    families = _rows("intel")
    return next((families[number[:length]] for length in (4, 3, 2, 1) if number[:length] in families), None)


def parse_row(row: str) -> KnownGpu:
    """`12.0 GB202 GeForce RTX 5090` → the GPU; some ids have no name."""
    capability, chip, *name = row.split(" ", 2)
    return KnownGpu(capability=capability, chip=chip, name="NVIDIA " + name[0] if name else None)


@functools.cache
def _rows(kind: str) -> Mapping[str, str]:
    """The rows of one kind by their first word. They are lines of a text: 840 TOML tables take 40 times as long."""
    return dict(line.split(" ", 1) for line in _table()[kind].splitlines())


@functools.cache
def _table() -> Mapping[str, str]:
    import tomllib

    with open(os.path.join(os.path.dirname(__file__), "data", "gpus.toml"), "rb") as file:
        data: Mapping[str, str] = tomllib.load(file)
    return data
