"""What goes, what stays and what breaks when an environment gets another torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from provision.compare import changes_between
from provision.environment import Environment, Installed, Python


def environment(*packages: str, requested: tuple[str, ...] = ()) -> Environment:
    """`name==version` or `name==version: requirement; requirement` each."""
    installed = {}
    for text in packages:
        pin, _, requires = text.partition(": ")
        name, _, version = pin.partition("==")
        needs = tuple(one.strip() for one in requires.split(";") if one.strip())
        installed[name] = Installed(name=name, version=version, requires=needs, requested=name in requested)
    return Environment(prefix=Path("env"), python=Python(version="3.12.8"), installed=installed)


def changes(before: Environment, **wanted: str) -> dict[str, tuple[str | None, str | None]]:
    named = {name.replace("_", "-"): version for name, version in wanted.items()}
    return {one.name: (one.old, one.new) for one in changes_between(before, named)[0]}


def test_nothing_is_to_be_done_where_everything_is_right() -> None:
    assert changes(environment("torch==2.15.0+cpu", "filelock==3.20"), torch="2.15.0+cpu", filelock="3.20") == {}


def test_old_torch_and_what_only_it_needed_go() -> None:
    before = environment(
        "torch==2.6.0+cu124: nvidia-cublas-cu12==12.4; triton==3.2.0", "nvidia-cublas-cu12==12.4", "triton==3.2.0"
    )
    assert changes(before, torch="2.15.0+cpu") == {
        "torch": ("2.6.0+cu124", "2.15.0+cpu"),
        "triton": ("3.2.0", None),
        "nvidia-cublas-cu12": ("12.4", None),
    }


def test_a_library_that_something_else_needs_stays() -> None:
    before = environment("torch==2.6.0+cu124", "jax==0.6: nvidia-cublas-cu12", "nvidia-cublas-cu12==12.4")
    assert "nvidia-cublas-cu12" not in changes(before, torch="2.15.0+cpu")


def test_a_library_that_another_library_that_stays_needs_stays() -> None:
    before = environment(
        "torch==2.6.0+cu124",
        "jax==0.6: nvidia-cudnn-cu12",
        "nvidia-cudnn-cu12==9.1: nvidia-cublas-cu12",
        "nvidia-cublas-cu12==12.4",
    )
    assert set(changes(before, torch="2.15.0+cpu")) == {"torch"}


def test_a_library_that_somebody_asked_for_by_name_stays() -> None:
    before = environment("torch==2.6.0+cu124", "nvidia-cublas-cu12==12.4", requested=("nvidia-cublas-cu12",))
    assert set(changes(before, torch="2.15.0+cpu")) == {"torch"}


@pytest.mark.parametrize("name", ["nvidia-ml-py", "nvidia-dali-cuda120", "cuda-python", "intel-openmp", "cupy-cuda12x"])
def test_what_torch_never_brought_is_not_taken_for_its_own(name: str) -> None:
    assert set(changes(environment("torch==2.6.0+cu124", f"{name}==1.0"), torch="2.15.0+cpu")) == {"torch"}


def test_leftovers_of_another_cuda_go_even_where_torch_is_right() -> None:
    before = environment("torch==2.15.0+cu130: nvidia-cublas==13.0", "nvidia-cublas==13.0", "nvidia-cublas-cu12==12.4")
    assert changes(before, torch="2.15.0+cu130", nvidia_cublas="13.0") == {"nvidia-cublas-cu12": ("12.4", None)}


def test_a_companion_without_a_successor_goes() -> None:
    before = environment("torch==2.6.0+cu124", "torchvision==0.21.0+cu124: torch==2.6.0")
    assert changes(before, torch="2.15.0+cpu")["torchvision"] == ("0.21.0+cu124", None)


def test_a_package_pinned_to_the_old_torch_is_removed_and_told() -> None:
    before = environment("torch==2.6.0+cu124", "xformers==0.0.29: torch==2.6.0")
    found, broken = changes_between(before, {"torch": "2.15.0+cpu"})
    assert [(one.name, one.requirement, one.removed) for one in broken] == [("xformers", "torch==2.6.0", True)]
    assert ("xformers", None) in [(one.name, one.new) for one in found]


def test_a_package_whose_range_ends_before_the_new_torch_stays_and_is_told() -> None:
    before = environment("torch==2.6.0+cu124", "old==1.0: torch<2.10,>=2.0")
    found, broken = changes_between(before, {"torch": "2.15.0+cpu"})
    assert [(one.name, one.removed) for one in broken] == [("old", False)]
    assert "old" not in [one.name for one in found]


def test_what_was_broken_before_is_not_blamed_on_the_change() -> None:
    before = environment("torch==2.6.0+cu124", "strange==1.0: torch==1.0")
    assert changes_between(before, {"torch": "2.15.0+cpu"})[1] == ()


def test_a_requirement_for_another_system_or_python_does_not_count() -> None:
    before = environment("torch==2.6.0+cu124")
    marked = Installed(name="other", version="1", requires=('torch==2.6.0; python_version < "3.0"',))
    before = Environment(prefix=before.prefix, python=before.python, installed={**before.installed, "other": marked})
    assert changes_between(before, {"torch": "2.15.0+cpu"})[1] == ()


def test_metadata_that_nobody_can_read_breaks_nothing() -> None:
    before = environment("torch==2.6.0+cu124", "weird==1.0: ???")
    assert set(changes(before, torch="2.15.0+cpu")) == {"torch"}


def test_a_local_version_satisfies_a_public_pin() -> None:
    before = environment("torch==2.15.0", "peft==1.0: torch==2.15.0")
    assert changes_between(before, {"torch": "2.15.0+cu130"})[1] == ()


def test_packages_named_again_are_put_in_again() -> None:
    before = environment("torch==2.15.0+cpu")
    found, _ = changes_between(before, {"torch": "2.15.0+cpu"}, again=["torch"])
    assert [(one.old, one.new) for one in found] == [("2.15.0+cpu", "2.15.0+cpu")]
