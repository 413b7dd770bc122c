"""The driver is there: do its libraries, the GPUs' state and the shell's variables let a program use them?"""

from __future__ import annotations

import re

from ..coverage import version_tuple
from .view import Rule, View


def stub_library(view: View) -> str | None:
    if view.cuda_error != 34 and "/stubs/" not in (view.library or ""):
        return None
    return f"libcuda is {view.library}" + ("; cuInit answered 34" if view.cuda_error == 34 else "")


def compat_library(view: View) -> str | None:
    table, told = (
        view.said("nvidia.cuda", "driver table"),
        view.said("nvidia.cuda", "libcuda") or view.fact("nvidia.cuda"),
    )
    if not view.compat or view.cuda_error not in {None, 0} or told is None or table in {None, told}:
        return None
    return f"{view.library} says CUDA {told}; driver {view.driver} serves {table}"


def cuda_error(code: int) -> Rule:
    def rule(view: View) -> str | None:
        if view.cuda_error != code:
            return None
        library = f" of {view.library}" if view.library else ""
        return f"cuInit{library} answered {view.fact('cuda.init')}" + (
            f"; NVML: driver {view.driver}" if view.driver else ""
        )

    return rule


def cuda_failure(view: View) -> str | None:
    known = {None, 0, 34, 802, 803, 804, 999}
    if view.cuda_error in known or not view.usable or view.fact("nvidia.gpu-count") in {None, "0"}:
        return None
    if view.cuda_error == 100 and view.visible is not None:
        return None
    return f"NVML counts {view.fact('nvidia.gpu-count')} GPUs, cuInit answered {view.fact('cuda.init')}"


def hanging_driver(view: View) -> str | None:
    told = [
        f"{skipped.probe} {skipped.reason}"
        for skipped in view.machine.skipped
        if skipped.probe in {"nvml", "libcuda", "nvidia-smi"}
        and skipped.reason.startswith(("did not answer within", "crashed with signal"))
    ]
    return "; ".join(told) or None


def lost_gpu(view: View) -> str | None:
    told = [value for value in view.facts("gpu.lost") if "lost" in value.lower()]
    return "; ".join(told) or None


def wsl_without_gpu(view: View) -> str | None:
    if not view.machine.platform.wsl or "dxg" in view.nodes or view.machine.platform.container:
        return None
    return "WSL without /dev/dxg"


def wsl_linux_driver(view: View) -> str | None:
    library = view.library
    if not view.machine.platform.wsl or library is None or library.startswith("/usr/lib/wsl/"):
        return None
    if "/stubs/" in library or view.compat or view.machine.platform.container:
        return None
    return f"libcuda is {library}, not that of /usr/lib/wsl/lib"


def wsl_old_nvml(view: View) -> str | None:
    partial = [s.reason for s in view.machine.skipped if s.probe == "nvml" and s.reason.startswith("GPU ")]
    return "; ".join(partial) if view.machine.platform.wsl and partial else None


def mig(view: View) -> str | None:
    instances = view.facts("nvidia.mig-instance")
    return ", ".join(instances) if any(gpu.mig for gpu in view.nvidia) and instances else None


def mig_without_instances(view: View) -> str | None:
    divided = [gpu.name or f"GPU {gpu.index}" for gpu in view.nvidia if gpu.mig]
    if not divided or view.facts("nvidia.mig-instance") or view.fact("nvidia.gpu-count") is None:
        return None
    return f"{', '.join(divided)}: MIG is on, no instances"


def vgpu(view: View) -> str | None:
    """vGPU guests are named `GRID T4-8Q`, `NVIDIA A16-2Q`, `NVIDIA L40S-48C` (NVIDIA vGPU documentation)."""
    names = [gpu.name for gpu in view.nvidia if gpu.name and re.search(r"^GRID |-\d+[QCAB]\b", gpu.name)]
    return ", ".join(names) or None


def jetson(view: View) -> str | None:
    if not view.tegra:
        return None
    return f"L4T {view.fact('tegra.release') or 'of unknown release'} on {view.fact('tegra.soc') or 'an unnamed chip'}"


def mixed_gpus(view: View) -> str | None:
    archs = sorted({gpu.arch for gpu in view.nvidia if gpu.arch}, key=version_tuple)
    return f"compute capabilities {', '.join(archs)}" if len(archs) > 1 else None


def unknown_entries(view: View) -> list[str]:
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


def all_hidden(view: View) -> str | None:
    """CUDA reads the list up to the first entry that names no GPU: a bad first entry hides all."""
    visible = view.visible
    if visible is None or not view.nvidia or visible[0] not in unknown_entries(view):
        return None
    return f"CUDA_VISIBLE_DEVICES={','.join(visible)!r}; this machine has {len(view.nvidia)} NVIDIA GPU(s)"


def wrong_entry(view: View) -> str | None:
    if not view.nvidia or all_hidden(view) or not unknown_entries(view):
        return None
    return f"CUDA_VISIBLE_DEVICES={','.join(view.visible or [])}: {', '.join(unknown_entries(view))} names no GPU here"


def some_hidden(view: View) -> str | None:
    visible = view.visible
    if visible is None or all_hidden(view) or unknown_entries(view) or not 0 < len(visible) < len(view.nvidia):
        return None
    return f"CUDA_VISIBLE_DEVICES={','.join(visible)}; this machine has {len(view.nvidia)} NVIDIA GPUs"


def ignored_variable(view: View) -> str | None:
    value = view.fact("env.NVIDIA_VISIBLE_DEVICES")
    return (
        f"NVIDIA_VISIBLE_DEVICES={value}, not in a container" if value and not view.machine.platform.container else None
    )


def renamed_target(view: View) -> str | None:
    value = view.fact("env.HSA_OVERRIDE_GFX_VERSION")
    return f"HSA_OVERRIDE_GFX_VERSION={value}" if value else None


def guessed_arch(view: View) -> str | None:
    return "; ".join(f"{gpu.pci_device_id}: {gpu.source}" for gpu in view.nvidia if "guessed" in gpu.source) or None


def unknown_arch(view: View) -> str | None:
    return ", ".join(gpu.name or gpu.pci_device_id or f"GPU {gpu.index}" for gpu in view.nvidia if not gpu.arch) or None


def rosetta(view: View) -> str | None:
    return "sysctl.proc_translated is 1" if view.fact("macos.rosetta") == "1" else None
