"""`provision.scan`: will this environment, wheel or library run on that GPU?

The pitfalls are those found when 76 real wheels were read: each is a test, or a case in `fatbin/verdicts.toml`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fatbin.build import Entry, archive, container, elf, elf_with_fatbin, pe_with_fatbin, stub
from fatbin.wheels import wheel_table
from packaging.version import Version
from provision import packages
from provision.binaries import parse_record, parse_torch_cuda
from provision.catalog import load_catalog
from provision.coverage import Verdict, sm, version_tuple
from provision.errors import UsageProblem
from provision.fatbin import scan_bytes
from provision.machine import System
from provision.scan import ScannedPackage, ScanReport, code_words, report_lines, scan, verdict

CASES = tomllib.loads((Path(__file__).parent / "fatbin" / "verdicts.toml").read_text())

# One library


def _entry(text: str) -> Entry:
    match = re.fullmatch(r"(\w+?)(?:@([\d.]+))?(!?)(~?)", text)
    assert match, text
    size = 1464 if match[4] else 6000
    return Entry(arch=match[1], isa=match[2] or "9.0", zstd=bool(match[3]), size=size)


def _containers(case: Mapping[str, Any], name: str) -> list[list[Entry]]:
    return [[_entry(text) for text in images] for images in case.get(name, [])]


@pytest.mark.parametrize("name", CASES)
def test_what_a_library_means_for_a_gpu(name: str) -> None:
    (case,) = CASES[name]
    library = scan_bytes(elf_with_fatbin(_containers(case, "containers"), relocatable=_containers(case, "relocatable")))
    found = {
        capability: str(verdict(library, capability, driver_cuda=case.get("driver_cuda")))
        for capability in case["verdicts"]
    }
    assert found == case["verdicts"]


def test_an_entry_that_is_not_understood_can_only_add_code() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_80", Entry(arch="sm_120", kind=8)]]))
    assert verdict(library, "8.0").verdict is Verdict.COVERED
    assert verdict(library, "12.0").verdict is Verdict.UNKNOWN
    assert verdict(library, "12.0").why == "entry of kind 8 (NVVM or LTO-IR)"


def test_code_outside_the_known_sections_makes_every_answer_unknown() -> None:
    library = scan_bytes(elf_with_fatbin([["sm_80"]], wrappers=300))
    assert [verdict(library, at).verdict for at in ("8.0", "12.0")] == [Verdict.UNKNOWN] * 2
    assert verdict(library, "8.0").why == "300 wrappers for 1 containers: code outside the known sections"


@pytest.mark.parametrize(
    ("arch", "capability", "expected"),
    [(80, "8.6", "covered"), (80, "9.0", "not-covered"), (90, "9.0", "covered"), (100, "10.3", "unknown")],
)
def test_a_bare_cubin_hides_its_letter_which_matters_from_hopper_on(arch: int, capability: str, expected: str) -> None:
    head = bytearray(elf({}, machine=190))
    head[7], head[49] = 65, arch
    assert verdict(scan_bytes(bytes(head)), capability).verdict == expected


def test_a_file_of_another_kind_is_unknown() -> None:
    assert verdict(scan_bytes(b"#!/bin/sh"), "8.0").verdict is Verdict.UNKNOWN


# Environments


def environment(root: Path, distributions: Mapping[str, Mapping[str, bytes]], *, record: bool = True) -> Path:
    """A virtual environment with these distributions ("torch-2.15.0": its files); returns its prefix."""
    site = root / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    (root / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for name, files in distributions.items():
        info = site / f"{name}.dist-info"
        info.mkdir()
        for path, data in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(data)
        if record:
            rows = [f"{path},sha256=x,{len(data)}" for path, data in files.items()]
            (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,"]) + "\n")
    return root


def torch(*archs: str, cuda: str | None = "12.8", **more: bytes) -> dict[str, bytes]:
    """The files of a small torch; `more` are further libraries in torch/lib."""
    files = {f"torch/lib/lib{name}.so": data for name, data in more.items()}
    return files | {
        "torch/lib/libtorch_cuda.so": elf_with_fatbin([archs] if archs else []),
        "torch/version.py": f"cuda: Optional[str] = {cuda!r}\nhip = None\n".encode(),
    }


def bitsandbytes(**libraries: Iterable[str]) -> dict[str, bytes]:
    return {
        f"bitsandbytes/libbitsandbytes_{name}.so": elf_with_fatbin([archs]) for name, archs in libraries.items()
    } | {"bitsandbytes/libbitsandbytes_cpu.so": elf({".text": bytes(8)})}


def verdicts(report: ScanReport, name: str) -> dict[str, str]:
    return {arch: found.verdict.value for arch, found in package(report, name).verdicts.items()}


def package(report: ScanReport, name: str) -> ScannedPackage:
    found = report.package(name)
    assert found is not None
    return found


def test_torch_is_decided_by_its_main_library_and_gaps_in_others_are_told(tmp_path: Path) -> None:
    linalg = elf_with_fatbin([["sm_75", "sm_80"], ["sm_80"], ["sm_80"]])
    prefix = environment(tmp_path, {"torch-2.15.0": torch("sm_75", "sm_80", "sm_120", torch_cuda_linalg=linalg)})
    report = scan([prefix], ["12.0", "7.5", "6.1"])
    assert verdicts(report, "torch") == {"sm_120": "covered", "sm_75": "covered", "sm_61": "not-covered"}
    found = package(report, "torch").verdicts
    assert found["sm_75"].decided_by == ("torch/lib/libtorch_cuda.so",)
    assert found["sm_75"].notes == ("libtorch_cuda_linalg.so: 1 of 3 containers have code for sm_75",)


def test_the_first_version_with_code_is_named_where_the_table_knows_it(tmp_path: Path) -> None:
    prefix = environment(tmp_path, {"torch-2.6.0+cu124": torch("sm_80", "sm_90")})
    notes = package(scan([prefix], ["12.0"]), "torch").verdicts["sm_120"].notes
    assert notes == ("nothing loadable on sm_120; 2.7.0 is the first that has it (with CUDA 12.8 or later)",)
    assert package(scan([prefix], ["6.1"]), "torch").verdicts["sm_61"].notes == ("nothing loadable on sm_61",)


def test_a_torch_without_cuda_has_no_gpu_code_which_is_no_gap(tmp_path: Path) -> None:
    prefix = environment(
        tmp_path,
        {"torch-2.15.0": torch(cuda=None), "bitsandbytes-0.50.2": bitsandbytes(cuda128=["sm_120"])},
    )
    report = scan([prefix], ["12.0", "6.1"])
    assert verdicts(report, "torch") == verdicts(report, "bitsandbytes") == {"sm_120": "none", "sm_61": "none"}


@pytest.mark.parametrize(
    ("version", "cuda", "expected", "decided_by"),
    [
        ("0.50.2", "12.8", "covered", "cuda128"),
        ("0.50.2", "12.6", "not-covered", "cuda126"),
        ("0.50.2", "12.9", "covered", "cuda128"),  # the next older one of that major
        ("0.50.2", "12.0", "not-covered", "cuda126"),  # else the oldest newer one
        ("0.50.2", "13.0", "not-covered", None),  # never another major
        ("0.45.5", "12.9", "not-covered", None),  # before 0.50 only the very version
    ],
)
def test_bitsandbytes_is_decided_by_the_library_that_its_torch_loads(
    tmp_path: Path, version: str, cuda: str, expected: str, decided_by: str | None
) -> None:
    libraries = bitsandbytes(cuda118=["sm_80"], cuda126=["sm_80"], cuda128=["sm_80", "sm_120"])
    prefix = environment(tmp_path, {"torch-2.9.1": torch("sm_120", cuda=cuda), f"bitsandbytes-{version}": libraries})
    found = package(scan([prefix], ["12.0"]), "bitsandbytes").verdicts["sm_120"]
    assert found.verdict.value == expected
    assert found.decided_by == ((f"bitsandbytes/libbitsandbytes_{decided_by}.so",) if decided_by else ())


def test_bitsandbytes_without_its_torch_is_decided_only_where_all_libraries_agree(tmp_path: Path) -> None:
    libraries = bitsandbytes(cuda118=["sm_80"], cuda128=["sm_80", "sm_120"])
    report = scan([environment(tmp_path, {"bitsandbytes-0.45.0": libraries})], ["8.0", "12.0", "6.1"])
    assert verdicts(report, "bitsandbytes") == {"sm_80": "covered", "sm_120": "unknown", "sm_61": "not-covered"}
    found = package(report, "bitsandbytes").verdicts["sm_120"]
    assert found.notes == ("depends on the CUDA of its torch: sm_120 is in the libraries for 12.8",)
    beside = scan([tmp_path], ["12.0"], torch_cuda="11.8")
    assert package(beside, "bitsandbytes").verdicts["sm_120"].notes == (
        "nothing loadable on sm_120; 0.45.3 is the first that has it (with a torch for CUDA 12.8 or later)",
    )


def test_the_union_over_a_package_says_nothing_the_weakest_library_decides(tmp_path: Path) -> None:
    files = {"a/one.so": elf_with_fatbin([["sm_50", "sm_80"]]), "a/two.so": elf_with_fatbin([["sm_80"]])}
    report = scan([environment(tmp_path, {"a-1": files})], ["8.0", "5.0"])
    assert verdicts(report, "a") == {"sm_80": "covered", "sm_50": "not-covered"}


def test_libraries_for_single_gpus_do_not_decide_about_the_others(tmp_path: Path) -> None:
    files = {"x/_C.so": elf_with_fatbin([["sm_80"]]), "x/_flash3.so": elf_with_fatbin([["sm_90a"]])}
    report = scan([environment(tmp_path, {"x-1": files})], ["8.6"])
    assert verdicts(report, "x") == {"sm_86": "covered"}
    assert package(report, "x").verdicts["sm_86"].notes == ("_flash3.so: none of 1 containers have code for sm_86",)


def test_a_package_with_nothing_but_code_for_one_gpu_is_decided_by_it(tmp_path: Path) -> None:
    report = scan([environment(tmp_path, {"x-1": {"x/_C.so": elf_with_fatbin([["sm_90a"]])}})], ["8.6", "9.0"])
    assert verdicts(report, "x") == {"sm_86": "not-covered", "sm_90": "covered"}


def test_a_package_that_works_without_its_libraries_is_never_not_covered(tmp_path: Path) -> None:
    files = {
        "torchao/_C_cutlass_90a.abi3.so": elf_with_fatbin([["sm_90a"]]),
        "torchao/_C_mxfp8.so": elf_with_fatbin([["sm_100", "compute_120"]]),
    }
    report = scan([environment(tmp_path, {"torchao-0.18.0": files})], ["8.6", "9.0", "12.0"])
    assert verdicts(report, "torchao") == {"sm_86": "partial", "sm_90": "covered", "sm_120": "covered-jit"}


def test_nvidias_libraries_are_judged_by_their_version_not_by_what_a_scan_sees(tmp_path: Path) -> None:
    cufft = {"nvidia/cufft/lib/libcufft.so.11": elf_with_fatbin([stub(["sm_52"])])}
    old, new = ({f"nvidia_cufft_cu12-{version}": cufft} for version in ("11.2.1.3", "11.3.3.83"))
    report = scan([environment(tmp_path / "old", old)], ["5.2", "9.0", "12.0"])
    assert verdicts(report, "nvidia-cufft-cu12") == {"sm_52": "covered", "sm_90": "covered", "sm_120": "not-covered"}
    note = package(report, "nvidia-cufft-cu12").verdicts["sm_120"].notes
    assert note == ("made before sm_120; 11.3.3.41 is the first that has it",)
    report = scan([environment(tmp_path / "new", new)], ["12.0"])
    assert verdicts(report, "nvidia-cufft-cu12") == {"sm_120": "covered"}


def test_an_nvidia_library_that_the_table_does_not_know_is_unknown(tmp_path: Path) -> None:
    report = scan([environment(tmp_path, {"nvidia_cublas_cu12-1.0": {}, "nvidia_cufft-odd": {}})], ["12.0"])
    assert verdicts(report, "nvidia-cublas-cu12") == verdicts(report, "nvidia-cufft") == {"sm_120": "unknown"}


def test_a_feature_that_older_gpus_do_not_have_is_no_gap(tmp_path: Path) -> None:
    report = scan([environment(tmp_path, {"nvidia_cusparselt_cu13-0.8.1": {}})], ["7.5", "12.0"])
    assert verdicts(report, "nvidia-cusparselt-cu13") == {"sm_75": "partial", "sm_120": "covered"}


def test_copies_of_nvidias_libraries_say_nothing_about_the_package(tmp_path: Path) -> None:
    files = {
        "torchvision/_C.so": elf_with_fatbin([["sm_80"]]),
        "torchvision.libs/libnvjpeg.4a0b5c81.so.13": elf_with_fatbin([["sm_75"]]),
    }
    report = scan([environment(tmp_path, {"torchvision-0.29.2": files})], ["8.0", "7.5"])
    assert verdicts(report, "torchvision") == {"sm_80": "covered", "sm_75": "not-covered"}


def test_a_library_of_nvidias_own_package_does(tmp_path: Path) -> None:
    files = {"nvidia/nccl/lib/libnccl.so.2": elf_with_fatbin([["sm_80", "sm_120"]])}
    report = scan([environment(tmp_path, {"nvidia_nccl_cu12-2.27.5": files})], ["12.0", "7.0"])
    assert verdicts(report, "nvidia-nccl-cu12") == {"sm_120": "covered", "sm_70": "not-covered"}


def test_archives_and_bare_cubins_decide_nothing(tmp_path: Path) -> None:
    files = {
        "a/_C.so": elf_with_fatbin([["sm_80"]]),
        "a/lib.a": archive([elf_with_fatbin([["sm_50"]])]),
        "a/kernel.fatbin": container(["sm_50"]),
    }
    report = scan([environment(tmp_path, {"a-1": files})], ["8.0"])
    assert verdicts(report, "a") == {"sm_80": "covered"}
    assert {file.path for file in report.files} == set(files)


def test_packages_that_compile_at_run_time_have_no_say(tmp_path: Path) -> None:
    report = scan([environment(tmp_path, {"triton-3.9.0": {"triton/_C/libtriton.so": elf({".text": b"x"})}})], ["12.0"])
    assert (report.files, report.packages, report.looked_at) == ((), (), 1)


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    prefix = environment(tmp_path, {"a-1": {"a/lib.so.1.2": elf_with_fatbin([["sm_80"]])}})
    folder = prefix / "lib/python3.12/site-packages/a"
    os.link(folder / "lib.so.1.2", folder / "lib.so.1")
    (folder / "lib.so").symlink_to("lib.so.1.2")
    (folder / "dangling.so").symlink_to("gone.so")
    assert len(scan([prefix], ["8.0"]).files) == 1


def test_an_environment_of_links_is_looked_through(tmp_path: Path) -> None:
    (tmp_path / "cache.so").write_bytes(elf_with_fatbin([["sm_80"]]))
    prefix = environment(tmp_path / "env", {"a-1": {"a/lib.so": b""}})
    library = prefix / "lib/python3.12/site-packages/a/lib.so"
    library.unlink()
    library.symlink_to(tmp_path / "cache.so")
    assert verdicts(scan([prefix], ["8.0"]), "a") == {"sm_80": "covered"}


OWNED = {
    name: elf_with_fatbin([["sm_80"]]) for name in ("some_kernels/_C.so", "some_kernels.libs/liba.so", "some_cuda.so")
}


def test_the_record_names_the_package(tmp_path: Path) -> None:
    report = scan([environment(tmp_path, {"Some.Kernels-1": OWNED})], ["8.0"])
    assert {file.path: file.package for file in report.files} == dict.fromkeys(OWNED, "some-kernels")


def test_without_a_record_the_folder_names_the_package(tmp_path: Path) -> None:
    report = scan([environment(tmp_path, {"Some.Kernels-1": OWNED}, record=False)], ["8.0"])
    assert {file.path: file.package for file in report.files} == {
        "some_kernels/_C.so": "some-kernels",
        "some_kernels.libs/liba.so": "some-kernels",
        "some_cuda.so": None,
    }


def test_a_conda_environment_keeps_the_libraries_of_torch_beside(tmp_path: Path) -> None:
    prefix = environment(tmp_path, {"torch-2.9.1": {"torch/version.py": b"cuda = '12.8'\n"}})
    (prefix / "pyvenv.cfg").unlink()
    (prefix / "conda-meta").mkdir()
    (prefix / "lib" / "libtorch_cuda.so").write_bytes(elf_with_fatbin([["sm_80"]]))
    assert verdicts(scan([prefix], ["8.0", "12.0"]), "torch") == {"sm_80": "covered", "sm_120": "not-covered"}


def test_a_windows_environment_is_the_same(tmp_path: Path) -> None:
    site = tmp_path / "Lib" / "site-packages"
    (site / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "pyvenv.cfg").write_text("")
    (site / "torch-2.9.1+cu128.dist-info").mkdir()
    (site / "torch-2.9.1+cu128.dist-info" / "RECORD").write_text("torch\\lib\\torch_cuda.dll,,\n")
    (site / "torch" / "lib" / "torch_cuda.dll").write_bytes(pe_with_fatbin([["sm_120"]]))
    report = scan([tmp_path], ["12.0"])
    assert (verdicts(report, "torch"), package(report, "torch").version) == ({"sm_120": "covered"}, "2.9.1+cu128")


def test_the_driver_decides_about_ptx_in_a_whole_environment(tmp_path: Path) -> None:
    prefix = environment(tmp_path, {"a-1": {"a/_C.so": elf_with_fatbin([[Entry(arch="compute_80", isa="9.2")]])}})
    assert verdicts(scan([prefix], ["12.0"], driver_cuda="13.2"), "a") == {"sm_120": "covered-jit"}
    old = scan([prefix], ["12.0"], driver_cuda="12.8")
    assert verdicts(old, "a") == {"sm_120": "not-covered"}
    assert package(old, "a").verdicts["sm_120"].notes == (
        "nothing loadable on sm_120",
        "a driver for CUDA 12.8 is too old for its PTX (ISA 9.2)",
    )


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes that keep a reader out")
def test_a_file_that_may_not_be_read_is_unknown() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        closed = Path(folder) / "a.so"
        closed.write_bytes(b"")
        closed.chmod(0)
        with as_an_ordinary_user():
            (file,) = scan([folder], ["8.0"]).files
    assert str(file.verdicts["sm_80"]) == "unknown"


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Root may read everything, so for a while it is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# Wheels and files


def wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def test_a_wheel_says_what_it_would_say_installed(tmp_path: Path) -> None:
    files = torch("sm_80", torch_cuda_linalg=elf_with_fatbin([["sm_80"], ["sm_75"]]))
    packed = wheel(tmp_path / "torch-2.9.1+cu128-cp312-cp312-linux_x86_64.whl", files)
    installed = environment(tmp_path / "env", {"torch-2.9.1+cu128": files})
    assert scan([packed], ["8.0", "12.0"]).packages == scan([installed], ["8.0", "12.0"]).packages


def test_a_wheel_of_bitsandbytes_is_judged_for_the_torch_that_will_stand_beside(tmp_path: Path) -> None:
    libraries = bitsandbytes(cuda126=["sm_80"], cuda128=["sm_120"])
    path = wheel(tmp_path / "bitsandbytes-0.50.2-py3-none-linux_x86_64.whl", libraries)
    assert verdicts(scan([path], ["12.0"], torch_cuda="12.8"), "bitsandbytes") == {"sm_120": "covered"}
    assert verdicts(scan([path], ["12.0"], torch_cuda="12.6"), "bitsandbytes") == {"sm_120": "not-covered"}


def test_one_file_is_told_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(elf({".text": b"x"}))
    (file,) = scan([tmp_path / "a.so"], ["8.0"]).files
    assert str(file.verdicts["sm_80"]) == "none"


def test_a_path_that_is_not_there_and_a_wheel_that_is_none_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem) as missing:
        scan([tmp_path / "nothing"], ["8.0"])
    assert (missing.value.code, missing.value.hint is not None) == ("no-such-path", True)
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"not a wheel")
    with pytest.raises(UsageProblem) as broken:
        scan([tmp_path / "a-1-py3-none-any.whl"], ["8.0"])
    assert broken.value.code == "bad-wheel"


# What is required, and how it is told


def test_a_requirement_is_met_when_something_is_covered_and_nothing_is_not(tmp_path: Path) -> None:
    partial = elf_with_fatbin([["sm_80", "sm_120"], ["sm_80"]])
    prefix = environment(tmp_path, {"torch-2.9.1": torch("sm_80", "sm_120"), "a-1": {"a/_C.so": partial}})
    report = scan([prefix], ["12.0", "8.0", "6.1"])
    assert report.unmet("sm_120") == report.unmet("sm_80") == ()
    assert report.unmet("sm_61") == ("a 1 has no code for sm_61", "torch 2.9.1 has no code for sm_61")


def test_a_requirement_is_not_met_by_an_environment_without_gpu_code(tmp_path: Path) -> None:
    prefix = environment(tmp_path, {"torch-2.9.1": torch(cuda=None)})
    assert scan([prefix], ["12.0"]).unmet("sm_120") == ("nothing here is known to have code for sm_120",)


def test_the_json_is_that_of_the_contract(tmp_path: Path) -> None:
    library = elf_with_fatbin([["sm_75", "sm_90a", Entry(arch="compute_120", zstd=True)], ["sm_75"]])
    prefix = environment(tmp_path, {"torch-2.15.0+cu132": torch() | {"torch/lib/libtorch_cuda.so": library}})
    data = json.loads(json.dumps(scan([prefix], ["7.5", "12.0"]).to_json()))
    (file,) = data["files"]
    contract = {
        "path": "torch/lib/libtorch_cuda.so",
        "package": "torch",
        "cubins": ["sm_75", "sm_90a"],
        "ptx": ["compute_120"],
        "every_container": ["sm_75"],
        "containers": 2,
        "zstd": True,
        "verdicts": {"sm_75": "covered", "sm_120": "partial"},
    }
    assert contract.items() <= file.items()
    (torch_row,) = data["packages"]
    contract = {"name": "torch", "version": "2.15.0+cu132", "verdicts": {"sm_75": "covered", "sm_120": "partial"}}
    assert contract.items() <= torch_row.items()


def test_the_report_is_a_table_and_then_what_is_worth_knowing(tmp_path: Path) -> None:
    linalg = elf_with_fatbin([["sm_80"]])
    prefix = environment(
        tmp_path,
        {
            "torch-2.15.0": torch("sm_75", "sm_120", torch_cuda_linalg=linalg),
            "nvidia_cublas-13.0.0.19": {},
            "a-1": {"stray/_C.so": elf_with_fatbin([["sm_80", "compute_80"], ["sm_80"]])},
        },
        record=False,
    )
    assert report_lines(scan([prefix], ["12.0", "7.5"])) == [
        "package                  sm_120          sm_75        code",
        "nvidia-cublas 13.0.0.19  covered         covered      by its version",
        "torch 2.15.0             covered         covered      sm_75 120, 1 container",
        "stray/_C.so              partial 1 of 2  not-covered  sm_80 + compute_80 (PTX ISA 9.0), 2 containers",
        "",
        "torch: libtorch_cuda_linalg.so: none of 1 containers have code for sm_120",
        "torch: libtorch_cuda_linalg.so: none of 1 containers have code for sm_75",
    ]
    assert report_lines(scan([environment(tmp_path / "empty", {})], ["12.0"])) == ["No GPU code found in 0 files."]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (elf_with_fatbin([["sm_80", "sm_90a"]]), "sm_80 90a, 1 container"),
        (elf_with_fatbin([[Entry(arch="compute_80", zstd=True)]] * 2), "compute_80 (PTX ISA 9.0), 2 containers, zstd"),
        (elf_with_fatbin(relocatable=[["sm_80"]]), "link inputs only"),
        (elf_with_fatbin([stub(["sm_80"])]), "no kernels"),
        (elf({}), "none"),
    ],
)
def test_code_in_words(data: bytes, words: str) -> None:
    assert code_words(scan_bytes(data)) == words


# Parsers and tables


def test_a_record_row_may_be_quoted() -> None:
    assert parse_record('a/b.so,sha256=x,1\n"odd, name ""1"".so",,\n') == ["a/b.so", 'odd, name "1".so']


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.2'\n", "13.2"),  # torch 2.15.0
        ("debug = False\ncuda = '11.7'\nhip = None\n", "11.7"),
        ("cuda: Optional[str] = None\nhip = '6.4'\n", packages.WITHOUT_CUDA),
        ("__version__ = '1'\n", None),
    ],
)
def test_torch_says_its_cuda_version_in_a_text(text: str, cuda: str | None) -> None:
    assert parse_torch_cuda(text) == cuda


def test_every_row_of_the_table_has_a_source_and_makes_sense() -> None:
    table = packages.load_table()
    for kind in ("package", "first", "math"):
        for row in table[kind]:
            assert row["source"] in table["sources"], row
    for name in {row["name"] for row in table["math"]}:
        rows = [row for row in table["math"] if row["name"] == name]
        versions = [version_tuple(row["since"]) for row in rows]
        assert versions == sorted(set(versions)), f"{name}: the rows are in the order of versions"
        assert all(version_tuple(row["from"]) < version_tuple(row["to"]) for row in rows)
        newest = [version_tuple(row["to"]) for row in rows]
        assert newest == sorted(newest), f"{name}: a newer version serves newer GPUs"


def test_the_math_table_agrees_with_the_libraries_that_a_scan_sees_whole() -> None:
    """The oldest and newest cubin of every container-complete NVIDIA library among the wheels that were read."""
    seen = {
        ("nvidia-cublas-cu12", "12.4.5.8"): ("5.0", "9.0"),
        ("nvidia-cublas-cu12", "12.8.4.1"): ("5.0", "12.0"),
        ("nvidia-cublas", "13.10.0.20"): ("7.5", "12.1"),
        ("nvidia-cudnn-cu12", "9.1.0.70"): ("5.0", "9.0"),
        ("nvidia-cudnn-cu12", "9.10.2.21"): ("5.0", "12.0"),
        ("nvidia-cudnn-cu12", "9.28.0.42"): ("7.5", "12.0"),
        ("nvidia-cudnn-cu13", "9.28.0.42"): ("7.5", "12.1"),
        ("nvidia-cusparse-cu12", "12.3.1.170"): ("5.0", "9.0"),
        ("nvidia-curand-cu12", "10.3.5.147"): ("5.0", "9.0"),
        ("nvidia-cusolver-cu12", "11.6.1.9"): ("5.0", "9.0"),
        ("nvidia-cusparselt-cu12", "0.8.1"): ("8.0", "12.1"),
    }
    for (name, version), (oldest, newest) in seen.items():
        for capability in (oldest, newest):
            found = packages.judge_package(name, version, (), capability)
            assert found.verdict is Verdict.COVERED, (name, version, sm(capability))
        assert packages.judge_package(name, version, (), "3.5").verdict is not Verdict.COVERED


TORCH = {
    wheel: libraries["torch/lib/libtorch_cuda.so"]
    for wheel, libraries in wheel_table().items()
    if "torch/lib/libtorch_cuda.so" in libraries
}


@pytest.mark.parametrize("wheel", TORCH)
def test_the_table_of_builds_says_of_torch_what_its_wheels_hold(wheel: str) -> None:
    _, version, *_, platform = wheel.removesuffix(".whl").split("-")
    catalog = load_catalog()
    torch, machine = Version(version), "aarch64" if platform.endswith("aarch64") else "x86_64"
    backend = catalog.plain_wheel(torch, System.LINUX, machine)
    (build,) = (one for one in catalog.on(System.LINUX, machine) if (one.torch, one.backend) == (torch, backend))
    bulk = TORCH[wheel][6].split()
    assert sorted(build.arches) == sorted(f"sm_{arch}" for arch in bulk)
    assert build.ptx == tuple(f"compute_{arch}" for arch in TORCH[wheel][1].split())
