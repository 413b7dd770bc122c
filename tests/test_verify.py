"""Does the proof prove? On the stand-in torch with made GPUs, and (marked `registry`) on a real torch."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from index.torchwheel import Behaviour, torch_wheel
from nvml import stand_in
from provision.checks import Check, Depth, Status, Torch, Verification
from provision.errors import BadData, UsageProblem
from provision.host import Completed, LocalHost
from provision.judge import BATTERY, Answer, Promise, backend_of, judge, match_devices, merge
from provision.machine import Driver, Gpu, Machine, Platform, System, Vendor
from provision.verify import Expected, parse_answer, verify
from real_torch import TORCH, real_torch

RTX_5090 = Gpu(vendor=Vendor.NVIDIA, name="NVIDIA GeForce RTX 5090", arch="12.0", index=0, source="nvml")
RTX_4090 = Gpu(vendor=Vendor.NVIDIA, name="NVIDIA GeForce RTX 4090", arch="8.9", index=0, source="nvml")
BLACKWELL = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


def machine(*gpus: Gpu, cuda: str | None = "13.0") -> Machine:
    drivers = (Driver(vendor=Vendor.NVIDIA, version="580.95.05", cuda=cuda),) if cuda else ()
    return Machine(platform=Platform(system=System.LINUX, machine="x86_64"), gpus=gpus, drivers=drivers)


# With the stand-in torch, in a real interpreter


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    return tmp_path / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(python: Path) -> Path:
    prefix = python.parent.parent
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(prefix), "platbase": str(prefix)}))


def install(
    python: Path, *, backend: str = "cu128", arches: tuple[str, ...] = BLACKWELL, how: Behaviour = "good"
) -> None:
    content = torch_wheel("2.11.0", backend, arches=arches, behaviour=how).content
    zipfile.ZipFile(io.BytesIO(content)).extractall(site_packages(python))


@pytest.fixture
def rtx_5090(monkeypatch: pytest.MonkeyPatch) -> None:
    """One RTX 5090, for every process that asks the driver's libraries."""
    for name, value in stand_in.environment(gpus=[stand_in.RTX_5090]).items():
        monkeypatch.setenv(name, value)


def named(proof: Verification, name: str) -> Check:
    return next(check for check in proof.checks if check.name == name)


@pytest.mark.usefixtures("rtx_5090")
def test_a_good_build_is_proven_on_the_gpu_and_from_its_binaries(python: Path) -> None:
    install(python)
    proof = verify(
        LocalHost(), python=python, machine=machine(RTX_5090), expected=Expected(torch="2.11.0", backend="cu128")
    )
    assert proof.ok, proof.failed
    for name in ("import", "version", "backend", "gpu-available", "arch-list", "kernels-sm_120", "matmul-fp32"):
        assert named(proof, name).status is Status.PASSED, name
    assert named(proof, "matmul-fp32").gpu == 0
    assert named(proof, "matmul-bf16").status is Status.PASSED
    assert named(proof, "fft").status is Status.SKIPPED
    assert named(proof, "fft").detail == "this torch has no torch.fft.rfft"
    assert proof.torch == Torch(version="2.11.0+cu128", backend="cu128", cuda="12.8", arch_list=BLACKWELL)


