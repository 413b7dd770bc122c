"""The door: does a fresh clone become a running provision, whatever the machine is like, and does nothing else happen?

The checkouts here are small ones: the real scripts around a `provision` of a few lines that needs no build tool from an
index, so that making its environment costs a venv and nothing else. The real checkout is `registry`'s.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from index import Tree, serve, wheel
from powershell.check import problems

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
TOOLS = Path(sys.executable).parent
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash"], "bash-posix": ["bash", "--posix"]}

posix = pytest.mark.skipif(os.name == "nt", reason="the sh scripts are for Linux and macOS")

PROVISION = """\
import json, os, sys
pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
print(json.dumps({"argv": sys.argv[1:], "prefix": sys.prefix, "cwd": os.getcwd(), "pip": pip}))
sys.exit(int(os.environ.get("EXIT_WITH", 0)))
"""

BACKEND = """\
import pathlib, shutil
def build_editable(folder, *_):
    (wheel,) = pathlib.Path(__file__).parent.glob("*.whl")
    shutil.copy(wheel, folder)
    return wheel.name
"""


def shell(name: str) -> list[str]:
    """The command line of a shell, or a skip that names the Debian package."""
    argv = SHELLS[name]
    found = shutil.which(argv[0])
    if found is None:
        pytest.skip(f"{argv[0]} is not here (Debian package `{argv[0]}`)")
    return [found, *argv[1:]]


def make_clone(folder: Path, *, requires: Sequence[str] = ()) -> Path:
    """A checkout with the real scripts and the small provision."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    package = folder / "installer" / "provision"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROVISION)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "torch-provision"\nversion = "0"\n'
    )
    here = {"here.pth": f"{package.parent}\n", "click.py": ""}
    wheel("torch-provision", "0", requires=requires, files=here).write(folder)
    return folder


