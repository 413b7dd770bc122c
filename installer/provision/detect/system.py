"""What system is this? Operating system, processor, C library, WSL, container; pure parsers below the asking half."""

from __future__ import annotations

import re

from ..errors import ProvisionError
from ..host import Host, Uname
from ..machine import MACHINES, Fact, Platform, System
from .answer import TIMEOUT, Answer

SYSTEMS = {"linux": System.LINUX, "win32": System.WINDOWS, "cygwin": System.WINDOWS, "darwin": System.MACOS}

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "ZE_AFFINITY_MASK",
)
"""Variables that decide which GPUs a program sees; they are recorded and hide nothing from the Machine."""


def ask_platform(host: Host) -> Platform:
    """The platform. Raises ProvisionError where torch-provision knows no such system or processor."""
    uname = host.uname()
    system = SYSTEMS.get(uname.system)
    machine = MACHINES.get(uname.machine.lower())
    if system is None or machine is None:
        raise ProvisionError(
            f"this is {uname.system} on {uname.machine}; PyTorch publishes builds for Linux, Windows and macOS on "
            "x86_64 and aarch64",
            code="platform-unknown",
            hint="build PyTorch from source, or name another machine with --machine FILE",
        )
    if system is System.MACOS and machine == "x86_64" and translated(host):
        machine = "aarch64"
    wsl = system is System.LINUX and is_wsl(uname.release)
    return Platform(
        system=system,
        machine=machine,
        libc=ask_libc(host, uname) if system is System.LINUX else None,
        wsl=wsl,
        container=ask_container(host) if system is System.LINUX else None,
    )


def translated(host: Host) -> bool:
    """Whether an x86_64 process runs on Apple silicon through Rosetta: `sysctl -n sysctl.proc_translated` is 1."""
    try:
        return host.run(["sysctl", "-n", "sysctl.proc_translated"], timeout=TIMEOUT).stdout.strip() == "1"
    except OSError:
        return False


def ask_libc(host: Host, uname: Uname) -> tuple[str, str] | None:
    """The system's C library: what the interpreter names, else the version that musl's loader or `ldd` prints (a
    static interpreter on a glibc system names none)."""
    found = parse_glibc(uname.libc)
    if found is not None:
        return found
    try:
        loaders = host.list_dir("/lib", prefix="ld-musl-")
        if loaders:
            return parse_musl(host.run([f"/lib/{loaders[0]}"], timeout=TIMEOUT).stderr)
        return parse_ldd(host.run(["ldd", "--version"], timeout=TIMEOUT).stdout)
    except OSError:
        return None


def parse_glibc(text: str | None) -> tuple[str, str] | None:
    """`glibc 2.36` (confstr CS_GNU_LIBC_VERSION) → ("glibc", "2.36"); vendors may append to the number."""
    match = re.match(r"glibc (\d+\.\d+)", text or "")
    return ("glibc", match[1]) if match else None


def parse_ldd(text: str) -> tuple[str, str] | None:
    """`ldd (Ubuntu GLIBC 2.39-0ubuntu8.6) 2.39\\n…` → ("glibc", "2.39")."""
    match = re.match(r"ldd \(.*\) (\d+\.\d+)$", text, re.M)
    return ("glibc", match[1]) if match else None


def parse_musl(text: str) -> tuple[str, str] | None:
    """The usage text of musl's loader (`musl libc (x86_64)\\nVersion 1.2.5\\n…`) → ("musl", "1.2.5")."""
    match = re.search(r"^musl libc.*\nVersion (\d+(?:\.\d+)*)", text, re.M)
    return ("musl", match[1]) if match else None


def is_wsl(release: str) -> bool:
    """Whether a kernel's release is Microsoft's: `5.15.153.1-microsoft-standard-WSL2`, `4.4.0-19041-Microsoft`."""
    return "microsoft" in release.lower()


CONTAINER_FILES = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"))
CONTAINER_VARIABLES = (
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("APPTAINER_CONTAINER", "apptainer"),
    ("SINGULARITY_CONTAINER", "singularity"),
)


def ask_container(host: Host) -> str | None:
    """The container runtime's name, or None on a bare or virtual machine.

    Signs: systemd's `/run/systemd/container` and `container` variable (https://systemd.io/CONTAINER_INTERFACE, read
    2026-11-20), the files of Docker and Podman, the variables of the others, the names in a version 1 cgroup.
    """
    for variable, name in CONTAINER_VARIABLES:
        if host.getenv(variable):
            return name
    for path, name in CONTAINER_FILES:
        if _read(host, path) is not None:
            return name
    named = host.getenv("container") or (_read(host, "/run/systemd/container") or "").strip()
    return named or parse_cgroup(_read(host, "/proc/1/cgroup") or "")


def parse_cgroup(text: str) -> str | None:
    """The runtime named in `/proc/1/cgroup`: `11:memory:/docker/3f1…` → "docker"."""
    match = re.search(r"[/:-](docker|kubepods|containerd|libpod|crio|lxc|garden)\b", text)
    return {"kubepods": "kubernetes", "libpod": "podman"}.get(match[1], match[1]) if match else None


def ask_variables(host: Host) -> Answer:
    """The variables that hide or rename GPUs, as facts; an empty one is a fact too."""
    values = [(name, host.getenv(name)) for name in VARIABLES]
    return Answer(
        source="environment",
        facts=tuple(
            Fact(name=f"env.{name}", value=value, source="environment") for name, value in values if value is not None
        ),
    )


def _read(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path)
    except OSError:
        return None
