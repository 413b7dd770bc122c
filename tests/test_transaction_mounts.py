"""Where one exchange is not enough: mount points, image layers, full and read-only disks (needs root to mount).

Each test mounts in a child process with a mount namespace of its own: nothing of it is seen outside.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from envs import World, contents, fingerprint, in_child
from provision import transaction
from provision.errors import InstallFailed, TargetUnusable
from provision.transaction.tiers import Tier, parse_mountinfo

_CLONE_NEWNS = 0x00020000


def _may_mount() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True)
    return probe.returncode == 0


needs_mounts = pytest.mark.skipif(not _may_mount(), reason="needs root and mount (Debian packages mount, util-linux)")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def alone(work: Callable[[], object]) -> None:
    """Do `work` in a child with its own mounts; everything in it must hold."""

    def unshared() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        mount("--make-rprivate", "/")
        work()

    assert in_child(unshared) == 0


@needs_mounts
def test_an_environment_that_is_a_mount_point(world: World) -> None:
    """A volume at `.venv`: its folders are exchanged one after the other, inside."""

    def work() -> None:
        world.env.mkdir()
        mount("-t", "tmpfs", "none", world.env)
        world.change("1")
        assert world.verdict() == "1"
        before = fingerprint(world.env)
        with world.begin() as change:
            assert change.tier is Tier.INSIDE
            assert any("mount point" in line for line in world.said)
        assert fingerprint(world.env) == before
        world.change("2")
        assert world.verdict() == "2"
        assert world.litter() == []
        transaction.rollback(world.env)
        assert {p: r for p, r in fingerprint(world.env).items() if p != "."} == {
            p: r for p, r in before.items() if p != "."
        }
        transaction.rollback(world.env)
        assert world.verdict() == "2"
        transaction.clean(world.env, everything=True)
        assert not (world.env / ".provision").exists()
        assert os.listdir(world.env.parent) == [".venv"]

    alone(work)


@needs_mounts
def test_an_environment_that_is_a_bind_mount_of_the_same_file_system(world: World, tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "volume").mkdir()
        world.env.mkdir()
        mount("--bind", tmp_path / "volume", world.env)
        world.change("1")
        world.change("2")
        assert world.verdict() == "2"
        assert world.litter() == []

    alone(work)


@needs_mounts
def test_a_mount_in_the_middle_is_refused(world: World) -> None:
    world.make("1")

    def work() -> None:
        (world.env / "data").mkdir()
        mount("-t", "tmpfs", "none", world.env / "data")
        with pytest.raises(TargetUnusable, match="another file system"):
            world.change("2")

    alone(work)


@pytest.fixture
def layers(world: World, tmp_path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two calls: work in an image layer at the project's path; then lay a fresh one over it, as `docker run` does."""
    folders = {name: tmp_path / "layers" / name for name in ("base", "image", "container", "work1", "work2")}
    for path in folders.values():
        path.mkdir(parents=True)
    project = world.env.parent

    def overlay(lower: str, upper: str, work: str) -> None:
        options = f"redirect_dir=off,lowerdir={folders[lower]},upperdir={folders[upper]},workdir={folders[work]}"
        mount("-t", "overlay", "overlay", "-o", options, project)

    def build() -> None:
        overlay("base", "image", "work1")

    def start() -> None:
        subprocess.run(["umount", str(project)], check=True)
        overlay("image", "container", "work2")

    return build, start


def without_lock(tree: Path) -> dict[str, object]:
    """The contents of a tree but for the lock that uv puts into it, which is nobody's content."""
    return {path: row for path, row in contents(fingerprint(tree)).items() if path != ".lock"}


