"""What `provision export` writes: whole files beside the options that make them, and what other tools make of them.

A case is a folder of `golden/export`: `options` (a capture of tests/machines and what else stands on the command line)
and the expected files, named as their kinds. `python tests/test_export.py` writes them anew, to be looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import uv
from index import Server
from provision.commands import COMMANDS
from provision.export import KINDS, merged
from provision.params import read
from running import Answer, Person

HERE = Path(__file__).parent
CASES = HERE / "golden" / "export"
FILES = {
    "Dockerfile": "dockerfile",
    "Dockerfile.cuda": "dockerfile --base cuda",
    "requirements.txt": "requirements",
    "pyproject.toml": "uv",
    "env.sh": "env",
    "env.ps1": "env",
    "ci.yml": "ci",
}
"""File → kind, as it is asked for."""


def exported(folder: Path, name: str) -> str:
    """The text of one file of a case, from a process of its own, without a network."""
    options = (folder / "options").read_text(encoding="utf-8").replace("MACHINES", str(HERE / "machines"))
    command = [sys.executable, "-m", "provision", "export", *FILES[name].split(), *shlex.split(options), "--offline"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PROVISION_"))}
    done = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60, cwd=HERE)
    return done.stdout.decode() or done.stderr.decode()


EXPECTED = [path for folder in sorted(CASES.iterdir()) for path in sorted(folder.iterdir()) if path.name != "options"]


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: str(path.relative_to(CASES)))
def test_the_file_is_what_it_was(path: Path) -> None:
    assert exported(path.parent, path.name) == path.read_text(encoding="utf-8")


def test_every_kind_has_a_case() -> None:
    assert {FILES[path.name].split()[0] for path in EXPECTED} == set(KINDS)
    assert COMMANDS["export"].params[0].choices == tuple(KINDS)


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: str(path.relative_to(CASES)))
def test_every_provision_command_in_it_is_one(path: Path) -> None:
    lines = re.findall(r"(?:RUN|run:|#  ) (?:.*&& )?provision (.*)", path.read_text(encoding="utf-8"))
    for line in lines:
        name, *words = shlex.split(line)
        assert read(COMMANDS[name].params, words) is not None, line


@pytest.mark.parametrize("path", [one for one in EXPECTED if one.name.startswith("Dockerfile")], ids=str)
def test_a_dockerfile_copies_only_from_stages_before_and_ends_with_what_was_checked(path: Path) -> None:
    stages: list[str] = []
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        if copied := re.match(r"COPY --from=(\S+)", line):
            assert copied[1] in stages
        if started := re.match(r"FROM \S+ AS (\S+)", line):
            stages.append(started[1])
    assert ("--from=checked" in text.rpartition("FROM ")[2]) == ("--require" in text)


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell reads them")
@pytest.mark.parametrize("path", [one for one in EXPECTED if one.name == "env.sh"], ids=str)
def test_a_shell_takes_the_settings(path: Path) -> None:
    done = subprocess.run(["sh", "-euc", f". '{path}'; env"], capture_output=True, text=True, check=True)
    for name, value in re.findall(r'(?m)^export (\w+)="(.*)"$', path.read_text(encoding="utf-8")):
        assert f"{name}={value}\n" in done.stdout


def test_two_bounds_of_one_package_are_one_requirement() -> None:
    asked = ["a>=1", "b", "A<3", "b; python_version<'3.12'", "b[extra]"]
    assert merged(asked) == ("a<3,>=1", "b[extra]", 'b; python_version < "3.12"')


# With the real tools ------------------------------------------------------------------------------------------------

TOO_OLD = HERE / "machines" / "rtx-5090--linux-550.163.01--driver-too-old-for-gpu"
RTX_5090 = str(HERE / "machines" / "rtx-5090--linux-570.124.06" / "capture.json")


@pytest.fixture
def person(tmp_path: Path, index: Server) -> Person:
    """Someone who asks for an RTX 5090 that is elsewhere."""
    return Person(tmp_path, index.environ())


def export(person: Person, kind: str, *options: str) -> str:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    answer = person.run("export", kind, "--from", str(Path(RTX_5090).parent), "--python", version, *options)
    assert answer.code == 0, answer.err
    return answer.out


def run(person: Person, *command: str) -> Answer:
    environ = person.environ | {"HOME": str(person.home)}
    done = subprocess.run(command, env=environ, cwd=person.folder, capture_output=True, text=True, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_pip_and_uv_take_the_requirements(person: Person) -> None:
    (person.folder / "requirements.txt").write_text(export(person, "requirements"))
    by_uv = run(person, uv.find_uv_bin(), "pip", "compile", "requirements.txt", "--quiet")
    assert by_uv.code == 0, by_uv.err
    assert "torch==2.11.0+cu128" in by_uv.out
    by_pip = run(
        person, sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-r", "requirements.txt"
    )
    assert by_pip.code == 0, by_pip.err
    assert "torch-2.11.0+cu128" in by_pip.out


def test_uv_locks_the_project_with_torch_from_its_index_and_all_else_from_the_default_one(
    person: Person, index: Server
) -> None:
    (person.folder / "pyproject.toml").write_text(export(person, "uv"))
    locked = run(person, uv.find_uv_bin(), "lock")
    assert locked.code == 0, locked.err
    lock = tomllib.loads((person.folder / "uv.lock").read_text())
    sources = {package["name"]: package["source"].get("registry") for package in lock["package"]}
    assert sources["torch"] == f"{index.pytorch}/cu128"
    assert sources["filelock"] == index.packages
    assert {package["name"]: package["version"] for package in lock["package"]}["torch"] == "2.11.0+cu128"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["dockerfile", "--from", str(HERE / "machines" / "rtx-5090--windows-581.57")], 2, "Linux"),
        (["dockerfile", "--base", "cuda", "--gpu", "sm_120", "--python", "3.11"], 2, "--python 3.12"),
        (["dockerfile", "--base", "cuda", "--backend", "cpu"], 2, "--base"),
        (["uv", "--base", "cuda"], 2, "--base"),
        (["nonsense"], 2, "dockerfile"),
        (["ci", "--from", str(TOO_OLD)], 3, "driver >= "),
    ],
)
def test_what_cannot_be_written_says_what_can(person: Person, words: list[str], code: int, said: str) -> None:
    answer = person.run("export", *words, "--offline")
    assert answer.code == code, answer.out
    assert said in answer.err


def test_the_text_is_in_the_json_too(person: Person) -> None:
    answer = person.run("export", "requirements", "--from", str(Path(RTX_5090).parent), "--offline", "--json")
    assert answer.data["pins"] == {"torch": "2.11.0+cu128"}
    assert answer.data["text"].endswith("torch==2.11.0+cu128\n")


if __name__ == "__main__":
    for expected in EXPECTED:
        expected.write_text(exported(expected.parent, expected.name), encoding="utf-8")
