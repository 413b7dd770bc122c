"""What is the right build? A second answer, worked out from the rows of the tables alone, by trying every one.

Written apart from `provision.rules`, `provision.coverage` and `provision.drivers`, to disagree with them if they err.
Speaks of NVIDIA on Linux and Windows, in the stable channel; contracts, section 5.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import provision
from packaging.version import Version

DATA = Path(provision.__file__).parent / "data"

JETSON = {"5.3", "6.2", "7.2", "8.7"}


@cache
def rows() -> tuple[dict[str, Any], ...]:
    """Every stable build, one row a version."""
    table = tomllib.loads((DATA / "catalog.toml").read_text("utf-8"))
    pythons = {row["torch"]: row["pythons"] for row in table["release"]}
    return tuple(
        {**row, "torch": torch, "pythons": (row.get("pythons") or pythons[torch]).split()}
        for row in table["build"]
        for torch in row["torch"].split()
        if row.get("channel", "stable") == "stable" and "until" not in row
    )


@cache
def driver_table() -> dict[str, Any]:
    return tomllib.loads((DATA / "drivers.toml").read_text("utf-8"))


def numbers(text: str) -> list[int]:
    return [int(part) for part in str(text).split(".")]


def toolkit(row: dict[str, Any]) -> float | None:
    return int(row["backend"][2:]) / 10 if row["backend"].startswith("cu") else None


def branch(driver: str, system: str) -> dict[str, Any]:
    found = [one for one in driver_table()["branch"] if one[system] <= numbers(driver)[0]]
    return found[-1] if found else {"cuda": "0.0", system: 0}


def served(capability: str, driver: str, system: str) -> bool:
    """The driver knows the GPU still and already."""
    for row in driver_table()["support"]:
        if capability in row["capability"].split():
            first, last = row.get(f"first_{system}", "0"), row.get(f"last_{system}", "9999")
            return numbers(driver) >= numbers(first) and numbers(driver)[0] <= int(last)
    return False


def native(row: dict[str, Any], capability: str) -> bool:
    """A cubin of the same major and an equal or lower minor, but for Jetson."""
    if capability == "12.1" and (toolkit(row) or 0) < 13:
        return False
    major, minor = numbers(capability)
    for code in row.get("code", "").split():
        built = code.removeprefix("sm_")
        if int(built[:-1]) != major or int(built[-1]) > minor:
            continue
        if capability not in JETSON or f"{built[:-1]}.{built[-1]}" == capability:
            return True
        if (toolkit(row) or 0) >= 13.2 and capability in {"7.2", "8.7"}:
            return True
    return False


def compiled(row: dict[str, Any], capability: str, driver: str, system: str) -> bool:
    """PTX of 9.0 or later that is not newer than the GPU, by a driver whose CUDA is the toolkit's or newer."""
    if capability == "12.1" and (toolkit(row) or 0) < 13:
        return False
    ptx = [int(code.removeprefix("compute_")) for code in row.get("ptx", "").replace("unknown", "").split()]
    able = float(branch(driver, system)["cuda"]) >= (toolkit(row) or 0)
    return able and any(90 <= code <= int(capability.replace(".", "")) for code in ptx)


def runs(row: dict[str, Any], *, gpus: Sequence[str], driver: str | None, on: str, python: str, glibc: str) -> bool:
    """Whether a build may be chosen for a machine. `on` is "linux x86_64"; under WSL give the Windows driver's own."""
    system = on.split(maxsplit=1)[0]
    if row["on"] != on or python not in row["pythons"]:
        return False
    if system == "linux" and numbers(glibc) < ([2, 28] if Version(row["torch"]) >= Version("2.7") else [2, 17]):
        return False
    if not gpus:
        return bool(row["backend"] == "cpu")
    cuda = toolkit(row)
    if cuda is None or driver is None:
        return False
    floor = next(one[system] for one in driver_table()["floor"] if one["cuda"] == int(cuda))
    if numbers(driver) < numbers(floor):
        return False
    return all(served(gpu, driver, system) and (native(row, gpu) or compiled(row, gpu, driver, system)) for gpu in gpus)


def order(row: dict[str, Any], *, gpus: Sequence[str], driver: str | None, on: str) -> tuple[Any, ...]:
    """Contracts 5.4; the greatest is the best."""
    cuda = toolkit(row) or 0.0
    within = driver is None or cuda <= float(branch(driver, on.split(maxsplit=1)[0])["cuda"])
    needs_no_ptx = all(native(row, gpu) for gpu in gpus)
    return row.get("advertised", True), Version(row["torch"]), needs_no_ptx, within, cuda if within else -cuda


def right_answers(
    *, gpus: Sequence[str], driver: str | None, on: str, python: str = "cp312", glibc: str = "2.35"
) -> list[str]:
    """Every build that may be chosen, the best first: ["2.11.0+cu128", …]."""
    fits = [row for row in rows() if runs(row, gpus=gpus, driver=driver, on=on, python=python, glibc=glibc)]
    fits.sort(key=lambda row: order(row, gpus=gpus, driver=driver, on=on), reverse=True)
    return [f"{row['torch']}+{row['backend']}" for row in fits]
