"""Is detection right on every machine of tests/machines? A folder's name is the answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from provision.capture import ReplayHost, read, record
from provision.detect import detect
from provision.errors import ProvisionError, UsageProblem
from provision.host import Completed, LocalHost
from provision.machine import Gpu, Machine, Vendor, machine_from_json
from provision.situations import RULES, situations
from provision.values import replace

MACHINES = sorted(path for path in (Path(__file__).parent / "machines").iterdir() if (path / "capture.json").is_file())


def slug(gpu: Gpu) -> str:
    """`NVIDIA GeForce RTX 5070 Laptop GPU` → rtx-5070-laptop; a nameless one is its arch, or its id."""
    if gpu.name is None:
        known = gpu.vendor is Vendor.AMD or gpu.pci_device_id is None
        return gpu.arch if known and gpu.arch else f"{gpu.vendor}-{gpu.pci_device_id}"
    name = re.sub(r"^NVIDIA |GeForce | GPU$| / .*| \(nvgpu\)", "", gpu.name).lower()
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-")


def title(machine: Machine) -> str:
    """The first two parts of the folder's name: the GPUs that count, the system with the driver."""
    counts = Counter(map(slug, sorted(machine.gpus, key=lambda gpu: list(Vendor).index(gpu.vendor))))
    gpus = "+".join(f"{count}x-{name}" if count > 1 else name for name, count in counts.items()) or "no-gpu"
    platform = machine.platform
    system = "wsl" if platform.wsl else platform.system.value
    plain = "aarch64" if system == "macos" else "x86_64"
    parts = [system, *([platform.machine] if platform.machine != plain else [])]
    vendor = machine.gpus[0].vendor if machine.gpus else Vendor.NVIDIA
    leader = min((gpu.vendor for gpu in machine.gpus), key=list(Vendor).index, default=vendor)
    driver = machine.driver(leader)
    if driver is not None and driver.version:
        parts.append(driver.version)
    elif machine.gpus and driver is None and system != "windows":
        parts.append("no-driver")
    return f"{gpus}--{'-'.join(parts)}"


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_machine(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    machine = detect(ReplayHost(folder))
    got = machine.to_json()
    for part in ("platform", "gpus", "drivers"):
        assert got[part] == expected["machine"][part], part
    assert [finding.code for finding in situations(machine)] == expected["findings"]
    assert folder.name.split("--")[:2] == title(machine).split("--")
    assert machine_from_json(got) == machine


def test_every_situation_is_shown_by_a_machine() -> None:
    shown = {code for folder in MACHINES for code in json.loads((folder / "expected.json").read_text())["findings"]}
    assert shown == set(RULES)


def test_composed_machines_are_what_their_rows_say(tmp_path: Path) -> None:
    """The captures and answers of compose.py are files for people to read; its rows are where they are changed."""
    script = Path(__file__).parent / "machines" / "compose.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, stdout=subprocess.PIPE)
    composed = sorted(tmp_path.iterdir())
    assert len(composed) >= 60
    for folder in composed:
        for name in ("capture.json", "expected.json"):
            kept = script.parent / folder.name / name
            assert kept.read_text(encoding="utf-8") == (folder / name).read_text(encoding="utf-8"), kept
    written = {folder.name for folder in composed}
    kept_by_hand = [folder for folder in MACHINES if folder.name not in written]
    assert all("composed" not in read(folder / "capture.json")["tool"] for folder in kept_by_hand)


def replayed(tmp_path: Path, **kinds: Any) -> Machine:
    """A machine of which only these answers are known."""
    uname = {"uname": {"system": "linux", "machine": "x86_64", "release": "6.8.0", "libc": "glibc 2.39"}}
    (tmp_path / "capture.json").write_text(json.dumps({"schema": 1, "uname": uname, **kinds}))
    return detect(ReplayHost(tmp_path))


def test_a_name_never_decides_the_capability(tmp_path: Path) -> None:
    """`RTX 3050 A` is Ada and `GT 730` two chips: without a capability from a library or an id, it is unknown."""
    lines = ['{"init": null}', '{"driver": "580.95.05"}', '{"count": 1}']
    lines.append('{"gpu": {"index": 0, "name": "NVIDIA GeForce RTX 3050 Laptop GPU", "errors": {}}}')
    nvml = {"returncode": 0, "stdout": [*lines, ""]}
    machine = replayed(tmp_path, scripts={"ask_nvml": nvml}, libraries={"libnvidia-ml.so.1": "/lib/libnvidia-ml.so.1"})
    assert [(gpu.name, gpu.arch) for gpu in machine.gpus] == [("NVIDIA GeForce RTX 3050 Laptop GPU", None)]
    assert "arch-unknown" in [finding.code for finding in situations(machine)]


def test_every_silent_source_says_why(tmp_path: Path) -> None:
    machine = replayed(tmp_path)
    assert {skipped.probe for skipped in machine.skipped} >= {"nvml", "libcuda", "nvidia-smi", "pci", "kfd"}
    assert all(skipped.reason for skipped in machine.skipped)


def test_a_system_that_pytorch_does_not_know_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "capture.json").write_text(
        json.dumps({"schema": 1, "uname": {"uname": {"system": "sunos5", "machine": "sparc"}}})
    )
    with pytest.raises(ProvisionError) as caught:
        detect(ReplayHost(tmp_path))
    assert caught.value.code == "platform-unknown"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "archs"),
    [
        ("12.0", ["12.0"]),
        ("sm_120", ["12.0"]),
        ("sm_90a, 8.6", ["9.0", "8.6"]),
        ("gfx90a", ["gfx90a"]),
        ("none", []),
    ],
)
def test_an_override_stands_for_the_gpus(tmp_path: Path, text: str, archs: list[str]) -> None:
    machine = replayed(tmp_path, variables={"PROVISION_GPU_ARCH": text})
    assert [gpu.arch for gpu in machine.gpus] == archs
    assert {gpu.source for gpu in machine.gpus} <= {"override"}
    assert ("override.gpu-arch", text) in [(fact.name, fact.value) for fact in machine.facts]


