"""Which GPUs are on the PCI bus? Knows them without any driver, and says which driver holds each.

Linux: `/sys/bus/pci/devices/*/uevent` (one small read a device). Windows: the display class of the registry. Only
class 0x03 (display) is a GPU: NVSwitches, audio and USB functions share the vendor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..host import Host
from ..machine import Driver, Fact, Vendor
from .answer import TIMEOUT, Answer, Seen, facts_of

DEVICES = "/sys/bus/pci/devices"
VENDORS = {"10de": Vendor.NVIDIA, "1002": Vendor.AMD, "8086": Vendor.INTEL}
DISPLAY = 0x03
NONE_THERE = "no NVIDIA, AMD or Intel display device among the {count} devices of " + DEVICES


def ask_pci(host: Host) -> Answer:
    """The display devices of the three vendors, in the order of their addresses."""
    try:
        addresses = host.list_dir(DEVICES)
    except OSError as error:
        return Answer.nothing("pci", f"{DEVICES}: {error.strerror or error}")
    seen: list[Seen] = []
    facts: list[Fact] = []
    for address in addresses:
        device = ask_device(host, address)
        gpu = parse_device(address, device)
        if gpu is None or is_virtual_function(host, address):
            continue
        seen.append(gpu)
        bound = device.get("DRIVER")
        label = f"{gpu.vendor.value}:{gpu.pci_device_id} at {address}"
        facts += facts_of("pci", pci__gpu=label, pci__driver_bound=f"{bound or 'none'} ({label})")
    if not seen:
        return Answer.nothing("pci", NONE_THERE.format(count=len(addresses)))
    return Answer(source="pci", gpus=numbered(seen), facts=tuple(facts))


def ask_device(host: Host, address: str) -> Mapping[str, str]:
    """A device's `uevent` keys; where a sandbox has no such file, the same from `vendor`, `device` and `class`."""
    folder = f"{DEVICES}/{address}"
    try:
        return parse_uevent(host.read_text(f"{folder}/uevent"))
    except OSError:
        pass
    try:
        vendor, device, kind = (host.read_text(f"{folder}/{name}").strip() for name in ("vendor", "device", "class"))
    except OSError:
        return {}
    return {"PCI_ID": f"{vendor[2:]}:{device[2:]}", "PCI_CLASS": kind[2:]}


def is_virtual_function(host: Host, address: str) -> bool:
    """Whether a device is a slice of another one (SR-IOV), made for guests: it has a link to it, `physfn`."""
    try:
        return bool(host.read_link(f"{DEVICES}/{address}/physfn"))
    except OSError:
        return False


def parse_uevent(text: str) -> dict[str, str]:
    """`DRIVER=nvidia\\nPCI_CLASS=30000\\nPCI_ID=10DE:2B85\\n…` → its keys and values."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_device(address: str, uevent: Mapping[str, str]) -> Seen | None:
    """A GPU, or None for every other device. An NVIDIA id gives the capability; a guess is marked."""
    match = re.fullmatch(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})", uevent.get("PCI_ID", ""))
    try:
        display = int(uevent.get("PCI_CLASS", ""), 16) >> 16 == DISPLAY
    except ValueError:
        display = False
    vendor = VENDORS.get(match[1].lower()) if match else None
    if match is None or vendor is None or not display:
        return None
    return from_id(vendor, f"0x{match[2].lower()}", bus=address.lower())


def from_id(vendor: Vendor, device_id: str, *, bus: str | None = None, name: str | None = None) -> Seen:
    """What a vendor and a device id alone tell."""
    from .. import gpus

    known = gpus.nvidia_gpu(device_id) if vendor is Vendor.NVIDIA else None
    guessed = known.guessed_from if known else None
    family = gpus.intel_name(device_id) if vendor is Vendor.INTEL else None
    return Seen(
        vendor=vendor,
        bus=bus,
        name=name or family or (known.name if known else None),
        arch=known.capability if known else None,
        pci_device_id=device_id,
        note=f"arch guessed from the id block {guessed}" if guessed else None,
    )


def numbered(seen: list[Seen]) -> tuple[Seen, ...]:
    """Each vendor's GPUs counted from 0, in the order given (that of the bus, as NVML counts)."""
    from ..values import replace

    counts: dict[Vendor, int] = {}
    result = []
    for gpu in seen:
        index = counts.get(gpu.vendor, 0)
        counts[gpu.vendor] = index + 1
        result.append(replace(gpu, index=index))
    return tuple(result)


DISPLAY_CLASS = r"HKLM\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
"""Windows' device setup class Display (learn.microsoft.com, system-defined device setup classes, read 2026-11-20)."""


REG = ("reg", "/mnt/c/Windows/System32/reg.exe")
"""The registry's reader, in Windows and, through its interop, in WSL (where no other source knows AMD and Intel)."""


def ask_registry(host: Host, tool: str) -> Answer:
    """Windows: the installed display adapters with their ids and driver versions."""
    try:
        answer = host.run([tool, "query", DISPLAY_CLASS, "/s"], timeout=TIMEOUT)
    except OSError as error:
        return Answer.nothing("registry", f"{tool}: {error.strerror or error}")
    if answer.timed_out:
        return Answer.nothing("registry", f"{tool} query did not answer within {TIMEOUT:g} s", silent=True)
    return parse_registry(answer.stdout)


def parse_registry(text: str) -> Answer:
    """`reg query … /s` → the adapters. The last five digits of an NVIDIA driver's 32.0.15.7261 are its 572.61."""
    seen: list[Seen] = []
    drivers: dict[Vendor, Driver] = {}
    for block in re.split(r"\r?\n(?=HKEY_)", text):
        values = dict(re.findall(r"^ {4}(\S+) {4}REG_\w+ {4}([^\r\n]*)", block, re.M))
        match = re.search(r"ven_([0-9a-f]{4})&dev_([0-9a-f]{4})", values.get("MatchingDeviceId", "").lower())
        vendor = VENDORS.get(match[1]) if match else None
        if match is None or vendor is None:
            continue
        seen.append(from_id(vendor, f"0x{match[2]}", name=values.get("DriverDesc")))
        version = parse_driver_version(vendor, values.get("DriverVersion", ""))
        if version is not None:
            drivers.setdefault(vendor, Driver(vendor=vendor, version=version, source="registry"))
    if not seen:
        return Answer.nothing("registry", "no NVIDIA, AMD or Intel display adapter in the registry")
    nvidia = drivers.get(Vendor.NVIDIA)
    facts = facts_of("registry", nvidia__driver_version=nvidia.version if nvidia else None)
    return Answer(source="registry", gpus=numbered(seen), drivers=tuple(drivers.values()), facts=facts)


def parse_driver_version(vendor: Vendor, text: str) -> str | None:
    """`32.0.15.7261` → NVIDIA's own "572.61"; the other vendors use Windows' number."""
    if re.fullmatch(r"\d+(\.\d+){3}", text) is None:
        return None
    digits = text.replace(".", "")[-5:]
    return f"{digits[:3]}.{digits[3:]}" if vendor is Vendor.NVIDIA else text
