"""What is wrong with this machine, or good to know of it? A Machine goes in, findings come out, the gravest first.

When a situation holds is decided here, one function each, from facts that detection kept; what it means and what to
do about it is a row of `data/situations.toml`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import drivers
from .checks import Finding, Severity
from .coverage import version_tuple
from .machine import Gpu, Machine, System, Vendor


def situations(machine: Machine) -> tuple[Finding, ...]:
    """Every situation that holds, errors first, in the order of `RULES` (the cause before what follows from it)."""
    view = View(machine=machine)
    found = [(code, evidence) for code, rule in RULES.items() for evidence in [rule(view)] if evidence]
    findings = [finding(code, evidence) for code, evidence in found if not _explained(code, {c for c, _ in found})]
    return tuple(sorted(findings, key=lambda each: list(Severity).index(each.severity)))


def finding(code: str, evidence: str) -> Finding:
    """The finding of a code, from its row."""
    row = explanations()[code]
    return Finding(
        code=code,
        severity=Severity(row["severity"]),
        title=row["title"],
        evidence=evidence,
        cause=row["cause"],
        remedy=row["remedy"],
    )


@functools.cache
def explanations() -> Mapping[str, Mapping[str, str]]:
    """The rows of `data/situations.toml` by code: severity, title, cause, remedy, source, read."""
    import tomllib

    with open(os.path.join(os.path.dirname(__file__), "data", "situations.toml"), "rb") as file:
        rows: dict[str, Any] = tomllib.load(file)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A machine with the questions that the rules ask of it."""

    machine: Machine

    def fact(self, name: str) -> str | None:
        """The value of the first fact of that name, which is the most trusted source's."""
        return next((fact.value for fact in self.machine.facts if fact.name == name), None)

    def facts(self, name: str) -> list[str]:
        """All values of that name."""
        return [fact.value for fact in self.machine.facts if fact.name == name]

    def said(self, name: str, source: str) -> str | None:
        """What one source said."""
        return next((fact.value for fact in self.machine.facts if (fact.name, fact.source) == (name, source)), None)

    @property
    def nvidia(self) -> list[Gpu]:
        return [gpu for gpu in self.machine.gpus if gpu.vendor is Vendor.NVIDIA]

    @property
    def driver(self) -> str | None:
        """The version of NVIDIA's usable driver."""
        driver = self.machine.driver(Vendor.NVIDIA)
        return driver.version if driver else None

    @property
    def usable(self) -> bool:
        return self.machine.driver(Vendor.NVIDIA) is not None

    @property
    def nodes(self) -> list[str]:
        """The device nodes, or none."""
        return (self.fact("device-nodes") or "").split()

    @property
    def has_nodes(self) -> bool:
        return any(node.startswith("nvidia") and node[6:].isdigit() for node in self.nodes) or "dxg" in self.nodes

    @property
    def tegra(self) -> bool:
        return self.fact("tegra.soc") is not None or self.fact("tegra.release") is not None

    @property
    def on_pci(self) -> list[str]:
        """NVIDIA's display devices, as `nouveau (nvidia:0x2b85 at 0000:01:00.0)`."""
        return [value for value in self.facts("pci.driver-bound") if "(nvidia:" in value]

    @property
    def module(self) -> str | None:
        return self.fact("nvidia.module-version")

    @property
    def library(self) -> str | None:
        """The path of libcuda: the one that was loaded, else the one that the loader would take."""
        return self.fact("nvidia.libcuda-loaded") or self.fact("nvidia.libcuda")

    @property
    def cuda_error(self) -> int | None:
        """What cuInit answered; None if it was not asked."""
        match = re.search(r"\((\d+)\)$", self.fact("cuda.init") or "")
        return int(match[1]) if match else None

    @property
    def nvml_error(self) -> int | None:
        """What nvmlInit answered; None if it went well or was not asked."""
        match = re.match(r"NVML error (\d+)", self.fact("nvml.init") or "")
        return int(match[1]) if match else None

    @property
    def visible(self) -> list[str] | None:
        """The entries of CUDA_VISIBLE_DEVICES; None if it is not set."""
        value = self.fact("env.CUDA_VISIBLE_DEVICES")
        return None if value is None else [word.strip() for word in value.split(",")]


