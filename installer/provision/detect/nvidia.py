"""What do NVIDIA's own libraries and tools say? NVML, the CUDA driver library, nvidia-smi.

Each is asked in a child process with a time limit: a driver in a bad state hangs or crashes whoever asks it. What a
child had said before it was lost is kept.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..host import Completed, Host
from ..machine import Driver, Fact, Skipped, Vendor
from ..values import replace
from .answer import TIMEOUT, Answer, Seen, facts_of, pci_address

_RENAMED = {"10.1": "11.0"}
"""Thor calls itself 10.1 up to CUDA 12.9 and 11.0 since: one chip."""


def ask_nvml(host: Host) -> Answer:
    """NVML through nvidia-ml-py."""
    return _asked("nvml", host, "ask_nvml", "pynvml", parse_nvml)


def ask_cuda(host: Host) -> Answer:
    """The CUDA driver library through ctypes. It counts only the GPUs that CUDA_VISIBLE_DEVICES leaves."""
    answer = _asked("libcuda", host, "ask_cuda", None, parse_cuda)
    return replace(answer, partial=host.getenv("CUDA_VISIBLE_DEVICES") is not None)


def _asked(source: str, host: Host, script: str, module: str | None, parse: Callable[[Completed], Answer]) -> Answer:
    try:
        completed = host.run_script(script, timeout=TIMEOUT, module=module)
    except OSError as error:
        return Answer.nothing(source, error.strerror or str(error))
    return parse(completed)


def trouble(completed: Completed) -> str | None:
    """Why a child did not come to its end, or None."""
    if completed.timed_out:
        return f"did not answer within {TIMEOUT:g} s"
    if completed.returncode < 0:
        return f"crashed with signal {-completed.returncode}"
    if completed.returncode != 0:
        last = (completed.stderr.strip() or completed.stdout.strip()).splitlines()[-1:]
        return f"ended with exit code {completed.returncode}" + "".join(f": {line[:200]}" for line in last)
    return None


def said(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a child's output, one a line; a line cut off by a crash, or of another hand, is left out."""
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def cuda_version(number: object) -> str | None:
    """12080 → "12.8"; 0 and nonsense → None."""
    return f"{number // 1000}.{number % 1000 // 10}" if isinstance(number, int) and number >= 1000 else None


def capability(pair: object) -> str | None:
    """[12, 0] → "12.0"; what is no pair of numbers → None."""
    if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, int) for part in pair) and pair[0] > 0:
        found = f"{pair[0]}.{pair[1]}"
        return _RENAMED.get(found, found)
    return None


def mib(number: object) -> int | None:
    return number >> 20 if isinstance(number, int) and number > 0 else None


def parse_nvml(completed: Completed) -> Answer:
    """The lines of `ask_nvml.py` → what NVML says."""
    found: dict[str, Any] = {}
    gpus: list[Seen] = []
    skipped: list[Skipped] = []
    instances: list[str] = []
    for line in said(completed.stdout):
        if isinstance(line.get("gpu"), dict):
            gpus.append(_nvml_gpu(line["gpu"]))
            skipped += _unanswered(line["gpu"])
            instances += line["gpu"].get("instances", [])
        else:
            found |= line
    broken = trouble(completed)
    if broken is not None:
        skipped.insert(0, Skipped(probe="nvml", reason=broken))
    init = found.get("init")
    if init:
        reason = f"NVML error {init.get('code')}: {init.get('text')}"
        return Answer.nothing("nvml", reason, facts=facts_of("nvml", nvml__init=reason), silent=init.get("code") == 999)
    if "init" not in found:
        return Answer.nothing("nvml", broken or "gave no sense", silent=True)
    version = found.get("driver")
    cuda = cuda_version(found.get("cuda"))
    count = found.get("count") if isinstance(found.get("count"), int) else None
    if count == 0:
        skipped.append(Skipped(probe="nvml", reason="the driver answers but shows no GPU"))
    missed = range(len(gpus), count or 0)
    gpus += [Seen(vendor=Vendor.NVIDIA, index=index, lost=broken or "NVML did not come to it") for index in missed]
    return Answer(
        source="nvml",
        gpus=tuple(gpus),
        drivers=_driver("nvml", version, cuda),
        facts=facts_of(
            "nvml",
            nvidia__driver_version=version,
            nvidia__cuda=cuda,
            nvidia__nvml_version=found.get("nvml"),
            nvidia__gpu_count=None if count is None else str(count),
        )
        + tuple(Fact(name="nvidia.mig-instance", value=name, source="nvml") for name in instances),
        skipped=tuple(skipped),
        silent=broken is not None,
    )