@pytest.mark.parametrize(
    "variables",
    [
        {"PROVISION_GPU_ARCH": "RTX 5090"},
        {"PROVISION_GPU_ARCH": "12.0,"},
        {"PROVISION_CUDA_DRIVER_VERSION": "newest"},
        {"PROVISION_CUDA_VERSION": "13"},
    ],
)
def test_a_senseless_override_is_refused_by_name(tmp_path: Path, variables: dict[str, str]) -> None:
    (name,) = variables
    with pytest.raises(UsageProblem, match=name):
        replayed(tmp_path, variables=variables)


def test_a_cuda_override_alone_is_no_claim_about_the_driver(tmp_path: Path) -> None:
    machine = replayed(tmp_path, variables={"PROVISION_CUDA_VERSION": "12.8", "PROVISION_GPU_ARCH": "12.0"})
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda, driver.source) == (None, "12.8", "override")


def test_sources_that_disagree_are_both_told(tmp_path: Path) -> None:
    """NVML decides; what PCI and the CUDA library say otherwise is kept."""
    folder = tmp_path / "machine"
    shutil.copytree(Path(__file__).parent / "machines" / "rtx-5090--linux-570.124.06", folder)
    capture = json.loads((folder / "capture.json").read_text())
    uevent = capture["files"]["/sys/bus/pci/devices/0000:01:00.0/uevent"]
    uevent[uevent.index("PCI_ID=10DE:2B85")] = "PCI_ID=10DE:2684"
    (folder / "capture.json").write_text(json.dumps(capture))
    machine = detect(ReplayHost(folder))
    assert [(gpu.arch, gpu.pci_device_id, gpu.source) for gpu in machine.gpus] == [("12.0", "0x2b85", "nvml")]
    told = {(fact.name, fact.value, fact.source) for fact in machine.facts}
    assert ("gpu0.arch", "8.9", "pci") in told
    assert ("gpu0.pci-device-id", "0x2684", "pci") in told


def test_a_source_that_never_returns_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the time limit of its child: a read that blocks in the kernel cannot be ended at all."""
    monkeypatch.setattr("provision.detect.TIMEOUT", 0.05)
    released = threading.Event()

    class Stuck(ReplayHost):
        def run_script(self, name: str, *, timeout: float, module: str | None = None) -> Completed:
            released.wait(30)
            return super().run_script(name, timeout=timeout, module=module)

    machine = detect(Stuck(Path(__file__).parent / "machines" / "rtx-5090--linux-570.124.06"))
    released.set()
    assert [(gpu.arch, gpu.source) for gpu in machine.gpus] == [("12.0", "nvidia-smi")]
    assert {s.probe for s in machine.skipped if "did not answer" in s.reason} == {"nvml", "libcuda"}


@pytest.mark.gpu
def test_a_real_gpu_is_seen_alike_by_every_source(tmp_path: Path) -> None:
    """Run with -m gpu on a machine with an NVIDIA GPU; its capture is then worth a folder in tests/machines."""
    if LocalHost().find_library("libnvidia-ml.so.1") is None:
        pytest.skip("no NVIDIA driver here (libnvidia-ml.so.1 is not where the loader looks)")
    machine = detect()
    assert machine.gpus and all(gpu.arch and gpu.name for gpu in machine.gpus), machine
    assert not [fact for fact in machine.facts if re.match(r"gpu\d+\.", fact.name)], "sources disagree"
    versions = {fact.value for fact in machine.facts if fact.name in {"nvidia.driver-version", "nvidia.module-version"}}
    assert len(versions) == 1
    record(LocalHost(), tmp_path)
    replayed = detect(ReplayHost(tmp_path))
    assert [replace(gpu, uuid=None) for gpu in replayed.gpus] == [replace(gpu, uuid=None) for gpu in machine.gpus]


def test_detection_without_a_gpu_costs_little() -> None:
    """At most eight times the processor time of a bare interpreter, of which the command line takes its part."""
    if LocalHost().find_library("libnvidia-ml.so.1"):
        pytest.skip("this machine has NVIDIA's libraries, which are asked then")
    bare = min(cpu_seconds("pass") for _ in range(7))
    detection = min(cpu_seconds("from provision.detect import detect; detect()") for _ in range(7))
    assert detection < 6 * bare, f"{detection * 1000:.1f} ms against {bare * 1000:.1f} ms"


def cpu_seconds(code: str) -> float:
    """User and system time of a process without GPU sources on its path."""
    resource = pytest.importorskip("resource", reason="processor times need POSIX")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
