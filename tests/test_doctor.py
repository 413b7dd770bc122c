"""Is each way to break an environment named, and a sound one left in peace?

The environments are real: made and filled by uv, then broken. torch is the stand-in (with its real fatbins), the GPU is
the stand-in NVML; the machine is a value.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv
from index.torchwheel import Behaviour, torch_wheel
from index.wheel import Wheel, wheel
from nvml import stand_in
from provision.checks import Check, Finding, Severity, Status, Torch, Verification
from provision.checkup import checkup, lock_drift, merged, report_text, without_places
from provision.detect.environment import inspect_environment, site_packages
from provision.detect.surroundings import (
    parse_conda_torch,
    parse_df,
    parse_extension_python,
    parse_library_cudas,
    parse_torch_version,
    parse_wheel_name,
    parse_xformers,
)
from provision.doctor import RULES, Case, Mending, Shadow, Surroundings, diagnose, meaning, mending
from provision.environment import Environment, Installed, Manager, Python
from provision.hold import Hold
from provision.host import LocalHost
from provision.machine import Driver, Gpu, Machine, Platform, System, Vendor
from provision.settings import Settings
from provision.values import replace
from real_torch import real_torch

RTX_5090 = Gpu(vendor=Vendor.NVIDIA, name="NVIDIA GeForce RTX 5090", arch="12.0", index=0, source="nvml")
GTX_1080 = Gpu(vendor=Vendor.NVIDIA, name="NVIDIA GeForce GTX 1080", arch="6.1", index=0, source="nvml")
GB10 = Gpu(vendor=Vendor.NVIDIA, name="NVIDIA GB10", arch="12.1", index=0, source="nvml")
BLACKWELL = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
HERE_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def machine(*gpus: Gpu, driver: str = "580.95.05", cuda: str = "13.0", **platform: object) -> Machine:
    where = Platform(**{"system": System.LINUX, "machine": "x86_64", "libc": ("glibc", "2.39"), **platform})  # type: ignore[arg-type]
    return Machine(
        platform=where, gpus=gpus, drivers=(Driver(vendor=Vendor.NVIDIA, version=driver, cuda=cuda, source="nvml"),)
    )


# Real environments, broken on purpose


@dataclass
class Patient:
    """An environment that uv made, and how to harm it."""

    prefix: Path
    shelf: Path

    @property
    def site(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.prefix), "platbase": str(self.prefix)}))

    def install(self, *wheels: Wheel, target: Path | None = None) -> None:
        files = [str(one.write(self.shelf)) for one in wheels]
        where = ["--target", str(target)] if target else []
        command = [
            uv.find_uv_bin(),
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--python",
            str(self.prefix),
        ]
        subprocess.run([*command, *where, *files], check=True)

    def torch(
        self,
        version: str = "2.11.0",
        backend: str = "cu128",
        arches: tuple[str, ...] = BLACKWELL,
        how: Behaviour = "good",
    ) -> None:
        self.install(torch_wheel(version, backend, arches=arches, behaviour=how))

    def info(self, name: str) -> Path:
        return next(self.site.glob(f"{name}-*.dist-info"))

    def findings(self, patient_machine: Machine | None = None, *, prove: bool = True) -> dict[str, Finding]:
        visit = checkup(
            LocalHost(), patient_machine or machine(RTX_5090), inspect_environment(self.prefix), prove=prove
        )
        return {finding.code: finding for finding in visit.findings}


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """An empty environment on a machine with an RTX 5090, whose person has no settings of their own."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "PYTHON", "CUDA")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, value in stand_in.environment(gpus=[stand_in.RTX_5090]).items():
        if name in ("LD_LIBRARY_PATH", "PATH") or name.startswith("STAND_IN"):
            monkeypatch.setenv(name, value)
    subprocess.run([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env")], check=True)
    return Patient(prefix=tmp_path / "env", shelf=tmp_path / "shelf")


def test_a_sound_environment_has_no_finding(patient: Patient) -> None:
    patient.torch()
    patient.install(wheel("torchvision", "0.26.0+cu128", requires=["torch==2.11.0"]), wheel("numpy", "2.4.0"))
    assert patient.findings() == {}


def test_no_environment_has_no_finding_about_it(tmp_path: Path) -> None:
    visit = checkup(LocalHost(), machine(RTX_5090), inspect_environment(tmp_path / "none"))
    assert not set(RULES) & {finding.code for finding in visit.findings} - {"no-space", "shm"}


def xformers(patient: Patient) -> None:
    said = {"version": {"cuda": 1208, "torch": "2.7.0+cu128", "python": "3.11.9"}}
    patient.install(
        wheel("xformers", "0.0.30", files={"xformers/__init__.py": "", "xformers/cpp_lib.json": json.dumps(said)})
    )


def flash_attn(patient: Patient) -> None:
    patient.install(wheel("flash-attn", "2.7.4"))
    patient.info("flash_attn").joinpath("direct_url.json").write_text(
        '{"url": "https://github.com/x/flash_attn-2.7.4+cu12torch2.5cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"}'
    )


def duplicate(patient: Patient) -> None:
    shutil.copytree(patient.info("torch"), patient.site / "torch-2.6.0+cu124.dist-info")


def cut_short(patient: Patient) -> None:
    library = patient.site / "torch/lib/libtorch_cuda.so"
    library.unlink()  # it may be the very file of the package cache
    library.write_bytes(b"\x7fELF")


def other_python(patient: Patient) -> None:
    (patient.site / "torch" / "_C.cpython-38-x86_64-linux-gnu.so").touch()


def locked(patient: Patient) -> None:
    patient.prefix.parent.joinpath("pylock.provision.toml").write_text(
        f"""lock-version = "1.0"
created-by = "torch-provision"

[[packages]]
name = "torch"
version = "2.11.0+cu128"
wheels = [{{url = "https://download.pytorch.org/whl/cu128/torch.whl", hashes = {{sha256 = "{"0" * 64}"}}}}]

[[packages]]
name = "filelock"
version = "3.20.0"
wheels = [{{url = "https://download.pytorch.org/whl/filelock.whl", hashes = {{sha256 = "{"1" * 64}"}}}}]

[tool.provision]
schema = 1
profile = "torch"
backend = "cu128"
channel = "stable"
index-url = "https://download.pytorch.org/whl/cu128"
target = {{system = "linux", machine = "x86_64", python = "{HERE_PYTHON}", arches = ["sm_120"]}}
"""
    )


def held(patient: Patient) -> None:
    hold = Hold(prefix=Path(os.path.realpath(patient.prefix)))
    for name, text in hold.set({"torch": "1.13.1+cu117"}).items():
        (patient.prefix / name).write_text(text or "")


BROKEN: dict[str, tuple[str, Callable[[Patient], object]]] = {
    "a folder that pip left": ("half-removed", lambda it: (it.site / "~orch" / "lib").mkdir(parents=True)),
    "two records of torch": ("duplicate-install", duplicate),
    "a library of torch is gone": ("missing-files", lambda it: (it.site / "torch/lib/libtorch_cpu.so").unlink()),
    "a library of torch is cut short": ("missing-files", cut_short),
    "METADATA is gone": ("broken-metadata", lambda it: (it.info("torch") / "METADATA").unlink()),
    "RECORD is gone": ("broken-metadata", lambda it: (it.info("torch") / "RECORD").unlink()),
    "torch without metadata": ("broken-metadata", lambda it: shutil.rmtree(it.info("torch"))),
    "torch for another Python": ("python-abi-mismatch", other_python),
    "torchvision of another backend": (
        "torchvision-mismatch",
        lambda it: it.install(wheel("torchvision", "0.26.0+cpu", requires=["torch==2.11.0"])),
    ),
    "torchvision of another torch": (
        "torchvision-mismatch",
        lambda it: it.install(wheel("torchvision", "0.21.0", requires=["torch==2.6.0"])),
    ),
    "torchaudio of another torch": ("torchaudio-mismatch", lambda it: it.install(wheel("torchaudio", "2.6.0"))),
    "xformers of another torch": ("xformers-mismatch", xformers),
    "flash-attn of another torch": ("flash-attn-abi", flash_attn),
    "vllm of another torch": ("vllm-abi", lambda it: it.install(wheel("vllm", "0.8.5", requires=["torch==2.6.0"]))),
    "bitsandbytes without this CUDA": (
        "bitsandbytes",
        lambda it: it.install(
            wheel(
                "bitsandbytes",
                "0.45.0",
                files={"bitsandbytes/libbitsandbytes_cuda124.so": "", "bitsandbytes/__init__.py": ""},
            )
        ),
    ),
    "a package that wants another torch": (
        "requirement-broken",
        lambda it: it.install(wheel("fastai", "2.7.11", requires=["torch<2,>=1.7"])),
    ),
    "numpy 2 beside a package that forbids it": (
        "numpy2-abi",
        lambda it: it.install(wheel("numpy", "2.1.0"), wheel("oldlib", "1.0", requires=["numpy<2"])),
    ),
    "two CUDA majors": (
        "two-cuda-majors",
        lambda it: it.install(wheel("nvidia-nccl-cu12", "2.27.5"), wheel("nvidia-nccl-cu13", "2.28.9")),
    ),
    "a locked package is missing": ("lock-drift", locked),
    "another torch than the one held": ("hold-broken", held),
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_environment_broken_on_purpose_is_named(how: str, patient: Patient) -> None:
    code, harm = BROKEN[how]
    patient.torch()
    assert code not in patient.findings(prove=False)
    harm(patient)
    found = patient.findings()
    assert code in found, found
    assert found[code].evidence and found[code].cause and found[code].remedy


def test_torch_is_missing(patient: Patient) -> None:
    assert set(patient.findings()) == {"torch-missing"}


def test_the_cpu_build_on_a_gpu_machine(patient: Patient) -> None:
    patient.torch(backend="cpu", arches=())
    found = patient.findings()
    assert set(found) == {"cpu-torch"}
    assert found["cpu-torch"].evidence == "torch 2.11.0+cpu, and NVIDIA GeForce RTX 5090 in the machine"
    assert found["cpu-torch"].fix == (("provision",),)
    assert patient.findings(machine()) == {} or "cpu-torch" not in patient.findings(machine())


def test_no_code_for_a_new_gpu(patient: Patient) -> None:
    patient.torch("2.6.0", "cu124", ("sm_50", "sm_80", "sm_86", "sm_90"))
    found = patient.findings()
    assert set(found) == {"no-kernel-image-new-gpu"}
    assert "needs sm_120" in found["no-kernel-image-new-gpu"].evidence


def test_no_code_for_an_old_gpu(patient: Patient) -> None:
    patient.torch("2.15.0", "cu130", ("sm_75", "sm_80", "sm_90", "sm_120"))
    assert set(patient.findings(machine(GTX_1080), prove=False)) >= {"no-kernel-image-old-gpu"}


def test_a_gpu_that_no_build_serves_raises_no_alarm_beside_one_that_counts(patient: Patient) -> None:
    patient.torch()
    kepler = Gpu(vendor=Vendor.NVIDIA, name="NVIDIA GeForce GT 710", arch="3.5", index=1, source="nvml")
    found = patient.findings(machine(RTX_5090, kepler))
    assert {code for code, finding in found.items() if finding.severity is not Severity.HINT} <= {"driver-dropped-gpu"}


def test_a_driver_too_old(patient: Patient) -> None:
    patient.torch("2.15.0", "cu130", BLACKWELL)
    found = patient.findings(machine(RTX_5090, driver="570.124.06", cuda="12.8"), prove=False)
    assert found["driver-too-old"].evidence == (
        "driver 570.124.06; torch 2.15.0+cu130 was made with CUDA 13.0, which needs 580 or later"
    )


@pytest.mark.parametrize(("how", "code"), [("import-fails", "lib-missing"), ("no-kernel", "no-kernel-image")])
def test_what_only_shows_when_torch_runs_is_named_by_its_words(patient: Patient, how: Behaviour, code: str) -> None:
    patient.torch(how=how)
    assert any(found.startswith(code) for found in patient.findings())


def test_a_torch_that_ends_its_interpreter_is_still_diagnosed(patient: Patient) -> None:
    patient.torch()
    package = patient.site / "torch" / "__init__.py"
    package.write_text("import os\nos._exit(3)".ljust(package.stat().st_size))
    found = patient.findings()
    assert found["torch-import-fails"].evidence == "the process ended with code 3"


def test_library_paths_that_shadow_and_a_stub(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient.torch()
    toolkit, stubs = tmp_path / "cuda" / "lib64", tmp_path / "cuda" / "lib64" / "stubs"
    stubs.mkdir(parents=True)
    (toolkit / "libtorch_cuda.so").touch()
    (stubs / "libcuda.so").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{toolkit}:{stubs}:{os.environ['LD_LIBRARY_PATH']}")
    found = patient.findings()
    shadow = found["library-path-shadows"]
    assert shadow.evidence == (
        f"libtorch_cuda.so: {toolkit / 'libtorch_cuda.so'} (LD_LIBRARY_PATH) comes before "
        f"{patient.site / 'torch/lib/libtorch_cuda.so'}"
    )
    assert shadow.severity is Severity.HINT, "torch was proven on the GPU all the same"
    assert str(stubs) in found["cuda-stub-library"].evidence


def test_a_torch_on_pythonpath(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.torch()
    patient.install(torch_wheel("2.6.0", "cpu"), target=tmp_path / "other")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    assert "pythonpath-shadows" in patient.findings()


def test_settings_that_lead_to_another_build(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.torch()
    (tmp_path / "pip.conf").write_text("[global]\nextra-index-url = https://download.pytorch.org/whl/cpu\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (words,) = [found.evidence for found in patient.findings().values()]
    assert words == f"{tmp_path / 'pip.conf'} asks for cpu builds: they do not use NVIDIA GeForce RTX 5090"


def test_an_unfinished_change(patient: Patient) -> None:
    from provision import transaction

    patient.torch()
    script = (
        "import sys, os; from pathlib import Path; from provision import transaction\n"
        "with transaction.begin(Path(sys.argv[1])) as change: os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(patient.prefix)], check=False)
    assert "unfinished-change" in patient.findings(prove=False)
    transaction.recover(patient.prefix)
    assert "unfinished-change" not in patient.findings(prove=False)


# The rules, from values to findings


def case(
    *gpus: Gpu, packages: dict[str, str] | None = None, around: Surroundings | None = None, **more: object
) -> Case:
    installed = {name: Installed(name=name, version=version) for name, version in (packages or {}).items()}
    environment = Environment(
        prefix=Path("/env"), python=Python(version="3.12.8"), manager=Manager.UV, installed=installed
    )
    return Case(
        machine=machine(*gpus, **more),  # type: ignore[arg-type]
        environment=environment,
        around=around or Surroundings(),
    )


def codes(patient_case: Case) -> list[str]:
    return [finding.code for finding in diagnose(patient_case)]


@pytest.mark.parametrize(("capability", "archs"), [("8.9", "sm_80 sm_86"), ("10.3", "sm_100"), ("12.1", "sm_120")])
def test_a_gpu_that_runs_the_code_of_a_lower_minor_raises_no_alarm(capability: str, archs: str) -> None:
    gpu = Gpu(vendor=Vendor.NVIDIA, arch=capability, index=0)
    proof = Verification(torch=Torch(arch_list=tuple(archs.split())), checks=())
    around = Surroundings(torch_version="2.11.0+cu128", torch_cuda="12.8")
    sound = replace(case(gpu, packages={"torch": "2.11.0+cu128"}, around=around), verification=proof)
    assert codes(sound) == []


def test_gb10_is_warned_about_falsely_up_to_torch_2_10(tmp_path: Path) -> None:
    from fatbin.build import elf_with_fatbin
    from provision.fatbin import scan_bytes

    library = {"libtorch_cuda.so": scan_bytes(elf_with_fatbin([("sm_90", "sm_120")]))}
    for version, expected in [("2.10.0+cu130", ["false-arch-warning"]), ("2.11.0+cu130", [])]:
        around = Surroundings(torch_version=version, torch_cuda="13.0")
        with_library = replace(case(GB10, packages={"torch": version}, around=around), libraries=library)
        assert codes(with_library) == expected


@pytest.mark.parametrize(
    ("around", "packages", "expected"),
    [
        (Surroundings(torch_version="2.2.0"), {"torch": "2.2.0", "numpy": "2.1.0"}, ["numpy2-abi"]),
        (Surroundings(torch_version="2.3.0"), {"torch": "2.3.0", "numpy": "2.1.0"}, []),
        (Surroundings(torch_version="2.12.0"), {"torch": "2.12.0", "torchaudio": "2.11.0"}, []),
        (Surroundings(torch_version="2.10.0"), {"torch": "2.10.0", "torchaudio": "2.11.0"}, ["torchaudio-mismatch"]),
        (Surroundings(conda_torch="pytorch-2.5.1"), {"torch": "2.11.0"}, []),
        (Surroundings(temporary_free=1 << 30), {"torch": "2.11.0"}, ["no-space"]),
        (Surroundings(temporary_free=100 << 30), {"torch": "2.11.0"}, []),
        (Surroundings(user_site="/home/user/.local"), {"torch": "2.11.0"}, ["user-site-shadows"]),
        (
            Surroundings(shadows=(Shadow(name="a", wins="b", loses="c", by="d"),)),
            {"torch": "2.11.0"},
            ["library-path-shadows"],
        ),
        (Surroundings(missing_dlls=("msvcp140.dll",)), {"torch": "2.11.0"}, []),
        (Surroundings(unfinished="an earlier run ended"), {}, ["unfinished-change", "torch-missing"]),
    ],
)
def test_rules_over_values(around: Surroundings, packages: dict[str, str], expected: list[str]) -> None:
    assert codes(case(packages=packages, around=around)) == expected


def test_windows_without_the_runtime() -> None:
    around = Surroundings(missing_dlls=("vcruntime140_1.dll",))
    assert codes(case(packages={"torch": "2.11.0"}, around=around, system=System.WINDOWS)) == ["windows-dll"]


def test_a_small_shared_memory_counts_in_a_container_only() -> None:
    around = Surroundings(shared_memory=64 << 20)
    assert codes(case(packages={"torch": "2.11.0"}, around=around)) == []
    (found,) = diagnose(case(packages={"torch": "2.11.0"}, around=around, container="docker"))
    assert (found.code, found.severity) == ("shm", Severity.WARNING)


@pytest.mark.parametrize(
    ("url", "driver", "wrong"),
    [
        ("https://download.pytorch.org/whl/cpu", "580.95.05", True),
        ("https://download.pytorch.org/whl/cu126", "580.95.05", True),
        ("https://download.pytorch.org/whl/cu128", "580.95.05", False),
        ("https://mirror.example/pytorch/whl/cu130/", "570.124.06", True),
        ("https://mirror.example/simple", "580.95.05", False),
    ],
)
def test_an_index_is_wrong_where_this_machine_cannot_use_its_builds(url: str, driver: str, wrong: bool) -> None:
    around = Surroundings(settings=Settings(extra_index_urls=(url,)))
    found = codes(case(RTX_5090, packages={"torch": "2.11.0"}, around=around, driver=driver))
    assert ("wrong-index" in found) is wrong


def test_a_failed_check_is_explained_by_its_words_or_said_to_be_unknown() -> None:
    def visit(words: str) -> list[str]:
        check = Check(name="conv2d", status=Status.FAILED, gpu=0, actual=words)
        proof = Verification(torch=Torch(version="2.11.0"), checks=(check,))
        return codes(replace(case(RTX_5090, packages={"torch": "2.11.0"}), verification=proof))

    assert visit("RuntimeError: cuDNN version incompatibility: PyTorch was compiled against (9, 10, 2)") == [
        "cudnn-incompat"
    ]
    assert visit("RuntimeError: something else") == ["check-failed"]


def test_every_rule_has_its_row_in_words() -> None:
    for code in RULES:
        row = meaning(code)
        assert row.title and row.cause.endswith(".") and row.remedy.endswith("."), code


def test_findings_are_told_once_and_the_gravest_first() -> None:
    def finding(code: str, severity: Severity) -> Finding:
        return Finding(code=code, severity=severity, title="", evidence="", cause="")

    hint, error = finding("a", Severity.HINT), finding("b", Severity.ERROR)
    assert merged([hint], [error, finding("a", Severity.ERROR)]) == (error, hint)


def test_lock_drift_needs_a_lock_of_ours() -> None:
    environment = case(packages={"torch": "2.11.0"}).environment
    assert lock_drift(environment, None) == {}
    assert lock_drift(environment, 'lock-version = "1.0"\npackages = []') == {}


@pytest.mark.parametrize(
    ("around", "packages", "expected"),
    [
        (Surroundings(), {"torch": "2.11.0"}, Mending()),
        (Surroundings(damaged={"torch": "a file is missing", "trimmed": "a test is missing"}), {}, {"torch"}),
        (Surroundings(metadata_of=(("triton", "3.5"), ("triton", "3.6"))), {}, {"triton"}),
        (Surroundings(broken_metadata=(("Foo_Bar-1.0.dist-info", "no RECORD"),)), {}, {"foo-bar"}),
        (Surroundings(unowned=("torch",)), {}, {"torch"}),
        (Surroundings(leftovers=("~orch", "~-iton")), {"torch": "2", "triton": "3", "numpy": "2"}, {"torch", "triton"}),
        (Surroundings(leftovers=("~oo",)), {"numpy": "2"}, {"torch"}),
        (
            Surroundings(torch_cuda="12.8"),
            {"nvidia-nccl-cu12": "2", "nvidia-nccl-cu13": "2", "nvidia-cublas": "13", "nvidia-ml-py": "13"},
            Mending(go=frozenset({"nvidia-nccl-cu13", "nvidia-cublas"})),
        ),
    ],
)
def test_what_is_to_be_mended(around: Surroundings, packages: dict[str, str], expected: Mending | set[str]) -> None:
    wanted = Mending(again=frozenset(expected)) if isinstance(expected, set) else expected
    assert mending(case(packages=packages, around=around)) == wanted


def linked(source: str, target: str) -> None:
    """The same file under a second name; where that cannot be, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.mark.registry
@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda site: None, "cpu-torch"),
        (lambda site: (site / "torch/lib/libtorch_cpu.so").unlink(), "missing-files"),
        (lambda site: shutil.rmtree(site / "numpy"), "missing-files"),
        (lambda site: shutil.rmtree(site / "torch/nn"), "missing-files"),
        (lambda site: (site / "torch").rename(site / "~orch"), "half-removed"),
        (lambda site: next(site.glob("torch-*.dist-info")).joinpath("METADATA").unlink(), "broken-metadata"),
    ],
)
def test_a_real_torch_broken_on_purpose_is_named(
    harm: Callable[[Path], object], code: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    prefix = real_torch(request.config).parent.parent
    shutil.copytree(prefix, tmp_path / "env", symlinks=True, copy_function=linked)
    harm(site_packages(tmp_path / "env") or tmp_path)
    visit = checkup(LocalHost(), machine(RTX_5090), inspect_environment(tmp_path / "env"))
    assert code in {finding.code for finding in visit.findings}


# What the files say


def test_parsers_of_what_lies_around() -> None:
    text = "__version__ = '2.11.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
    assert parse_torch_version(text) == {"__version__": "2.11.0+cu128", "cuda": "12.8"}
    assert parse_extension_python(["_C.cpython-313t-x86_64-linux-gnu.so"]) == "3.13"
    assert parse_extension_python(["_C.cp312-win_amd64.pyd"]) == "3.12"
    assert parse_extension_python(["__init__.py"]) is None
    assert parse_library_cudas(
        ["libbitsandbytes_cuda118.so", "libbitsandbytes_cuda130.so", "libbitsandbytes_cpu.so"]
    ) == [
        "11.8",
        "13.0",
    ]
    assert parse_xformers('{"version": {"cuda": 1208, "torch": "2.7.0+cu128"}}') == {"torch": "2.7.0", "cuda": "12.8"}
    assert parse_xformers("{}") == {}
    assert parse_wheel_name("flash_attn-2.8.3+cu12torch2.7cxx11abiTRUE") == {"cuda": "12", "torch": "2.7"}
    assert parse_conda_torch(["numpy-2.json", "pytorch-2.5.1-py3.12_cuda12.4_0.json"]) == "pytorch-2.5.1"
    df = "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 65536 0 65000 1% /dev/shm\n"
    assert parse_df(df, total=True) == 64 << 20
    assert parse_df(df, total=False) == 65000 << 10
    assert parse_df("", total=True) is None


# The report


def test_the_report_holds_what_a_bug_report_needs_and_nothing_private(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patient.torch(backend="cpu", arches=())
    monkeypatch.setenv("USER", "anneliese")
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://anneliese:secret@pypi.corp.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    visit = checkup(LocalHost(), machine(RTX_5090), inspect_environment(patient.prefix))
    text = report_text(LocalHost(), visit)
    report = json.loads(text)
    assert report["findings"][0]["code"] == "cpu-torch"
    assert report["environment"]["installed"]["torch"] == "2.11.0+cpu"
    assert report["verification"]["checks"] and report["capture"]["schema"] == 1
    for private in ("anneliese", "secret", "corp.example", str(tmp_path), f"{Path.home()}/"):
        assert private not in text, private


def test_places_and_addresses_are_taken_out_of_a_report_and_versions_are_not() -> None:
    text = (
        "libcudnn.so.9: /usr/local/cuda-12.1/lib64/libcudnn.so.9 (LD_LIBRARY_PATH); C:\\Users\\Ann\\lib\\c10.dll; "
        "https://ann:pw@index.corp/simple by ann@corp.example from 192.168.1.7; nvidia-cublas 13.1.0.3"
    )
    cleaned = (
        "libcudnn.so.9: …/lib64/libcudnn.so.9 (LD_LIBRARY_PATH); …/lib/c10.dll; "
        "https://… by … from …; nvidia-cublas 13.1.0.3"
    )
    assert without_places({"a": [text]}) == {"a": [cleaned]}
