"""What is this machine, according to every source that it has? `detect(host)` asks each once and merges the answers.

`SOURCES` is the order of precedence. Files are read first; what blocks (libraries in child processes, tools) is asked
in parallel and only where something speaks of the vendor, so a machine without a GPU pays nothing for it, not even the
import of the modules that would ask.

Facts, by name (each with its source; what sources say differently is there once for each):
`nvidia.driver-version`, `.cuda` (newest CUDA served; `driver table` says what the branch serves), `.module-version`,
`.module-kind` (open, proprietary), `.module-on-disk`, `.library-version`, `.nvml`, `.libcuda` (paths),
`.libcuda-loaded`, `.nvml-version`, `.gpu-count`, `.mig-instance` · `nvml.init`, `cuda.init`, `cuda.gpu-count` ·
`pci.gpu`, `pci.driver-bound` ("nouveau (nvidia:0x2b85 at 0000:01:00.0)") · `gpu.lost`, `gpu.not-served`, `gpu0.arch`
and the like (what another source says of GPU 0) · `device-nodes`, `secure-boot` · `tegra.release`, `.soc`, `.model` ·
`amd.gpu-count`, `.module-version`, `.rocm-version` · `macos.version`, `.chip`, `.rosetta` · `env.CUDA_VISIBLE_DEVICES`
and the others of `system.VARIABLES` · `override.gpu-arch`, `.cuda-driver-version`, `.cuda-version`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..host import Host, LocalHost
from ..machine import Machine, Platform, System
from ..values import replace
from . import kernel, overrides, pci, system
from .answer import TIMEOUT, Answer

SOURCES = (
    "override",
    "nvml",
    "libcuda",
    "nvidia-smi",
    "kfd",
    "rocminfo",
    "sysctl",
    "tegra",
    "registry",
    "pci",
    "intel",
    "module",
    "modinfo",
    "loader",
    "/dev",
    "environment",
)
"""Every source, the most trusted first: who runs the GPU, then who only knows its id, then what lies around it."""

WSL_SMI = "/usr/lib/wsl/lib/nvidia-smi"


def detect(host: Host | None = None) -> Machine:
    """The machine. Never fails for what a source does; raises UsageProblem for a senseless `PROVISION_*` variable,
    ProvisionError for a system that PyTorch does not know."""
    host = host or LocalHost()
    platform = system.ask_platform(host)
    answers = _read(host, platform)
    answers |= _at_once(_blocking(host, platform, answers))
    return assemble(platform, answers)


def assemble(platform: Platform, answers: Mapping[str, Answer]) -> Machine:
    """The answers by source → the Machine. An override of the GPUs replaces them all."""
    ordered = [answers[source] for source in SOURCES if source in answers]
    chosen = ordered
    if ordered and ordered[0].fact("override.gpu-arch") is not None:
        chosen = ordered[:1]
    machine = Machine(
        platform=platform,
        skipped=tuple(dict.fromkeys(skipped for answer in ordered for skipped in answer.skipped)),
        facts=tuple(fact for answer in ordered for fact in answer.facts),
    )
    if not any(answer.gpus or answer.drivers or answer.silent for answer in ordered):
        return machine
    from . import merge

    gpus, disagreements = merge.merge_gpus(chosen)
    drivers, table = merge.merge_drivers(ordered, platform)
    return replace(machine, gpus=gpus, drivers=drivers, facts=machine.facts + table + disagreements)


def _read(host: Host, platform: Platform) -> dict[str, Answer]:
    """The sources that answer at once: variables and files."""
    answers = {"override": overrides.ask_overrides(host), "environment": system.ask_variables(host)}
    asks: dict[str, Callable[[], Answer]] = {}
    if platform.system is System.LINUX:
        asks = {
            "pci": lambda: pci.ask_pci(host),
            "module": lambda: kernel.ask_module(host),
            "/dev": lambda: kernel.ask_nodes(host),
            "kfd": lambda: _amd(host, answers),
            "intel": lambda: _intel(answers),
        }
        if platform.machine == "aarch64":
            asks["tegra"] = lambda: kernel.ask_tegra(host)
    if platform.system in kernel.LIBRARIES:
        asks["loader"] = lambda: kernel.ask_libraries(host, platform.system)
    for source, ask in asks.items():
        answers[source] = _guarded(source, ask)
    return answers


def _amd(host: Host, answers: Mapping[str, Answer]) -> Answer:
    if "kfd" not in _nodes(answers) and "amd" not in _vendors(answers.get("pci")):
        return Answer.nothing("kfd", "no AMD GPU on PCI, no /dev/kfd")
    from . import amd

    return amd.ask_kfd(host)


def _intel(answers: Mapping[str, Answer]) -> Answer:
    if "intel" not in _vendors(answers.get("pci")):
        return Answer(source="intel")
    from . import intel

    return intel.from_pci(answers["pci"].facts)


def _blocking(host: Host, platform: Platform, answers: Mapping[str, Answer]) -> dict[str, Callable[[], Answer]]:
    """The sources that may block, where something speaks of their vendor."""
    if platform.system is System.MACOS:
        from . import apple

        return {"sysctl": lambda: apple.ask_apple(host)}
    asks: dict[str, Callable[[], Answer]] = {}
    reg = pci.REG[0] if platform.system is System.WINDOWS else host.which(pci.REG[1]) if platform.wsl else None
    if reg is not None:
        asks["registry"] = lambda: pci.ask_registry(host, reg)
    rocminfo = host.which("rocminfo")
    if rocminfo is not None:
        from . import amd

        asks["rocminfo"] = lambda: amd.ask_rocminfo(host, rocminfo)
    smi = host.which("nvidia-smi") or (host.which(WSL_SMI) if platform.wsl else None)
    if not nvidia_signs(answers) and smi is None:
        asks["nvidia-smi"] = lambda: Answer.nothing("nvidia-smi", "not found on PATH")
        return asks
    from . import nvidia

    asks["nvml"] = lambda: nvidia.ask_nvml(host)
    asks["libcuda"] = lambda: nvidia.ask_cuda(host)
    asks["nvidia-smi"] = lambda: nvidia.ask_smi(host, smi)
    if "nvidia" in _vendors(answers.get("pci")) and not answers["module"].facts:
        asks["modinfo"] = lambda: kernel.ask_module_on_disk(host)
    return asks


def nvidia_signs(answers: Mapping[str, Answer]) -> bool:
    """Whether anything speaks of an NVIDIA GPU: then its libraries are asked, even if the loader seems to lack them."""
    return (
        "nvidia" in _vendors(answers.get("pci"))
        or bool(answers.get("loader") and answers["loader"].facts)
        or bool(answers.get("tegra") and answers["tegra"].facts)
        or bool(answers.get("module") and answers["module"].facts)
        or any(node.startswith(("nvidia", "dxg")) for node in _nodes(answers))
    )


def _nodes(answers: Mapping[str, Answer]) -> list[str]:
    return ((answers["/dev"].fact("device-nodes") if "/dev" in answers else None) or "").split()


def _vendors(answer: Answer | None) -> set[str]:
    return {gpu.vendor.value for gpu in answer.gpus} if answer else set()


def _at_once(asks: Mapping[str, Callable[[], Answer]]) -> dict[str, Answer]:
    """Ask all in parallel, a thread each; alone or trivial ones need none."""
    if len(asks) == 1:
        return {source: _guarded(source, ask) for source, ask in asks.items()}
    import threading
    import time

    answers: dict[str, Answer] = {}

    def ask_one(source: str, ask: Callable[[], Answer]) -> None:
        answers[source] = _guarded(source, ask)

    threads = [threading.Thread(target=ask_one, args=pair, daemon=True) for pair in asks.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2 * TIMEOUT
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    return {
        source: answers.get(source) or Answer.nothing(source, f"did not answer within {2 * TIMEOUT:g} s", silent=True)
        for source in asks
    }


def _guarded(source: str, ask: Callable[[], Answer]) -> Answer:
    """Ask; whatever nonsense a source answers with, it harms no other."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 the machine is known by the other sources
        return Answer.nothing(source, f"{type(error).__name__}: {error}", silent=True)
