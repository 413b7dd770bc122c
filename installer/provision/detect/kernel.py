"""What does the system hold of NVIDIA's driver? Kernel module, module on disk, device nodes, libraries, Tegra."""

from __future__ import annotations

import re

from ..host import Host
from ..machine import Fact, Skipped, System, Vendor
from .answer import TIMEOUT, Answer, Seen, facts_of

LIBRARIES = {
    System.LINUX: {"nvml": "libnvidia-ml.so.1", "libcuda": "libcuda.so.1"},
    System.WINDOWS: {"nvml": "nvml.dll", "libcuda": "nvcuda.dll"},
}
MODULE = "/sys/module/nvidia/version"
PROC = "/proc/driver/nvidia/version"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def ask_module(host: Host) -> Answer:
    """The loaded kernel module's version. It says nothing of the libraries, and a container sees the host's."""
    answers = []
    for path, parse in [(MODULE, parse_module), (PROC, parse_proc)]:
        try:
            version, kind = parse(host.read_text(path))
        except OSError as error:
            answers.append(Answer.nothing(path, error.strerror or str(error)))
            continue
        if version is None:
            answers.append(Answer.nothing(path, "holds no version"))
        else:
            facts = facts_of(path, nvidia__module_version=version, nvidia__module_kind=kind)
            answers.append(Answer(source=path, facts=facts))
    facts = tuple(fact for answer in answers for fact in answer.facts)
    return Answer(source="module", facts=facts, skipped=tuple(s for answer in answers for s in answer.skipped))


def parse_module(text: str) -> tuple[str | None, str | None]:
    """`580.95.05\\n` → (version, None)."""
    match = re.fullmatch(r"\d+(\.\d+)+", text.strip())
    return (match[0] if match else None, None)


def parse_proc(text: str) -> tuple[str | None, str | None]:
    """The NVRM line, in its proprietary and its open form → (version, "proprietary" or "open")."""
    match = re.search(r"Kernel Module\b(.*)", text)
    number = re.search(r"\d+(?:\.\d+)+", match[1]) if match else None
    if number is None:
        return (None, None)
    return (number[0], "open" if "Open Kernel Module" in text else "proprietary")


def ask_module_on_disk(host: Host) -> Answer:
    """The version of the module that the running kernel would load, and whether Secure Boot may keep it from it."""
    facts = facts_of("efivars", secure_boot=ask_secure_boot(host))
    try:
        answer = host.run(["modinfo", "-F", "version", "nvidia"], timeout=TIMEOUT)
    except OSError as error:
        return Answer.nothing("modinfo", error.strerror or str(error), facts=facts)
    version, _ = parse_module(answer.stdout)
    if version is None:
        reason = (answer.stderr.strip().splitlines() or ["named no version"])[-1]
        return Answer.nothing("modinfo", "did not answer" if answer.timed_out else reason, facts=facts)
    return Answer(source="modinfo", facts=facts + facts_of("modinfo", nvidia__module_on_disk=version))


def ask_secure_boot(host: Host) -> str | None:
    """ "on" or "off": the last of the variable's five bytes (UEFI specification, SecureBoot; the first four are
    efivarfs's attributes). None where there is no UEFI."""
    try:
        value = host.read_text(SECURE_BOOT)
    except OSError:
        return None
    return {"\x01": "on", "\x00": "off"}.get(value[-1:])


def ask_nodes(host: Host) -> Answer:
    """The device nodes: without them (or /dev/dxg in WSL) a container has no GPU, whatever else it holds."""
    try:
        names = [name for prefix in ("nvidia", "dxg", "kfd") for name in host.list_dir("/dev", prefix=prefix)]
    except OSError as error:
        return Answer.nothing("/dev", error.strerror or str(error))
    return Answer(source="/dev", facts=facts_of("/dev", device_nodes=" ".join(names) or None))


def ask_libraries(host: Host, system: System) -> Answer:
    """Where the loader finds NVIDIA's libraries, and the driver version in their file names."""
    facts: list[Fact] = []
    skipped: list[Skipped] = []
    for source, library in LIBRARIES[system].items():
        path = host.find_library(library)
        if path is None:
            skipped.append(Skipped(probe=source, reason=f"{library} is not where the loader looks"))
            continue
        facts += facts_of("loader", **{f"nvidia__{source}": path})
        try:
            version = parse_library(host.real_path(path))
        except OSError:
            version = None
        facts += facts_of(library, nvidia__library_version=version)
    return Answer(source="loader", facts=tuple(facts), skipped=tuple(skipped))


def parse_library(path: str) -> str | None:
    """`/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05` → 580.95.05; `libcuda.so.1.1` (WSL, Tegra) names none."""
    match = re.search(r"\.so\.(\d{3,}\.\d+(?:\.\d+)*)$", path)
    return match[1] if match else None


def ask_tegra(host: Host) -> Answer:
    """Jetson: the L4T release and the system-on-chip, whose GPU is not on PCI."""
    release = soc = model = None
    reason = "no /etc/nv_tegra_release and no NVIDIA system-on-chip"
    for path in ("/etc/nv_tegra_release", "/proc/device-tree/compatible", "/proc/device-tree/model"):
        try:
            text = host.read_text(path)
        except OSError:
            continue
        if path.endswith("release"):
            release = parse_tegra_release(text)
        elif path.endswith("compatible"):
            soc = parse_compatible(text)
        else:
            model = text.strip("\0\n ") or None
    if release is None and soc is None:
        return Answer.nothing("tegra", reason)
    facts = facts_of("tegra", tegra__release=release, tegra__soc=soc, tegra__model=model)
    from .. import gpus

    known = gpus.tegra_gpu(soc) if soc else None
    if known is None:
        return Answer.nothing("tegra", f"system-on-chip {soc or 'unnamed'} is not in the table", facts=facts)
    gpu = Seen(vendor=Vendor.NVIDIA, index=0, name=model or known.name, arch=known.capability)
    return Answer(source="tegra", gpus=(gpu,), facts=facts)


def parse_tegra_release(text: str) -> str | None:
    """`# R36 (release), REVISION: 4.3, GCID: …` → "36.4.3"."""
    match = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    return f"{match[1]}.{match[2]}" if match else None


def parse_compatible(text: str) -> str | None:
    """`nvidia,p3737-0000+p3701-0005\\0nvidia,tegra234\\0` → "tegra234"."""
    match = re.search(r"nvidia,(tegra\d+)\b", text)
    return match[1] if match else None