def _driver(source: str, version: object, cuda: str | None) -> tuple[Driver, ...]:
    """The driver, if anything is known of it; a version is only what a machine file may hold as one."""
    if not isinstance(version, str) or not re.fullmatch(r"\d+(\.\d+)*([ .+-].*)?", version):
        version = None
    return (Driver(vendor=Vendor.NVIDIA, version=version, cuda=cuda, source=source),) if version or cuda else ()


def _nvml_gpu(row: Mapping[str, Any]) -> Seen:
    errors = row.get("errors", {})
    device = row.get("device")
    return Seen(
        vendor=Vendor.NVIDIA,
        bus=pci_address(row["bus"]) if row.get("bus") else None,
        index=row.get("index"),
        name=row.get("name"),
        arch=capability(row.get("capability")),
        memory_mib=mib(row.get("memory")),
        pci_device_id=f"0x{device >> 16:04x}" if device else None,
        uuid=row.get("uuid"),
        mig=bool(row.get("mig") and row["mig"][0]),
        lost=errors["handle"]["text"] if "handle" in errors else None,
    )


def _unanswered(row: Mapping[str, Any]) -> list[Skipped]:
    """The fields that NVML would not tell; that a GPU knows no MIG is no news."""
    return [
        Skipped(probe="nvml", reason=f"GPU {row.get('index')}: {field}: {error.get('text')}")
        for field, error in row.get("errors", {}).items()
        if field != "mig"
    ]


def parse_cuda(completed: Completed) -> Answer:
    """The lines of `ask_cuda.py` → what the CUDA driver says."""
    found: dict[str, Any] = {}
    gpus: list[Seen] = []
    for line in said(completed.stdout):
        if isinstance(line.get("gpu"), dict):
            gpus.append(_cuda_gpu(line["gpu"]))
        else:
            found |= line
    broken = trouble(completed)
    cuda = cuda_version(found.get("cuda"))
    code = found.get("init")
    result = None if code is None else f"{found.get('name') or ('ok' if code == 0 else 'error')} ({code})"
    facts = facts_of(
        "libcuda",
        nvidia__cuda=cuda,
        nvidia__libcuda_loaded=found.get("library"),
        cuda__init=result,
        cuda__gpu_count=str(found["count"]) if code == 0 and found.get("count") is not None else None,
    )
    if "library" in found and found["library"] is None and "cuda" not in found and found.get("error"):
        return Answer.nothing("libcuda", str(found["error"]))
    if code != 0:
        reason = broken or (f"cuInit answered {result}" if result else "gave no sense")
        return Answer.nothing("libcuda", reason, facts=facts, silent=broken is not None or code in {None, 999})
    return Answer(
        source="libcuda",
        gpus=tuple(gpus),
        drivers=_driver("libcuda", None, cuda),
        facts=facts,
        skipped=(Skipped(probe="libcuda", reason=broken),) if broken else (),
        silent=broken is not None,
    )


def _cuda_gpu(row: Mapping[str, Any]) -> Seen:
    return Seen(
        vendor=Vendor.NVIDIA,
        bus=pci_address(row["bus"]) if row.get("bus") else None,
        index=row.get("index"),
        name=row.get("name"),
        arch=capability(row.get("capability")),
        memory_mib=mib(row.get("memory")),
    )


QUERY = ("index", "name", "compute_cap", "memory.total", "uuid", "pci.bus_id", "pci.device_id", "driver_version")
OLD_QUERY = tuple(field for field in QUERY if field != "compute_cap")
"""`compute_cap` is unknown to 470 and known to 525 (measured on Debian's 470.256.02 and 525.147.05)."""


