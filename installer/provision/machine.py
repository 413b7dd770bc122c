"""What is this machine? Platform, GPUs, drivers, and what could not be asked.

Values only: nothing here looks at the machine. The JSON is that of `provision detect --json` and is read back by
`--machine FILE` (contracts, section 4). Unknown is `None`, never a guess; a guess says so in `source`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from .errors import BadData
from .values import fields, frozen

SCHEMA = 1


class System(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"
    MACOS = "macos"


class Vendor(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"
    APPLE = "apple"


MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "x64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
"""Spellings of the processor architecture (lower case) → ours."""


@frozen
class Platform:
    """`libc` is ("glibc" or "musl", version) or None; `container` is the runtime's name or None."""

    system: System
    machine: str
    libc: tuple[str, str] | None = None
    wsl: bool = False
    container: str | None = None


@frozen
class Gpu:
    """One GPU. `arch` is the compute capability "12.0" (nvidia) or the gfx target "gfx1100" (amd)."""

    vendor: Vendor
    name: str | None = None
    arch: str | None = None
    index: int | None = None
    memory_mib: int | None = None
    pci_device_id: str | None = None
    uuid: str | None = None
    mig: bool = False
    source: str = "unknown"


@frozen
class Driver:
    """One vendor's driver. `cuda` is the newest CUDA that it serves, "13.0"."""

    vendor: Vendor
    version: str | None = None
    cuda: str | None = None
    source: str = "unknown"


@frozen
class Skipped:
    """A probe that could not answer, and why."""

    probe: str
    reason: str


@frozen
class Fact:
    """Something one source said: `nvidia.module-version` is `580.95.05` according to `/sys/module/nvidia/version`."""

    name: str
    value: str
    source: str


