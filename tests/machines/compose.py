"""Composes the machines of this folder: `python tests/machines/compose.py [FOLDER]` writes captures and answers.

A machine is a folder whose name is the answer (see test_detect.py): what every source would print there, as the
formats are known from NVIDIA's, AMD's and Apple's tools, beside the Machine and the findings that must come out. The
answers are stated here by hand, never taken from the code under test. Captures of real machines lie beside them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NO_FILE = {"error": [2, "No such file or directory"]}
LIB = "/usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, kw_only=True)
class Nvidia:
    """One NVIDIA GPU as its driver tells it."""

    name: str
    arch: str | None
    memory: int | None
    id: str
    mig: int | None = None
    lost: bool = False
    bound: str | None = "nvidia"
    nvml: bool = True
    """Whether the driver shows it."""


@dataclass(kw_only=True)
class Capture:
    """What every source answered, in the format of `capture.json`."""

    system: str = "linux"
    machine: str = "x86_64"
    release: str = "6.8.0-85-generic"
    libc: str | None = "glibc 2.39"
    pci: list[tuple[str, str, str | None]] = field(default_factory=list)
    kinds: dict[str, Any] = field(default_factory=dict)

    def put(self, kind: str, **answers: Any) -> Capture:
        self.kinds.setdefault(kind, {}).update(answers)
        return self

    def file(self, path: str, text: str) -> Capture:
        return self.put("files", **{path: text.split("\n") if "\n" in text else text})

    def command(self, command: str, stdout: str, *, code: int = 0, stderr: str = "", hangs: bool = False) -> Capture:
        return self.put("commands", **{command: completed(stdout, code=code, stderr=stderr, hangs=hangs)})

    def script(
        self, name: str, lines: Sequence[Any], *, code: int = 0, stderr: str = "", hangs: bool = False
    ) -> Capture:
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        return self.put("scripts", **{name: completed(text, code=code, stderr=stderr, hangs=hangs)})

    def env(self, **variables: str) -> Capture:
        return self.put("variables", **variables)

    def nodes(self, *names: str) -> Capture:
        for prefix in ("nvidia", "dxg", "kfd"):
            self.put("folders", **{f"/dev/{prefix}*": [name for name in names if name.startswith(prefix)]})
        return self

    def device(self, vendor: str, device: str, kind: str, *, bus: str, driver: str | None = None) -> Capture:
        text = (f"DRIVER={driver}\n" if driver else "") + f"PCI_CLASS={kind}\nPCI_ID={vendor}:{device.upper()}\n"
        self.pci.append((bus, text + f"PCI_SLOT_NAME={bus}\n", driver))
        return self

    def data(self) -> dict[str, Any]:
        kinds = json.loads(json.dumps(self.kinds))
        if self.system == "linux":
            folder = "/sys/bus/pci/devices"
            kinds.setdefault("folders", {})[f"{folder}/*"] = [bus for bus, _, _ in self.pci]
            for bus, text, _ in self.pci:
                kinds.setdefault("files", {})[f"{folder}/{bus}/uevent"] = text.split("\n")
        uname = {"system": self.system, "machine": self.machine, "release": self.release, "libc": self.libc}
        return {"schema": 1, "tool": "composed", "uname": {"uname": uname}, **dict(sorted(kinds.items()))}


def completed(stdout: str, *, code: int = 0, stderr: str = "", hangs: bool = False) -> dict[str, Any]:
    return {
        "returncode": -9 if hangs else code,
        "stdout": stdout.split("\n") if "\n" in stdout else stdout,
        "stderr": stderr,
        "timed_out": hangs,
    }


def linux(**how: Any) -> Capture:
    """A Linux machine with its host bridge and a network card."""
    bare = Capture(**how).device("8086", "A700", "60000", bus="0000:00:00.0")
    return bare.device("8086", "15F3", "20000", bus="0000:00:1f.6", driver="igc").nodes()


def bus_of(place: int) -> str:
    return f"0000:{place + 1:02x}:00.0"


def nvml_lines(gpus: Sequence[Nvidia], driver: str, cuda: str, *, missing: Sequence[str] = ()) -> list[Any]:
    """What ask_nvml.py prints."""
    shown = [(place, gpu) for place, gpu in enumerate(gpus) if gpu.nvml]
    lines: list[Any] = [{"init": None}, {"driver": driver, "error": None}, {"nvml": "13." + driver, "error": None}]
    lines += [{"cuda": number(cuda), "error": None}, {"count": len(shown), "error": None}]
    refused = {"code": 3, "text": "Not Supported"}
    for index, (place, gpu) in enumerate(shown):
        if gpu.lost:
            lines.append({"gpu": {"index": index, "errors": {"handle": {"code": 15, "text": "GPU is lost"}}}})
            continue
        row: dict[str, Any] = {
            "index": index,
            "bus": "0000" + bus_of(place),
            "device": int(gpu.id, 16) << 16 | 0x10DE,
            "subsystem": 0,
            "name": gpu.name,
            "capability": [int(part) for part in gpu.arch.split(".")] if gpu.arch else None,
            "memory": gpu.memory << 20 if gpu.memory else None,
            "uuid": f"GPU-00000000-0000-0000-0000-{index:012d}",
            "mig": None if gpu.mig is None else [int(gpu.mig >= 0)] * 2,
        }
        if gpu.mig:
            row["instances"] = [f"{gpu.name} MIG 1g.10gb"] * gpu.mig
        elif gpu.mig == 0:
            row["instances"] = []
        row |= dict.fromkeys(missing)
        row["errors"] = dict.fromkeys([*missing, *([] if gpu.mig is not None else ["mig"])], refused)
        lines.append({"gpu": row})
    return [*lines, {"done": True}]


def cuda_lines(gpus: Sequence[Nvidia], cuda: str, library: str, *, init: int = 0, name: str | None = None) -> list[Any]:
    """What ask_cuda.py prints."""
    lines: list[Any] = [{"library": library}, {"cuda": number(cuda), "error": 0}, {"init": init, "name": name}]
    if init:
        return lines
    shown = [(place, gpu) for place, gpu in enumerate(gpus) if gpu.nvml and not gpu.lost]
    lines.append({"count": len(shown), "error": 0})
    for index, (place, gpu) in enumerate(shown):
        capability = [int(part) for part in gpu.arch.split(".")] if gpu.arch else None
        row = {"index": index, "name": gpu.name, "capability": capability, "memory": (gpu.memory or 0) << 20}
        lines.append({"gpu": row | {"bus": bus_of(place)}})
    return [*lines, {"done": True}]


def number(cuda: str) -> int:
    major, minor = cuda.split(".")
    return int(major) * 1000 + int(minor) * 10


QUERY = "index,name,compute_cap,memory.total,uuid,pci.bus_id,pci.device_id,driver_version"


def smi(
    capture: Capture,
    gpus: Sequence[Nvidia],
    driver: str,
    cuda: str,
    *,
    header: str = "old",
    path: str = "/usr/bin/nvidia-smi",
) -> Capture:
    """nvidia-smi: the query, and the head of its table."""
    fields = QUERY.split(",")
    rows = [", ".join(name + (" [MiB]" if name == "memory.total" else "") for name in fields)]
    shown = [(place, gpu) for place, gpu in enumerate(gpus) if gpu.nvml and not gpu.lost]
    for index, (place, gpu) in enumerate(shown):
        memory = f"{gpu.memory} MiB" if gpu.memory else "[N/A]"
        uuid = f"GPU-00000000-0000-0000-0000-{index:012d}"
        bus = "0000" + bus_of(place).upper()
        rows.append(
            f"{index}, {gpu.name}, {gpu.arch or '[N/A]'}, {memory}, {uuid}, {bus}, 0x{gpu.id.upper()}10DE, {driver}"
        )
    query = f"{path} --query-gpu={QUERY} --format=csv"
    if driver.startswith("470."):
        capture.command(query, 'Field "compute_cap" is not a valid field to query.\n\n', code=2)
        rows = [", ".join(cell for place, cell in enumerate(row.split(", ")) if place != 2) for row in rows]
        query = query.replace(",compute_cap", "")
    head = f"| NVIDIA-SMI {driver:<20} Driver Version: {driver:<14} CUDA Version: {cuda:<8} |"
    if header == "new":
        head = f"| NVIDIA-SMI {driver:<17} KMD Version: {driver:<12} CUDA UMD Version: {cuda:<6} |"
    rule = "+" + "-" * 89 + "+"
    capture.command(query, "\n".join(rows) + "\n" if shown else "No devices were found\n", code=0 if shown else 6)
    capture.command(path, f"Fri Nov 20 12:00:00 2026       \n{rule}\n{head}\n{rule}\n")
    return capture.put("tools", **{"nvidia-smi": path})


def libraries(capture: Capture, version: str, folder: str = LIB, *, cuda: str | None = None) -> Capture:
    """NVIDIA's libraries where the loader finds them; `cuda` is another path for libcuda."""
    capture.put("libraries", **{"libnvidia-ml.so.1": f"{folder}/libnvidia-ml.so.1"})
    capture.put("libraries", **{"libcuda.so.1": cuda or f"{folder}/libcuda.so.1"})
    for name in ("libnvidia-ml", "libcuda"):
        capture.put("real-paths", **{f"{folder}/{name}.so.1": f"{folder}/{name}.so.{version}"})
    return capture