def ask_smi(host: Host, tool: str | None) -> Answer:
    """nvidia-smi: the query, once more without `compute_cap` for one that does not know it, and the header."""
    if tool is None:
        return Answer.nothing("nvidia-smi", "not found on PATH")
    end = time.monotonic() + TIMEOUT

    def run(*options: str) -> Completed:
        return host.run([tool, *options], timeout=max(end - time.monotonic(), 0.1))

    try:
        answer = run(f"--query-gpu={','.join(QUERY)}", "--format=csv")
        if answer.returncode == 2 and "compute_cap" in answer.stdout + answer.stderr:
            answer = run(f"--query-gpu={','.join(OLD_QUERY)}", "--format=csv")
        header = run().stdout if answer.returncode == 0 else ""
    except OSError as error:
        return Answer.nothing("nvidia-smi", f"{tool}: {error.strerror or error}")
    return parse_smi(answer, header)


def parse_smi(completed: Completed, header: str = "") -> Answer:
    """The CSV (read by its own header line) and the table's head → what nvidia-smi says.

    Without a driver the message is on stdout and the exit code is 9; 18 is a library of another version than the
    module. A field may be `[N/A]`.
    """
    broken = trouble(completed)
    if broken is not None:
        silent = completed.timed_out or completed.returncode < 0
        return Answer.nothing("nvidia-smi", broken, silent=silent)
    lines = [line for line in completed.stdout.splitlines() if line.strip()]
    columns = [re.sub(r" \[.*\]$", "", column.strip()) for column in lines[0].split(",")] if lines else []
    if "name" not in columns:
        return Answer.nothing("nvidia-smi", "printed no table", silent=True)
    rows = [dict(zip(columns, map(_cell, line.split(",")), strict=False)) for line in lines[1:]]
    versions = parse_smi_header(header)
    version = next((row["driver_version"] for row in rows if row.get("driver_version")), versions.get("driver"))
    return Answer(
        source="nvidia-smi",
        gpus=tuple(_smi_gpu(row) for row in rows),
        drivers=_driver("nvidia-smi", version, versions.get("cuda")),
        facts=facts_of("nvidia-smi", nvidia__driver_version=version, nvidia__cuda=versions.get("cuda")),
    )


def parse_smi_header(text: str) -> dict[str, str]:
    """The versions in the table's head, in the form before R610 (`Driver Version: 580.95.05  CUDA Version: 13.0`) or
    since (`KMD Version: 610.43.02  CUDA UMD Version: 13.3`). `CUDA Version: ERR!` and `N/A` are no version."""
    driver = re.search(r"(?:Driver|KMD) Version: +(\d+(?:\.\d+)+)", text)
    cuda = re.search(r"CUDA (?:UMD )?Version: +(\d+\.\d+)", text)
    return {key: match[1] for key, match in [("driver", driver), ("cuda", cuda)] if match}


def _cell(text: str) -> str | None:
    """A cell; None for `[N/A]`, `[Not Supported]`, `[Unknown Error]` and the like."""
    text = text.strip()
    return None if not text or text.startswith("[") or text in {"N/A", "ERR!"} else text


def _smi_gpu(row: Mapping[str, str | None]) -> Seen:
    number = {key: re.match(r"\d+", row.get(key) or "") for key in ("index", "memory.total")}
    pair = re.fullmatch(r"(\d+)\.(\d+)", row.get("compute_cap") or "")
    device = re.fullmatch(r"0x([0-9A-Fa-f]{4})10DE", row.get("pci.device_id") or "", re.I)
    bus = row.get("pci.bus_id")
    return Seen(
        vendor=Vendor.NVIDIA,
        bus=pci_address(bus) if bus and re.fullmatch(r"[0-9A-Fa-f]+:[0-9A-Fa-f]+:[0-9A-Fa-f.]+", bus) else None,
        index=int(number["index"][0]) if number["index"] else None,
        name=row.get("name"),
        arch=capability([int(pair[1]), int(pair[2])]) if pair else None,
        memory_mib=int(number["memory.total"][0]) if number["memory.total"] else None,
        pci_device_id=f"0x{device[1].lower()}" if device else None,
        uuid=row.get("uuid"),
    )
