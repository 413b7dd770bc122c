"""What an environment holds: the constraints file, pip's own settings in it, and what real pip and uv make of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uv
from envs import World, in_child
from hypothesis import given
from hypothesis import strategies as st
from index import Server, serve, standard_tree, wheel
from nvml import stand_in
from provision import transaction
from provision.hold import (
    FILE,
    PIP,
    Hold,
    constraints_of,
    constraints_text,
    held_for,
    parse_constraints,
    with_constraint,
    without_constraint,
)
from running import Answer, Person, tree_state

Scene = Callable[..., Server]
URL = "file:///home/me/my%20project/.venv/provision-constraints.txt"


class TestConstraints:
    def test_what_is_written_is_read_back(self) -> None:
        held = {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu", "pytorch-triton-rocm": "3.5.0"}
        assert parse_constraints(constraints_text(held)) == held

    def test_a_plain_version_does_not_let_a_local_one_pass(self) -> None:
        from packaging.requirements import Requirement

        lines = [line for line in constraints_text({"torch": "2.15.0"}).splitlines() if not line.startswith("#")]
        specifier = Requirement(lines[0]).specifier
        assert specifier.contains("2.15.0")
        assert not specifier.contains("2.15.0+cpu")

    def test_the_whole_family_is_held_torch_first(self) -> None:
        installed = {"numpy": "2.3.5", "triton": "3.6.0", "torchvision": "0.26.0+cu128", "torch": "2.11.0+cu128"}
        assert list(held_for(installed, {}).items()) == [
            ("torch", "2.11.0+cu128"),
            ("torchvision", "0.26.0+cu128"),
            ("triton", "3.6.0"),
        ]

    def test_a_companion_that_is_not_there_yet_may_only_come_in_torchs_own_build(self) -> None:
        known = {"torchvision": "==0.26.0", "torchaudio": "==2.11.0", "xformers": "==0.0.35"}
        held = held_for({"torch": "2.11.0+cu128"}, known)
        assert held == {"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128", "torchaudio": "2.11.0+cu128"}
        assert held_for({"torch": "2.15.0"}, known) == {"torch": "2.15.0"}

    def test_what_got_past_is_named_with_both_versions(self) -> None:
        held = {"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128", "triton": "3.6.0"}
        hold = Hold(prefix=Path(os.path.abspath("env")), constraints=constraints_text(held))
        on = Hold(prefix=hold.prefix, constraints=hold.constraints, pip=with_constraint(None, hold.url))
        now = {"torch": "2.15.0", "triton": "3.6.0"}
        assert on.escaped(now) == {"torch": ("2.11.0+cu128", "2.15.0")}
        assert on.escaped({}) == {"torch": ("2.11.0+cu128", None)}
        assert hold.escaped(now) == {}


CONFIGURATIONS = {
    "": "[install]\nconstraint = URL\n",
    "[global]\nindex-url = https://mirror.example/simple\n": "[global]\nindex-url = https://mirror.example/simple\n"
    "[install]\nconstraint = URL\n",
    "[install]\nno-index = true\n[global]\ntimeout = 5\n": "[install]\nconstraint = URL\nno-index = true\n"
    "[global]\ntimeout = 5\n",
    "[install]\n# ours\nConstraint: a.txt b.txt\n": "[install]\n# ours\nConstraint: URL a.txt b.txt\n",
    "[install]\nconstraint =\n    a.txt\n    b.txt\npre = yes\n": "[install]\nconstraint = URL\n    a.txt\n    b.txt\n"
    "pre = yes\n",
    "[global]\nconstraint = a.txt\n": "[global]\nconstraint = URL a.txt\n",
    "[freeze]\ntimeout = 10\n": "[freeze]\ntimeout = 10\n[install]\nconstraint = URL\n",
}
"""A person's own pip.conf in the environment, and the same with the hold."""