Rule = Callable[[View], str | None]


def _no_gpu(view: View) -> str | None:
    if view.machine.gpus or view.machine.drivers or view.nvml_error not in {None, 9, 12}:
        return None
    return "; ".join(f"{skipped.probe}: {skipped.reason}" for skipped in view.machine.skipped) or "nothing answered"


def _nouveau(view: View) -> str | None:
    bound = [value for value in view.on_pci if value.startswith(("nouveau", "nova"))]
    return "PCI: held by " + ", ".join(bound) if bound and not view.usable else None


def _unbound(view: View) -> bool:
    """Whether no kernel driver holds NVIDIA's GPU, on a machine that is not a container."""
    free = [value for value in view.on_pci if value.startswith("none")]
    return bool(free) and not view.usable and view.module is None and view.machine.platform.container is None


def _secure_boot(view: View) -> str | None:
    if not (_unbound(view) and view.fact("nvidia.module-on-disk") and view.fact("secure-boot") == "on"):
        return None
    return f"module {view.fact('nvidia.module-on-disk')} is on the disk but not loaded; Secure Boot is on"


def _hybrid(view: View) -> str | None:
    others = [value for value in view.facts("pci.driver-bound") if "(nvidia:" not in value]
    held = [value for value in others if not value.startswith("none")]
    if not (_unbound(view) and held and view.fact("nvidia.module-on-disk") and view.fact("secure-boot") != "on"):
        return None
    return f"PCI: {', '.join(held)}; {', '.join(view.on_pci)}"


def _kernel_module(view: View) -> str | None:
    on_disk = view.fact("nvidia.module-on-disk")
    if not (_unbound(view) and on_disk) or _secure_boot(view) or _hybrid(view):
        return None
    return f"modinfo finds nvidia {on_disk}, /sys/module has none; PCI: {', '.join(view.on_pci)}"


def _driver_missing(view: View) -> str | None:
    if not _unbound(view) or view.fact("nvidia.module-on-disk"):
        return None
    return f"PCI: {', '.join(view.on_pci)}; no kernel module on the disk"


def _lib_mismatch(view: View) -> str | None:
    library = view.fact("nvidia.library-version")
    differ = library is not None and view.module is not None and library != view.module
    if view.nvml_error != 18 and not (differ and not view.usable and not _compat_path(view)):
        return None
    return f"kernel module {view.module or 'of another version'}, libraries {library or 'of this one'}" + (
        "; NVML error 18" if view.nvml_error == 18 else ""
    )


def _libraries_missing(view: View) -> str | None:
    if view.module is None or view.usable or view.library or not view.has_nodes:
        return None
    if _no_compute(view):
        return None
    return f"kernel module {view.module}; libcuda.so.1 is not where the loader looks"


def _no_compute(view: View) -> str | None:
    capabilities = view.fact("env.NVIDIA_DRIVER_CAPABILITIES")
    if view.library or not view.machine.platform.container or not capabilities or not view.has_nodes:
        return None
    if {"compute", "all"} & set(capabilities.split(",")):
        return None
    return f"NVIDIA_DRIVER_CAPABILITIES={capabilities}; no libcuda.so.1"


def _container(view: View) -> str | None:
    container = view.machine.platform.container
    if not container or view.usable or view.has_nodes or not (view.on_pci or view.module):
        return None
    asked = view.fact("env.NVIDIA_VISIBLE_DEVICES")
    told = f"; NVIDIA_VISIBLE_DEVICES={asked}" if asked is not None else ""
    return (
        f"{container}: the host has {', '.join(view.on_pci) or 'module ' + (view.module or '')}, no device nodes{told}"
    )


def _lost_container(view: View) -> str | None:
    if not view.machine.platform.container or view.nvml_error != 999 or not view.has_nodes:
        return None
    return f"device nodes are there ({' '.join(view.nodes)}), NVML answers 999 (Unknown Error)"


