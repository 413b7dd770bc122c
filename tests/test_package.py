"""What is in the distribution: the wheel brings its tables and profiles, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without fetching anything."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_it_brings_tables_profiles_and_types_and_nothing_else(built: Path) -> None:
    names = set(zipfile.ZipFile(built).namelist())
    tables = {f"provision/data/{path.name}" for path in (ROOT / "installer/provision/data").glob("*.toml")}
    profiles = {f"provision/profiles/{path.name}" for path in (ROOT / "profiles").glob("*.toml")}
    assert tables
    assert profiles
    assert tables | profiles | {"provision/py.typed", "provision/cli.py"} <= names
    assert {name.split("/")[0] for name in names} == {"provision", f"{built.name.split('-py3')[0]}.dist-info"}


def test_an_installed_tool_needs_no_checkout(built: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    for command in (
        ["venv", "-q", str(environment)],
        ["pip", "install", "-q", "-p", str(environment), "--no-deps", str(built)],
    ):
        subprocess.run([sys.executable, "-m", "uv", *command], check=True, capture_output=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    libraries = subprocess.run(
        [sys.executable, "-c", "import packaging; print(packaging.__path__[0])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # The dependencies are those of the tests' own environment; the package itself comes from the wheel.
    program = (
        "import sys; sys.path.append(sys.argv.pop(1)); import provision, provision.cli as cli;"
        "assert sys.prefix in provision.__file__, provision.__file__; cli.main()"
    )
    run = subprocess.run(
        [python, "-I", "-c", program, str(Path(libraries).parent), "profiles", "torch"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "torch alone" in run.stdout
    assert str(environment) in run.stdout


def test_the_version_is_told_in_one_place(built: Path) -> None:
    from provision import __version__

    assert f"-{__version__}-" in built.name
    run = subprocess.run([sys.executable, "-m", "provision", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"provision {__version__}\n"
