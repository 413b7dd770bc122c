"""`provision lock` and `provision sync`, as a person runs them; and pip and uv alone, without us, on what they wrote.

Real uv, real pip, real environments, wheels from a loopback index.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from index import Fault, Server, Wheel, serve, standard_tree, torch_wheel, wheel
from nvml import stand_in
from packaging.requirements import Requirement
from provision.profile import load_profile
from running import Answer, Person, tree_state

Scene = Callable[..., Server]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROFILES = ("comfyui", "diffusion", "inference", "qlora", "torch", "vision-audio", "vllm", "whisperx")
FOLDER = (Path(__file__).parents[1] / "profiles",)

MACHINES: dict[str, dict[str, Any]] = {
    "rtx-5090": {
        "platform": {"system": "linux", "machine": "x86_64", "libc": ["glibc", "2.35"]},
        "gpus": [{"vendor": "nvidia", "name": "NVIDIA GeForce RTX 5090", "arch": "12.0"}],
        "drivers": [{"vendor": "nvidia", "version": "580.95.05"}],
    },
    "a100": {
        "platform": {"system": "linux", "machine": "x86_64", "libc": ["glibc", "2.31"]},
        "gpus": [{"vendor": "nvidia", "name": "NVIDIA A100-SXM4-80GB", "arch": "8.0"}],
        "drivers": [{"vendor": "nvidia", "version": "595.58.03"}],
    },
    "rtx-5070-windows": {
        "platform": {"system": "windows", "machine": "x86_64"},
        "gpus": [{"vendor": "nvidia", "name": "NVIDIA GeForce RTX 5070", "arch": "12.0"}],
        "drivers": [{"vendor": "nvidia", "version": "576.88"}],
    },
}

VERSIONS = {
    "whisperx": ("3.8.6", ["torch~=2.8.0", "torchaudio~=2.8.0", "torchvision~=0.23.0"]),
    "pyannote-audio": ("4.0.7", ["torch>=2.8.0", "torchcodec>=0.7.0"]),
    "vllm": ("0.32.0", ["torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0"]),
    "transformers": ("5.23.0", ["numpy>=1.17"]),
    "sentence-transformers": ("6.2.0", ["transformers<6,>=5", "torch>=2.2"]),
    "trl": ("1.16.0", ["transformers>=4.56.2"]),
    "peft": ("0.21.2", ["torch>=1.13", "transformers"]),
    "accelerate": ("1.15.0", ["torch>=2.0"]),
    "spandrel": ("0.4.2", ["torch", "torchvision"]),
    "torchsde": ("0.2.6", ["torch>=1.6"]),
    "kornia": ("0.9.0", ["torch>=2.5.1"]),
}
"""What the packages of the profiles ask for (default package index, 2026-11-20), in small."""


def packages_of_profiles() -> list[Wheel]:
    """Small wheels under the names that the bundled profiles want, beside what the standard tree has."""
    there = {"bitsandbytes", "xformers", "numpy", "pillow", "torchcodec"}
    found = [wheel("torchcodec", version) for version in ("0.7.0", "0.11.0", "0.17.0")]
    for profile in PROFILES:
        for one in load_profile(profile, FOLDER).packages:
            if one.name in there:
                continue
            there.add(one.name)
            floors = [spec.version for spec in Requirement(one.requires).specifier if "*" not in spec.version]
            version, requires = VERSIONS.get(one.name, (max(floors, default="1.0"), []))
            found.append(wheel(one.name, version, requires=requires))
    return found


@pytest.fixture(scope="session")
def profile_index() -> Iterator[Server]:
    """The standard tree with the packages of the profiles."""
    with serve(standard_tree(packages=packages_of_profiles())) as server:
        yield server


def no_gpu(server: Server, **more: str) -> dict[str, str]:
    """A machine whose NVML says that there is no driver, seeing this index."""
    return stand_in.environment(base=server.environ(), nvml_init=9, libcuda=False, smi=False, gpus=()) | more


@pytest.fixture
def plain(tmp_path: Path, profile_index: Server) -> Person:
    """A machine without a GPU."""
    return Person(tmp_path, no_gpu(profile_index))


def lock(person: Person, *words: str | Path) -> Answer:
    """`provision lock`, for the Python of the tests, which must succeed."""
    run = person.run("lock", *words, *([] if "--python" in words else ["--python", PYTHON]), "--json")
    assert run.code == 0, run.out
    return run


def machine_file(person: Person, name: str) -> Path:
    path = person.folder / f"{name}.json"
    path.write_text(json.dumps(MACHINES[name]))
    return path


def versions(site: Path) -> dict[str, str]:
    """What is installed below a folder, by its metadata alone; pip and what a venv starts with left out."""
    found = {}
    for info in site.rglob("*.dist-info"):
        fields = dict(re.findall(r"^(Name|Version): (.+)$", (info / "METADATA").read_text(), re.M))
        found[re.sub(r"[-_.]+", "-", fields["Name"]).lower()] = fields["Version"]
    return {name: version for name, version in found.items() if name != "pip"}


def locked(path: Path) -> dict[str, str]:
    return {package["name"]: package["version"] for package in tomllib.loads(path.read_text())["packages"]}


def alone(person: Person, server: Server, *command: object) -> subprocess.CompletedProcess[str]:
    """pip or uv without us, as somebody else on another machine runs them."""
    environ = server.environ() | {"HOME": str(person.home)}
    argv = [str(word) for word in command]
    return subprocess.run(
        argv, env=environ, cwd=person.folder, capture_output=True, text=True, check=False, timeout=120
    )


def installs(person: Person, server: Server, name: str) -> dict[str, dict[str, str]]:
    """Who installed → what, for pip and uv from the lock and from the requirements, hashes required, into venvs."""
    files = {
        "lock": ["-r", person.folder / f"pylock.{name}.toml"],
        "requirements": ["--require-hashes", "-r", person.folder / f"requirements.{name}.txt"],
    }
    found = {}
    for kind, words in files.items():
        for tool in ("pip", "uv"):
            env = person.folder / f"alone-{tool}-{kind}"
            subprocess.run([sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, env], check=True)
            if tool == "pip":
                done = alone(person, server, sys.executable, "-m", "pip", "--python", env, "install", "-q", *words)
            else:
                done = alone(person, server, sys.executable, "-m", "uv", "pip", "install", "-q", "-p", env, *words)
            assert done.returncode == 0, f"{tool} {kind}: {done.stderr}"
            found[f"{tool} {kind}"] = versions(env)
            shutil.rmtree(env)
    return found


def for_windows(person: Person, server: Server, name: str) -> dict[str, dict[str, str]]:
    """The same for a Windows target, into folders: uv from both, pip from the requirements (its locks are for here)."""
    found = {}
    uv = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "-q",
        "--python-platform",
        "windows",
        "--python-version",
        PYTHON,
    ]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--platform", "win_amd64", "--python-version"]
    words = {
        "uv lock": [*uv, "-r", f"pylock.{name}.toml"],
        "uv requirements": [*uv, "--require-hashes", "-r", f"requirements.{name}.txt"],
        "pip requirements": [
            *pip,
            PYTHON,
            "--only-binary",
            ":all:",
            "--require-hashes",
            "-r",
            f"requirements.{name}.txt",
        ],
    }
    for who, command in words.items():
        folder = person.folder / "target"
        done = alone(person, server, *command, "--target", folder)
        assert done.returncode == 0, f"{who}: {done.stderr}"
        found[who] = versions(folder)
        shutil.rmtree(folder)
    return found


QUICK = [("qlora", "rtx-5090"), ("diffusion", "rtx-5070-windows")]
SLOW = [(profile, machine) for profile in PROFILES for machine in MACHINES if (profile, machine) not in QUICK]


class TestForOthers:
    """A lock is for people who do not have this tool."""

    @pytest.mark.parametrize(
        ("profile", "machine"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)]
    )
    def test_pip_alone_and_uv_alone_install_the_same_set_from_it(
        self, plain: Person, profile_index: Server, profile: str, machine: str
    ) -> None:
        run = plain.run("lock", profile, "--machine", machine_file(plain, machine), "--python", PYTHON, "--json")
        if profile == "vllm" and machine == "rtx-5070-windows":
            assert run.code == 3
            assert any("vllm 0.32.0 is for linux-*" in one["wanted"] for one in run.data["rejected"])
            return
        assert run.code == 0, run.out
        expected = locked(plain.folder / f"pylock.{profile}.toml")
        wanted = {one.name for one in load_profile(profile, FOLDER).packages} - {"xformers", "torchcodec"}
        assert wanted | {"torch"} <= expected.keys()
        by_whom = (for_windows if "windows" in machine else installs)(plain, profile_index, profile)
        assert {who: found for who, found in by_whom.items() if found != expected} == {}

    def test_elsewhere_pip_and_uv_refuse_it_by_themselves(self, plain: Person, profile_index: Server) -> None:
        lock(plain, "--machine", machine_file(plain, "rtx-5070-windows"))
        env = plain.folder / "env"
        subprocess.run([sys.executable, "-m", "uv", "venv", "-q", env], check=True)
        for command in (["pip", "--python", env, "install"], ["uv", "pip", "install", "-p", env]):
            done = alone(plain, profile_index, sys.executable, "-m", *command, "-r", "pylock.torch.toml")
            assert done.returncode != 0, command
            assert "environment" in done.stderr

    def test_no_login_and_no_path_of_this_machine_is_in_it(self, tmp_path: Path, scene: Scene) -> None:
        server = scene(auth="me:secret")
        base = server.pytorch.replace("://", "://me:secret@")
        packages = server.packages.replace("://", "://me:secret@")
        person = Person(tmp_path, no_gpu(server, PROVISION_INDEX_BASE=base, UV_DEFAULT_INDEX=packages))
        run = lock(person, "--wheelhouse", "house")
        text = "".join(path.read_text() for path in person.folder.rglob("*.t[ox][mx]*"))
        assert "secret" not in text + run.out + run.err
        assert "@" not in text
        assert str(tmp_path) not in text
        assert str(Path.home()) not in text
        assert len(list((person.folder / "house").glob("*.whl"))) == len(run.data["locks"][0]["packages"])

    def test_a_folder_of_this_machine_is_no_source_of_a_lock(self, tmp_path: Path, profile_index: Server) -> None:
        torch_wheel("2.13.0", "cpu").write(tmp_path / "wheels")
        away = {"PROVISION_INDEX_BASE": "http://127.0.0.1:9/whl", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
        person = Person(tmp_path, no_gpu(profile_index, **away))
        run = person.run("lock", "--python", PYTHON, "--torch", "2.13.0", "--json")
        assert run.code == 0, run.out
        assert "local-sources-left-out" in [message["code"] for message in run.json["messages"]]
        assert (
            run.data["locks"][0]["packages"]["torch"] == "2.13.0"
        )  # of the default index, not 2.13.0+cpu of the folder
        assert str(tmp_path) not in (person.folder / "pylock.torch.toml").read_text()


@pytest.mark.registry
class TestRegistry:
    """The profiles against the default package index itself: its plain torch, and every package as it is today."""

    @pytest.mark.parametrize("profile", PROFILES)
    def test_a_lock_of_every_profile_is_made_and_uv_would_install_all_of_it(self, tmp_path: Path, profile: str) -> None:
        person = Person(tmp_path)
        run = lock(person, profile, "--gpu-arch", "sm_120", "--for", "linux-x86_64")
        expected = locked(person.folder / f"pylock.{profile}.toml")
        assert {one.name for one in load_profile(profile, FOLDER).packages} - {"xformers"} <= expected.keys()
        text = (person.folder / f"pylock.{profile}.toml").read_text()
        assert "file:" not in text
        assert "@" not in text
        assert run.data["locks"][0]["choice"]["torch"].startswith(
            {"vllm": "2.13.", "whisperx": "2.8."}.get(profile, "2.")
        )
        env = tmp_path / "env"
        subprocess.run([sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, env], check=True)
        for words in (["pylock.{}.toml"], ["requirements.{}.txt", "--require-hashes"]):
            command = ["uv", "pip", "install", "--dry-run", "-p", env, "-r", words[0].format(profile), *words[1:]]
            done = subprocess.run(
                [sys.executable, "-m", *map(str, command)],
                cwd=person.folder,
                env=person.environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert f"Would install {len(expected)} packages" in done.stderr


class TestTwice:
    def test_the_same_bytes_again_and_nothing_touched_but_the_two_files(self, plain: Person) -> None:
        lock(plain, "qlora", "--gpu-arch", "sm_120")
        assert sorted(path.name for path in plain.folder.iterdir()) == ["pylock.qlora.toml", "requirements.qlora.txt"]
        before = tree_state(plain.folder)
        again = lock(plain, "qlora", "--gpu-arch", "sm_120")
        assert again.data["locks"][0]["stale"] is False
        after = tree_state(plain.folder)
        assert {name: state[-1] for name, state in after.items()} == {name: state[-1] for name, state in before.items()}

    def test_the_same_bytes_on_another_machine(self, tmp_path: Path, profile_index: Server) -> None:
        here = Person(tmp_path / "here", no_gpu(profile_index))
        there = Person(
            tmp_path / "there",
            stand_in.environment(base=profile_index.environ(), driver="535.104.05", cuda="12.2"),
        )
        texts = []
        for person in (here, there):
            fresh = {"UV_CACHE_DIR": str(person.home / "uv")}
            path = machine_file(person, "rtx-5090")
            words = ["lock", "qlora", "--machine", str(path), "--for", "linux-x86_64", "--for", "windows-x86_64"]
            assert person.run(*words, environ=fresh).code == 0
            names = [f"{kind}-{name}" for kind in ("linux", "windows") for name in ("x86_64.toml", "x86_64.txt")]
            texts.append([next(person.folder.glob(f"*qlora-{name}")).read_bytes() for name in names])
        assert texts[0] == texts[1]

    @pytest.mark.parametrize(
        "profile", ["qlora", *(pytest.param(one, marks=pytest.mark.slow) for one in PROFILES if one != "qlora")]
    )
    def test_an_engine_of_its_own_comes_to_the_same_pins(self, plain: Person, profile: str) -> None:
        wanted = (profile, "--gpu-arch", "sm_120")
        lock(plain, *wanted)
        before = (plain.folder / f"pylock.{profile}.toml").read_bytes()
        (plain.folder / f"pylock.{profile}.toml").unlink()
        lock(plain, *wanted, "--engine", "pip-tools")
        assert (plain.folder / f"pylock.{profile}.toml").read_bytes() == before

    def test_pip_tools_says_that_it_can_only_lock_for_where_it_runs(self, plain: Person) -> None:
        run = plain.run("lock", "--for", "windows-x86_64", "--engine", "pip-tools")
        assert run.code == 2
        assert "uv locks for any target" in run.err


class TestTargets:
    def test_a_lock_for_each_platform_that_is_named(self, plain: Person) -> None:
        run = lock(
            plain, "--for", "linux-x86_64", "--for", "windows-x86_64", "--for", "linux-aarch64", "--gpu-arch", "9.0"
        )
        made = {one["target"]["system"] + one["target"]["machine"]: one for one in run.data["locks"]}
        assert made.keys() == {"linuxx86_64", "windowsx86_64", "linuxaarch64"}
        assert all(one["target"]["arches"] == ["sm_90"] for one in made.values())
        assert "triton" in made["linuxx86_64"]["packages"]
        assert "triton" not in made["windowsx86_64"]["packages"]
        assert (plain.folder / "pylock.torch-linux-aarch64.toml").exists()
        assert not plain.env.exists()

    def test_gpus_of_this_machine_with_the_drivers_reach_there(self, tmp_path: Path, profile_index: Server) -> None:
        person = Person(tmp_path, stand_in.environment(base=profile_index.environ(), driver="570.124.06", cuda="12.8"))
        run = lock(person, "--for", "windows-x86_64")
        assert run.data["locks"][0]["choice"]["packages"] == {"torch": "2.11.0+cu128"}
        assert run.data["locks"][0]["target"]["arches"] == ["sm_120"]

    def test_a_nightly_tells_what_it_costs_and_takes_its_own_triton(self, plain: Person, profile_index: Server) -> None:
        words = ("--channel", "nightly", "--gpu-arch", "sm_120", "--backend", "cu130")
        run = lock(plain, *words)
        assert "nightly-lock" in [message["code"] for message in run.json["messages"]]
        assert run.data["locks"][0]["packages"]["triton"] == "3.9.0+git1b0b0a2e"
        assert set(map(frozenset, installs(plain, profile_index, "torch").values())) == {
            frozenset(locked(plain.folder / "pylock.torch.toml"))
        }

    def test_a_file_of_somebody_else_is_never_replaced(self, plain: Person) -> None:
        theirs = 'lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n'
        (plain.folder / "pylock.torch.toml").write_text(theirs)
        run = plain.run("lock", "--json")
        assert run.code == 9
        assert run.json["errors"][0]["code"] == "foreign-lock"
        assert (plain.folder / "pylock.torch.toml").read_text() == theirs
        (plain.folder / "pylock.torch.toml").unlink()
        (plain.folder / "requirements.torch.txt").write_text("mine\n")
        again = lock(plain)
        assert "foreign-requirements" in [message["code"] for message in again.json["messages"]]
        assert (plain.folder / "requirements.torch.txt").read_text() == "mine\n"

    def test_where_nothing_fits_no_file_is_written(self, plain: Person) -> None:
        run = plain.run("lock", "vllm", "--gpu-arch", "sm_61", "--json")
        assert run.code == 3
        assert list(plain.folder.iterdir()) == []


class TestStale:
    OLD: Mapping[str, str] = {"peft": "0.20.0"}

    def scene(self, scene: Scene, *more: Wheel, without: tuple[str, ...] = ()) -> Server:
        return scene(standard_tree(packages=[*packages_of_profiles(), *more], without=without))

    def move(self, person: Person, server: Server) -> None:
        """The same person, to whom the index now says something else."""
        person.environ |= no_gpu(server)
        shutil.rmtree(person.home / "cache", ignore_errors=True)

    def test_an_up_to_date_lock_is_0_and_a_missing_one_8(self, plain: Person) -> None:
        missing = plain.run("lock", "--check", "--json")
        assert missing.code == 8
        assert missing.json["errors"][0]["code"] == "lock-stale"
        assert list(plain.folder.iterdir()) == []
        lock(plain)
        assert plain.run("lock", "--check").code == 0

    def test_a_newer_release_makes_no_lock_stale_but_upgrade_takes_it(self, plain: Person, scene: Scene) -> None:
        lock(plain, "qlora")
        newer = wheel("peft", "0.99.0", requires=["torch>=1.13", "transformers"])
        self.move(plain, self.scene(scene, newer))
        assert plain.run("lock", "qlora", "--check").code == 0
        assert plain.run("lock", "qlora").code == 0
        assert locked(plain.folder / "pylock.qlora.toml")["peft"] == "0.21.2"
        run = plain.run("lock", "qlora", "--upgrade", "peft", "--json")
        assert run.data["locks"][0]["changes"] == ["peft 0.21.2 → 0.99.0"]
        assert locked(plain.folder / "pylock.qlora.toml")["peft"] == "0.99.0"

    def test_torch_stays_too_until_it_is_upgraded(self, plain: Person, scene: Scene) -> None:
        self.move(plain, self.scene(scene, without=("2.15.0+cpu", "2.14.1+cpu")))
        lock(plain)
        before = locked(plain.folder / "pylock.torch.toml")["torch"]
        assert before == "2.14.0+cpu"
        self.move(plain, self.scene(scene))
        assert plain.run("lock", "--check").code == 0
        lock(plain, "--upgrade", "torch")
        assert locked(plain.folder / "pylock.torch.toml")["torch"] == "2.15.0+cpu"

    def test_files_that_went_away_and_a_profile_that_changed_do(self, plain: Person, scene: Scene) -> None:
        own = plain.home / ".config" / "torch-provision" / "profiles"
        own.mkdir(parents=True)
        (own / "mine.toml").write_text('summary = "mine"\npackages = ["peft"]\n')
        lock(plain, "mine")
        assert plain.run("lock", "mine", "--check").code == 0
        (own / "mine.toml").write_text('summary = "mine"\npackages = ["peft", "accelerate"]\n')
        run = plain.run("lock", "mine", "--check", "--json")
        assert run.code == 8
        assert run.data["locks"][0]["changes"] == ["+ accelerate==1.15.0"]
        (own / "mine.toml").write_text('summary = "mine"\npackages = ["peft"]\n')
        self.move(plain, self.scene(scene, without=("2.15.0+cpu",)))
        assert plain.run("lock", "mine", "--check").code == 8

    def test_a_machine_without_the_gpu_checks_the_lock_for_what_it_says_of_its_target(
        self, tmp_path: Path, profile_index: Server
    ) -> None:
        workstation = Person(
            tmp_path / "a", stand_in.environment(base=profile_index.environ(), driver="570.124.06", cuda="12.8")
        )
        lock(workstation, "qlora")
        server = Person(tmp_path / "b", no_gpu(profile_index))
        shutil.copy(workstation.folder / "pylock.qlora.toml", server.folder)
        run = server.run("lock", "qlora", "--check", "--json")
        assert run.code == 0, run.out
        assert run.data["locks"][0]["target"]["arches"] == ["sm_120"]


class TestSync:
    def start(self, person: Person, *packages: str) -> None:
        """An environment as uv itself would make it."""
        for words in (["venv", "-q", str(person.env)], ["pip", "install", "-q", "-p", str(person.env), *packages]):
            environ = {name: value for name, value in person.environ.items() if not name.startswith("PROVISION")}
            subprocess.run([sys.executable, "-m", "uv", *words], env=environ, check=True, capture_output=True)

    def test_from_nothing_to_exactly_the_lock_proven_and_again_without_a_change(self, plain: Person) -> None:
        lock(plain, "inference")
        run = plain.run("sync", "pylock.inference.toml", "--json")
        assert run.code == 0, run.out
        assert versions(plain.env) == locked(plain.folder / "pylock.inference.toml")
        assert run.data["verification"]["checks"][0]["status"] == "passed"
        before = tree_state(plain.env)
        again = plain.run("sync", "pylock.inference.toml", "--json")
        assert again.data["changed"] is False
        assert tree_state(plain.env) == before
        assert (plain.folder / "pylock.provision.toml").read_text() == (
            plain.folder / "pylock.inference.toml"
        ).read_text()

    def test_other_versions_and_other_packages_go_after_asking(self, plain: Person) -> None:
        lock(plain)
        self.start(plain, "packaging", "torch==2.9.1")
        before = tree_state(plain.env)
        refused = plain.run("sync", "pylock.torch.toml", "--json")
        assert refused.code == 2
        assert "packaging 26.3" in refused.json["errors"][0]["text"]
        assert tree_state(plain.env) == before
        agreed = plain.run("sync", "pylock.torch.toml", "--yes", "--json")
        assert agreed.code == 0, agreed.out
        assert versions(plain.env) == locked(plain.folder / "pylock.torch.toml")
        assert plain.run("rollback", "--yes").code == 0
        assert "packaging" in versions(plain.env)

    def test_a_dry_run_changes_nothing_and_shows_what_would_change(self, plain: Person) -> None:
        lock(plain)
        run = plain.run("sync", "pylock.torch.toml", "--dry-run", "--json")
        assert run.code == 0
        assert {"name": "torch", "old": None, "new": "2.15.0+cpu"} in run.data["changes"]
        assert not plain.env.exists()

    def test_a_changed_hash_is_refused_and_the_environment_is_as_it_was(self, plain: Person) -> None:
        assert plain.run("--torch", "2.9.1").code == 0
        lock(plain)
        path = plain.folder / "pylock.torch.toml"
        found = tomllib.loads(path.read_text())
        sha = next(one for one in found["packages"] if one["name"] == "torch")["wheels"][0]["hashes"]["sha256"]
        path.write_text(path.read_text().replace(sha, sha[::-1]))
        before = tree_state(plain.env)
        run = plain.run("sync", "pylock.torch.toml", "--json")
        assert run.code == 5, run.out
        assert run.json["errors"][0]["code"] == "integrity"
        assert tree_state(plain.env) == before

    @pytest.mark.parametrize(
        ("machine", "said"),
        [
            ("a100", "the lock is for sm_80, this machine has sm_120"),
            ("rtx-5070-windows", "the lock is for windows x86_64, this is linux x86_64"),
        ],
    )
    def test_a_lock_for_another_machine_is_refused_with_what_differs(
        self, tmp_path: Path, profile_index: Server, machine: str, said: str
    ) -> None:
        person = Person(tmp_path, stand_in.environment(base=profile_index.environ(), driver="570.124.06", cuda="12.8"))
        lock(person, "--machine", machine_file(person, machine))
        lying = sorted(path.name for path in person.folder.iterdir())
        run = person.run("sync", "pylock.torch.toml", "--json")
        assert run.code == 8
        assert run.json["errors"][0]["code"] == "lock-does-not-fit"
        assert said in run.json["errors"][0]["text"]
        assert sorted(path.name for path in person.folder.iterdir()) == lying

    def test_a_driver_that_is_too_old_for_the_locked_build_is_named(
        self, tmp_path: Path, profile_index: Server
    ) -> None:
        person = Person(tmp_path, stand_in.environment(base=profile_index.environ(), driver="570.124.06", cuda="12.8"))
        lock(person, "--machine", machine_file(person, "rtx-5090"))
        run = person.run("sync", "pylock.torch.toml", "--json")
        assert run.code == 8
        assert "driver-too-old" in run.json["errors"][0]["text"]
        assert "570.124.06" in run.json["errors"][0]["text"]

    def test_another_python_and_no_gpu_are_named(self, plain: Person) -> None:
        lock(plain, "--gpu-arch", "sm_120")
        run = plain.run("sync", "pylock.torch.toml", "--json")
        assert run.code == 8
        assert "this machine has no GPU that counts" in run.json["errors"][0]["text"]
        lock(plain, "--backend", "cpu")
        self.start(plain, "packaging")
        text = (plain.folder / "pylock.torch.toml").read_text()
        (plain.folder / "pylock.torch.toml").write_text(text.replace(f'python = "{PYTHON}"', 'python = "3.8"'))
        run = plain.run("sync", "pylock.torch.toml", "--json")
        assert run.code == 8
        assert f"the lock is for Python 3.8, the environment has {PYTHON}" in run.json["errors"][0]["text"]

    def test_the_cpu_lock_on_a_machine_with_a_gpu_wants_to_be_meant(
        self, tmp_path: Path, profile_index: Server
    ) -> None:
        person = Person(tmp_path, stand_in.environment(base=profile_index.environ(), driver="570.124.06", cuda="12.8"))
        lock(person, "--for", "linux-x86_64", "--gpu-arch", "sm_120", "--backend", "cpu")
        text = (person.folder / "pylock.torch.toml").read_text()
        (person.folder / "pylock.torch.toml").write_text(re.sub(r'arches = \[\n\s+"sm_120",\n\]', "arches = []", text))
        refused = person.run("sync", "pylock.torch.toml")
        assert refused.code == 8
        assert "machines without a GPU" in refused.err
        assert person.run("sync", "pylock.torch.toml", "--backend", "cpu").code == 0

    @pytest.mark.parametrize("text", ["", "lock-version = 1", 'lock-version = "1.0"\npackages = []'])
    def test_what_is_no_lock_of_ours_is_refused(self, plain: Person, text: str) -> None:
        (plain.folder / "pylock.x.toml").write_text(text)
        run = plain.run("sync", "pylock.x.toml")
        assert run.code == 9
        assert "pylock.x.toml" in run.err
        assert plain.run("sync", "absent.toml").code == 9


class TestWheelhouse:
    DEAD: Mapping[str, str] = {
        "PROVISION_INDEX_BASE": "http://127.0.0.1:9/whl",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    }

    @pytest.fixture
    def away(self, plain: Person) -> Person:
        """Someone whose machine has a wheelhouse and a lock, and no network and no cache."""
        lock(plain, "qlora", "--wheelhouse", "house")
        plain.environ |= {**self.DEAD, "UV_CACHE_DIR": str(plain.home / "uv")}
        shutil.rmtree(plain.home / "cache", ignore_errors=True)
        return plain

    def test_sync_needs_nothing_but_the_folder(self, away: Person) -> None:
        run = away.run("sync", "house/pylock.qlora.toml", "--find-links", "house", "--offline", "--json")
        assert run.code == 0, run.out
        assert versions(away.env) == locked(away.folder / "pylock.qlora.toml")
        assert not list(away.env.rglob("direct_url.json"))

    def test_pip_and_uv_alone_need_nothing_but_the_folder_either(self, away: Person) -> None:
        for tool in ("pip", "uv"):
            env = away.folder / f"env-{tool}"
            subprocess.run([sys.executable, "-m", "uv", "venv", "-q", env], check=True)
            where = ["--no-index", "--find-links", "house", "--require-hashes", "-r", "house/requirements.qlora.txt"]
            command = ["pip", "--python", env, "install"] if tool == "pip" else ["uv", "pip", "install", "-p", env]
            done = subprocess.run(
                [sys.executable, "-m", *map(str, command), *where],
                env=away.environ,
                cwd=away.folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert versions(env) == locked(away.folder / "pylock.qlora.toml")

    def test_another_file_under_the_name_and_a_missing_one_are_told_before_anything_moves(self, away: Person) -> None:
        torch = next((away.folder / "house").glob("torch-*.whl"))
        torch.write_bytes(torch.read_bytes()[:-1] + b"x")
        (away.folder / "house" / next((away.folder / "house").glob("peft-*.whl")).name).unlink()
        run = away.run("sync", "pylock.qlora.toml", "--find-links", "house", "--offline", "--json")
        assert run.code == 8
        said = run.json["errors"][0]["text"]
        assert "torch-2.15.0+cpu" in said
        assert "is another file than the locked one" in said
        assert "peft-0.21.2-py3-none-any.whl is not there" in said
        assert not away.env.exists()

    def test_a_download_with_another_hash_never_gets_into_the_folder(
        self, plain: Person, profile_index: Server
    ) -> None:
        lock(plain)
        with profile_index.failing("/files/filelock*.whl", Fault.WRONG_HASH):
            run = plain.run("lock", "--wheelhouse", "house", "--json")
        assert run.code == 5
        assert run.json["errors"][0]["code"] == "integrity"
        assert not list((plain.folder / "house").glob("*filelock*"))

    def test_a_second_filling_fetches_nothing(self, plain: Person, profile_index: Server) -> None:
        lock(plain, "--wheelhouse", "house")
        with profile_index.recording() as requests:
            lock(plain, "--wheelhouse", "house")
        assert [one.path for one in requests if one.path.endswith(".whl")] == []


class TestOwnProfile:
    """What nobody has written down is learned from uv: a package that pins torch narrows the choice."""

    @pytest.fixture
    def person(self, tmp_path: Path, scene: Scene) -> Person:
        old = [
            wheel("needs-old", "1.0", requires=["torch==2.9.1"]),
            wheel("needs-range", "2.0", requires=["torch>=2.8,<2.13"]),
        ]
        person = Person(tmp_path, no_gpu(scene(standard_tree(packages=old))))
        own = person.home / ".config" / "torch-provision" / "profiles"
        own.mkdir(parents=True)
        for name in ("needs-old", "needs-range"):
            (own / f"{name}.toml").write_text(f'summary = "mine"\npackages = ["{name}"]\n')
        return person

    @pytest.mark.parametrize(("name", "torch"), [("needs-old", "2.9.1+cpu"), ("needs-range", "2.12.1+cpu")])
    def test_the_plan_the_job_and_the_lock_narrow_alike_and_say_who_did_it(
        self, person: Person, name: str, torch: str
    ) -> None:
        plan = person.run("plan", name, "--json")
        assert plan.code == 0, plan.out
        assert plan.data["choice"]["packages"] == {"torch": torch}
        reasons = [one for one in plan.data["rejected"] if one["torch"] == "2.15.0" and one["backend"] == "cpu"]
        assert reasons[0]["reason"] == "excluded-by-request"
        assert name in reasons[0]["wanted"]
        made = lock(person, name)
        assert made.data["locks"][0]["packages"]["torch"] == torch
        assert any(one["code"] == "narrowed" and name in one["text"] for one in made.json["messages"])
        run = person.run(name, "--json")
        assert run.code == 0, run.out
        assert versions(person.env)["torch"] == torch
        assert any(one["code"] == "narrowed" and name in one["text"] for one in run.json["messages"])

    def test_profiles_are_listed_shown_and_validated(self, person: Person) -> None:
        listed = person.run("profiles", "--json")
        names = {one["name"]: one["own"] for one in listed.data["profiles"]}
        assert names["needs-old"] is True
        assert names["qlora"] is False
        assert person.run("profiles", "show", "needs-old", "--json").data["packages"] == [{"requires": "needs-old"}]
        assert "TOKENIZERS_PARALLELISM=false" in person.run("profiles", "qlora").out
        (person.folder / "bad.toml").write_text('summary = "x"\nchecks = ["no-such-check"]\n')
        bad = person.run("profiles", "validate", "bad.toml")
        assert bad.code == 9
        assert "no-such-check" in bad.err
        (person.folder / "bad.toml").write_text('summary = "x"\n\npakages = ["peft"]\n')
        bad = person.run("profiles", "validate", "bad.toml")
        assert bad.code == 9
        assert "bad.toml:3: `pakages`" in bad.err
        assert person.run("profiles", "validate").code == 2

    def test_an_own_profile_that_cannot_be_read_is_told_in_the_list(self, person: Person) -> None:
        (person.home / ".config" / "torch-provision" / "profiles" / "broken.toml").write_text("summary = 1\n")
        run = person.run("profiles")
        assert run.code == 0
        assert "broken.toml:1: `summary`" in run.out