class TestPipConfiguration:
    @pytest.mark.parametrize(("theirs", "held"), CONFIGURATIONS.items())
    def test_the_constraint_is_added_and_taken_away_and_the_rest_stays_to_the_byte(
        self, theirs: str, held: str
    ) -> None:
        made = with_constraint(theirs or None, URL)
        assert made == held.replace("URL", URL)
        assert with_constraint(made, URL) == made
        assert without_constraint(made, URL) == (theirs or None)

    @pytest.mark.parametrize("theirs", CONFIGURATIONS)
    def test_pip_takes_it_and_what_was_there_before(self, theirs: str) -> None:
        assert constraints_of(with_constraint(theirs, URL)) == (URL, *constraints_of(theirs))

    @given(
        st.lists(
            st.sampled_from(
                [
                    "[install]",
                    "[global]",
                    "[list]",
                    "constraint = a",
                    "  b",
                    "# constraint = no",
                    "",
                    "pre = yes",
                    "; x",
                ]
            ),
            max_size=12,
        )
    )
    def test_any_file_keeps_all_its_lines(self, lines: list[str]) -> None:
        theirs = "".join(f"{line}\n" for line in lines)
        made = with_constraint(theirs, URL)
        assert URL in constraints_of(made)
        before = [line.split() for line in theirs.splitlines() if line.split()]
        after = [[word for word in line.split() if word != URL] for line in made.splitlines()]
        for line in before:
            assert line in after
        assert URL not in (without_constraint(made, URL) or "")


# With the real tools ------------------------------------------------------------------------------------------------

MORE = (
    wheel("xformers", "0.0.28", requires=["torch==2.9.1"]),
    wheel("needs-old", "1.0", requires=["torch==2.9.1"]),
    wheel("needs-any", "1.0", requires=["torch>=2.4"]),
)


def pip(person: Person, *args: str, **environ: str) -> Answer:
    """`pip ARGS` in the person's environment, with the settings that are its own."""
    kept = {name: value for name, value in person.environ.items() if name != "PIP_CONFIG_FILE"}
    command = [sys.executable, "-m", "pip", "--python", str(person.env), *args]
    return run(command, kept | {"HOME": str(person.home)} | environ, person.folder)


def uv_pip(person: Person, *args: str, **environ: str) -> Answer:
    """`uv pip ARGS` for the person's environment."""
    command = [uv.find_uv_bin(), "pip", *args, "--python", str(person.env)]
    return run(command, person.environ | {"HOME": str(person.home)} | environ, person.folder)