@pytest.mark.usefixtures("rtx_5090")
@pytest.mark.parametrize(
    ("how", "failed", "words"),
    [
        ("import-fails", "import", "ImportError: libcudart.so: cannot open shared object file"),
        ("not-available", "gpu-available", "torch sees no GPU"),
        ("no-kernel", "matmul-fp32", "no kernel image is available for execution on the device"),
        ("wrong-result", "matmul-fp32", "error "),
        ("segfault", "matmul-fp32", "the process was ended by SIGSEGV"),
        ("hangs", "matmul-fp32", "no answer within 0:00:0"),
    ],
)
def test_each_way_to_be_broken_fails_the_check_that_is_about_it(
    python: Path, how: Behaviour, failed: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVISION_PATIENCE", "0.01")
    install(python, how=how)
    proof = verify(LocalHost(), python=python, machine=machine(RTX_5090))
    assert not proof.ok
    assert [check.name for check in proof.failed] == [failed]
    assert words in (named(proof, failed).actual or "")


@pytest.mark.usefixtures("rtx_5090")
def test_after_a_failed_matmul_nothing_more_is_tried_on_that_gpu(python: Path) -> None:
    install(python, how="no-kernel")
    proof = verify(LocalHost(), python=python, machine=machine(RTX_5090))
    assert named(proof, "matmul-fp16").detail == "not tried: matmul-fp32 failed there"


def test_without_a_gpu_the_binaries_give_the_verdict_and_the_rest_is_skipped(python: Path) -> None:
    install(python)
    asked_for = Gpu(vendor=Vendor.NVIDIA, arch="12.0", source="--gpu sm_120")
    proof = verify(LocalHost(), python=python, machine=machine(asked_for, cuda=None))
    assert proof.ok
    assert named(proof, "kernels-sm_120").status is Status.PASSED
    assert "sm_120" in (named(proof, "kernels-sm_120").actual or "")
    assert named(proof, "gpu-available").status is Status.SKIPPED
    assert named(proof, "matmul-fp32") == Check(name="matmul-fp32", status=Status.SKIPPED, detail="torch sees no GPU")
    assert named(proof, "cpu-matmul-fp32").status is Status.PASSED


def test_a_build_without_code_for_the_gpu_fails_though_no_gpu_is_there_to_try(python: Path) -> None:
    install(python, backend="cu126", arches=("sm_50", "sm_80", "sm_90"))
    asked_for = Gpu(vendor=Vendor.NVIDIA, arch="12.0", source="--gpu sm_120")
    proof = verify(LocalHost(), python=python, machine=machine(asked_for, cuda=None))
    assert {check.name for check in proof.failed} == {"arch-list", "kernels-sm_120"}
    assert named(proof, "kernels-sm_120").detail == "this build cannot run on a GPU of compute capability 12.0"


def test_a_gpu_with_a_driver_that_torch_does_not_see_fails(python: Path) -> None:
    install(python)
    proof = verify(LocalHost(), python=python, machine=machine(RTX_5090))
    assert [check.name for check in proof.failed] == ["gpu-available"]


def test_a_cpu_build_on_a_gpu_machine_fails_unless_it_was_asked_for(python: Path) -> None:
    install(python, backend="cpu", arches=())
    by_chance = verify(LocalHost(), python=python, machine=machine(RTX_5090), depth=Depth.QUICK)
    assert named(by_chance, "gpu-available").detail == "a cpu build cannot use NVIDIA GeForce RTX 5090"
    asked = verify(
        LocalHost(), python=python, machine=machine(RTX_5090), expected=Expected(backend="cpu"), depth=Depth.QUICK
    )
    assert asked.ok
    assert named(asked, "gpu-available").detail == "a CPU build, as asked"


@pytest.mark.usefixtures("rtx_5090")
def test_hidden_gpus_are_said_to_be_hidden(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    install(python)
    proof = verify(LocalHost(), python=python, machine=machine(RTX_5090))
    assert proof.ok
    assert named(proof, "gpu-available").detail == "CUDA_VISIBLE_DEVICES hides every GPU"


def test_the_proof_is_isolated(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch.py in the working directory or on PYTHONPATH, and torch's own switches, change nothing."""
    install(python, backend="cpu", arches=())
    (tmp_path / "torch.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TORCH_BREAKS_THE_STAND_IN", "1")
    package = site_packages(python) / "torch" / "__init__.py"
    package.write_text(
        package.read_text()
        + "\nimport os\nassert not any(name.startswith(('TORCH_BREAKS', 'PYTHON')) for name in os.environ)"
        + "\nassert os.listdir('.') == []\n"
    )
    proof = verify(LocalHost(), python=python, machine=machine())
    assert proof.ok, proof.failed


def test_a_torch_that_kills_its_interpreter_on_import_still_has_its_binaries_judged(python: Path) -> None:
    install(python)
    (site_packages(python) / "torch" / "__init__.py").write_text("import os\nos._exit(77)")
    proof = verify(LocalHost(), python=python, machine=machine(RTX_5090))
    assert named(proof, "import").actual == "the process ended with code 77"
    assert named(proof, "kernels-sm_120").status is Status.PASSED
    assert named(proof, "matmul-fp32").detail == "torch cannot be imported"


def test_talk_on_stdout_does_not_disturb_the_answer(python: Path) -> None:
    install(python, backend="cpu", arches=())
    package = site_packages(python) / "torch" / "__init__.py"
    package.write_text(package.read_text() + "\nimport os\nprint('{}')\nos.write(1, b'noise')\n")
    assert verify(LocalHost(), python=python, machine=machine()).ok


def test_no_torch_and_no_interpreter_are_failures_not_tracebacks(python: Path, tmp_path: Path) -> None:
    nothing = verify(LocalHost(), python=python, machine=machine())
    assert named(nothing, "import").actual == "ModuleNotFoundError: No module named 'torch'"
    nowhere = verify(LocalHost(), python=tmp_path / "missing", machine=machine())
    assert "No such file" in (named(nowhere, "import").actual or "")
    assert not nothing.ok and not nowhere.ok


def test_a_check_of_the_profile_whose_package_is_missing_fails(python: Path) -> None:
    install(python, backend="cpu", arches=())
    proof = verify(LocalHost(), python=python, machine=machine(), extra_checks=["torchaudio"], depth=Depth.QUICK)
    assert proof.failed == (
        Check(name="torchaudio", status=Status.FAILED, expected="torchaudio", actual="not installed"),
    )


def test_an_unknown_check_and_a_senseless_patience_are_refused(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadData, match="no check called lstmm"):
        verify(LocalHost(), python=python, machine=machine(), extra_checks=["lstmm"])
    monkeypatch.setenv("PROVISION_PATIENCE", "soon")
    with pytest.raises(UsageProblem, match="PROVISION_PATIENCE"):
        verify(LocalHost(), python=python, machine=machine())


# The judgement, from values to values


def answer(version: str = "2.11.0+cu128", archs: tuple[str, ...] = BLACKWELL, **more: object) -> Answer:
    cuda = {"cu126": "12.6", "cu128": "12.8", "cu130": "13.0"}.get(version.partition("+")[2])
    torch = {"version": version, "cuda": cuda, "hip": None, "xpu": None, "arch_list": list(archs)} | more
    imported = {"name": "import", "device": "cpu", "status": "passed"}
    return Answer(torch=torch, devices=({"device": "cpu", "name": "CPU"},), results=(imported,))


def promise(*gpus: Gpu, expected: Expected | None = None, cuda: str = "13.0") -> Promise:
    return Promise(machine=machine(*gpus, cuda=cuda), expected=expected or Expected(), trials=())


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ("8.9", ("sm_80", "sm_86", "sm_90"), "runs sm_86"),
        ("10.3", ("sm_90", "sm_100"), "runs sm_100"),
        ("12.1", ("sm_90", "sm_120"), "runs sm_120"),
        ("12.0", ("sm_90", "compute_90"), "runs compute_90"),
        ("9.0", ("sm_90a",), "runs sm_90a"),
        ("12.0", ("sm_50", "sm_86", "sm_90"), None),
        ("8.0", ("sm_86",), None),
        ("6.1", ("sm_75", "sm_80"), None),
    ],
)
def test_the_arch_list_is_read_by_the_loading_rules(capability: str, archs: tuple[str, ...], runs: str | None) -> None:
    gpu = Gpu(vendor=Vendor.NVIDIA, arch=capability, index=0, name="x")
    (check,) = [one for one in judge(answer(archs=archs), promise(gpu)) if one.name == "arch-list"]
    assert check.status is (Status.PASSED if runs else Status.FAILED)
    assert check.actual == (runs or " ".join(archs))


def test_ptx_of_a_newer_toolkit_than_the_driver_is_no_coverage() -> None:
    gpu = Gpu(vendor=Vendor.NVIDIA, arch="12.0", index=0, name="x")
    checks = judge(answer(archs=("sm_90", "compute_90")), promise(gpu, cuda="12.4"))
    assert [one.status for one in checks if one.name == "arch-list"] == [Status.FAILED]


@pytest.mark.parametrize(
    ("expected", "failed"),
    [
        (Expected(torch="2.11.0", backend="cu128"), []),
        (Expected(torch="2.11.0+cu128"), []),
        (Expected(torch="2.11.0+cu130"), ["version"]),
        (Expected(torch="2.12.0"), ["version"]),
        (Expected(backend="cu130"), ["backend"]),
    ],
)
def test_version_and_backend_are_held_against_the_plan(expected: Expected, failed: list[str]) -> None:
    checks = judge(answer(), promise(expected=expected))
    assert [check.name for check in checks if check.status is Status.FAILED] == failed


@pytest.mark.parametrize(
    ("said", "backend"),
    [
        ({"version": "2.11.0+cu128", "cuda": "12.8"}, "cu128"),
        ({"version": "2.15.0", "cuda": "13.2"}, "cu132"),
        ({"version": "2.9.0a0+git1234", "cuda": "12.8"}, "cu128"),
        ({"version": "2.11.0+rocm7.2", "hip": "7.2.53211"}, "rocm7.2"),
        ({"version": "2.11.0", "hip": "7.0.51831-a3e329ad8"}, "rocm7.0"),
        ({"version": "2.11.0+xpu", "xpu": "20250302"}, "xpu"),
        ({"version": "2.11.0"}, "cpu"),
    ],
)
def test_the_backend_is_the_local_version_or_what_torch_was_made_with(said: dict[str, str], backend: str) -> None:
    assert backend_of(said) == backend


def test_devices_are_matched_by_uuid_then_by_name_then_by_number() -> None:
    one = Gpu(vendor=Vendor.NVIDIA, name="A", arch="8.0", index=3, uuid="GPU-aa")
    two = Gpu(vendor=Vendor.NVIDIA, name="A", arch="8.0", index=4, uuid="GPU-bb")
    devices = [
        {"device": "cuda:0", "name": "A", "capability": "8.0", "uuid": "bb"},
        {"device": "cuda:1", "name": "A", "capability": "8.0"},
        {"device": "cuda:2", "name": "B", "capability": "8.0"},
    ]
    assert match_devices(devices, [one, two]) == {"cuda:0": 4, "cuda:1": 3, "cuda:2": 2}


def test_a_machine_with_a_gpu_but_no_driver_fails_and_says_so() -> None:
    checks = judge(answer(), Promise(machine=machine(RTX_5090, cuda=None), expected=Expected(), trials=()))
    (check,) = [one for one in checks if one.name == "gpu-available"]
    assert (check.status, check.detail) == (Status.FAILED, "no nvidia driver answers")


def test_answers_are_merged_without_forgetting() -> None:
    first = Answer(
        torch={"version": "1"}, results=({"name": "a", "device": "cpu", "status": "failed"},), complete=False
    )
    again = Answer(
        results=({"name": "a", "device": "cpu", "status": "passed"}, {"name": "b", "device": "cpu", "status": "passed"})
    )
    whole = merge(first, again)
    assert whole.torch == {"version": "1"}
    assert [(one["name"], one["status"]) for one in whole.results] == [("a", "failed"), ("b", "passed")]


@pytest.mark.parametrize(
    ("returncode", "timed_out", "stderr", "name", "actual"),
    [
        (-11, False, "\x1eprovision-check import@cpu\n\x1eprovision-check lstm@cuda:1\nFatal", "lstm", "SIGSEGV"),
        (1, False, "\x1eprovision-check fft@cuda:0\nTimeout (0:01:00)!\n", "fft", "no answer within 0:01:00"),
        (-9, True, "\x1eprovision-check fft@cuda:0\n", "fft", "no answer within the time limit"),
        (3221225477, False, "\x1eprovision-check sort@cuda:0\n", "sort", "code 0xc0000005"),
        (1, False, "cannot execute", "import", "code 1"),
    ],
)
def test_a_process_without_an_answer_names_the_check_in_which_it_ended(
    returncode: int, timed_out: bool, stderr: str, name: str, actual: str
) -> None:
    completed = Completed(argv=(), returncode=returncode, stdout="", stderr=stderr, timed_out=timed_out)
    (result,) = parse_answer(completed).results
    assert result["name"] == name
    assert actual in result["actual"]


# With a real torch


@pytest.mark.registry
@pytest.mark.slow
def test_a_real_torch_passes_every_check_that_a_cpu_can_run(request: pytest.FixtureRequest) -> None:
    proof = verify(
        LocalHost(),
        python=real_torch(request.config),
        machine=machine(cuda=None),
        expected=Expected(torch=TORCH, backend="cpu"),
        depth=Depth.FULL,
    )
    assert proof.ok, proof.failed
    passed = {check.name for check in proof.checks if check.status is Status.PASSED}
    on_cpu = {name for name, trial in BATTERY.items() if trial.on_cpu and trial.package in (None, "numpy")}
    assert passed == {"import", "version", "backend"} | {f"cpu-{name}" for name in on_cpu}


@pytest.mark.registry
def test_quick_is_quick(request: pytest.FixtureRequest) -> None:
    """Under three seconds beyond the import."""
    proof = verify(LocalHost(), python=real_torch(request.config), machine=machine(cuda=None), depth=Depth.QUICK)
    assert proof.ok
    assert proof.seconds - (named(proof, "import").seconds or 0) < 3
