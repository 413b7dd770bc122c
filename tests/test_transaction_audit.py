"""A copy that is not exactly what was asked for never becomes the environment, whatever the installer said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from envs import SETS, World, append, fingerprint
from provision import transaction
from provision.errors import InstallFailed, TargetUnusable
from provision.transaction.change import Change


def site(change: Change) -> Path:
    return next(change.staged.glob("lib/python*/site-packages"))


def replace(path: Path, content: bytes) -> None:
    """As a new inode: uv's cache shares the old one."""
    path.unlink()
    path.write_bytes(content)


def same_size_other_content(change: Change) -> None:
    library = site(change) / "torchlet/lib/libtorchlet.so"
    replace(library, b"\0" * library.stat().st_size)


def two_of_one_name(change: Change) -> None:
    shutil.copytree(site(change) / "torchlet-2.0.dist-info", site(change) / "torchlet-1.9.dist-info")


SPOILED: dict[str, tuple[Callable[[Change], object], str]] = {
    "an empty RECORD, as uv leaves on a full disk": (
        lambda change: replace(site(change) / "torchlet-2.0.dist-info/RECORD", b""),
        "does not list METADATA",
    ),
    "a RECORD that ends in the middle": (
        lambda change: replace(
            site(change) / "torchlet-2.0.dist-info/RECORD",
            (site(change) / "torchlet-2.0.dist-info/RECORD").read_bytes()[:200],
        ),
        "RECORD",
    ),
    "no RECORD": (lambda change: (site(change) / "torchlet-2.0.dist-info/RECORD").unlink(), "no readable RECORD"),
    "no METADATA": (lambda change: (site(change) / "torchlet-2.0.dist-info/METADATA").unlink(), "no readable METADATA"),
    "a missing file": (lambda change: (site(change) / "torchlet/core.py").unlink(), r"core\.py is missing"),
    "a zeroed file": (lambda change: replace(site(change) / "torchlet/core.py", b""), r"core\.py does not match"),
    "a poisoned file of the right size": (same_size_other_content, r"libtorchlet\.so does not match its sha256"),
    "a file that nobody lists": (
        lambda change: (site(change) / "torch_hijack.py").write_text("x"),
        r"torch_hijack\.py was written, but no RECORD lists it",
    ),
    "the rest of a broken install": (lambda change: (site(change) / "~orchlet").mkdir(), "rest of a broken install"),
    "one name twice": (two_of_one_name, "torchlet is there twice"),
    "a file of a package that nobody concerns": (
        lambda change: replace(site(change) / "bystander/__init__.py", b"import evil"),
        r"bystander/__init__\.py does not match its sha256",
    ),
    "a file that names the staging folder where nobody can put it right": (
        lambda change: (change.staged / "bin" / "leak").write_bytes(b"x" * (5 << 20) + os.fsencode(change.staged.name)),
        "bin/leak names the staging folder",
    ),
}
"""What is done to a copy after the installer said that all is well, and what the refusal says."""


@pytest.mark.parametrize("what", SPOILED)
def test_a_copy_that_is_spoiled(world: World, what: str) -> None:
    spoil, words = SPOILED[what]
    world.make("1")
    before = fingerprint(world.env)
    with pytest.raises(InstallFailed, match=words) as failed, world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        spoil(change)
        change.settle(SETS["2"])
    assert failed.value.code == "integrity"
    assert failed.value.hint
    assert fingerprint(world.env) == before
    assert not world.state_folder.exists()


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({**SETS["2"], "extra": "1.0"}, r"extra 1\.0 is missing"),
        ({**SETS["2"], "torchlet": "2.1"}, r"torchlet is 2\.0, not 2\.1"),
        ({"torchlet": "2.0", "bystander": "3.1"}, r"newpart 1\.0 is there, but nobody asked for it"),
    ],
)
def test_another_set_than_the_plan_says(world: World, expected: dict[str, str], words: str) -> None:
    world.make("1")
    with pytest.raises(InstallFailed, match=words), world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(expected)


def test_versions_are_compared_as_versions(world: World) -> None:
    world.make("1")
    with world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle({"torchlet": "2.0.0", "newpart": "1", "bystander": "3.1"})


def test_which_packages_are_damaged_is_told_to_who_can_fetch_them_again(world: World) -> None:
    world.make("1")
    with pytest.raises(InstallFailed) as failed, world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        same_size_other_content(change)
        change.settle(SETS["2"])
    assert failed.value.data == {"packages": ["torchlet"]}


def test_a_poisoned_cache_is_found_and_named(world: World, tmp_path: Path) -> None:
    """uv links whatever lies in its cache, also under --require-hashes; the old environment shares the inode."""
    world.cache = tmp_path / "cache"
    world.make("1")
    world.change("2")
    transaction.rollback(world.env)
    for library in world.cache.rglob("torchlet/lib/libtorchlet.so"):
        library.write_bytes(b"\0" * library.stat().st_size)
    with pytest.raises(InstallFailed, match="sha256") as failed:
        world.change("2")
    assert failed.value.data == {"packages": ["torchlet"]}
    assert "uv cache clean torchlet" in (failed.value.hint or "")
    world.uv("cache", "clean", "--quiet", "torchlet")
    world.change("2")
    assert world.verdict() == "2"


