"""Does the scan say of real wheels what cuobjdump says? Downloads them; run with `-m registry`.

The six small ones take a minute; with `-m "registry and slow"` torch 2.6.0 and 2.15.0 too (1.3 GB), and with
PROVISION_TEST_ALL_WHEELS=1 every wheel of `fatbin/wheels.txt` (20 GB, each deleted after its turn). Wheels are kept in
PROVISION_TEST_WHEELS, by default a folder of the user's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from _pytest.mark import ParameterSet
from bench.scan_cuobjdump import as_listed, parse_list
from fatbin.wheels import wheel_table
from provision.coverage import Verdict
from provision.fatbin import Library, scan_file, scan_wheel
from provision.scan import scan

pytestmark = pytest.mark.registry

HOME = Path(__file__).parent
SMALL = {
    "bitsandbytes-0.50.2-py3-none-manylinux_2_24_aarch64.whl",
    "bitsandbytes-0.50.2-py3-none-manylinux_2_24_x86_64.whl",
    "bitsandbytes-0.50.2-py3-none-win_amd64.whl",
    "torchao-0.18.0-cp310-abi3-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "torchvision-0.29.2-py3-none-manylinux_2_28_x86_64.whl",
    "xformers-0.0.35-py39-none-manylinux_2_28_x86_64.whl",
}
TORCH_26 = "torch-2.6.0-cp311-cp311-manylinux1_x86_64.whl"
TORCH_215 = "torch-2.15.0-cp311-cp311-manylinux_2_28_x86_64.whl"
LARGE = {TORCH_26, TORCH_215}

TABLE = wheel_table()


def _wheels() -> Iterator[ParameterSet]:
    everything = "PROVISION_TEST_ALL_WHEELS" in os.environ
    skip = pytest.mark.skip(reason="set PROVISION_TEST_ALL_WHEELS=1 to download every wheel")
    for wheel in TABLE:
        marks = [] if wheel in SMALL else [pytest.mark.slow]
        if wheel not in SMALL | LARGE and not everything:
            marks.append(skip)
        yield pytest.param(wheel, marks=marks)


def download(wheel: str) -> Path:
    """This very wheel, by pip; kept for the next run. Skips the test where the index does not have it (any more)."""
    folder = Path(os.environ.get("PROVISION_TEST_WHEELS") or platformdirs.user_cache_path("torch-provision-tests"))
    path = folder / wheel
    if path.exists():
        return path
    name, version, *_, python, abi, platforms = wheel.removesuffix(".whl").split("-")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), "--python-version", "3.11" if python != "cp312" else "3.12", "--abi", abi]
    for platform in platforms.split("."):
        command += ["--platform", platform]
    command.append(f"{name}==={version}")  # not 2.13.0+cpu from a folder of wheels
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if not path.exists():
        pytest.skip(f"the package index has no {wheel}: {run.stderr.strip()[-200:]}")
    return path


def columns(library: Library) -> list[str]:
    """A library as a row of `wheels.txt`, in any order of words."""

    def numbers(*, relocatable: bool, ptx: bool) -> set[str]:
        held = [profile for profile in library.profiles if profile.relocatable is relocatable]
        return {image.arch.partition("_")[2] for one in held for image in one.images if image.ptx is ptx}

    isa = {image.isa for profile in library.profiles for image in profile.images if image.isa}
    link = numbers(relocatable=True, ptx=False) | {f"+{arch}" for arch in numbers(relocatable=True, ptx=True)}
    total = sum(profile.count for profile in library.profiles)
    bulk: Counter[str] = Counter()
    for profile in library.profiles:
        for arch in {image.arch.partition("_")[2] for image in profile.images if not image.ptx}:
            bulk[arch] += profile.count
    return [
        *(" ".join(sorted(numbers(relocatable=False, ptx=ptx))) for ptx in (False, True)),
        " ".join(sorted(isa)),
        " ".join(sorted(link)),
        str(total),
        str(library.entries().total()),
        " ".join(sorted(arch for arch, count in bulk.items() if count >= 0.99 * total)),
    ]


@pytest.mark.parametrize("wheel", list(_wheels()))
def test_what_is_found_is_what_cuobjdump_finds(wheel: str) -> None:
    path = download(wheel)
    try:
        rows = TABLE[wheel]
        found = dict(scan_wheel(path, lambda name: name in rows))
        assert found.keys() == rows.keys()
        for name, library in found.items():
            for found_here, expected in zip(columns(library), rows[name], strict=True):
                assert expected == "-" or found_here == " ".join(sorted(expected.split())), name
            assert not library.unknown, name
    finally:
        if wheel not in SMALL | LARGE:
            path.unlink()


def test_bitsandbytes_before_0_45_3_has_nothing_for_blackwell() -> None:
    path = download("bitsandbytes-0.45.0-py3-none-manylinux_2_24_x86_64.whl")
    (found,) = scan([path], ["12.0"]).packages
    assert found.verdicts["sm_120"].verdict is Verdict.NOT_COVERED
    assert "0.45.3 is the first that has it" in found.verdicts["sm_120"].notes[0]


def test_the_windows_wheel_of_torchvision_on_the_package_index_is_a_cpu_build() -> None:
    report = scan([download("torchvision-0.29.2-py3-none-win_amd64.whl")], ["12.0"])
    assert (report.files, report.packages) == ((), ())


@pytest.mark.slow
def test_torch_2_15_covers_blackwell_and_turing_and_not_pascal(tmp_path: Path) -> None:
    with zipfile.ZipFile(download(TORCH_215)) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" in name or ".so" in name or "version.py" in name]
        wheel.extractall(tmp_path, names)
    report = scan([tmp_path], ["12.0", "6.1", "7.5"])
    torch = report.package("torch")
    assert torch is not None
    assert {arch: str(found.verdict) for arch, found in torch.verdicts.items()} == {
        "sm_120": "covered",
        "sm_61": "not-covered",
        "sm_75": "covered",
    }
    assert torch.verdicts["sm_75"].notes == ("libtorch_cuda_linalg.so: 1 of 33 containers have code for sm_75",)
    library = tmp_path / "torch/lib/libtorch_cuda.so"
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        scan_file(library)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05
    _as_a_process([str(tmp_path)], seconds=1.0, megabytes=64)


@pytest.mark.slow
@pytest.mark.parametrize("wheel", sorted(LARGE))
def test_a_wheel_of_torch_is_read_in_little_memory(wheel: str) -> None:
    _as_a_process([str(download(wheel))], seconds=60, megabytes=50)


def _as_a_process(paths: list[str], *, seconds: float, megabytes: float) -> None:
    """Scan in a process of its own, the second time (a wheel: the first) in `seconds`, all in `megabytes`."""
    if sys.platform != "linux":
        pytest.skip("the greatest resident size is read from /proc")
    code = """if True:
        import json, pathlib, re, sys, time
        from provision.scan import scan
        for _ in range(1 if sys.argv[1].endswith(".whl") else 2):
            began = time.perf_counter()
            scan(sys.argv[1:], ["12.0"])
            seconds = time.perf_counter() - began
        most = re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
        print(json.dumps([seconds, int(most[1]) / 1024]))
    """
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    took, used = json.loads(run.stdout)
    assert took < seconds
    assert used < megabytes


# Against NVIDIA's tools


@pytest.fixture(scope="module")
def cuobjdump(tmp_path_factory: pytest.TempPathFactory) -> str:
    """NVIDIA's own lister, from PATH or from the package index."""
    if found := shutil.which("cuobjdump"):
        return found
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("needs cuobjdump (Debian: nvidia-cuda-toolkit)")
    wheel = download("nvidia_cuda_cuobjdump-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl")
    folder = tmp_path_factory.mktemp("cuobjdump")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    (program,) = folder.rglob("bin/cuobjdump")
    program.chmod(0o755)
    return str(program)


