"""Which AMD GPUs are there? The kernel's compute topology names each one's gfx target.

A GPU that is on PCI but not in the topology keeps `arch` null: the topology is what ROCm itself reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..host import Host
from ..machine import Driver, Vendor
from .answer import TIMEOUT, Answer, Seen, facts_of

NODES = "/sys/class/kfd/kfd/topology/nodes"
MODULE = "/sys/module/amdgpu/version"
ROCM = "/opt/rocm/.info/version"


def ask_kfd(host: Host) -> Answer:
    """The GPUs of the topology, with the memory of their banks."""
    try:
        nodes = sorted(host.list_dir(NODES), key=lambda name: (len(name), name))
    except OSError as error:
        return Answer.nothing("kfd", f"{NODES}: {error.strerror or error}")
    gpus: list[Seen] = []
    refused = 0
    for node in nodes:
        try:
            properties = parse_properties(host.read_text(f"{NODES}/{node}/properties"))
        except OSError:
            refused += 1
            continue
        gpu = parse_node(properties, index=len(gpus), memory=ask_memory(host, node, properties))
        if gpu is not None:
            gpus.append(gpu)
    version = _read(host, MODULE)
    facts = facts_of("kfd", amd__gpu_count=str(len(gpus))) + facts_of(MODULE, amd__module_version=version)
    facts += facts_of(ROCM, amd__rocm_version=_read(host, ROCM))
    if not gpus:
        reason = f"{refused} nodes may not be read" if refused else "only processors in the topology"
        return Answer.nothing("kfd", reason, facts=facts)
    return Answer(
        source="kfd", gpus=tuple(gpus), drivers=(Driver(vendor=Vendor.AMD, version=version, source="kfd"),), facts=facts
    )


def ask_memory(host: Host, node: str, properties: Mapping[str, int]) -> int | None:
    """MiB of a node's memory banks."""
    total = 0
    for bank in range(properties.get("mem_banks_count", 0)):
        try:
            total += parse_properties(host.read_text(f"{NODES}/{node}/mem_banks/{bank}/properties")).get(
                "size_in_bytes", 0
            )
        except OSError:
            return None
    return total >> 20 or None


def parse_properties(text: str) -> dict[str, int]:
    """`simd_count 96\\ngfx_target_version 110000\\n…` → numbers by name."""
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.M)}


def parse_node(properties: Mapping[str, int], *, index: int, memory: int | None) -> Seen | None:
    """A GPU, or None for a processor (which has no gfx target)."""
    target = parse_gfx(properties.get("gfx_target_version", 0))
    if target is None or not properties.get("simd_count"):
        return None
    device = properties.get("device_id")
    location = properties.get("location_id", 0)
    bus = f"{properties.get('domain', 0):04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7:x}"
    return Seen(
        vendor=Vendor.AMD,
        bus=bus,
        index=index,
        arch=target,
        memory_mib=memory,
        pci_device_id=f"0x{device:04x}" if device else None,
    )


def parse_gfx(version: int) -> str | None:
    """110000 → gfx1100, 90010 → gfx90a: major, then minor and stepping as one hexadecimal digit each."""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}" if major else None


def ask_rocminfo(host: Host, tool: str) -> Answer:
    """rocminfo: marketing names, and the only source under WSL."""
    try:
        answer = host.run([tool], timeout=TIMEOUT)
    except OSError as error:
        return Answer.nothing("rocminfo", f"{tool}: {error.strerror or error}")
    if answer.timed_out:
        return Answer.nothing("rocminfo", f"did not answer within {TIMEOUT:g} s", silent=True)
    gpus = parse_rocminfo(answer.stdout)
    if not gpus:
        lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
        reason = f"exit code {answer.returncode}: {lines[-1][:200] if lines else 'printed nothing'}"
        return Answer.nothing("rocminfo", "no GPU agent" if answer.returncode == 0 else reason)
    return Answer(source="rocminfo", gpus=gpus, drivers=(Driver(vendor=Vendor.AMD, source="rocminfo"),))


def parse_rocminfo(text: str) -> tuple[Seen, ...]:
    """The `Agent N` blocks of type GPU: gfx name, marketing name, chip id, bus."""
    gpus: list[Seen] = []
    for block in re.split(r"^Agent \d+\s*$", text, flags=re.M)[1:]:
        values = dict(re.findall(r"^  (\w[\w ]*): +(.*?) *$", block, re.M))
        if values.get("Device Type") != "GPU" or not values.get("Name", "").startswith("gfx"):
            continue
        chip = re.search(r"\(0x([0-9a-f]+)\)", values.get("Chip ID", ""))
        bdf = int(values["BDFID"]) if values.get("BDFID", "").isdigit() else None
        gpus.append(
            Seen(
                vendor=Vendor.AMD,
                bus=f"0000:{bdf >> 8:02x}:{bdf >> 3 & 0x1F:02x}.{bdf & 7:x}" if bdf else None,
                index=len(gpus),
                name=values.get("Marketing Name") or None,
                arch=values["Name"].split(":")[0],
                pci_device_id=f"0x{int(chip[1], 16):04x}" if chip else None,
            )
        )
    return tuple(gpus)


def _read(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path).strip() or None
    except OSError:
        return None