def module(capture: Capture, version: str, *, kind: str = "open") -> Capture:
    """The loaded kernel module, in both files."""
    capture.file("/sys/module/nvidia/version", version + "\n")
    line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (dvs-builder@U22)\n"
    if kind == "proprietary":
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Wed Sep 10 18:07:46 UTC 2025\n"
    return capture.file("/proc/driver/nvidia/version", line + "GCC version:  gcc version 13.3.0 (Ubuntu)\n")


def with_nvidia(
    gpus: Sequence[Nvidia],
    driver: str,
    cuda: str,
    *,
    kind: str = "open",
    base: Capture | None = None,
    nvml: bool = True,
    libcuda: bool = True,
    init: int = 0,
    init_name: str | None = None,
    loaded: str | None = None,
    told_cuda: str | None = None,
    tool: bool = True,
    header: str = "old",
    missing: Sequence[str] = (),
    audio: bool = False,
    only: Sequence[int] | None = None,
) -> Capture:
    """A Linux machine whose NVIDIA driver works. `told_cuda` is what a compat library makes it say."""
    capture = base or linux()
    on_bus(capture, gpus, audio=audio)
    module(capture, driver, kind=kind)
    capture.nodes(*(f"nvidia{place}" for place in range(len(gpus))), "nvidia-modeset", "nvidia-uvm", "nvidiactl")
    libraries(capture, driver, cuda=loaded)
    if loaded:
        capture.put("real-paths", **{loaded: loaded.replace("libcuda.so.1", "libcuda.so.580.95.05")})
    told = told_cuda or cuda
    visible = gpus if only is None else [gpus[place] for place in only]
    if nvml:
        capture.script("ask_nvml", nvml_lines(gpus, driver, told, missing=missing))
    if libcuda:
        path = loaded or f"{LIB}/libcuda.so.{driver}"
        lines = cuda_lines(visible, told, path, init=init, name=init_name)
        capture.script("ask_cuda", lines)
    if tool:
        smi(capture, gpus, driver, told, header=header)
    return capture