def _nodes(view: View) -> str | None:
    stray = [node for node in view.nodes if node.startswith("nvidia")]
    if not stray or view.module or view.usable or view.machine.platform.container or view.tegra:
        return None
    return f"/dev has {' '.join(stray)}; no kernel module is loaded"


def _served(view: View) -> Iterator[tuple[Gpu, bool, str]]:
    """Each NVIDIA GPU that the driver table speaks of, whether the driver serves it, and which drivers do."""
    if view.driver is None or view.tegra:
        return
    windows = drivers.is_windows(view.machine.platform)
    for gpu in view.nvidia:
        if gpu.arch and drivers.support(gpu.arch, windows=windows):
            yield (gpu, *drivers.serves(gpu.arch, view.driver, windows=windows))


def _too_old(view: View) -> str | None:
    return _unserved(view, "<")


def _dropped(view: View) -> str | None:
    return _unserved(view, ">")


def _unserved(view: View, side: str) -> str | None:
    """GPUs whose first driver is newer (side "<") or whose last branch is older (">") than this driver."""
    windows = drivers.is_windows(view.machine.platform)
    told = []
    for gpu, served, wanted in _served(view):
        row = drivers.support(gpu.arch or "", windows=windows)
        assert row is not None and view.driver is not None
        old = row.first is not None and not drivers.at_least(view.driver, row.first, windows=windows)
        if not served and old == (side == "<"):
            told.append(f"{gpu.name or 'GPU'} ({gpu.arch}) is served by drivers {wanted}; this is {view.driver}")
    return "; ".join(told) or None


def _no_devices(view: View) -> str | None:
    if not view.usable or view.fact("nvidia.gpu-count") != "0" or not view.on_pci or _too_old(view) or _dropped(view):
        return None
    kind = view.fact("nvidia.module-kind")
    return f"driver {view.driver} counts 0 GPUs; PCI: {', '.join(view.on_pci)}" + (f"; module: {kind}" if kind else "")


def _not_served(view: View) -> str | None:
    return "; ".join(view.facts("gpu.not-served")) or None


def _stub(view: View) -> str | None:
    if view.cuda_error != 34 and "/stubs/" not in (view.library or ""):
        return None
    return f"libcuda is {view.library}" + ("; cuInit answered 34" if view.cuda_error == 34 else "")


def _compat_path(view: View) -> bool:
    return "compat" in (view.library or "")


def _compat(view: View) -> str | None:
    table, told = (
        view.said("nvidia.cuda", "driver table"),
        view.said("nvidia.cuda", "libcuda") or view.fact("nvidia.cuda"),
    )
    if not _compat_path(view) or view.cuda_error not in {None, 0} or told is None or table in {None, told}:
        return None
    return f"{view.library} says CUDA {told}; driver {view.driver} serves {table}"


def _cuda_error(code: int) -> Rule:
    def rule(view: View) -> str | None:
        if view.cuda_error != code:
            return None
        library = f" of {view.library}" if view.library else ""
        return f"cuInit{library} answered {view.fact('cuda.init')}" + (
            f"; NVML: driver {view.driver}" if view.driver else ""
        )

    return rule


def _cuda_init(view: View) -> str | None:
    known = {None, 0, 34, 802, 803, 804, 999}
    if view.cuda_error in known or not view.usable or view.fact("nvidia.gpu-count") in {None, "0"}:
        return None
    if view.cuda_error == 100 and view.visible is not None:
        return None
    return f"NVML counts {view.fact('nvidia.gpu-count')} GPUs, cuInit answered {view.fact('cuda.init')}"


def _hangs(view: View) -> str | None:
    told = [
        f"{skipped.probe} {skipped.reason}"
        for skipped in view.machine.skipped
        if skipped.probe in {"nvml", "libcuda", "nvidia-smi"}
        and skipped.reason.startswith(("did not answer within", "crashed with signal"))
    ]
    return "; ".join(told) or None


def _lost(view: View) -> str | None:
    told = [value for value in view.facts("gpu.lost") if "lost" in value.lower()]
    return "; ".join(told) or None


def _wsl_none(view: View) -> str | None:
    if not view.machine.platform.wsl or "dxg" in view.nodes or view.machine.platform.container:
        return None
    return "WSL without /dev/dxg"


