"""Every kind of environment: changed as a whole, or refused with the way out before anything is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from envs import World, contents, distributions, fingerprint, in_child, run
from index import wheel
from provision import transaction
from provision.errors import TargetUnusable

SITE = "lib/python{}.{}/site-packages".format(*sys.version_info)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
NOBODY = 65534


def refused(world: World, **how: object) -> TargetUnusable:
    """The refusal of a change, which has written nothing anywhere."""
    before = fingerprint(world.env.parent)
    with pytest.raises(TargetUnusable) as error:
        world.change("2", **how)
    after = fingerprint(world.env.parent)
    assert {path: row[:2] + row[3:] for path, row in after.items()} == {
        path: row[:2] + row[3:] for path, row in before.items()
    }, "something was left"
    assert error.value.hint
    return error.value


# Changed as a whole


def test_scripts_run_the_new_environment_and_never_name_the_staging_folder(world: World) -> None:
    world.make("1")
    world.change("2")
    for script in ("torchlet", "torchlet-tool", "bystander"):
        # A path too long for a first line of its own starts through /bin/sh.
        direct, through_sh = f"#!{world.env}/bin/python", f"#!/bin/sh\n'''exec' '{world.env}/bin/python"
        assert (world.env / "bin" / script).read_text().startswith((direct, through_sh))
    assert run([world.env / "bin/torchlet"]).stdout == "2\n"
    assert run([world.env / "bin/bystander"]).stdout == "here\n"


@pytest.mark.parametrize("name", ["my env", "umgebung-ä-環境", "it's 100% $mine", "a" * 120])
def test_any_name_will_do(world: World, name: str) -> None:
    """Spaces, non-ASCII, quotes, and a path so long that scripts start through /bin/sh."""
    world.env = world.env.parent / name / ".venv"
    world.change("1")
    assert world.verdict() == "1"
    assert world.litter() == []
    world.change("2")
    assert world.verdict() == "2"
    assert world.litter() == []
    transaction.rollback(world.env)
    assert world.verdict() == "1"


def test_an_environment_with_such_a_name_itself(world: World) -> None:
    world.env = world.env.parent / "it's ä"
    world.change("1")
    world.change("2")
    assert world.verdict() == "2"
    assert world.litter() == []
    prompt = run(["sh", "-c", '. "$1/bin/activate"; echo "$VIRTUAL_ENV"', "sh", world.env])
    assert prompt.stdout == f"{world.env}\n"


def test_a_link_stays_and_what_it_names_is_exchanged(world: World) -> None:
    project, world.env = world.env.parent, world.env.parent.parent / "elsewhere" / "real"
    world.make("1")
    link = project / ".venv"
    link.symlink_to(world.env)
    real, world.env = world.env, link
    world.change("2")
    assert link.is_symlink()
    assert world.verdict() == "2"
    assert world.verdict(real) == "2"
    assert world.litter() == []
    assert sorted(path.name for path in real.parent.iterdir()) == ["real", "real.provision"]
    transaction.rollback(link)
    assert world.verdict(real) == "1"


def test_system_site_packages_stay_visible(world: World) -> None:
    world.uv("venv", "--quiet", "--system-site-packages", "--python", world.base, world.env)
    subprocess.run(world.sync_command(world.python, "1"), env=world.environ, check=True)
    world.change("2")
    assert world.verdict() == "2"
    assert "include-system-site-packages = true" in (world.env / "pyvenv.cfg").read_text()


@pytest.mark.parametrize("with_pip", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_environment_made_by_the_standard_library(world: World, with_pip: bool) -> None:
    venv.create(world.env, with_pip=with_pip)
    subprocess.run(world.sync_command(world.python, "1"), env=world.environ, check=True)
    command = world.sync_command(Path("PYTHON"), "2")
    world.extra = {name: at for name, at, _ in distributions(world.env) if name in ("pip", "setuptools")}
    with world.begin() as change:
        change.run([str(change.python) if word == "PYTHON" else word for word in command], env=world.environ)
        change.settle(world.expected("2"))
        change.commit()
    assert world.verdict() == "2"


def test_a_relocatable_environment(world: World) -> None:
    world.uv("venv", "--quiet", "--relocatable", "--python", world.base, world.env)
    subprocess.run(world.sync_command(world.python, "1"), env=world.environ, check=True)
    world.change("2")
    assert run([world.env / "bin/torchlet"]).stdout == "2\n"
    moved = world.env.rename(world.env.with_name("moved"))
    assert run([moved / "bin/torchlet"]).stdout == "2\n"


def test_an_environment_that_was_moved(world: World) -> None:
    """What is installed anew runs from where the environment is now; what was broken by the move stays so."""
    world.make("1")
    world.env = world.env.rename(world.env.with_name("moved"))
    world.change("2")
    assert run([world.env / "bin/torchlet"]).stdout == "2\n"
    assert run([world.python, "-I", "-B", "-m", "torchlet.core"]).returncode == 0
    assert world.litter() == []


def test_an_editable_install_stays_editable(world: World, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "mine.py").write_text("x = 1\n")
    wheel("mine", "0.1", files={"__editable__.mine-0.1.pth": f"{source}\n"}).write(world.wheels)
    world.extra["mine"] = "0.1"
    world.make("1")
    before = contents(fingerprint(world.env))[f"{SITE}/__editable__.mine-0.1.pth"]
    world.change("2")
    assert world.verdict() == "2"
    assert contents(fingerprint(world.env))[f"{SITE}/__editable__.mine-0.1.pth"] == before
    (source / "mine.py").write_text("x = 2\n")
    assert run([world.python, "-I", "-B", "-c", "import mine; print(mine.x)"]).stdout == "2\n"


def add(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


IN_PLACE: dict[str, Callable[[World], object]] = {
    "append to activate": lambda world: add(world.env / "bin/activate", "# mine"),
    "chmod a script": lambda world: (world.env / "bin/torchlet").chmod(0o700),
    "write pyvenv.cfg": lambda world: add(world.env / "pyvenv.cfg", "mine = 1\n"),
    "make the environment again": lambda world: venv.EnvBuilder(symlinks=True).create(world.env),
    "compile": lambda world: run([world.python, "-m", "compileall", "-qf", world.env / SITE]),
    "reinstall": lambda world: subprocess.run(
        [*world.sync_command(world.python, "2"), "--reinstall"], env=world.environ, check=True
    ),
    "touch a RECORD": lambda world: os.utime(next((world.env / SITE).glob("bystander*/RECORD"))),
    "user file": lambda world: add(world.env / "user.txt", "more"),
}
"""What is done to environments by hand and by tools."""


@pytest.mark.parametrize("what", IN_PLACE)
def test_writing_into_the_new_environment_does_not_reach_the_old_generation(world: World, what: str) -> None:
    world.make("1")
    (world.env / "user.txt").write_text("mine")
    before = fingerprint(world.env)
    world.change("2")
    IN_PLACE[what](world)
    kept = transaction.history(world.env)[-1].path
    assert kept is not None
    assert fingerprint(kept) == before
    transaction.rollback(world.env)
    assert world.verdict() == "1"


def test_a_file_system_without_hard_links_gets_copies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    world.make("1")
    monkeypatch.setattr(os, "link", refuse)
    world.change("2")
    assert world.verdict() == "2"


def test_folders_that_may_not_be_written_are_copied_and_removed_all_the_same(world: World) -> None:
    world.make("1")
    (world.env / "sealed").mkdir()
    (world.env / "sealed" / "file").write_text("x")
    (world.env / "sealed").chmod(0o555)
    world.change("2")
    assert (world.env / "sealed").stat().st_mode & 0o777 == 0o555
    world.change("3")
    assert world.litter() == []


# Refused, each with the way out


def test_a_folder_that_is_no_environment(world: World) -> None:
    world.env.mkdir()
    (world.env / "thesis.tex").write_text("x")
    assert refused(world).code == "not-an-environment"


def test_the_root_of_the_file_system() -> None:
    for action in (transaction.history, transaction.damaged, transaction.rollback, transaction.clean):
        with pytest.raises(TargetUnusable):
            action(Path("/"))
    assert transaction.recover(Path("/")) is False


def test_a_file_in_the_way(world: World) -> None:
    world.env.write_text("x")
    assert refused(world).code == "not-an-environment"


def test_a_link_that_leads_nowhere(world: World) -> None:
    world.env.symlink_to(world.env.parent / "nowhere")
    assert refused(world).code == "dangling-link"


def test_a_conda_environment(world: World) -> None:
    (world.env / "conda-meta").mkdir(parents=True)
    assert refused(world).code == "conda"


def test_a_system_python_that_its_distributor_manages(world: World) -> None:
    (world.env / "bin").mkdir(parents=True)
    (world.env / "bin" / "python3").symlink_to(sys.executable)
    (world.env / "lib/python3.11").mkdir(parents=True)
    (world.env / "lib/python3.11/EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
    error = refused(world)
    assert error.code == "system-python"
    assert "EXTERNALLY-MANAGED" in error.text


def test_the_environment_that_provision_runs_from() -> None:
    with pytest.raises(TargetUnusable) as error, transaction.begin(Path(sys.prefix)):
        pass
    assert error.value.code == "own-environment"


def test_a_state_folder_that_is_not_ours(world: World) -> None:
    world.make("1")
    world.state_folder.mkdir()
    world.state_folder.chmod(0o777)
    assert refused(world).code == "state-folder"
    world.state_folder.rmdir()
    world.state_folder.symlink_to(world.env)
    assert refused(world).code == "state-folder"


@needs_root
def test_one_folder_that_belongs_to_another_user(world: World) -> None:
    """From an earlier sudo pip. uv alone destroys such an environment (0.13.8)."""
    world.make("1")
    os.chown(world.env / SITE / "bystander", NOBODY, NOBODY)
    error = refused(world)
    assert error.code == "not-ours"
    assert f"{SITE}/bystander" in error.text


@needs_root
def test_an_environment_of_another_user_even_as_root(world: World) -> None:
    world.make("1")
    os.chown(world.env, NOBODY, NOBODY)
    assert refused(world).code == "not-ours"


@needs_root
def test_a_link_that_another_user_has_put_there(world: World, tmp_path: Path) -> None:
    shutil.move(world.env.parent, tmp_path / "away")
    world.env = tmp_path / "away" / "victim"
    world.make("1")
    planted = tmp_path / "planted"
    planted.symlink_to(world.env)
    os.lchown(planted, NOBODY, NOBODY)
    with pytest.raises(TargetUnusable, match="another user") as error:
        transaction.begin(planted).__enter__()
    assert error.value.code == "not-ours"


@needs_root
def test_a_folder_that_this_user_may_not_write(world: World) -> None:
    """Neither beside the environment nor inside it."""
    world.make("1")

    def as_nobody() -> None:
        os.chmod(world.env, 0o555)
        for path in list(world.env.parents)[1:]:
            if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o005 != 0o005:
                os.chmod(path, 0o755)
        os.seteuid(NOBODY)
        world.change("2")

    assert in_child(as_nobody) == 4