def on_bus(capture: Capture, gpus: Sequence[Nvidia], *, audio: bool = False) -> Capture:
    """The GPUs on PCI, each with its audio function if `audio`."""
    for place, gpu in enumerate(gpus):
        kind = "30200" if gpu.name.startswith(("NVIDIA A1", "NVIDIA H", "NVIDIA B", "Tesla", "NVIDIA G")) else "30000"
        capture.device("10DE", gpu.id, kind, bus=bus_of(place), driver=gpu.bound)
        if audio:
            capture.device("10DE", "22BA", "40300", bus=bus_of(place)[:-1] + "1", driver="snd_hda_intel")
    return capture


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def platform(
    system: str = "linux",
    machine: str = "x86_64",
    libc: Sequence[str] | None = ("glibc", "2.39"),
    wsl: bool = False,
    container: str | None = None,
) -> dict[str, Any]:
    return {"system": system, "machine": machine, "libc": libc and list(libc), "wsl": wsl, "container": container}


def answer_gpu(gpu: Nvidia, index: int, *, source: str = "nvml", uuid: bool = True) -> dict[str, Any]:
    return {
        "vendor": "nvidia",
        "name": gpu.name,
        "arch": gpu.arch,
        "index": index,
        "memory_mib": gpu.memory,
        "pci_device_id": f"0x{gpu.id}",
        "uuid": f"GPU-00000000-0000-0000-0000-{index:012d}" if uuid else None,
        "mig": gpu.mig is not None and gpu.mig >= 0,
        "source": source,
    }


