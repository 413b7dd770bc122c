"""The whole job, as a person runs it: real uv, real wheels from a loopback index, real environments.

GPUs are played by libraries that the real nvidia-ml-py loads (tests/nvml); torch is a small package that asks them
(tests/index).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from index import Server, torch_wheel, wheel
from nvml import stand_in
from running import Person, tree_state

Scene = Callable[..., Server]


def rtx_5090(server: Server) -> dict[str, str]:
    """A machine whose NVML says RTX 5090 with driver 570.124.06, seeing this index."""
    return stand_in.environment(base=server.environ(), driver="570.124.06", cuda="12.8")


def no_gpu(server: Server) -> dict[str, str]:
    """A machine whose NVML says that there is no driver, seeing this index."""
    return stand_in.environment(base=server.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())


@pytest.fixture
def blackwell(tmp_path: Path, index: Server) -> Person:
    """An RTX 5090 with driver 570.124.06, seeing the standard index."""
    return Person(tmp_path, rtx_5090(index))


@pytest.fixture
def plain(tmp_path: Path, index: Server) -> Person:
    """A machine without a GPU, seeing the standard index."""
    return Person(tmp_path, no_gpu(index))


class TestFromNothing:
    def test_an_rtx_5090_gets_the_newest_build_with_its_kernels_proven(self, blackwell: Person) -> None:
        run = blackwell.run("--json")
        assert run.code == 0, run.err
        assert run.data["choice"]["packages"] == {"torch": "2.11.0+cu128"}
        assert run.data["coverage"] == [{"gpu": 0, "arch": "12.0", "by": "sm_120", "kind": "cubin"}]
        checks = {check["name"]: check["status"] for check in run.data["verification"]["checks"]}
        assert checks["kernels-sm_120"] == checks["matmul-fp32"] == checks["arch-list"] == "passed"
        assert blackwell.python("import torch; print(torch.__version__)") == "2.11.0+cu128"

    def test_the_lock_beside_it_pins_every_package_with_its_hash(self, blackwell: Person) -> None:
        assert blackwell.run().code == 0
        lock = tomllib.loads((blackwell.folder / "pylock.provision.toml").read_text())
        assert lock["tool"]["provision"]["backend"] == "cu128"
        assert lock["tool"]["provision"]["target"]["arches"] == ["sm_120"]
        assert {"torch", "triton", "filelock"} <= {package["name"] for package in lock["packages"]}
        for package in lock["packages"]:
            assert all(len(file["hashes"]["sha256"]) == 64 for file in package["wheels"]), package

    def test_a_machine_without_a_gpu_gets_the_cpu_build_and_hears_what_was_not_checked(self, plain: Person) -> None:
        run = plain.run("--json")
        assert run.code == 0, run.err
        assert run.data["choice"]["packages"] == {"torch": "2.15.0+cpu"}
        checks = {check["name"]: check for check in run.data["verification"]["checks"]}
        assert checks["cpu-matmul-fp32"]["status"] == "passed"
        assert checks["gpu-available"]["status"] == "skipped"
        assert "no GPU" in checks["gpu-available"]["detail"]

    @pytest.mark.skipif(sys.platform != "linux", reason="XDG_CONFIG_HOME names the user's profiles on Linux alone")
    def test_a_profile_of_ones_own_brings_its_packages_and_says_what_to_set(self, plain: Person) -> None:
        config = plain.home / ".config"
        profiles = config / "torch-provision" / "profiles"
        profiles.mkdir(parents=True)
        (profiles / "mine.toml").write_text(
            'summary = "my own"\npackages = ["packaging"]\nnotes = ["mind the step"]\n'
            '[environment]\nTOKENIZERS_PARALLELISM = { value = "false", why = "it forks" }\n'
        )
        run = plain.run("mine", "--json", environ={"XDG_CONFIG_HOME": str(config)})
        assert run.code == 0, run.out
        assert list(plain.env.rglob("packaging-*.dist-info"))
        told = {message["code"]: message["text"] for message in run.json["messages"]}
        assert told["environment"] == "set TOKENIZERS_PARALLELISM=false where this runs: it forks"
        assert told["profile-note"] == "mind the step"

    def test_nothing_lies_around_but_what_the_readme_names(self, plain: Person) -> None:
        assert plain.run().code == 0
        assert sorted(path.name for path in plain.folder.iterdir()) == [
            ".venv",
            ".venv.provision",
            "pylock.provision.toml",
        ]

    def test_the_environment_does_not_depend_on_the_tools_own(self, plain: Person) -> None:
        assert plain.run().code == 0
        assert str(Path(sys.prefix)) not in (plain.env / "pyvenv.cfg").read_text()


class TestAgain:
    def test_a_second_run_says_already_right_and_changes_nothing(self, plain: Person, index: Server) -> None:
        assert plain.run().code == 0
        before = tree_state(plain.folder)
        with index.recording() as requests:
            again = plain.run()
        assert again.code == 0
        assert "already right" in again.out
        assert requests == []
        assert tree_state(plain.folder) == before

    def test_without_its_stamp_it_proves_again_and_still_changes_nothing(self, plain: Person) -> None:
        assert plain.run().code == 0
        before = tree_state(plain.env)
        for path in plain.home.rglob("proofs/*.json"):
            path.unlink()
        again = plain.run("--json")
        assert again.data["changed"] is False
        assert tree_state(plain.env) == before

    def test_a_torch_file_that_went_missing_is_noticed_and_put_back(self, plain: Person) -> None:
        assert plain.run().code == 0
        library = next(plain.env.rglob("torch/_matrix.py"), None) or next(plain.env.rglob("torch/__init__.py"))
        library.unlink()
        again = plain.run("--json")
        assert again.code == 0, again.err
        assert again.data["changed"] is True
        assert library.exists()

    def test_another_version_is_swapped_in_and_back(self, plain: Person) -> None:
        for asked, expected in [("2.9.1", "2.9.1+cpu"), ("<2.9", "2.8.0+cpu"), ("2.15.0", "2.15.0+cpu")]:
            run = plain.run("--torch", asked, "--json")
            assert run.code == 0, run.out
            assert plain.python("import torch; print(torch.__version__)") == expected


class TestSwap:
    def start(self, person: Person, index: Server, *packages: str, backend: str) -> None:
        """An environment as uv itself would make it."""
        environ = {
            **index.environ(),
            "UV_INDEX": f"{index.pytorch}/{backend}",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }
        for command in (["venv", str(person.env)], ["pip", "install", "-p", str(person.env), *packages]):
            subprocess.run([sys.executable, "-m", "uv", *command], env=environ, check=True, capture_output=True)

    def test_old_torch_its_companions_and_orphaned_cuda_wheels_go(self, blackwell: Person, index: Server) -> None:
        self.start(blackwell, index, "torch==2.6.0+cu126", "torchvision==0.21.0+cu126", backend="cu126")
        run = blackwell.run("--json")
        assert run.code == 0, run.out + run.err
        changes = {change["name"]: (change["old"], change["new"]) for change in run.data["changes"]}
        assert changes["torch"] == ("2.6.0+cu126", "2.11.0+cu128")
        assert changes["torchvision"] == ("0.21.0+cu126", "0.26.0+cu128")
        installed = {info.name.split("-")[0] for info in blackwell.env.rglob("*.dist-info")}
        assert "torch" in installed
        assert "torchvision" in installed

    def test_cuda_wheels_that_came_with_our_own_torch_go_with_it(self, tmp_path: Path, index: Server) -> None:
        person = Person(tmp_path, rtx_5090(index))
        assert person.run("--torch", "2.10.0").code == 0
        assert list(person.env.rglob("nvidia_*_cu12-*.dist-info"))
        person.environ |= stand_in.environment(base=index.environ(), driver="595.45.04", cuda="13.2")
        swapped = person.run("--json")
        assert swapped.data["choice"]["backend"] == "cu132", swapped.out
        assert not list(person.env.rglob("nvidia_*_cu12-*.dist-info"))

    def test_everything_else_stays_byte_for_byte(self, plain: Person, index: Server) -> None:
        self.start(plain, index, "torch==2.9.1+cpu", "packaging", "numpy", backend="cpu")
        site = next(plain.env.rglob("site-packages"))
        mine = site / "mine.py"
        mine.write_text("precious = 1\n")
        kept = {name: value for name, value in contents(site).items() if not is_torch(name)}
        assert plain.run().code == 0
        after = contents(site)
        assert {name: after.get(name) for name in kept} == kept

    def test_a_package_that_pins_the_old_torch_needs_consent(self, tmp_path: Path, scene: Scene) -> None:
        server = scene(packages=[wheel("xformers", "0.0.28", requires=["torch==2.9.1"])])
        person = Person(tmp_path, no_gpu(server))
        self.start(person, server, "torch==2.9.1+cpu", "xformers==0.0.28", backend="cpu")
        before = tree_state(person.env)
        refused = person.run()
        assert refused.code == 2
        assert "xformers 0.0.28" in refused.err
        assert "--yes" in refused.err
        assert tree_state(person.env) == before
        agreed = person.run("--yes")
        assert agreed.code == 0, agreed.err
        assert not list(person.env.rglob("xformers*"))


class TestSavedPlan:
    def test_a_saved_plan_is_applied_as_it_was_seen(self, plain: Person) -> None:
        seen = plain.run("plan", "--torch", "2.9.1", "-o", "plan.json", "--json")
        assert seen.code == 0, seen.out
        applied = plain.run("--plan", "plan.json", "--json")
        assert applied.code == 0, applied.out
        assert applied.data["changes"] == seen.data["changes"]

    def test_a_plan_that_no_longer_fits_is_refused_with_what_changed(self, plain: Person) -> None:
        assert plain.run("plan", "--torch", "2.9.1", "-o", "plan.json").code == 0
        assert plain.run("--torch", "2.8.0").code == 0
        before = tree_state(plain.env)
        stale = plain.run("--plan", "plan.json", "--json")
        assert stale.code == 8
        assert stale.json["errors"][0]["code"] == "plan-stale"
        assert "2.8.0+cpu" in stale.json["errors"][0]["text"]
        assert tree_state(plain.env) == before

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 99, "job": {}, "plan": {}}'])
    def test_a_file_that_is_no_plan_is_refused(self, plain: Person, text: str) -> None:
        (plain.folder / "plan.json").write_text(text)
        run = plain.run("--plan", "plan.json")
        assert run.code == 9
        assert "plan.json" in run.err

    def test_changes_pending_have_an_exit_code_of_their_own(self, plain: Person) -> None:
        assert plain.run("plan", "--exit-code").code == 10
        assert plain.run().code == 0
        assert plain.run("plan", "--exit-code").code == 0


class TestBack:
    def test_a_rollback_needs_no_network_and_brings_the_lock_back_too(self, plain: Person) -> None:
        assert plain.run("--torch", "2.9.1").code == 0
        lock = (plain.folder / "pylock.provision.toml").read_text()
        before = tree_state(plain.env)
        assert plain.run("--torch", "2.15.0").code == 0
        back = plain.run("rollback", "--json", environ={"PROVISION_INDEX_BASE": "http://127.0.0.1:9"})
        assert back.code == 0, back.out
        assert back.data["before"] == "2.15.0+cpu"
        assert back.data["after"] == "2.9.1+cpu"
        assert (plain.folder / "pylock.provision.toml").read_text() == lock
        assert tree_state(plain.env) == before
        again = plain.run("rollback", "--json")
        assert again.data["after"] == "2.15.0+cpu"

    def test_the_history_tells_what_is_there_and_what_was(self, plain: Person) -> None:
        assert plain.run("--torch", "2.9.1").code == 0
        assert plain.run("--torch", "2.15.0").code == 0
        rows = plain.run("history", "--json").data["generations"]
        assert [(row["torch"], row["live"]) for row in rows] == [("2.15.0+cpu", True), ("2.9.1+cpu", False)]

    def test_with_nothing_to_go_back_to_it_says_so(self, plain: Person) -> None:
        run = plain.run("rollback")
        assert run.code == 4
        assert run.err.startswith("error[")


class TestNotProven:
    @pytest.mark.parametrize(
        ("behaviour", "said"),
        [
            ("no-kernel", "no kernel image"),
            ("wrong-result", "matmul"),
            ("import-fails", "import"),
            ("segfault", "SIGSEGV"),
            ("not-available", "gpu-available"),
        ],
    )
    def test_a_build_that_fails_leaves_the_old_environment_byte_for_byte(
        self, tmp_path: Path, scene: Scene, behaviour: str, said: str
    ) -> None:
        server = scene(behaviour={"2.11.0+cu128": behaviour})
        person = Person(tmp_path, rtx_5090(server))
        assert person.run("--torch", "2.7.1").code == 0
        before, lying = tree_state(person.env), names(person.folder)
        run = person.run("--no-retry", "--json")
        assert run.code == 6, run.out
        assert said in run.out
        assert tree_state(person.env) == before
        assert names(person.folder) == lying

    def test_the_next_candidate_is_taken_and_the_failure_remembered(self, tmp_path: Path, scene: Scene) -> None:
        server = scene(behaviour={"2.11.0+cu128": "no-kernel"})
        person = Person(tmp_path, rtx_5090(server))
        run = person.run("--json")
        assert run.code == 0, run.out
        version = person.python("import torch; print(torch.__version__)")
        assert version not in ("2.11.0+cu128", "")
        codes = [message["code"] for message in run.json["messages"]]
        assert "candidate-failed" in codes
        person.run("--torch", "2.7.1")
        later = person.run("--json")
        assert "remembered-failure" in [message["code"] for message in later.json["messages"]]

    def test_a_wheel_whose_binaries_lack_the_gpu_is_refused_whatever_the_table_said(
        self, tmp_path: Path, scene: Scene
    ) -> None:
        narrow = torch_wheel("2.11.0", "cu128", arches=("sm_80", "sm_90"))
        server = scene(without=["2.11.0+cu128"], pytorch={"cu128": [narrow]})
        person = Person(tmp_path, rtx_5090(server))
        run = person.run("--no-retry", "--json")
        assert run.code == 6
        assert "kernels-sm_120" in run.out
        assert not person.env.exists()
        learnt = person.run("plan", "--json")
        reasons = {(one["torch"], one["backend"]): one["reason"] for one in learnt.data["rejected"]}
        assert reasons["2.11.0", "cu128"] == "arch-missing"
        assert learnt.data["choice"]["torch"] == "2.10.0"

    def test_what_was_seen_in_the_binaries_is_said_in_the_next_plan(self, blackwell: Person) -> None:
        assert "seen in the binaries" not in blackwell.run("plan").out
        assert blackwell.run().code == 0
        assert "runs sm_120: its own code, seen in the binaries" in blackwell.run("plan").out


class TestSources:
    """Where the wheel comes from: the PyTorch index, the user's own settings, the default package index."""

    DEAD = "http://127.0.0.1:9"

    def test_a_find_links_folder_serves_where_the_pytorch_index_is_out_of_reach(
        self, tmp_path: Path, index: Server, cpu_folder: Path
    ) -> None:
        person = Person(
            tmp_path, no_gpu(index) | {"PROVISION_INDEX_BASE": self.DEAD, "PIP_FIND_LINKS": str(cpu_folder)}
        )
        run = person.run("--json")
        assert run.code == 0, run.out + run.err
        assert run.data["choice"]["packages"] == {"torch": "2.13.0+cpu"}
        assert "source-unreachable" in [message["code"] for message in run.json["messages"]]

    def test_the_default_package_index_serves_its_plain_wheel_with_a_notice(
        self, tmp_path: Path, index: Server
    ) -> None:
        person = Person(tmp_path, no_gpu(index) | {"PROVISION_INDEX_BASE": self.DEAD})
        run = person.run("--json")
        assert run.code == 0, run.out + run.err
        assert run.data["choice"]["torch"] == "2.15.0"
        assert run.data["choice"]["backend"] == "cu132"
        assert person.python("import torch; print(torch.__version__)").startswith("2.15.0")

    def test_a_version_that_only_the_package_index_has_is_taken_from_there(
        self, tmp_path: Path, index: Server, cpu_folder: Path
    ) -> None:
        sources = {"PROVISION_INDEX_BASE": self.DEAD, "PIP_FIND_LINKS": str(cpu_folder)}
        person = Person(tmp_path, no_gpu(index) | sources)
        assert person.run().code == 0
        swapped = person.run("--torch", "2.15.0", "--json")
        assert swapped.code == 0, swapped.out
        assert swapped.data["choice"]["backend"] == "cu132"
        assert "plain-wheel-on-cpu" in [message["code"] for message in swapped.json["messages"]]

    def test_a_mirror_is_asked_instead(self, tmp_path: Path, index: Server) -> None:
        person = Person(tmp_path, no_gpu(index) | {"PROVISION_INDEX_BASE": self.DEAD})
        run = person.run("plan", "--index-base", index.pytorch, "--json")
        assert run.data["choice"]["index_url"] == f"{index.pytorch}/cpu"

    def test_without_any_network_the_environment_stays_and_the_reason_is_told(
        self, tmp_path: Path, index: Server
    ) -> None:
        dead = {"PROVISION_INDEX_BASE": self.DEAD, "UV_DEFAULT_INDEX": f"{self.DEAD}/simple"}
        environ = no_gpu(index) | dead
        person = Person(tmp_path, environ)
        run = person.run("--json")
        assert run.code == 5
        assert run.json["errors"][0]["code"] == "network"
        assert "refused" in run.json["errors"][0]["text"]
        assert list(person.folder.iterdir()) == []
        offline = person.run("plan", "--offline", "--json")
        assert offline.code == 0
        assert offline.data["choice"]["packages"] == {"torch": "2.15.0+cpu"}


