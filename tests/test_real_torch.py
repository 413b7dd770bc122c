"""The main job with the real torch of the package registry. Run with `-m registry`; the CUDA build is several GB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import Person

pytestmark = pytest.mark.registry


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Someone on this very machine, with its own settings for pip and uv, whose downloads are kept between runs."""
    cache = subprocess.run(
        [sys.executable, "-m", "uv", "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    own = ("PROVISION_", "VIRTUAL_ENV", "XDG_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return Person(tmp_path, environ | {"UV_CACHE_DIR": cache})


def test_a_real_cuda_build_from_the_default_package_index_holds_sm_120(person: Person) -> None:
    """torch 2.15.0 for CUDA 13.2 goes into a real environment; its own binaries say which GPUs it runs on."""
    made = person.run("--backend", "cu132", "--torch", "2.15.0", "--json", timeout=1800)
    assert made.code == 0, made.out + made.err
    assert person.python("import torch; print(torch.version.cuda)") == "13.2"
    scanned = person.run("scan", "--require", "sm_120", "--json")
    assert scanned.code == 0
    torch = next(package for package in scanned.data["packages"] if package["name"] == "torch")
    assert torch["verdicts"]["sm_120"] == "covered"
    pascal = person.run("scan", "--require", "sm_61", "--json")
    assert pascal.code == 1
    assert "already right" in person.run("--backend", "cu132", "--torch", "2.15.0").out


def test_a_real_cpu_build_is_swapped_for_another_and_back(person: Person) -> None:
    """Two real builds one after the other, and a rollback in between."""
    assert person.run("--torch", "2.13.0", timeout=1800).code == 0
    assert person.run("--torch", "2.15.0", timeout=1800).code == 0
    assert person.python("import torch; print(torch.__version__)").startswith("2.15.0")
    assert person.run("rollback").code == 0
    assert person.python("import torch; print(torch.ones(2).sum().item(), torch.__version__[:6])") == "2.0 2.13.0"
    assert person.run("verify", "--quick").code == 0