def test_what_was_already_imperfect_is_no_reason_to_refuse(world: World) -> None:
    """A package that nobody concerns, with an edited file and without RECORD: it stays as it is."""
    world.make("1")
    place = next(world.env.glob("lib/python*/site-packages"))
    append(place / "bystander/__init__.py", "# patched by hand\n")
    (place / "by_hand.py").write_text("x = 1\n")
    world_change = world.change("2")
    assert world_change.live
    assert (place / "bystander/__init__.py").read_text().endswith("# patched by hand\n")
    assert (place / "by_hand.py").exists()


def test_what_the_maker_of_a_fresh_environment_put_there_is_not_questioned(world: World) -> None:
    def create(path: Path) -> None:
        world.create(path)
        (next(path.glob("lib/python*/site-packages")) / "_virtualenv.py").write_text("x = 1\n")

    world.change("1", create=create)
    assert world.verdict() == "1"


# What an earlier install left broken


def cut_short(world: World, keep: int) -> None:
    """As a killed `uv pip uninstall` leaves it: the first files of RECORD are gone, METADATA among them or not."""
    place = next(world.env.glob("lib/python*/site-packages"))
    rows = [line.split(",")[0] for line in (place / "torchlet-1.0.dist-info/RECORD").read_text().splitlines()]
    for path in rows[: len(rows) - keep]:
        (place / path).unlink(missing_ok=True)


@pytest.mark.parametrize("keep", range(1, 9))
def test_a_half_removed_package_is_found_and_replaced(world: World, keep: int) -> None:
    world.make("1")
    cut_short(world, keep)
    assert set(transaction.damaged(world.env)) == {"torchlet"}
    with world.begin(without=["torchlet"]) as change:
        assert not list(site(change).glob("torchlet*"))
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        change.commit()
    assert world.verdict() == "2"
    assert transaction.damaged(world.env) == {}


def test_a_package_without_any_record_goes_with_all_its_files(world: World) -> None:
    world.make("1")
    place = next(world.env.glob("lib/python*/site-packages"))
    shutil.rmtree(place / "torchlet-1.0.dist-info")
    (place / "torchlet" / "lib" / "libstale.so").write_bytes(b"old")
    world.change("2", without=["torchlet"])
    assert world.verdict() == "2"
    assert not list(world.env.rglob("libstale.so"))


def test_what_another_package_owns_stays(world: World) -> None:
    world.make("1")
    with world.begin(without=["oldpart"]) as change:
        assert (site(change) / "shared/__init__.py").exists()
        assert not (site(change) / "oldpart.py").exists()


def test_what_the_user_put_into_a_package_that_is_replaced_stays(world: World) -> None:
    world.make("1")
    place = next(world.env.glob("lib/python*/site-packages"))
    (place / "torchlet" / "lib" / "libmine.so").write_bytes(b"mine")
    world.change("2", without=["torchlet"])
    assert (place / "torchlet" / "lib" / "libmine.so").read_bytes() == b"mine"
    with world.begin(without=["torchlet"]) as change:
        left = [path.name for path in (site(change) / "torchlet").rglob("*")]
    assert sorted(left) == ["lib", "libmine.so"]


def test_a_rival_change_of_what_goes_is_seen(world: World) -> None:
    world.make("1")
    with pytest.raises(TargetUnusable, match="torchlet") as refused, world.begin(without=["torchlet"]) as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        where = ["--no-index", "--find-links", str(world.wheels), "--python", str(world.python)]
        world.uv("pip", "install", "--reinstall-package", "torchlet", *where, "torchlet==1.0")
        change.commit()
    assert refused.value.code == "changed-meanwhile"


def test_leaving_out_what_goes_is_the_same_as_uninstalling_it(world: World) -> None:
    world.make("1")
    subprocess.run([world.python, "-I", "-m", "compileall", "-q", world.env], check=True)
    with world.begin(without=["torchlet", "oldpart"]) as change:
        change.settle({"bystander": "3.1"})
        left = {path.relative_to(change.staged).as_posix() for path in change.staged.rglob("*")}
    assert not [path for path in left if "torchlet" in path or "oldpart" in path]
    assert any(path.endswith("shared/__pycache__") for path in left)


def test_the_litter_of_a_broken_uninstall_is_left_out_and_said(world: World) -> None:
    world.make("1")
    place = next(world.env.glob("lib/python*/site-packages"))
    (place / "~orchlet").mkdir()
    (place / "~orchlet" / "core.py").write_text("old")
    world.change("2")
    assert world.verdict() == "2"
    assert any("~orchlet" in line for line in world.said)


def test_a_whole_environment_has_no_damage(world: World) -> None:
    world.make("1")
    assert transaction.damaged(world.env) == {}