NVCC = shutil.which("nvcc")
TARGETS = "-gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=[sm_90a,compute_90a] "
TARGETS += "-gencode arch=compute_120f,code=[sm_120f,compute_120f] -gencode arch=compute_100,code=sm_100"


@pytest.mark.skipif(NVCC is None, reason="needs nvcc (Debian: nvidia-cuda-toolkit)")
@pytest.mark.parametrize(
    "options",
    [
        "-shared -Xcompiler -fPIC -o out.so",
        "-shared -Xcompiler -fPIC -rdc=true -o out.so",
        "-shared -Xcompiler -fPIC -Xfatbin -compress-all -o out.so",
        "-shared -Xcompiler -fPIC -Xfatbin --compress-mode=speed -o out.so",
        "-shared -Xcompiler -fPIC -lineinfo -o out.so",
        "-lib -o out.a",
        "-lib -rdc=true -o out.a",
    ],
)
def test_what_nvcc_makes_is_read_as_cuobjdump_reads_it(cuobjdump: str, tmp_path: Path, options: str) -> None:
    assert NVCC is not None
    (tmp_path / "one.cu").write_text("__global__ void one(int *p) { *p = 1; }\n")
    (tmp_path / "two.cu").write_text("__global__ void two(float *p) { *p = 2; }\n")
    (tmp_path / "empty.cu").write_text("int nothing;\n")
    subprocess.run(f"{NVCC} {TARGETS} one.cu two.cu empty.cu {options}".split(), cwd=tmp_path, check=True)
    (made,) = tmp_path.glob("out.*")
    listed = subprocess.run(
        [cuobjdump, "-all", "--list-elf", "--list-ptx", made], capture_output=True, text=True, check=True
    )
    library = scan_file(made)
    assert as_listed(library.entries()) == parse_list(listed.stdout)
    assert not (library.unread or library.unknown)
