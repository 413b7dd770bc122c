"""What real wheels hold: the table `wheels.txt`."""

from __future__ import annotations

from pathlib import Path


def wheel_table() -> dict[str, dict[str, list[str]]]:
    """Wheel, library, its columns (`wheels.txt` says which)."""
    table: dict[str, dict[str, list[str]]] = {}
    wheel = ""
    for line in (Path(__file__).parent / "wheels.txt").read_text().splitlines():
        if line.startswith("  "):
            name, *columns = (column.strip() for column in line.split("|"))
            table[wheel][name] = columns
        elif line and not line.startswith("#"):
            wheel = line
            table[wheel] = {}
    return table