def _wsl_linux_driver(view: View) -> str | None:
    library = view.library
    if not view.machine.platform.wsl or library is None or library.startswith("/usr/lib/wsl/"):
        return None
    if "/stubs/" in library or _compat_path(view) or view.machine.platform.container:
        return None
    return f"libcuda is {library}, not that of /usr/lib/wsl/lib"


def _wsl_old_nvml(view: View) -> str | None:
    partial = [s.reason for s in view.machine.skipped if s.probe == "nvml" and s.reason.startswith("GPU ")]
    return "; ".join(partial) if view.machine.platform.wsl and partial else None


def _mig(view: View) -> str | None:
    instances = view.facts("nvidia.mig-instance")
    return ", ".join(instances) if any(gpu.mig for gpu in view.nvidia) and instances else None


def _mig_empty(view: View) -> str | None:
    divided = [gpu.name or f"GPU {gpu.index}" for gpu in view.nvidia if gpu.mig]
    if not divided or view.facts("nvidia.mig-instance") or view.fact("nvidia.gpu-count") is None:
        return None
    return f"{', '.join(divided)}: MIG is on, no instances"


def _vgpu(view: View) -> str | None:
    """vGPU guests are named `GRID T4-8Q`, `NVIDIA A16-2Q`, `NVIDIA L40S-48C` (NVIDIA vGPU documentation)."""
    names = [gpu.name for gpu in view.nvidia if gpu.name and re.search(r"^GRID |-\d+[QCAB]\b", gpu.name)]
    return ", ".join(names) or None


def _jetson(view: View) -> str | None:
    if not view.tegra:
        return None
    return f"L4T {view.fact('tegra.release') or 'of unknown release'} on {view.fact('tegra.soc') or 'an unnamed chip'}"


def _mixed(view: View) -> str | None:
    archs = sorted({gpu.arch for gpu in view.nvidia if gpu.arch}, key=version_tuple)
    return f"compute capabilities {', '.join(archs)}" if len(archs) > 1 else None


def _unknown_entries(view: View) -> list[str]:
    """The entries of CUDA_VISIBLE_DEVICES that name no GPU of this machine."""
    count = len(view.nvidia)
    uuids = [gpu.uuid for gpu in view.nvidia if gpu.uuid]

    def known(word: str) -> bool:
        if word.isdigit():
            return int(word) < count
        if word.startswith("MIG"):
            return bool(view.facts("nvidia.mig-instance")) or not uuids
        return word.startswith("GPU-") and (not uuids or any(uuid.startswith(word) for uuid in uuids))

    return [word for word in view.visible or [] if not known(word)]


def _hidden(view: View) -> str | None:
    """CUDA reads the list up to the first entry that names no GPU: a bad first entry hides all."""
    visible = view.visible
    if visible is None or not view.nvidia or visible[0] not in _unknown_entries(view):
        return None
    return f"CUDA_VISIBLE_DEVICES={','.join(visible)!r}; this machine has {len(view.nvidia)} NVIDIA GPU(s)"


def _wrong_visible(view: View) -> str | None:
    if not view.nvidia or _hidden(view) or not _unknown_entries(view):
        return None
    return f"CUDA_VISIBLE_DEVICES={','.join(view.visible or [])}: {', '.join(_unknown_entries(view))} names no GPU here"


def _visible(view: View) -> str | None:
    visible = view.visible
    if visible is None or _hidden(view) or _unknown_entries(view) or not 0 < len(visible) < len(view.nvidia):
        return None
    return f"CUDA_VISIBLE_DEVICES={','.join(visible)}; this machine has {len(view.nvidia)} NVIDIA GPUs"


def _nvidia_visible(view: View) -> str | None:
    value = view.fact("env.NVIDIA_VISIBLE_DEVICES")
    return (
        f"NVIDIA_VISIBLE_DEVICES={value}, not in a container" if value and not view.machine.platform.container else None
    )


