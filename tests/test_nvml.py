"""Do real nvidia-ml-py and ctypes see the stand-in's GPUs, and does detection survive whatever the libraries do?

No GPU is needed: the libraries are compiled from tests/nvml. What a real driver does beyond them is not shown here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from nvml import stand_in
from provision.machine import Machine, Vendor, machine_from_json
from provision.situations import situations

ASK = "import json; from provision.detect import detect; print(json.dumps(detect().to_json()))"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "NVIDIA_", "PROVISION_"))}


def detected(
    gpus: Sequence[str] = (stand_in.RTX_5090,), *, packages: Path | None = None, **settings: str | int | bool
) -> Machine:
    """The Machine that a process with these GPUs sees. `packages` is a folder with another nvidia-ml-py."""
    shell = {name: str(settings.pop(name)) for name in list(settings) if name.isupper()}
    env = stand_in.environment(gpus=gpus, base=CLEAN, **settings) | shell  # type: ignore[arg-type]
    if packages is not None:
        env["PYTHONPATH"] = str(packages)
    answer = subprocess.run(
        [sys.executable, "-c", ASK], check=False, env=env, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    return machine_from_json(json.loads(answer.stdout))


def reasons(machine: Machine, probe: str) -> list[str]:
    """What detection says of a source that gave no answer, or not all."""
    return [skipped.reason for skipped in machine.skipped if skipped.probe == probe]


def codes(machine: Machine) -> set[str]:
    return {finding.code for finding in situations(machine)}


def test_nvml_tells_the_gpu_and_its_driver() -> None:
    machine = detected(driver="570.124.06", cuda="12.8")
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.arch, gpu.memory_mib) == ("NVIDIA GeForce RTX 5090", "12.0", 32607)
    assert (gpu.pci_device_id, gpu.index, gpu.source) == ("0x2b85", 0, "nvml")
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda, driver.source) == ("570.124.06", "12.8", "nvml")


@pytest.mark.parametrize(
    ("there", "source"),
    [
        ({"libcuda": False, "smi": False}, "nvml"),
        ({"nvml": False, "smi": False}, "libcuda"),
        ({"nvml": False, "libcuda": False}, "nvidia-smi"),
    ],
)
def test_each_source_alone_is_enough(there: dict[str, bool], source: str) -> None:
    machine = detected(gpus=[stand_in.RTX_3090, stand_in.T4], **there)  # type: ignore[arg-type]
    assert [(gpu.arch, gpu.index, gpu.source) for gpu in machine.gpus] == [("8.6", 0, source), ("7.5", 1, source)]
    (driver,) = machine.drivers
    assert (driver.cuda, driver.source) == ("13.0", source)
    assert driver.version == (None if source == "libcuda" else "580.95.05")


INIT_ERRORS = {
    3: "Not Supported",
    4: "Insufficient Permissions",
    9: "Driver Not Loaded",
    12: "NVML Shared Library Not Found",
    15: "GPU is lost",
    17: "The operating system has blocked the request",
    18: "RM has detected an NVML/RM version mismatch.",
    999: "Unknown Error",
    12345: "",
}


@pytest.mark.parametrize("code", INIT_ERRORS)
def test_every_init_error_of_nvml_is_named(code: int) -> None:
    """nvidia-ml-py words the codes that it knows; an unknown one is worded by the library."""
    machine = detected(nvml_init=code, libcuda=False, smi=False)
    assert not machine.gpus and not machine.drivers
    (reason,) = reasons(machine, "nvml")
    assert reason.startswith(f"NVML error {code}: ")
    assert INIT_ERRORS[code] in reason


def test_a_mismatch_of_library_and_module_asks_for_a_reboot() -> None:
    machine = detected(nvml_init=18, cuda_init=803, smi_mode="mismatch")
    assert machine.drivers == ()
    assert "driver-lib-mismatch" in codes(machine)
    assert "error-803" not in codes(machine)
    assert any("exit code 18" in reason for reason in reasons(machine, "nvidia-smi"))


@pytest.mark.parametrize("where", ["init", "driver", "count", "gpu"])
def test_a_crash_of_nvml_takes_only_its_child(where: str) -> None:
    machine = detected(nvml_fault=f"crash:{where}")
    assert "crashed with signal 11" in reasons(machine, "nvml")
    assert [(gpu.arch, gpu.name) for gpu in machine.gpus] == [("12.0", "NVIDIA GeForce RTX 5090")]
    (driver,) = machine.drivers
    assert driver.version == "580.95.05"


@pytest.mark.parametrize("where", ["version", "init", "gpu"])
def test_a_crash_of_the_cuda_driver_takes_only_its_child(where: str) -> None:
    machine = detected(cuda_fault=f"crash:{where}")
    assert "crashed with signal 11" in reasons(machine, "libcuda")
    assert [(gpu.arch, gpu.source) for gpu in machine.gpus] == [("12.0", "nvml")]


def test_sources_that_hang_cost_three_seconds_together_and_are_named() -> None:
    start = time.perf_counter()
    machine = detected(nvml_fault="hang:init", cuda_fault="hang:init", smi_mode="hang")
    assert time.perf_counter() - start < 5.5
    assert not machine.gpus and not machine.drivers
    for probe in ("nvml", "libcuda", "nvidia-smi"):
        assert reasons(machine, probe) == ["did not answer within 3 s"]
    assert "driver-hangs" in codes(machine)


def test_what_was_said_before_a_hang_is_kept() -> None:
    machine = detected(gpus=[stand_in.A100, stand_in.A100], nvml_fault="hang:gpu", libcuda=False, smi=False)
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda) == ("580.95.05", "13.0")
    assert [(gpu.index, gpu.arch) for gpu in machine.gpus] == [(0, None), (1, None)]
    assert "did not answer within 3 s" in reasons(machine, "nvml")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("garbage", "printed no table"),
        (
            "exit-9",
            "ended with exit code 9: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
        ),
        ("signal", "crashed with signal 6"),
    ],
)
def test_a_broken_nvidia_smi_harms_nobody(mode: str, reason: str) -> None:
    machine = detected(smi_mode=mode)
    assert [(gpu.arch, gpu.source) for gpu in machine.gpus] == [("12.0", "nvml")]
    (told,) = reasons(machine, "nvidia-smi")
    assert told.startswith(reason)


def test_an_old_nvidia_smi_knows_no_compute_cap() -> None:
    old = "index,name,memory.total,uuid,pci.bus_id,pci.device_id,driver_version"
    machine = detected(nvml=False, libcuda=False, driver="470.256.02", cuda="11.4", smi_fields=old)
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.arch, gpu.memory_mib) == ("NVIDIA GeForce RTX 5090", None, 32607)
    assert "arch-unknown" in codes(machine)


@pytest.mark.parametrize("header", ["old", "new"])
def test_both_headers_of_nvidia_smi_tell_the_cuda_version(header: str) -> None:
    machine = detected(nvml=False, libcuda=False, driver="610.57.04", cuda="13.3", smi_header=header)
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda) == ("610.57.04", "13.3")


def test_a_lost_gpu_does_not_hide_the_others() -> None:
    machine = detected(gpus=[stand_in.RTX_3090, stand_in.gpu("NVIDIA GeForce RTX 3090", "8.6", lost=True)])
    assert [(gpu.index, gpu.arch) for gpu in machine.gpus] == [(0, "8.6")]
    assert "GPU 1: handle: GPU is lost" in reasons(machine, "nvml")
    assert "gpu-lost" in codes(machine)


def test_a_machine_whose_only_gpu_is_lost_is_not_one_without_a_gpu() -> None:
    machine = detected(gpus=[stand_in.gpu("NVIDIA GeForce RTX 3090", "8.6", lost=True)])
    assert [(gpu.vendor, gpu.arch) for gpu in machine.gpus] == [(Vendor.NVIDIA, None)]


@pytest.mark.parametrize("missing", [["memory"], ["memory_v2"], ["uuid"], ["bus"], ["cc"], ["name", "memory", "uuid"]])
def test_a_field_that_is_not_supported_leaves_the_others(missing: list[str]) -> None:
    """Jetson and old WSL: NotSupported for one field. Version 1 of the memory call is asked where 2 fails."""
    machine = detected(
        gpus=[stand_in.gpu("NVIDIA L4", "8.9", 23034, device="27b8", missing=missing)], libcuda=False, smi=False
    )
    (gpu,) = machine.gpus
    wanted = {"name": "NVIDIA L4", "arch": "8.9", "memory_mib": 23034, "pci_device_id": "0x27b8"}
    gone = {{"cc": "arch", "memory": "memory_mib", "bus": "pci_device_id"}.get(field, field) for field in missing}
    for field, value in wanted.items():
        assert getattr(gpu, field) == (None if field in gone else value), field
    assert (gpu.uuid is None) == ("uuid" in missing)


def test_what_nvml_leaves_open_another_source_fills_and_is_named() -> None:
    machine = detected(
        gpus=[stand_in.gpu("NVIDIA L4", "8.9", 23034, device="27b8", missing=["cc", "memory"])], smi=False
    )
    (gpu,) = machine.gpus
    assert (gpu.arch, gpu.memory_mib, gpu.source) == ("8.9", 23034, "nvml; arch from libcuda")


def test_mig_instances_are_facts_of_one_gpu() -> None:
    machine = detected(
        gpus=[stand_in.gpu("NVIDIA A100-SXM4-80GB", "8.0", 81920, device="20b2", mig=3, slice="2g.20gb")]
    )
    (gpu,) = machine.gpus
    assert gpu.mig
    instances = [fact.value for fact in machine.facts if fact.name == "nvidia.mig-instance"]
    assert instances == ["NVIDIA A100-SXM4-80GB MIG 2g.20gb"] * 3
    assert "mig" in codes(machine)


def test_mig_without_instances_computes_nothing() -> None:
    machine = detected(gpus=[stand_in.gpu("NVIDIA H100 80GB HBM3", "9.0", 81559, device="2330", mig=0)])
    assert machine.gpus[0].mig
    assert "mig-without-instances" in codes(machine)


def test_a_gpu_that_could_do_mig_and_does_not_is_plain() -> None:
    machine = detected(gpus=[stand_in.gpu("NVIDIA H100 80GB HBM3", "9.0", 81559, device="2330", mig=-1)])
    assert not machine.gpus[0].mig
    assert not codes(machine)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "cuda-visible-devices-empty"),
        ("-1", "cuda-visible-devices-empty"),
        ("NoDevFiles", "cuda-visible-devices-empty"),
        ("9", "cuda-visible-devices-empty"),
        ("0,9", "cuda-visible-devices-wrong"),
        ("1", "cuda-visible-devices"),
        ("GPU-00000000-0000-0000-0000-000000000001", "cuda-visible-devices"),
        ("0,1", None),
    ],
)
def test_cuda_visible_devices_is_a_fact_and_hides_nothing(value: str, code: str | None) -> None:
    machine = detected(gpus=[stand_in.RTX_3090, stand_in.T4], CUDA_VISIBLE_DEVICES=value)
    assert [gpu.arch for gpu in machine.gpus] == ["8.6", "7.5"]
    assert ("env.CUDA_VISIBLE_DEVICES", value) in [(fact.name, fact.value) for fact in machine.facts]
    assert {found for found in codes(machine) if "visible" in found} == ({code} if code else set())


def test_libcuda_alone_under_a_mask_shows_what_is_left() -> None:
    """Then nobody can say how many there are; the fact names the mask."""
    machine = detected(gpus=[stand_in.RTX_3090, stand_in.T4], nvml=False, smi=False, CUDA_VISIBLE_DEVICES="1")
    assert [(gpu.arch, gpu.source) for gpu in machine.gpus] == [("7.5", "libcuda")]


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        (34, "cuda-stub-library"),
        (802, "error-802"),
        (804, "cuda-compat-804"),
        (999, "error-999-suspend"),
        (2, "cuda-init"),
    ],
)
def test_nvml_answering_while_cuda_fails_is_told_apart(code: int, finding: str) -> None:
    machine = detected(cuda_init=code)
    assert [gpu.arch for gpu in machine.gpus] == ["12.0"]
    assert finding in codes(machine)


def test_thor_is_one_chip_under_both_of_its_names() -> None:
    machine = detected(
        gpus=[stand_in.gpu("NVIDIA Thor", "10.1", device="2b00", missing=["memory"])], libcuda=False, smi=False
    )
    assert [gpu.arch for gpu in machine.gpus] == ["11.0"]


@pytest.mark.parametrize(
    ("text", "version"),
    [("rubbish", None), ("N/A", None), ("580", "580"), ("580.95.05-custom", "580.95.05-custom")],
)
def test_a_version_that_is_none_does_not_go_further(text: str, version: str | None) -> None:
    """What is written must be readable again: detected() reads it."""
    machine = detected(driver=text, smi=False)
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda) == (version, "13.0")


def test_a_driver_newer_than_the_table_is_believed() -> None:
    machine = detected(driver="640.11.02", cuda="14.1")
    (driver,) = machine.drivers
    assert (driver.version, driver.cuda) == ("640.11.02", "14.1")


@pytest.mark.registry
@pytest.mark.parametrize("version", ["11.450.51", "12.535.161", "newest"])
def test_three_generations_of_nvidia_ml_py_read_the_same_machine(version: str, tmp_path: Path) -> None:
    """11.450 answers with bytes and knows no version 2 of the memory call."""
    wanted = "nvidia-ml-py" if version == "newest" else f"nvidia-ml-py=={version}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), wanted]
    subprocess.run(command, check=True)
    where = "from provision.host import _folder_of; print(_folder_of('pynvml'))"
    env = {**CLEAN, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", where], check=True, env=env, capture_output=True, text=True)
    assert found.stdout.strip() == str(tmp_path), "the child would read another nvidia-ml-py"
    gpus = [
        stand_in.RTX_5090,
        stand_in.gpu("NVIDIA A100-SXM4-80GB", "8.0", 81920, device="20b2", mig=2),
        stand_in.gpu("NVIDIA L4", "8.9", 23034, device="27b8", missing=["memory"]),
        stand_in.gpu("NVIDIA GeForce RTX 3090", "8.6", lost=True),
    ]
    machine = detected(gpus=gpus, packages=tmp_path, libcuda=False, smi=False)
    seen = [(gpu.name, gpu.arch, gpu.memory_mib, gpu.mig, gpu.source) for gpu in machine.gpus]
    assert seen == [
        ("NVIDIA GeForce RTX 5090", "12.0", 32607, False, "nvml"),
        ("NVIDIA A100-SXM4-80GB", "8.0", 81920, True, "nvml"),
        ("NVIDIA L4", "8.9", None, False, "nvml"),
    ]
    assert machine.drivers[0].version == "580.95.05"
    assert machine.drivers[0].cuda == "13.0"
    for code in (9, 18, 999):
        assert reasons(detected(packages=tmp_path, nvml_init=code, libcuda=False, smi=False), "nvml")[0].startswith(
            f"NVML error {code}: "
        )