@frozen
class Machine:
    platform: Platform
    gpus: tuple[Gpu, ...] = ()
    drivers: tuple[Driver, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    facts: tuple[Fact, ...] = ()

    def driver(self, vendor: Vendor) -> Driver | None:
        """The driver of `vendor`, or None."""
        return next((driver for driver in self.drivers if driver.vendor is vendor), None)

    def to_json(self) -> dict[str, Any]:
        """The `data` of `detect --json`."""
        platform = self.platform
        return {
            "schema": SCHEMA,
            "platform": {
                "system": platform.system.value,
                "machine": platform.machine,
                "libc": list(platform.libc) if platform.libc else None,
                "wsl": platform.wsl,
                "container": platform.container,
            },
            "gpus": [{**fields(gpu), "vendor": gpu.vendor.value} for gpu in self.gpus],
            "drivers": [{**fields(driver), "vendor": driver.vendor.value} for driver in self.drivers],
            "skipped": [fields(skipped) for skipped in self.skipped],
            "facts": [fields(fact) for fact in self.facts],
        }


def machine_from_json(data: Any, *, where: str = "machine file") -> Machine:
    """Read `detect --json` output (the data or the whole envelope) back into a Machine.

    Only `platform.system`, `platform.machine` and `gpus` are required. Raises BadData naming `where` and the key.
    """
    if isinstance(data, Mapping) and "platform" not in data and isinstance(data.get("data"), Mapping):
        data = data["data"]
    read = _Reader(where)
    top = read.table(data, "")
    schema = read.number(top, "schema", "") if "schema" in top else SCHEMA
    if schema is not None and schema > SCHEMA:
        raise BadData(
            f"{where}: schema {schema} was written by a newer provision; this one reads up to {SCHEMA}",
            code="schema-too-new",
            hint="update torch-provision, or write the file again with this version: provision detect --json",
        )
    platform = read.table(read.required(top, "platform", ""), "platform")
    gpus = read.rows(read.required(top, "gpus", ""), "gpus")
    return Machine(
        platform=Platform(
            system=read.system(read.required(platform, "system", "platform")),
            machine=read.machine(read.required(platform, "machine", "platform")),
            libc=read.libc(platform.get("libc")),
            wsl=read.flag(platform, "wsl", "platform"),
            container=read.text(platform, "container", "platform"),
        ),
        gpus=tuple(read.gpu(row, f"gpus[{place}]") for place, row in enumerate(gpus)),
        drivers=tuple(
            read.driver(row, f"drivers[{place}]") for place, row in enumerate(read.rows(top.get("drivers"), "drivers"))
        ),
        skipped=tuple(
            Skipped(probe=str(row.get("probe", "?")), reason=str(row.get("reason", "?")))
            for row in read.rows(top.get("skipped"), "skipped")
        ),
        facts=tuple(
            Fact(name=str(row.get("name", "?")), value=str(row.get("value", "?")), source=str(row.get("source", "?")))
            for row in read.rows(top.get("facts"), "facts")
        ),
    )


class _Reader:
    """Typed look-ups whose errors name the file and the key."""

    def __init__(self, where: str) -> None:
        self.where = where

    def bad(self, key: str, problem: str) -> BadData:
        place = f"{self.where}: `{key}`" if key else self.where
        return BadData(
            f"{place} {problem}",
            code="bad-machine",
            hint="the format is that of `provision detect --json`; only platform.system, platform.machine and gpus "
            "are required",
        )

    def table(self, value: Any, key: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.bad(key, f"must be an object, not {_kind(value)}")
        return value

    def required(self, table: Mapping[str, Any], name: str, within: str) -> Any:
        if name not in table:
            raise self.bad(f"{within}.{name}".lstrip("."), "is missing")
        return table[name]

    def rows(self, value: Any, key: str) -> list[Mapping[str, Any]]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(key, f"must be a list, not {_kind(value)}")
        return [self.table(row, f"{key}[{place}]") for place, row in enumerate(value)]

    def text(self, table: Mapping[str, Any], name: str, within: str) -> str | None:
        value = table.get(name)
        if value is not None and not isinstance(value, str):
            raise self.bad(f"{within}.{name}", f"must be text or null, not {_kind(value)}")
        return value

    def number(self, table: Mapping[str, Any], name: str, within: str) -> int | None:
        value = table.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.bad(f"{within}.{name}".lstrip("."), f"must be a whole number or null, not {_kind(value)}")
        return value

    def flag(self, table: Mapping[str, Any], name: str, within: str) -> bool:
        value = table.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.bad(f"{within}.{name}", f"must be true, false or null, not {_kind(value)}")
        return bool(value)

    def pattern(self, table: Mapping[str, Any], name: str, within: str, pattern: str, example: str) -> str | None:
        value = self.text(table, name, within)
        if value is not None and not re.fullmatch(pattern, value):
            raise self.bad(f"{within}.{name}", f"is {value!r}; expected something like {example!r} or null")
        return value

    def system(self, value: Any) -> System:
        try:
            return System(str(value).lower())
        except ValueError:
            raise self.bad("platform.system", f"is {value!r}; expected linux, windows or macos") from None

    def machine(self, value: Any) -> str:
        name = MACHINES.get(str(value).lower())
        if name is None:
            raise self.bad("platform.machine", f"is {value!r}; expected x86_64 or aarch64")
        return name

    def libc(self, value: Any) -> tuple[str, str] | None:
        if value is None:
            return None
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, str) for part in value)):
            raise self.bad("platform.libc", f'must be ["glibc", "2.35"] or null, not {_kind(value)}')
        if not re.fullmatch(r"\d+(\.\d+)*", value[1]):
            raise self.bad("platform.libc", f"has version {value[1]!r}; expected something like '2.35'")
        return (value[0], value[1])

    def vendor(self, row: Mapping[str, Any], key: str) -> Vendor:
        value = self.required(row, "vendor", key)
        try:
            return Vendor(str(value).lower())
        except ValueError:
            raise self.bad(f"{key}.vendor", f"is {value!r}; expected nvidia, amd, intel or apple") from None

    def gpu(self, row: Mapping[str, Any], key: str) -> Gpu:
        vendor = self.vendor(row, key)
        arch = self.text(row, "arch", key)
        if vendor is Vendor.NVIDIA:
            arch = self.pattern(row, "arch", key, r"\d{1,2}\.\d", "12.0")
        return Gpu(
            vendor=vendor,
            name=self.text(row, "name", key),
            arch=arch,
            index=self.number(row, "index", key),
            memory_mib=self.number(row, "memory_mib", key),
            pci_device_id=self.text(row, "pci_device_id", key),
            uuid=self.text(row, "uuid", key),
            mig=self.flag(row, "mig", key),
            source=self.text(row, "source", key) or self.where,
        )

    def driver(self, row: Mapping[str, Any], key: str) -> Driver:
        return Driver(
            vendor=self.vendor(row, key),
            version=self.pattern(row, "version", key, r"\d+(\.\d+)*([ .+-].*)?", "570.124.06"),
            cuda=self.pattern(row, "cuda", key, r"\d+\.\d+", "12.8"),
            source=self.text(row, "source", key) or self.where,
        )


def _kind(value: Any) -> str:
    return {"NoneType": "null", "dict": "an object", "list": "a list", "str": "text"}.get(
        type(value).__name__, type(value).__name__
    )