class TestBadInput:
    def test_an_unknown_profile_gets_the_nearest_name(self, plain: Person) -> None:
        run = plain.run("torhc")
        assert run.code == 2
        assert "provision torch" in run.err

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"platform": 1, "gpus": []}', '{"platform": {"system": "beos"}}'])
    def test_a_malformed_machine_file_is_named(self, plain: Person, text: str) -> None:
        (plain.folder / "machine.json").write_text(text)
        run = plain.run("plan", "--machine", "machine.json", "--offline")
        assert run.code == 9
        assert "machine.json" in run.err
        assert "Traceback" not in run.err

    def test_a_python_that_no_build_fits_is_told_with_the_ways_out(self, plain: Person) -> None:
        run = plain.run("plan", "--python", "3.7", "--json")
        assert run.code == 3
        assert {one["reason"] for one in run.data["rejected"]} >= {"python-not-built"}
        assert run.json["errors"][0]["hint"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes that keep a writer out")
    def test_an_unwritable_folder_is_told(self, plain: Person) -> None:
        with nobody_may_write(plain.folder):
            run = plain.run("--json")
        assert run.code in (4, 5)
        assert run.json["errors"][0]["code"] in ("read-only", "permission", "not-permitted")
        assert str(plain.folder) in run.json["errors"][0]["text"]

    def test_something_else_at_the_path_is_left_alone(self, plain: Person) -> None:
        plain.env.mkdir()
        (plain.env / "thesis.txt").write_text("years of work")
        run = plain.run()
        assert run.code == 4
        assert (plain.env / "thesis.txt").read_text() == "years of work"

    def test_the_environment_that_it_runs_from_is_refused(self, plain: Person) -> None:
        run = plain.run("--env", sys.prefix, "--torch", "2.9.1")
        assert run.code == 4
        assert "--env" in run.err


@contextmanager
def nobody_may_write(folder: Path) -> Iterator[None]:
    """A folder that takes no new entries; root needs the immutable flag for that."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    if shutil.which("chattr") is None:
        pytest.skip("needs chattr (Debian package e2fsprogs)")
    if subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this file system knows no immutable folders")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def contents(site: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(site)): path.read_bytes()
        for path in site.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def names(folder: Path) -> list[str]:
    """Everything that lies below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def is_torch(name: str) -> bool:
    return name.startswith(("torch", "functorch", "triton", "nvidia"))


@pytest.fixture
def cpu_folder(tmp_path: Path) -> Path:
    """A folder that holds torch 2.13.0+cpu and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    made = torch_wheel("2.13.0", "cpu")
    (folder / made.filename).write_bytes(made.content)
    return folder