def other_gpu(vendor: str, index: int = 0, **known: Any) -> dict[str, Any]:
    """A GPU of another vendor, or one that only PCI knows."""
    blank = {"name": None, "arch": None, "memory_mib": None, "pci_device_id": None, "uuid": None, "mig": False}
    return {"vendor": vendor, "index": index, **blank, **known}


def driver_row(
    version: str | None, cuda: str | None, *, vendor: str = "nvidia", source: str = "nvml"
) -> dict[str, Any]:
    return {"vendor": vendor, "version": version, "cuda": cuda, "source": source}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One machine: its folder, its capture and the answer."""

    name: str
    capture: Capture
    platform: dict[str, Any] = field(default_factory=platform)
    gpus: Sequence[dict[str, Any]] = ()
    drivers: Sequence[dict[str, Any]] = ()
    findings: Sequence[str] = ()

    def expected(self) -> dict[str, Any]:
        machine = {"schema": 1, "platform": self.platform, "gpus": list(self.gpus), "drivers": list(self.drivers)}
        return {"machine": machine, "findings": list(self.findings)}


ROWS: list[Row] = []


def add(name: str, capture: Capture, **answer: Any) -> None:
    ROWS.append(Row(name=name, capture=capture, **answer))


def plain(name: str, gpus: Sequence[Nvidia], driver: str, cuda: str, *findings: str, **how: Any) -> None:
    """A Linux machine on which everything works."""
    rows = [answer_gpu(gpu, index) for index, gpu in enumerate(gpu for gpu in gpus if gpu.nvml and not gpu.lost)]
    add(name, with_nvidia(gpus, driver, cuda, **how), gpus=rows, drivers=[driver_row(driver, cuda)], findings=findings)


def only_pci(gpu: Nvidia, *, name: str | None = None, index: int = 0, note: str = "") -> dict[str, Any]:
    known = {"name": name or gpu.name, "arch": gpu.arch, "pci_device_id": f"0x{gpu.id}", "source": "pci" + note}
    return other_gpu("nvidia", index, **known)


def main(target: Path) -> None:
    """Write every machine's folder into `target`."""
    from rows import fill

    fill()
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    for row in ROWS:
        folder = target / row.name
        folder.mkdir(exist_ok=True)
        for file, data in [("capture.json", row.capture.data()), ("expected.json", row.expected())]:
            (folder / file).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(len(ROWS), "machines")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.modules["compose"] = sys.modules["__main__"]
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