def environ(**changes: str) -> dict[str, str]:
    """This process's variables without those that the scripts read, and with an index that is not there."""
    ours = ("PIP_", "UV_", "PROVISION_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    return kept | nowhere | {"PIP_NO_CACHE_DIR": "1"} | changes


def with_pip(**changes: str) -> dict[str, str]:
    """`environ` of a machine that has Python, namely this one."""
    return environ(PROVISION_PYTHON=sys.executable, **changes)


def with_uv(folder: Path, **changes: str) -> dict[str, str]:
    """`environ` of a machine that has uv and no Python on PATH: what a test takes that is not about pip, for speed."""
    return environ(PATH=without_python(folder, "uv"), UV_PYTHON_SEARCH_PATH=f"{sys.base_prefix}/bin", **changes)


def bootstrap(
    clone: Path, *arguments: str, sh: Sequence[str] = (), env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*sh, str(clone / "scripts" / "bootstrap.sh"), *arguments],
        env=environ() if env is None else env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, its path with spaces, whose environment is made."""
    folder = tmp_path_factory.mktemp("door")
    made = make_clone(folder / "a clone")
    done = bootstrap(made, env=with_uv(folder / "bin"))
    assert done.returncode == 0, done.stderr
    return made


@posix
class TestWritten:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_shellcheck_finds_nothing(self, script: Path) -> None:
        argv = [str(TOOLS / "shellcheck"), "--external-sources", "--source-path", str(ROOT), str(script)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_shfmt_would_change_nothing(self, script: Path) -> None:
        argv = [str(TOOLS / "shfmt"), "-ln", "posix", "-i", "2", "-ci", "-d", str(script)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    @pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
    @pytest.mark.parametrize("name", SHELLS)
    def test_parses(self, name: str, script: Path) -> None:
        done = subprocess.run([*shell(name), "-n", str(script)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


class TestPowerShell:
    FAULTS = sorted((ROOT / "tests" / "powershell" / "faults").glob("*.ps1"))

    @pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.ps1")), ids=lambda path: path.name)
    def test_windows_powershell_5_can_read_it(self, script: Path) -> None:
        assert problems(script.read_bytes()) == []

    def test_the_checker_lets_good_code_pass(self) -> None:
        assert problems((ROOT / "tests" / "powershell" / "good.ps1").read_bytes()) == []

    def test_there_are_thirteen_seeded_faults(self) -> None:
        assert len(self.FAULTS) == 13

    @pytest.mark.parametrize("script", FAULTS, ids=lambda path: path.stem)
    def test_the_checker_finds(self, script: Path) -> None:
        assert problems(script.read_bytes())

    def test_the_checker_finds_what_5_reads_as_ansi(self) -> None:
        assert problems("Write-Output 'é'\n".encode())
        assert not problems(b"\xef\xbb\xbf" + "Write-Output 'é'\n".encode())

    def test_cut_anywhere_it_does_not_parse(self) -> None:
        script = (ROOT / "scripts" / "bootstrap.ps1").read_bytes().rstrip()
        start = script.index(b"\n& {") + 2
        for end in [*range(start, len(script) - 40, 211), *range(len(script) - 40, len(script))]:
            assert problems(script[:end]), f"the first {end} bytes parse"


@posix
class TestCutOff:
    """A download or copy that ended early."""

    def check(self, sh: Sequence[str], script: Path, ends: Sequence[int], folder: Path) -> None:
        whole = script.read_bytes().rstrip()
        cut = folder / "scripts" / script.name
        cut.parent.mkdir(exist_ok=True)
        (folder / "nothing").mkdir(exist_ok=True)
        for end in ends:
            cut.write_bytes(whole[:end])
            done = subprocess.run(
                [*sh, str(cut)], env={"PATH": str(folder / "nothing")}, capture_output=True, text=True, check=False
            )
            where = f"the first {end} bytes: {done.stderr}"
            assert done.stdout == "", where
            assert "not found" not in done.stderr, where  # with this PATH: nothing was run
            assert (done.returncode == 0) == (b"\n{" not in whole[:end]), where

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    @pytest.mark.parametrize("name", SHELLS)
    def test_runs_nothing(self, name: str, script: Path, tmp_path: Path) -> None:
        size = len(script.read_bytes().rstrip())
        self.check(shell(name), script, [*range(0, size - 20, 149), *range(size - 20, size)], tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    @pytest.mark.parametrize("name", SHELLS)
    def test_runs_nothing_at_any_byte(self, name: str, script: Path, tmp_path: Path) -> None:
        self.check(shell(name), script, range(len(script.read_bytes().rstrip())), tmp_path)


@posix
class TestFirstRun:
    @pytest.mark.parametrize("name", ["dash", "busybox", "bash"])
    def test_in_every_shell(self, name: str, tmp_path: Path) -> None:
        made = make_clone(tmp_path / "a clone")
        done = bootstrap(made, "plan", "two words", sh=shell(name), env=with_pip(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["argv"] == ["plan", "two words"]
        assert said["cwd"] == str(tmp_path)
        assert Path(said["prefix"]).parent == made / ".tools" / "provision"
        (line,) = done.stderr.splitlines()
        assert "Making provision's own environment" in line

    def test_two_at_once(self, tmp_path: Path) -> None:
        made = make_clone(tmp_path)
        argv = [str(made / "scripts" / "bootstrap.sh")]
        both = [subprocess.Popen(argv, env=with_pip(), stdout=-1, stderr=-1, text=True) for _ in range(2)]
        answers = [one.communicate() for one in both]
        assert [one.returncode for one in both] == [0, 0], answers
        assert bootstrap(made, env=with_pip()).stderr == ""

    @pytest.mark.parametrize(("by", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_killed_one_leaves_nothing_that_is_used(self, by: signal.Signals, code: int, tmp_path: Path) -> None:
        made = make_clone(tmp_path)
        argv = [str(made / "scripts" / "bootstrap.sh")]
        with subprocess.Popen(argv, env=with_pip(), stdout=-1, stderr=-1, start_new_session=True) as first:
            wait_for(lambda: list(made.glob(".tools/provision/env.*/bin/python")))
            os.killpg(first.pid, by)
            first.communicate()
        assert first.returncode == code
        left = list(made.glob(".tools/provision/env.*"))
        assert bool(left) == (by == signal.SIGKILL)
        if left:
            assert bootstrap(made, env=with_uv(tmp_path / "bin")).returncode == 0
            assert not any(folder.exists() for folder in left)

    def test_a_clone_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        made = make_clone(tmp_path / "clone")
        (made / ".tools").touch()  # nothing can be made below a file, not even by root
        env = with_uv(tmp_path / "bin", HOME=str(tmp_path / "home"), XDG_DATA_HOME=str(tmp_path / "data"))
        done = bootstrap(made, env=env)
        assert done.returncode == 0, done.stderr
        if sys.platform != "darwin":
            assert Path(json.loads(done.stdout)["prefix"]).parent == tmp_path / "data" / "torch-provision" / "provision"

    def test_with_uv_where_there_is_no_python(self, tmp_path: Path) -> None:
        made = make_clone(tmp_path / "clone")
        done = bootstrap(made, env=with_uv(tmp_path / "bin"))
        assert done.returncode == 0, done.stderr

    def test_through_the_proxy_and_index_of_pip_conf(self, tmp_path: Path) -> None:
        made = make_clone(tmp_path / "clone", requires=["small"])
        with serve(Tree(packages=[wheel("small", "1.0")])) as server:
            conf = tmp_path / "pip.conf"
            conf.write_text(
                "[global]\nindex-url = http://index.invalid/simple\ntrusted-host = index.invalid\n"
                f"proxy = {server.url}\nuser = true\n"
            )
            env = with_pip(PIP_CONFIG_FILE=str(conf), PIP_TARGET=str(tmp_path / "elsewhere"))
            del env["PIP_INDEX_URL"]
            done = bootstrap(made, env=env)
            assert done.returncode == 0, done.stderr
            assert any(request.path == "/simple/small/" for request in server.requests)
        wanted = {name: value for name, value in env.items() if name.startswith("PIP_")}
        assert json.loads(done.stdout)["pip"] == wanted, "provision gets the variables as they were"
        assert not (tmp_path / "elsewhere").exists()


@posix
class TestFurtherRuns:
    def test_start_at_once_and_say_nothing(self, clone: Path) -> None:
        start = time.perf_counter()
        done = bootstrap(clone, "--version")
        seconds = time.perf_counter() - start
        assert (done.returncode, done.stderr) == (0, "")
        assert seconds < 1

    @pytest.mark.parametrize("code", [0, 3, 10, 130])
    def test_hand_back_the_exit_code(self, clone: Path, code: int) -> None:
        assert bootstrap(clone, env=environ(EXIT_WITH=str(code))).returncode == code

    @pytest.mark.parametrize("name", SHELLS)
    def test_hand_on_every_argument_as_it_is(self, clone: Path, name: str) -> None:
        words = ["", "two words", "*", "$HOME", "a'b", 'a"b', "back\\slash", "--", "-q", "é"]
        assert json.loads(bootstrap(clone, *words, sh=shell(name)).stdout)["argv"] == words

    def test_through_a_link_on_path(self, clone: Path, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "provision").symlink_to(
            os.path.relpath(clone / "scripts" / "bootstrap.sh", tmp_path / "bin")
        )
        env = environ(PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        done = subprocess.run(["provision"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_do_not_import_what_lies_around(self, clone: Path, tmp_path: Path) -> None:
        (tmp_path / "json.py").write_text("raise SystemExit('imported')")
        done = bootstrap(clone, env=environ(PYTHONPATH=str(tmp_path), PYTHONHOME=str(tmp_path)), cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    def test_without_home(self, clone: Path) -> None:
        env = environ()
        del env["HOME"]
        assert bootstrap(clone, env=env).returncode == 0

    def test_show_an_edit_of_the_checkout(self, clone: Path) -> None:
        main = clone / "installer" / "provision" / "__main__.py"
        try:
            main.write_text("print('edited')\n")
            assert bootstrap(clone).stdout == "edited\n"
        finally:
            main.write_text(PROVISION)

    def test_a_changed_project_or_a_vanished_environment_makes_a_new_one(self, tmp_path: Path) -> None:
        made, env = make_clone(tmp_path / "clone"), with_uv(tmp_path / "bin")
        first = Path(json.loads(bootstrap(made, env=env).stdout)["prefix"])
        with (made / "pyproject.toml").open("a") as project:
            project.write("# a new line\n")
        second = Path(json.loads(bootstrap(made, env=env).stdout)["prefix"])
        assert second != first
        assert first.is_dir(), "somebody may still be running from it"
        shutil.rmtree(second)
        assert json.loads(bootstrap(made, env=env).stdout)["prefix"] not in (str(first), str(second))


@posix
class TestErrors:
    """Three lines: what happened, the cause, the fix; exit 5."""

    def lines(self, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
        assert (done.returncode, done.stdout) == (5, "")
        return dict(re.findall(r"^(error|cause|fix): *(.*)$", done.stderr, re.MULTILINE))

    def test_neither_python_nor_uv(self, clone: Path, tmp_path: Path) -> None:
        env = environ(PATH=without_python(tmp_path / "bin"))
        made = make_clone(tmp_path / "clone")
        said = self.lines(bootstrap(made, env=env))
        assert "Python 3.11 or later with venv, or uv" in said["error"]
        assert "apt install python3 python3-venv" in said["fix"]
        assert not list(made.glob(".tools/provision/*"))

    @pytest.mark.parametrize(
        ("answer", "cause"),
        [("is Python 3.9", "is Python 3.9"), ("has no module ensurepip", "has no module ensurepip")],
    )
    def test_a_python_that_will_not_do_is_named(self, tmp_path: Path, answer: str, cause: str) -> None:
        env = environ(PATH=without_python(tmp_path / "bin"))
        stub = tmp_path / "bin" / "python3"
        stub.write_text(f"#!/bin/sh\necho {answer} >&2\nexit 1\n")
        stub.chmod(0o755)
        said = self.lines(bootstrap(make_clone(tmp_path / "clone"), env=env))
        assert said["cause"] == f"{stub}: {cause}"

    def test_a_python_that_was_asked_for_and_is_not_there(self, tmp_path: Path) -> None:
        said = self.lines(bootstrap(make_clone(tmp_path), env=environ(PROVISION_PYTHON="/nowhere/python")))
        assert "PROVISION_PYTHON" in said["error"]
        assert "/nowhere/python" in said["cause"]

    def test_no_network(self, tmp_path: Path) -> None:
        made = make_clone(tmp_path, requires=["small"])
        said = self.lines(bootstrap(made, env=with_pip()))
        assert "small" in said["cause"]
        assert "PIP_INDEX_URL" in said["fix"]
        assert not list(made.glob(".tools/provision/*")), "nothing half-made stays"


class TestReadme:
    TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_opens_with_the_two_commands(self) -> None:
        blocks = re.findall(r"^```\w*\n(.*?)^```", self.TEXT, re.MULTILINE | re.DOTALL)
        assert [block.strip() for block in blocks[:2]] == ["./scripts/bootstrap.sh", "./scripts/test.sh"]

    def packages(self) -> str:
        """The Debian packages that the build machine installs."""
        found = re.search(r'^packages="(.*)"$', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
        assert found
        return found[1]

    def test_names_the_debian_packages_that_the_build_machines_install(self) -> None:
        assert f"apt-get install {self.packages()}\n" in self.TEXT
        assert f"--yes {self.packages()}\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()

    def test_so_does_every_test_that_may_skip_itself_for_want_of_one(self) -> None:
        named = re.compile(r"Debian packages? ((?:`?[a-z0-9][a-z0-9.+-]+`?(?:, )?)+)")
        wanted = set()
        for path in {*(ROOT / "tests").rglob("*.py")} - {Path(__file__)}:
            for names in named.findall(path.read_text(encoding="utf-8")):
                wanted |= set(re.findall(r"[a-z0-9.+-]+", names))
        assert {"gcc", "strace"} <= wanted
        assert wanted <= set(self.packages().split())


@pytest.mark.registry
@posix
def test_the_real_checkout_in_an_empty_home(tmp_path: Path) -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.strip("\0").split("\0"):
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / "clone" / name)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PROVISION_")}
    (tmp_path / "home").mkdir()
    done = bootstrap(tmp_path / "clone", "--version", env=env | {"HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("provision ")


def without_python(folder: Path, *more: str) -> str:
    """A PATH with the ordinary commands and `more` of our tools, but no Python."""
    folder.mkdir()
    ordinary = "basename cat cksum date dirname env find grep kill mkdir mv pwd readlink rm sed sh tail touch uname"
    for name in ordinary.split():
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    for name in more:
        (folder / name).symlink_to(TOOLS / name)
    return str(folder)


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
