"""Do real nvidia-ml-py and ctypes see the stand-in's GPUs, and does detection survive whatever the libraries do?"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from nvml import stand_in
from provision.machine import Machine, machine_from_json

ASK = "import json; from provision.detect import detect; print(json.dumps(detect().to_json()))"


def detected(gpus: Sequence[str] = (stand_in.RTX_5090,), **settings: object) -> Machine:
    """The Machine that a process with these GPUs sees."""
    env = stand_in.environment(gpus=gpus, **settings)  # type: ignore[arg-type]
    answer = subprocess.run(
        [sys.executable, "-c", ASK], check=False, env=env, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    return machine_from_json(json.loads(answer.stdout))


def reasons(machine: Machine, probe: str) -> list[str]:
    return [skipped.reason for skipped in machine.skipped if skipped.probe == probe]


def test_nvml_tells_the_gpu_and_its_driver() -> None:
    machine = detected(driver="570.124.06", cuda="12.8")
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.arch, gpu.memory_mib) == ("NVIDIA GeForce RTX 5090", "12.0", 32607)
    assert (gpu.pci_device_id, gpu.index, gpu.source) == ("0x2b85", 0, "nvml")
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda, driver.source) == ("570.124.06", "12.8", "nvml")


def test_a_hanging_library_costs_three_seconds_and_is_named() -> None:
    start = time.perf_counter()
    machine = detected(nvml_fault="hang:init", cuda_fault="hang:init", smi_mode="hang")
    assert time.perf_counter() - start < 5.5
    assert machine.drivers == ()
    for probe in ("nvml", "libcuda", "nvidia-smi"):
        assert reasons(machine, probe) == ["did not answer within 3 s"]