@needs_mounts
def test_an_environment_from_a_lower_image_layer(
    world: World, layers: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    """overlayfs refuses to rename it (EXDEV); the first change copies it up, the next ones are single exchanges."""
    build, start = layers

    def work() -> None:
        build()
        world.make("1")
        start()
        assert world.verdict() == "1"
        before, held = fingerprint(world.env), without_lock(world.env)
        with pytest.raises(OSError, match="cross-device"):
            os.rename(world.env, world.env.parent / "elsewhere")
        with world.begin() as change:
            assert change.tier is Tier.COPY_UP
        assert fingerprint(world.env) == before
        assert os.listdir(world.env.parent) == [".venv"]
        world.change("2")
        assert world.verdict() == "2"
        assert world.litter() == []
        with world.begin() as change:
            assert change.tier is Tier.EXCHANGE
        transaction.rollback(world.env)
        assert world.verdict() == "1"
        assert without_lock(world.env) == held
        world.change("3")
        assert world.verdict() == "3"

    alone(work)


@needs_mounts
def test_generations_from_a_lower_image_layer(
    world: World, layers: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    """Changed while the image was built, rolled back in the container."""
    build, start = layers

    def work() -> None:
        build()
        world.make("1")
        world.change("2")
        start()
        transaction.rollback(world.env)
        assert world.verdict() == "1"
        assert world.litter() == []
        transaction.rollback(world.env)
        assert world.verdict() == "2"
        world.change("3")
        assert world.verdict() == "3"
        assert world.litter() == []

    alone(work)


@needs_mounts
@pytest.mark.parametrize("megabytes", [1, 2])
def test_a_full_disk(world: World, megabytes: int) -> None:
    """No space for the copy, or for what is installed into it: told as that, the environment as it was."""

    def work() -> None:
        mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none", world.env.parent)
        world.make("1")
        fill = world.env.parent / "fill"
        with pytest.raises(OSError, match="No space"), open(fill, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        os.truncate(fill, fill.stat().st_size - (megabytes - 1) * 60_000 - 8192)
        before = fingerprint(world.env)
        with pytest.raises(InstallFailed) as failed:
            world.change("2")
        assert failed.value.code == "no-space"
        assert fingerprint(world.env) == before
        fill.unlink()
        world.change("2")
        assert world.verdict() == "2"
        assert world.litter() == []

    alone(work)


@needs_mounts
def test_a_read_only_file_system(world: World) -> None:
    def work() -> None:
        mount("-t", "tmpfs", "none", world.env.parent)
        world.make("1")
        mount("-o", "remount,ro", world.env.parent)
        with pytest.raises(TargetUnusable, match="read-only") as refused:
            world.change("2")
        assert refused.value.code == "read-only"
        assert transaction.recover(world.env) is False

    alone(work)


@needs_mounts
def test_an_immutable_file_is_no_obstacle_for_the_environment(world: World) -> None:
    """`chattr +i` destroys an environment under uv; here the old tree cannot be deleted, and that is said."""
    if shutil.which("chattr") is None:
        pytest.skip("needs chattr (Debian package e2fsprogs)")
    world.make("1")
    frozen = next(world.env.glob("lib/python*/site-packages/oldpart.py"))
    frozen.write_bytes(frozen.read_bytes())
    if subprocess.run(["chattr", "+i", str(frozen)], check=False).returncode != 0:
        pytest.skip("this file system knows no immutable files")
    try:
        world.change("2")
        assert world.verdict() == "2"
        world.change("3")
        assert world.verdict() == "3"
        assert any("could not delete" in line for line in world.said)
    finally:
        for path in world.state_folder.rglob("oldpart.py"):
            subprocess.run(["chattr", "-i", str(path)], check=True)
    transaction.recover(world.env)
    assert world.litter() == []


def test_mountinfo_is_read_with_its_escapes() -> None:
    """proc_pid_mountinfo(5): spaces are octal, optional fields end with a dash."""
    text = (
        "36 35 98:0 /root /mnt\\0402/a rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
        "37 35 0:50 / /home/x/.venv rw shared:7 propagate_from:2 - overlay overlay rw\n"
    )
    assert parse_mountinfo(text) == (("/mnt 2/a", "ext3"), ("/home/x/.venv", "overlay"))
