"""`provision add`: further packages come, torch stays. Real uv, a loopback index, a machine without a GPU."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from index import Server, serve, standard_tree, wheel
from nvml import stand_in
from provision.adding import parse_wishes, roots
from provision.environment import Installed
from provision.errors import UsageProblem
from provision.narrow import demands_in
from running import Person, tree_state

MORE = (
    wheel("xformers", "0.0.28", requires=["torch==2.9.1"]),
    wheel("xformers", "0.0.34", requires=["torch==2.15.0"]),
    wheel("needs-old", "1.0", requires=["torch==2.9.1"]),
    wheel("goes-by", "1.0", requires=["torch==2.8.0"]),
    wheel("goes-by", "2.0", requires=["torch==2.15.0", "extra-part"]),
    wheel("goes-by", "3.0", requires=["torch>=2.99"]),
    wheel("extra-part", "1.0"),
    wheel("wants-much", "1.0", requires=["goes-by==1.0"]),
    wheel("no-torch", "1.0"),
    wheel("no-torch", "2.0"),
)


@pytest.fixture(scope="module")
def more() -> Iterator[Server]:
    """The standard tree and packages that want one torch or another."""
    with serve(standard_tree(packages=MORE)) as server:
        yield server


@pytest.fixture
def person(tmp_path: Path, more: Server) -> Person:
    """Someone without a GPU, whose environment holds torch 2.15.0+cpu."""
    environ = stand_in.environment(base=more.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
    found = Person(tmp_path, environ)
    assert found.run("--torch", "2.15.0").code == 0
    return found


def versions(person: Person) -> dict[str, str]:
    """What is in the environment, and what its lock says: the same."""
    infos = (info.name.removesuffix(".dist-info").split("-") for info in person.env.rglob("*.dist-info"))
    installed = {name.lower().replace("_", "-"): version for name, version in infos}
    lock = tomllib.loads((person.folder / "pylock.provision.toml").read_text())
    assert {package["name"]: package["version"] for package in lock["packages"]} == installed
    return installed


class TestAdd:
    def test_a_package_comes_with_what_it_needs_and_everything_else_stays(self, person: Person) -> None:
        before = versions(person)
        run = person.run("add", "bitsandbytes", "--json")
        assert run.code == 0, run.out
        assert run.json["command"] == "add"
        after = versions(person)
        assert {"bitsandbytes", "numpy", "packaging"} == after.keys() - before.keys()
        assert {name: after[name] for name in before} == before

    def test_of_several_versions_the_newest_that_takes_this_torch_comes(self, person: Person) -> None:
        assert person.run("add", "goes-by").code == 0
        assert versions(person)["goes-by"] == "2.0"

    def test_a_companion_comes_from_the_index_of_torch(self, person: Person) -> None:
        assert person.run("add", "torchvision").code == 0
        assert versions(person)["torchvision"] == "0.29.2+cpu"

    def test_what_was_added_before_stays_and_stays_locked(self, person: Person) -> None:
        assert person.run("add", "no-torch==1.0").code == 0
        assert person.run("add", "goes-by").code == 0
        after = versions(person)
        assert (after["no-torch"], after["extra-part"], after["torch"]) == ("1.0", "1.0", "2.15.0+cpu")

    def test_what_is_there_already_changes_nothing(self, person: Person) -> None:
        assert person.run("add", "no-torch").code == 0
        before = tree_state(person.folder)
        again = person.run("add", "no-torch", "--json")
        assert (again.code, again.data["changed"]) == (0, False)
        assert tree_state(person.folder) == before

    def test_a_dry_run_shows_it_and_changes_nothing(self, person: Person) -> None:
        before = tree_state(person.folder)
        run = person.run("add", "no-torch", "--dry-run", "--json")
        assert run.code == 0
        assert run.data["changes"] == [{"name": "no-torch", "old": None, "new": "2.0"}]
        assert tree_state(person.folder) == before

    def test_it_can_be_undone(self, person: Person) -> None:
        before = tree_state(person.env)
        assert person.run("add", "no-torch").code == 0
        assert person.run("rollback").code == 0
        assert tree_state(person.env) == before
        assert "no-torch" not in versions(person)

    def test_a_torch_from_the_default_package_index_is_held_too(self, tmp_path: Path, more: Server) -> None:
        environ = stand_in.environment(base=more.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
        person = Person(tmp_path, environ)
        assert person.run(environ={"PROVISION_INDEX_BASE": "http://127.0.0.1:9"}).code == 0
        torch = versions(person)["torch"]
        assert torch == "2.15.0"
        assert person.run("add", "no-torch").code == 0
        assert versions(person)["torch"] == torch


class TestHeld:
    def test_who_demands_which_torch_is_named_with_the_version_that_fits_and_a_new_plan(self, person: Person) -> None:
        before = tree_state(person.folder)
        run = person.run("add", "xformers==0.0.28", "--json")
        assert run.code == 5
        error = run.json["errors"][0]
        assert error["code"] == "held"
        assert "torch 2.15.0+cpu is held" in error["text"]
        assert "xformers" in error["text"]
        assert "torch==2.9.1" in error["text"]
        assert run.data["fits"] == ["xformers==0.0.35"]
        assert "provision --torch ==2.9.1" in error["hint"]
        assert tree_state(person.folder) == before
        assert person.run("add", *run.data["fits"]).code == 0

    def test_of_those_below_what_was_asked_for_comes_first(self, person: Person) -> None:
        run = person.run("add", "goes-by==3.0", "--json")
        assert run.data["fits"] == ["goes-by==2.0"]
        assert run.data["torch"] is None

    def test_where_no_version_fits_it_says_so_and_what_a_new_plan_would_be(self, person: Person) -> None:
        run = person.run("add", "needs-old", "--json")
        assert run.code == 5
        assert run.data["fits"] == []
        assert "no other version" in run.json["errors"][0]["text"]
        offered = run.data["torch"]
        assert person.run("--torch", offered).code == 0
        assert person.run("add", "needs-old").code == 0
        assert versions(person)["torch"] == "2.9.1+cpu"

    def test_one_that_stands_behind_what_was_asked_for_is_named(self, person: Person) -> None:
        run = person.run("add", "wants-much", "--json")
        assert run.code == 5, run.err
        assert {"package": "goes-by <=1.0", "torch": "==2.8.0"} in run.data["demands"]

    def test_a_companion_of_another_torch_is_refused_with_the_one_that_fits(self, person: Person) -> None:
        run = person.run("add", "torchvision==0.20", "--json")
        assert (run.code, run.json["errors"][0]["code"]) == (5, "held")
        assert run.data["fits"] == ["torchvision==0.29.2"]

    def test_a_package_that_is_nowhere_is_no_matter_of_the_hold(self, person: Person) -> None:
        run = person.run("add", "nowhere-to-be-found", "--json")
        assert (run.code, run.json["errors"][0]["code"]) == (5, "resolution")

    def test_without_an_environment_it_says_what_comes_first(self, tmp_path: Path, more: Server) -> None:
        run = Person(tmp_path, more.environ()).run("add", "no-torch", "--json")
        assert (run.code, run.json["errors"][0]["code"]) == (4, "no-environment")
        assert "provision" in run.json["errors"][0]["hint"]

    def test_without_a_package_it_is_wrong_usage(self, person: Person) -> None:
        assert person.run("add").code == 2


class TestWishes:
    @pytest.mark.parametrize("text", ["torch", "torch==2.9", "Torch[opt]>2", "a b", "./wheel.whl", "-r", ""])
    def test_torch_and_what_is_no_requirement_are_refused_with_the_way(self, text: str) -> None:
        with pytest.raises(UsageProblem) as caught:
            parse_wishes([text])
        assert caught.value.hint

    def test_extras_versions_and_addresses_are_kept(self) -> None:
        texts = ["peft[all]>=0.17", "mine@ https://example.test/mine-1.whl"]
        assert [one.name for one in parse_wishes(texts)] == ["peft", "mine"]

    def test_roots_are_what_nothing_else_requires(self) -> None:
        installed = {
            "torch": Installed(name="torch", version="2", requires=("sympy", "numpy; extra == 'opt'")),
            "sympy": Installed(name="sympy", version="1"),
            "numpy": Installed(name="numpy", version="2"),
            "mine": Installed(name="mine", version="1", requires=("torch>2",)),
        }
        assert roots(installed, ["torch", "sympy", "numpy", "mine", "gone"]) == ("numpy", "mine")

    def test_uvs_sentences_are_read(self) -> None:
        words = "Because goes-by==1.0 depends on torch==2.8.0 and provision-target depends on torch==2.15.0+cpu, we"
        assert [(one.by, one.torch) for one in demands_in(words)] == [("goes-by 1.0", "==2.8.0")]
        at_its_end = "And because all versions of needs-new depend on torch>=2.12, <2.14."
        assert [(one.by, one.torch) for one in demands_in(at_its_end)] == [("needs-new", ">=2.12,<2.14")]
