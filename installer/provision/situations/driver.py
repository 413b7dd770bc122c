"""Is there a driver for the GPU, does it fit, and was the container given it?"""

from __future__ import annotations

from .. import drivers
from ..machine import System, Vendor
from .view import View


def no_gpu(view: View) -> str | None:
    if view.machine.gpus or view.machine.drivers or view.nvml_error not in {None, 9, 12}:
        return None
    return "; ".join(f"{skipped.probe}: {skipped.reason}" for skipped in view.machine.skipped) or "nothing answered"


def nouveau(view: View) -> str | None:
    bound = [value for value in view.on_pci if value.startswith(("nouveau", "nova"))]
    return "PCI: held by " + ", ".join(bound) if bound and not view.usable else None


def passed_through(view: View) -> str | None:
    """Kernel drivers that hold a GPU for a virtual machine."""
    bound = [value for value in view.on_pci if value.startswith(("vfio-pci", "pci-stub"))]
    return "PCI: held by " + ", ".join(bound) if bound and not view.usable else None


def unbound(view: View) -> bool:
    """Whether no kernel driver holds NVIDIA's GPU, on a machine that is not a container."""
    free = [value for value in view.on_pci if value.startswith("none")]
    return bool(free) and not view.usable and view.module is None and view.machine.platform.container is None


def secure_boot(view: View) -> str | None:
    if not (unbound(view) and view.fact("nvidia.module-on-disk") and view.fact("secure-boot") == "on"):
        return None
    return f"module {view.fact('nvidia.module-on-disk')} is on the disk but not loaded; Secure Boot is on"


def hybrid_gpu_off(view: View) -> str | None:
    others = [value for value in view.facts("pci.driver-bound") if "(nvidia:" not in value]
    held = [value for value in others if not value.startswith("none")]
    if not (unbound(view) and held and view.fact("nvidia.module-on-disk") and view.fact("secure-boot") != "on"):
        return None
    return f"PCI: {', '.join(held)}; {', '.join(view.on_pci)}"


def kernel_module(view: View) -> str | None:
    on_disk = view.fact("nvidia.module-on-disk")
    if not (unbound(view) and on_disk) or secure_boot(view) or hybrid_gpu_off(view):
        return None
    return f"modinfo finds nvidia {on_disk}, /sys/module has none; PCI: {', '.join(view.on_pci)}"


def driver_missing(view: View) -> str | None:
    if not unbound(view) or view.fact("nvidia.module-on-disk"):
        return None
    return f"PCI: {', '.join(view.on_pci)}; no kernel module on the disk"


def library_mismatch(view: View) -> str | None:
    library = view.fact("nvidia.library-version")
    differ = library is not None and view.module is not None and library != view.module
    if view.nvml_error != 18 and not (differ and not view.usable and not view.compat):
        return None
    return f"kernel module {view.module or 'of another version'}, libraries {library or 'of this one'}" + (
        "; NVML error 18" if view.nvml_error == 18 else ""
    )


def libraries_missing(view: View) -> str | None:
    if view.module is None or view.usable or view.library or not view.has_nodes:
        return None
    if container_without_compute(view):
        return None
    return f"kernel module {view.module}; libcuda.so.1 is not where the loader looks"


def container_without_compute(view: View) -> str | None:
    capabilities = view.fact("env.NVIDIA_DRIVER_CAPABILITIES")
    if view.library or not view.machine.platform.container or not capabilities or not view.has_nodes:
        return None
    if {"compute", "all"} & set(capabilities.split(",")):
        return None
    return f"NVIDIA_DRIVER_CAPABILITIES={capabilities}; no libcuda.so.1"


def container_without_gpu(view: View) -> str | None:
    container = view.machine.platform.container
    if not container or view.usable or view.has_nodes or not (view.on_pci or view.module):
        return None
    asked = view.fact("env.NVIDIA_VISIBLE_DEVICES")
    told = f"; NVIDIA_VISIBLE_DEVICES={asked}" if asked is not None else ""
    return (
        f"{container}: the host has {', '.join(view.on_pci) or 'module ' + (view.module or '')}, no device nodes{told}"
    )


def container_lost_gpu(view: View) -> str | None:
    if not view.machine.platform.container or view.nvml_error != 999 or not view.has_nodes:
        return None
    return f"device nodes are there ({' '.join(view.nodes)}), NVML answers 999 (Unknown Error)"


def stray_nodes(view: View) -> str | None:
    stray = [node for node in view.nodes if node.startswith("nvidia")]
    if not stray or view.module or view.usable or view.machine.platform.container or view.tegra:
        return None
    return f"/dev has {' '.join(stray)}; no kernel module is loaded"


def too_old(view: View) -> str | None:
    """GPUs whose first driver is newer than this one."""
    return _unserved(view, too_old=True)


def dropped(view: View) -> str | None:
    """GPUs whose last driver branch is older than this one."""
    return _unserved(view, too_old=False)


def _unserved(view: View, *, too_old: bool) -> str | None:
    if view.driver is None or view.tegra:
        return None
    windows = drivers.is_windows(view.machine.platform)
    told = []
    for gpu in view.nvidia:
        row = drivers.support(gpu.arch, windows=windows) if gpu.arch else None
        if gpu.arch is None or row is None:
            continue
        fits, wanted = drivers.serves(gpu.arch, view.driver, windows=windows)
        older = row.first is not None and not drivers.at_least(view.driver, row.first, windows=windows)
        if not fits and older == too_old:
            told.append(f"{gpu.name or 'GPU'} ({gpu.arch}) is served by drivers {wanted}; this is {view.driver}")
    return "; ".join(told) or None


def no_devices(view: View) -> str | None:
    if not view.usable or view.fact("nvidia.gpu-count") != "0" or not view.on_pci or too_old(view) or dropped(view):
        return None
    kind = view.fact("nvidia.module-kind")
    return f"driver {view.driver} counts 0 GPUs; PCI: {', '.join(view.on_pci)}" + (f"; module: {kind}" if kind else "")


def not_served(view: View) -> str | None:
    if view.machine.platform.container:  # which was given a part of the host's GPUs
        return None
    return "; ".join(view.facts("gpu.not-served")) or None


def amd_driver(view: View) -> str | None:
    waiting = [gpu for gpu in view.machine.gpus if gpu.vendor is Vendor.AMD and gpu.arch is None]
    if not waiting or view.nvidia or view.machine.platform.system is not System.LINUX:
        return None
    return ", ".join(value for value in view.facts("pci.driver-bound") if "(amd:" in value) or "no gfx target"


def intel_driver(view: View) -> str | None:
    free = [value for value in view.facts("pci.driver-bound") if "(intel:" in value and value.startswith("none")]
    others = any(gpu.vendor is not Vendor.INTEL for gpu in view.machine.gpus)
    return ", ".join(free) if free and not others and not view.machine.driver(Vendor.INTEL) else None