def run(command: list[str], environ: Mapping[str, str], folder: Path) -> Answer:
    done = subprocess.run(
        command, env=dict(environ), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def torch_of(person: Person) -> str:
    return person.python("import torch; print(torch.__version__)")


@pytest.fixture(scope="module")
def more() -> Iterator[Server]:
    """The standard tree and packages that want another torch."""
    with serve(standard_tree(packages=MORE)) as server:
        yield server


@pytest.fixture
def person(tmp_path: Path, more: Server) -> Person:
    """Someone without a GPU, in a folder with a space in its name, whose environment holds torch 2.15.0+cpu."""
    environ = stand_in.environment(base=more.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
    found = Person(tmp_path / "my work", environ)
    assert found.run("--torch", "2.15.0").code == 0
    return found


class TestPip:
    @pytest.mark.parametrize(
        "asked", ["xformers==0.0.28", "needs-old", "torch==2.9.1", "torch<2.15", "torchvision==0.20"]
    )
    def test_what_would_bring_another_torch_stops_and_names_the_hold(self, person: Person, asked: str) -> None:
        before = tree_state(person.env)
        stopped = pip(person, "install", asked)
        assert stopped.code == 1
        assert "held.by.provision" in stopped.out + stopped.err
        assert tree_state(person.env) == before

    @pytest.mark.parametrize("asked", [["needs-any"], ["xformers"], ["--upgrade", "torch"], ["numpy", "torch"]])
    def test_what_takes_this_torch_is_installed_beside_it(self, person: Person, asked: list[str]) -> None:
        done = pip(person, "install", *asked)
        assert done.code == 0, done.err
        assert torch_of(person) == "2.15.0+cpu"

    def test_the_plain_torchvision_of_another_backend_does_not_come(self, person: Person) -> None:
        stopped = pip(person, "install", "torchvision")
        assert stopped.code == 1
        assert not list(person.env.rglob("torchvision"))

    def test_a_persons_own_settings_do_not_undo_it(self, person: Person) -> None:
        config = person.home / ".config" / "pip" / "pip.conf"
        config.parent.mkdir(parents=True)
        config.write_text("[install]\nconstraint = /nowhere.txt\n[global]\nconstraint = /nowhere.txt\n")
        assert "held.by.provision" in pip(person, "install", "needs-old").out

    def test_lifted_it_lets_go(self, person: Person) -> None:
        assert person.run("hold", "--off").code == 0
        assert pip(person, "install", "needs-old").code == 0
        assert torch_of(person).startswith("2.9.1")


class TestUv:
    def environ(self, person: Person) -> dict[str, str]:
        answer = person.run("hold", "--json")
        found = answer.data["uv"]
        assert isinstance(found, dict)
        return found

    @pytest.mark.parametrize("asked", ["xformers==0.0.28", "needs-old", "torch==2.9.1", "torchvision==0.20"])
    def test_with_the_variable_it_stops_and_names_what_is_held(self, person: Person, asked: str) -> None:
        stopped = uv_pip(person, "install", asked, **self.environ(person))
        assert stopped.code == 1
        assert "+cpu" in stopped.err
        assert torch_of(person) == "2.15.0+cpu"

    @pytest.mark.parametrize("asked", [["needs-any"], ["xformers"], ["--upgrade", "torch"]])
    def test_what_takes_this_torch_is_installed_beside_it(self, person: Person, asked: list[str]) -> None:
        done = uv_pip(person, "install", *asked, **self.environ(person))
        assert done.code == 0, done.err
        assert torch_of(person) == "2.15.0+cpu"

    def test_without_it_uv_replaces_torch_and_the_hold_says_so_afterwards(self, person: Person) -> None:
        assert uv_pip(person, "install", "needs-old").code == 0
        shown = person.run("hold", "--json")
        assert shown.data["escaped"] == {"torch": {"held": "2.15.0+cpu", "installed": "2.9.1"}}
        assert [message["code"] for message in shown.json["messages"]] == ["hold-broken"]


@pytest.mark.registry
def test_the_real_xformers_that_wants_an_older_torch_stops_at_the_hold(person: Person) -> None:
    """xformers 0.0.34 pins torch 2.10.0; here pip and uv ask the package index that this machine is set up for."""
    own = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    person.environ = {k: v for k, v in person.environ.items() if not k.startswith(("PIP_", "UV_"))} | own
    before = tree_state(person.env)
    by_pip = pip(person, "install", "xformers==0.0.34")
    assert by_pip.code == 1
    assert "held.by.provision" in by_pip.out + by_pip.err
    by_uv = uv_pip(person, "install", "xformers==0.0.34", **person.run("hold", "--json").data["uv"])
    assert by_uv.code == 1
    assert "torch==2.15.0+cpu" in by_uv.err
    assert tree_state(person.env) == before
    added = person.run("add", "xformers==0.0.34", "--json")
    assert (added.code, added.json["errors"][0]["code"]) == (5, "held")
    assert {"package": "xformers 0.0.34", "torch": "==2.10.0"} in added.data["demands"], added.data
    assert added.data["fits"], added.data


def test_the_doctor_names_what_got_past_and_provision_heals_it(person: Person) -> None:
    assert uv_pip(person, "install", "needs-old").code == 0
    found = {one["code"]: one for one in person.run("doctor", "--json").data["findings"]}
    assert "torch 2.15.0+cpu was held, 2.9.1 is there" in found["hold-broken"]["evidence"]
    assert found["hold-broken"]["fix"] == [["provision"]]
    assert person.run("--yes").code == 0
    assert torch_of(person) == "2.15.0+cpu"
    assert "hold-broken" not in {one["code"] for one in person.run("doctor", "--json").data["findings"]}


# Through the life of an environment ----------------------------------------------------------------------------------


class TestLife:
    def test_the_paths_in_it_are_the_final_ones(self, person: Person) -> None:
        held = (person.env / PIP).read_text() + (person.env / FILE).read_text()
        assert (person.env / FILE).as_uri() in held
        assert "staging" not in held

    def test_a_swap_holds_the_new_torch_and_a_rollback_the_old_one(self, person: Person) -> None:
        assert person.run("--torch", "2.9.1").code == 0
        assert person.run("hold", "--json").data["held"]["torch"] == "2.9.1+cpu"
        assert person.run("rollback").code == 0
        shown = person.run("hold", "--json").data
        assert (shown["on"], shown["held"]["torch"]) == (True, "2.15.0+cpu")

    def test_once_lifted_it_stays_lifted_through_a_swap(self, person: Person) -> None:
        assert person.run("hold", "--off").code == 0
        assert not (person.env / PIP).exists()
        assert person.run("--torch", "2.9.1").code == 0
        assert person.run("hold", "--json").data["on"] is False
        assert person.run("hold", "--on").code == 0
        assert person.run("hold", "--json").data["held"]["torch"] == "2.9.1+cpu"

    def test_lifting_it_takes_no_generation_away_and_forgets_no_lock(self, person: Person) -> None:
        lock = person.folder / "pylock.provision.toml"
        first = lock.read_text()
        assert person.run("--torch", "2.9.1").code == 0
        assert person.run("hold", "--off").code == 0
        rows = person.run("history", "--json").data["generations"]
        assert [(row["torch"], row["live"]) for row in rows] == [("2.9.1+cpu", True), ("2.15.0+cpu", False)]
        assert person.run("rollback").code == 0
        assert lock.read_text() == first
        assert person.run("rollback").code == 0
        assert lock.read_text() != first
        assert person.run("hold", "--json").data["on"] is False

    def test_an_environment_that_was_right_before_is_held_from_now_on(self, person: Person) -> None:
        for name in (FILE, PIP):
            (person.env / name).unlink()
        for path in person.home.rglob("proofs/*.json"):
            path.unlink()
        again = person.run("--json")
        assert again.data["changed"] is False
        assert person.run("hold", "--json").data["on"] is True

    def test_a_persons_pip_conf_keeps_its_content_and_its_mode(self, person: Person) -> None:
        assert person.run("hold", "--off").code == 0
        conf = person.env / PIP
        theirs = "[global]\nextra-index-url = https://me:secret@example.test/simple\n"
        conf.write_text(theirs)
        conf.chmod(0o600)
        assert person.run("hold", "--on").code == 0
        assert conf.read_text().startswith(theirs)
        assert stat.S_IMODE(conf.stat().st_mode) == 0o600
        assert person.run("hold", "--off").code == 0
        assert conf.read_text() == theirs

    def test_setting_what_is_set_changes_nothing(self, person: Person) -> None:
        before = tree_state(person.folder)
        assert person.run("hold", "--on", "--json").data["changed"] is False
        assert person.run("hold").code == 0
        assert tree_state(person.folder) == before

    def test_where_there_is_no_environment_it_says_so(self, tmp_path: Path, index: Server) -> None:
        answer = Person(tmp_path, index.environ()).run("hold", "--json")
        assert answer.code == 4
        assert answer.json["errors"][0]["code"] == "no-environment"

    def test_an_environment_without_torch_has_nothing_to_hold(
        self, world: World, tmp_path: Path, index: Server
    ) -> None:
        world.make()
        answer = Person(tmp_path / "other", index.environ()).run("hold", "--on", "--env", world.env, "--json")
        assert answer.code == 4
        assert answer.json["errors"][0]["code"] == "torch-missing"


class TestWriting:
    """`transaction.put`: small files of our own in a live environment."""

    def test_killed_before_either_file_every_state_is_one_that_may_stay(self, world: World) -> None:
        world.make()
        files = {"a.txt": "1", "b.txt": "2"}
        for times in (1, 2):
            code = in_child(lambda: transaction.put(world.env, files), PROVISION_FAULT="put:kill")
            assert code == -9
            assert transaction.read(world.env, "b.txt") is None
            transaction.recover(world.env)
            assert world.verdict() == "1", times
            assert world.litter() == []
        assert transaction.put(world.env, files)
        assert not transaction.put(world.env, files)
        assert (transaction.read(world.env, "a.txt"), transaction.read(world.env, "b.txt")) == ("1", "2")

    def test_what_we_made_is_still_known_afterwards(self, world: World) -> None:
        world.make()
        world.change("2", note={"lock": "two"})
        transaction.put(world.env, {"held.txt": None, "a.txt": "1"})
        world.change("3")
        back = transaction.rollback(world.env)
        assert back is not None
        assert back.note["lock"] == "two"
        assert transaction.read(world.env, "a.txt") == "1"

    def test_an_earlier_generation_keeps_its_own_file(self, world: World) -> None:
        world.make()
        world.change("2")
        world.change("3")
        transaction.put(world.env, {"held.txt": "other"})
        transaction.rollback(world.env)
        assert transaction.read(world.env, "held.txt") == "2\n"

    def test_a_full_disk_leaves_the_file_as_it_was(self, world: World) -> None:
        world.make()
        transaction.put(world.env, {"a.txt": "1"})
        code = in_child(lambda: transaction.put(world.env, {"a.txt": "2"}), PROVISION_FAULT="put:ENOSPC")
        assert code == 5
        assert transaction.read(world.env, "a.txt") == "1"
        assert world.litter() == []
