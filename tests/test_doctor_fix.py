"""Does `provision doctor --fix` heal what the doctor names? Whole runs against a loopback index, with the real uv."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv
from index import Server, wheel
from index.torchwheel import torch_wheel
from index.wheel import Wheel
from nvml import stand_in
from running import Person


def site(person: Person) -> Path:
    prefix = str(person.env)
    return Path(sysconfig.get_path("purelib", "venv", {"base": prefix, "platbase": prefix}))


def info(person: Person, name: str) -> Path:
    return next(site(person).glob(f"{name}-*.dist-info"))


def put_in(person: Person, *wheels: Wheel) -> None:
    """As someone would without this tool: uv pip install of these files."""
    files = [str(one.write(person.home / "shelf")) for one in wheels]
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--no-index", "--reinstall"]
    subprocess.run([*command, "--python", str(person.env), *files], check=True)


def old_torch(person: Person) -> None:
    put_in(person, torch_wheel("2.6.0", "cu124", arches=("sm_50", "sm_80", "sm_90")))


def two_records(person: Person) -> None:
    shutil.copytree(info(person, "torch"), site(person) / "torch-2.6.0+cu124.dist-info")


def cut_short(person: Person) -> None:
    library = site(person) / "torch/lib/libtorch_cuda.so"
    library.unlink()  # it may be the very file of the package cache
    library.write_bytes(b"")


HARM: dict[str, tuple[str, Callable[[Person], object]]] = {
    "the CPU build": ("cpu-torch", lambda it: put_in(it, torch_wheel("2.11.0", "cpu"))),
    "a build without this GPU's code": ("no-kernel-image-new-gpu", old_torch),
    "a build for a newer driver": (
        "driver-too-old",
        lambda it: put_in(it, torch_wheel("2.15.0", "cu130", arches=("sm_75", "sm_90", "sm_120"))),
    ),
    "torch removed": (
        "torch-missing",
        lambda it: subprocess.run(
            [uv.find_uv_bin(), "pip", "uninstall", "--quiet", "--python", str(it.env), "torch"], check=True
        ),
    ),
    "a folder that pip left": ("half-removed", lambda it: (site(it) / "~orch" / "lib").mkdir(parents=True)),
    "two records of torch": ("duplicate-install", two_records),
    "a library gone": ("missing-files", lambda it: (site(it) / "torch/lib/libtorch_cpu.so").unlink()),
    "a library cut short": ("missing-files", cut_short),
    "METADATA gone": ("broken-metadata", lambda it: (info(it, "torch") / "METADATA").unlink()),
    "RECORD gone": ("broken-metadata", lambda it: (info(it, "torch") / "RECORD").unlink()),
    "torch without metadata": ("broken-metadata", lambda it: shutil.rmtree(info(it, "torch"))),
    "a torchvision of another torch": (
        "torchvision-mismatch",
        lambda it: put_in(it, wheel("torchvision", "0.21.0+cu124", requires=["torch==2.6.0"])),
    ),
    "two CUDA majors": ("two-cuda-majors", lambda it: put_in(it, wheel("nvidia-nccl-cu13", "2.28.9"))),
}


def findings(person: Person, *args: str) -> dict[str, Any]:
    run = person.run("doctor", *args, "--json")
    assert run.code in (0, 1), run.err
    return {finding["code"]: finding for finding in run.data["findings"]}


BY_DEFAULT = {"the CPU build", "two records of torch", "a library gone", "torch without metadata", "two CUDA majors"}
"""One of each way to be healed; each takes some seconds, so the others run with -m slow."""


@pytest.mark.parametrize(
    "how", [how if how in BY_DEFAULT else pytest.param(how, marks=pytest.mark.slow) for how in HARM]
)
def test_what_is_broken_is_named_and_healed(how: str, tmp_path: Path, index: Server) -> None:
    code, harm = HARM[how]
    person = Person(tmp_path, stand_in.environment(base=index.environ(), driver="570.124.06", cuda="12.8"))
    assert person.run().code == 0
    assert findings(person) == {}
    harm(person)
    assert code in findings(person)
    assert findings(person, "--fix", "--yes") == {}
    assert person.python("import torch; print(torch.__version__)") == "2.11.0+cu128"


def test_a_fix_that_fails_leaves_the_environment_as_it_was(tmp_path: Path, index: Server) -> None:
    person = Person(tmp_path, stand_in.environment(base=index.environ(), driver="570.124.06", cuda="12.8"))
    assert person.run().code == 0
    old_torch(person)
    nowhere = {"PROVISION_INDEX_BASE": "http://127.0.0.1:9/whl", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    run = person.run("doctor", "--fix", "--json", environ=nowhere)
    assert run.code not in (0, 1)
    assert person.python("import torch; print(torch.__version__)") == "2.6.0+cu124"


def test_doctor_without_a_gpu_or_torch_says_so_and_is_content(tmp_path: Path, index: Server) -> None:
    person = Person(
        tmp_path, stand_in.environment(base=index.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
    )
    assert person.run().code == 0
    run = person.run("doctor", "--json")
    assert run.code == 0
    assert [finding["severity"] for finding in run.data["findings"]] == ["hint"]


@pytest.mark.parametrize("argument", ["-", "error.txt"])
def test_a_pasted_error_is_explained_without_looking_at_this_machine(tmp_path: Path, argument: str) -> None:
    person = Person(tmp_path)
    text = "RuntimeError: The NVIDIA driver on your system is too old (found version 12040)."
    (person.folder / "error.txt").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "provision", "doctor", "--log", argument],
        cwd=person.folder,
        env=person.environ,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "driver_too_old" in done.stdout and text in done.stdout