def _amd_driver(view: View) -> str | None:
    waiting = [gpu for gpu in view.machine.gpus if gpu.vendor is Vendor.AMD and gpu.arch is None]
    if not waiting or view.machine.platform.system is not System.LINUX:
        return None
    return ", ".join(value for value in view.facts("pci.driver-bound") if "(amd:" in value) or "no gfx target"


def _hsa(view: View) -> str | None:
    value = view.fact("env.HSA_OVERRIDE_GFX_VERSION")
    return f"HSA_OVERRIDE_GFX_VERSION={value}" if value else None


def _intel_driver(view: View) -> str | None:
    free = [value for value in view.facts("pci.driver-bound") if "(intel:" in value and value.startswith("none")]
    return ", ".join(free) if free and not view.machine.driver(Vendor.INTEL) else None


def _guessed(view: View) -> str | None:
    return "; ".join(f"{gpu.pci_device_id}: {gpu.source}" for gpu in view.nvidia if "guessed" in gpu.source) or None


def _unknown_arch(view: View) -> str | None:
    return ", ".join(gpu.name or gpu.pci_device_id or f"GPU {gpu.index}" for gpu in view.nvidia if not gpu.arch) or None


def _rosetta(view: View) -> str | None:
    return "sysctl.proc_translated is 1" if view.fact("macos.rosetta") == "1" else None


RULES: Mapping[str, Rule] = {
    "container-no-gpu": _container,
    "container-no-compute": _no_compute,
    "container-lost-gpu": _lost_container,
    "nouveau": _nouveau,
    "secure-boot": _secure_boot,
    "hybrid-gpu-off": _hybrid,
    "kernel-module": _kernel_module,
    "driver-missing": _driver_missing,
    "driver-lib-mismatch": _lib_mismatch,
    "driver-libraries-missing": _libraries_missing,
    "driver-too-old-for-gpu": _too_old,
    "driver-dropped-gpu": _dropped,
    "no-devices": _no_devices,
    "wsl-no-gpu": _wsl_none,
    "wsl-linux-driver": _wsl_linux_driver,
    "cuda-stub-library": _stub,
    "cuda-compat-804": _cuda_error(804),
    "error-802": _cuda_error(802),
    "error-803": _cuda_error(803),
    "error-999-suspend": _cuda_error(999),
    "cuda-init": _cuda_init,
    "driver-hangs": _hangs,
    "gpu-lost": _lost,
    "mig-without-instances": _mig_empty,
    "cuda-visible-devices-empty": _hidden,
    "amd-driver-missing": _amd_driver,
    "intel-driver-missing": _intel_driver,
    "arch-unknown": _unknown_arch,
    "cuda-compat": _compat,
    "cuda-visible-devices-wrong": _wrong_visible,
    "gpu-not-served": _not_served,
    "arch-guessed": _guessed,
    "device-nodes": _nodes,
    "rosetta": _rosetta,
    "no-gpu": _no_gpu,
    "wsl-old-nvml": _wsl_old_nvml,
    "mig": _mig,
    "vgpu": _vgpu,
    "jetson": _jetson,
    "mixed-gpus": _mixed,
    "cuda-visible-devices": _visible,
    "nvidia-visible-devices": _nvidia_visible,
    "hsa-override": _hsa,
}
"""When each situation holds, the likeliest causes first."""

EXPLAINS: Mapping[str, frozenset[str]] = {
    "driver-lib-mismatch": frozenset({"error-803", "cuda-init"}),
    "cuda-stub-library": frozenset({"cuda-init", "error-999-suspend", "wsl-linux-driver"}),
    "wsl-linux-driver": frozenset({"cuda-init", "error-803", "error-999-suspend"}),
    "container-lost-gpu": frozenset({"error-999-suspend", "no-gpu"}),
    "wsl-no-gpu": frozenset({"no-gpu"}),
    "no-devices": frozenset({"cuda-init"}),
    "gpu-lost": frozenset({"error-999-suspend", "cuda-init"}),
    "device-nodes": frozenset(),
}
"""A situation and those that only follow from it: they would be said twice."""


def _explained(code: str, found: set[str]) -> bool:
    return any(code in follow for cause, follow in EXPLAINS.items() if cause in found)
