"""A change as a person lives it: swap, first install, rollback, others at the same time, Ctrl-C.

Which test shows which promise (P1 to P18 of the transaction's contract):

P1  atomic                 test_readers_never_miss_a_file_while_trees_are_exchanged, test_transaction_faults
P2  verified before seen   test_what_was_not_checked_is_not_committed, test_what_changed_after_the_check_…
P3  durable                test_the_flush_comes_before_the_commit, and the folders after it
P4  old untouched          test_leaving_without_a_commit_…, test_transaction_faults (byte, mode, mtime, inode)
P5  instant rollback       test_rollback_…, test_a_rollback_of_a_rollback
P6  honest exit            test_transaction_faults (`judge`), test_a_check_that_fails_in_place_…
P7  self-healing           test_transaction_faults
P8  one writer             test_a_second_run_…, test_an_orphaned_worker_keeps_the_lock
P9  no lost update         test_a_rival_…
P10 no path leak           test_transaction_targets (scripts, fresh environments), `World.litter` in every test
P11 bounded                test_a_command_that_hangs_is_ended (the network's own limits: tests of the workflow)
P12 integrity              test_transaction_audit
P13 index pinning          tests of `uv` and the workflow
P14 no foreign code        test_a_worker_gets_only_the_variables_that_it_is_given (the proof's own: tests of `verify`)
P15 no secrets             test_what_a_worker_says_is_kept_without_credentials
P16 least privilege        test_transaction_targets (owners, links, system Python)
P17 space                  test_transaction_mounts::test_a_full_disk
P18 tier honesty           test_transaction_mounts, test_a_weaker_tier_is_said
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from envs import KILLED, SETS, World, append, contents, fingerprint, in_child, run
from provision import transaction
from provision.errors import AfterCommitFailed, BadData, InstallFailed, Interrupted, TargetUnusable, VerificationFailed
from provision.transaction import disk, snapshot, swap
from provision.transaction.place import Place
from provision.transaction.tiers import Tier


def start_child(work: object) -> int:
    """A child process that does `work` and ends with 0; its pid."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
            os._exit(0)
        finally:
            os._exit(99)
    return child


def until(path: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


# The way that goes well


def test_a_swap_replaces_the_environment_and_keeps_the_old_one(world: World) -> None:
    world.make("1")
    before = fingerprint(world.env)
    made = world.change("2", note={"torch": "2.0", "backend": "cu130"})
    assert world.verdict() == "2"
    assert world.litter() == []
    assert made.live
    assert made.note == {"torch": "2.0", "backend": "cu130"}
    newest, oldest = transaction.history(world.env)
    assert newest == made
    assert oldest.path is not None
    assert fingerprint(oldest.path) == before


def test_what_the_change_does_not_concern_is_byte_for_byte_what_it_was(world: World) -> None:
    """A file that an uninstalled package owned too comes back; the user's own files and their times stay."""
    world.make("1")
    (world.env / "notes.txt").write_text("mine")
    (world.env / "notes.txt").chmod(0o600)
    (world.env / "dangling").symlink_to("nowhere")
    os.utime(world.env / "notes.txt", ns=(1, 1_000_000_007))
    before = contents(fingerprint(world.env))
    world.change("2")
    after = contents(fingerprint(world.env))
    concerned = ("torchlet", "oldpart", "newpart")
    kept = {path: row for path, row in before.items() if not any(name in path for name in concerned)}
    kept = {path: row for path, row in kept.items() if not path.endswith(".lock")}
    assert {path: after.get(path) for path in kept} == kept
    assert "lib/python{}.{}/site-packages/shared/__init__.py".format(*sys.version_info) in kept


def test_a_first_install_makes_the_environment_and_rollback_takes_it_away(world: World) -> None:
    made = world.change("1")
    assert world.verdict() == "1"
    assert world.litter() == []
    assert transaction.history(world.env) == (made,)
    assert transaction.rollback(world.env) is None
    assert world.verdict() == "absent"
    again = transaction.rollback(world.env)
    assert again is not None
    assert again.id == made.id
    assert world.verdict() == "1"


def test_a_first_install_into_an_empty_folder(world: World) -> None:
    world.env.mkdir()
    world.change("1")
    assert world.verdict() == "1"
    transaction.rollback(world.env)
    assert list(world.env.iterdir()) == []


def test_without_a_way_to_make_one_an_absent_environment_is_refused(world: World) -> None:
    with pytest.raises(TargetUnusable, match="there is no environment") as refused:
        world.change("1", create=None)
    assert refused.value.code == "no-environment"
    assert list(world.env.parent.iterdir()) == []


def test_leaving_without_a_commit_discards_everything(world: World) -> None:
    world.make("1")
    before = fingerprint(world.env)
    with world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
    assert fingerprint(world.env) == before
    assert not world.state_folder.exists()


def test_an_error_in_the_middle_discards_everything(world: World) -> None:
    world.make("1")
    before = fingerprint(world.env)
    with pytest.raises(VerificationFailed), world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        raise VerificationFailed("no kernel runs")
    assert fingerprint(world.env) == before
    assert not world.state_folder.exists()


# Generations


def test_rollback_needs_nothing_and_takes_less_than_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make("1")
    before = fingerprint(world.env)
    world.change("2")
    monkeypatch.setenv("PATH", "")
    started = time.monotonic()
    live = transaction.rollback(world.env)
    assert time.monotonic() - started < 1
    assert fingerprint(world.env) == before
    assert live is not None
    assert world.verdict() == "1"
    assert world.litter() == []


def test_a_rollback_of_a_rollback(world: World) -> None:
    world.make("1")
    world.change("2")
    new = fingerprint(world.env)
    transaction.rollback(world.env)
    transaction.rollback(world.env)
    assert fingerprint(world.env) == new
    assert world.verdict() == "2"


def test_rollback_to_a_generation_by_its_name_or_number(world: World) -> None:
    world.make("1")
    world.change("2")
    world.change("3", keep=5)
    first = transaction.history(world.env)[-1]
    back = transaction.rollback(world.env, first.id.lstrip("0")[:3])
    assert back is not None
    assert back.id == first.id
    assert world.verdict() == "1"
    with pytest.raises(TargetUnusable, match="no kept generation 77") as refused:
        transaction.rollback(world.env, "77")
    assert first.id not in (refused.value.hint or "")


def test_rollback_where_nothing_was_changed_is_refused(world: World) -> None:
    world.make("1")
    with pytest.raises(TargetUnusable) as refused:
        transaction.rollback(world.env)
    assert refused.value.code == "no-generation"


def test_rollback_refuses_a_generation_that_was_written_into(world: World) -> None:
    world.make("1")
    world.change("2")
    kept = transaction.history(world.env)[-1].path
    assert kept is not None
    append(next(kept.glob("lib/python*/site-packages/torchlet/core.py")), "# edited\n")
    with pytest.raises(TargetUnusable, match=r"torchlet/core\.py") as refused:
        transaction.rollback(world.env)
    assert refused.value.code == "broken-seal"
    assert world.verdict() == "2"


def test_rollback_refuses_what_was_written_through_a_hard_link(world: World, tmp_path: Path) -> None:
    """As patchelf and strip do to a library of the new environment that both generations share."""
    world.cache = tmp_path / "cache"
    world.make("1")
    world.change("2")
    with open(next(world.env.glob("lib/python*/site-packages/bystander/__init__.py")), "a") as file:
        file.write("# stripped\n")
    with pytest.raises(TargetUnusable, match=r"bystander/__init__\.py") as refused:
        transaction.rollback(world.env)
    assert refused.value.code == "broken-seal"
    assert world.python.exists()


def test_rollback_is_checked_in_place_and_undone_if_that_fails(world: World) -> None:
    world.make("1")
    world.change("2")

    def fails(env: Path) -> None:
        assert world.verdict(env) == "1"
        raise VerificationFailed("no")

    with pytest.raises(VerificationFailed):
        transaction.rollback(world.env, check=fails)
    assert world.verdict() == "2"
    assert world.litter() == []


def test_a_check_that_fails_in_place_brings_the_old_environment_back(world: World) -> None:
    world.make("1")
    before = fingerprint(world.env)

    def fails(env: Path) -> None:
        assert world.verdict(env) == "2"
        raise VerificationFailed("no")

    with pytest.raises(VerificationFailed):
        world.change("2", check=fails)
    assert fingerprint(world.env) == before
    assert world.litter() == []


def test_history_tells_what_each_generation_is(world: World) -> None:
    world.make("1")
    world.change("2", note={"profile": "llm"}, keep_days=30)
    live, kept = transaction.history(world.env)
    assert (live.live, kept.live) == (True, False)
    assert live.id > kept.id
    assert 100_000 < kept.size < 200_000, "what it does not share with the live one: the library and a few small files"
    assert kept.until is not None
    assert json.loads(json.dumps(live.to_json()))["note"] == {"profile": "llm"}


def test_only_as_many_generations_stay_as_asked(world: World) -> None:
    world.make("1")
    for version in ("2", "3", "1", "2"):
        world.change(version, keep=2)
    assert len(transaction.history(world.env)) == 3
    world.change("3", keep=0)
    assert [found.live for found in transaction.history(world.env)] == [True]
    assert world.litter() == []


def test_what_others_did_between_two_changes_is_a_generation_of_its_own(world: World) -> None:
    world.make("1")
    world.change("2", note={"profile": "llm"})
    subprocess.run(world.sync_command(world.python, "3"), env=world.environ, check=True)
    world.change("1", keep=5)
    kept = transaction.history(world.env)[1:]
    assert [found.note for found in kept] == [{}, {}]
    transaction.rollback(world.env)
    assert world.verdict() == "3"


def test_clean_removes_generations_and_on_request_every_trace(world: World) -> None:
    world.make("1")
    world.change("2")
    before = fingerprint(world.env)
    assert len(transaction.clean(world.env)) == 1
    assert [found.live for found in transaction.history(world.env)] == [True]
    transaction.clean(world.env, everything=True)
    assert not world.state_folder.exists()
    assert fingerprint(world.env) == before
    assert transaction.history(world.env) == ()


# What must not be believed


def test_what_was_not_checked_is_not_committed(world: World) -> None:
    world.make("1")
    with pytest.raises(RuntimeError, match="settle"), world.begin() as change:
        change.settle(SETS["1"])
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.commit()
    assert world.verdict() == "1"


def test_what_changed_after_the_check_is_not_committed(world: World) -> None:
    world.make("1")
    with pytest.raises(InstallFailed, match="torchlet/core") as failed, world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        append(next(change.staged.glob("lib/python*/site-packages/torchlet/core.py")), "\n")
        change.commit()
    assert failed.value.code == "integrity"
    assert world.verdict() == "1"


def test_bytecode_that_the_proof_wrote_does_not_name_the_staging_folder(world: World) -> None:
    world.make("1")
    with world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        subprocess.run([change.python, "-I", "-c", "import torchlet"], check=True)
        assert list(change.staged.rglob("torchlet/__pycache__/*.pyc"))
        change.commit()
    assert world.litter() == []


# Others at the same time


def test_a_second_run_says_who_holds_the_first(world: World, tmp_path: Path) -> None:
    world.make("1")

    def hold() -> None:
        with world.begin():
            (tmp_path / "held").touch()
            until(tmp_path / "enough")

    child = start_child(hold)
    until(tmp_path / "held")
    started = time.monotonic()
    with pytest.raises(TargetUnusable, match=rf"pid {child}") as refused:
        world.change("2")
    assert time.monotonic() - started < 1
    assert refused.value.code == "locked"
    assert f"pid {child}" in str(transaction.unfinished(world.env))
    assert transaction.recover(world.env) is False
    (tmp_path / "enough").touch()
    os.waitpid(child, 0)
    world.change("2")
    assert world.verdict() == "2"


def test_a_second_run_may_wait_for_the_first(world: World, tmp_path: Path) -> None:
    world.make("1")

    def hold() -> None:
        with world.begin():
            (tmp_path / "held").touch()
            time.sleep(0.5)

    child = start_child(hold)
    until(tmp_path / "held")
    world.change("2", wait=20)
    assert any(f"pid {child}" in line for line in world.said)
    os.waitpid(child, 0)
    assert world.verdict() == "2"


def test_three_runs_at_once_have_one_winner_at_a_time(world: World) -> None:
    world.make("1")
    children = [start_child(lambda version=version: world.change(version)) for version in ("2", "3", "2")]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert 0 in codes
    assert world.verdict() in ("2", "3")
    assert world.litter() == []


def test_an_orphaned_worker_keeps_the_lock(world: World, tmp_path: Path) -> None:
    """Only the parent is killed: what it had started goes on, and nobody works beside it."""
    world.make("1")
    before = fingerprint(world.env)
    script = f"touch '{tmp_path}/working'; while [ ! -e '{tmp_path}/enough' ]; do sleep 0.02; done; echo x > late"

    def work() -> None:
        with world.begin() as change:
            change.run(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=change.staged)

    child = start_child(work)
    until(tmp_path / "working")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(TargetUnusable, match="left behind") as refused:
        world.change("2")
    assert refused.value.code == "locked"
    (tmp_path / "enough").touch()
    world.change("2", wait=20)
    assert world.verdict() == "2"
    assert world.litter() == []
    transaction.rollback(world.env)
    assert fingerprint(world.env) == before


@pytest.mark.parametrize("rival", ["uv", "pip", "hand"])
def test_a_rival_change_meanwhile_is_not_lost(world: World, rival: str) -> None:
    world.make("1")
    with pytest.raises(TargetUnusable, match="somebody else") as refused, world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        if rival == "uv":
            subprocess.run(world.sync_command(world.python, "3"), env=world.environ, check=True)
        elif rival == "pip":
            pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(world.python), "install", "--no-index"]
            subprocess.run([*pip, "--find-links", str(world.wheels), "torchlet==3.0"], env=world.environ, check=True)
        else:
            (world.env / "bin" / "activate").write_text("# mine now")
        rivals = fingerprint(world.env)
        change.commit()
    assert refused.value.code == "changed-meanwhile"
    assert fingerprint(world.env) == rivals
    assert world.litter() == []


def test_an_environment_that_was_replaced_or_removed_meanwhile_stays_so(world: World) -> None:
    world.make("1")
    with pytest.raises(TargetUnusable, match="somebody else"), world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        shutil.rmtree(world.env)
        change.commit()
    assert world.verdict() == "absent"


def test_importing_from_the_live_environment_meanwhile_is_no_change(world: World) -> None:
    world.make("1")
    with world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        subprocess.run([world.python, "-I", "-c", "import torchlet"], check=True)
        change.commit()
    assert world.verdict() == "2"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_running_process_is_told_of_and_keeps_its_files(world: World) -> None:
    world.make("1")
    code = "import sys, torchlet; print(torchlet.version, flush=True); sys.stdin.read(); print(torchlet.version)"
    with subprocess.Popen(
        [world.python, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        world.change("2")
        assert any(f"pid {process.pid}" in line for line in world.said)
        output, _ = process.communicate()
        assert output == "1\n"
        assert process.returncode == 0


def test_readers_never_miss_a_file_while_trees_are_exchanged(tmp_path: Path) -> None:
    one, other = tmp_path / "env", tmp_path / "env.provision"
    for tree in (one, other):
        tree.mkdir()
        (tree / "module.py").write_text("x")
    misses, opens, done = [0], [0], threading.Event()

    def read() -> None:
        while not done.is_set():
            opens[0] += 1
            try:
                with open(one / "module.py"):
                    pass
            except FileNotFoundError:
                misses[0] += 1

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5_000):
        disk.exchange(one, other)
    done.set()
    reader.join()
    assert opens[0] > 500
    assert misses[0] == 0


# Commands that misbehave, and Ctrl-C


def test_a_failing_command_is_told_with_its_own_words_and_class(world: World) -> None:
    world.make("1")
    before = fingerprint(world.env)
    with pytest.raises(InstallFailed, match=r"torchlet==9\.9") as failed, world.begin() as change:
        command = world.sync_command(change.python, "1")[:-1]
        (world.env.parent / "wanted.txt").write_text("torchlet==9.9\n")
        change.run([*command, str(world.env.parent / "wanted.txt")], env=world.environ)
    assert failed.value.code == "resolution"
    assert fingerprint(world.env) == before
    assert not world.state_folder.exists()


def test_a_command_that_hangs_is_ended(world: World) -> None:
    world.make("1")
    started = time.monotonic()
    with pytest.raises(InstallFailed, match="ended"), world.begin() as change:
        change.run(["sh", "-c", "sleep 60 & sleep 60"], env={"PATH": os.environ["PATH"]}, timeout=0.2)
    assert time.monotonic() - started < 10
    world.change("2")


def test_a_worker_gets_only_the_variables_that_it_is_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make("1")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://evil.invalid/simple")
    with world.begin() as change:
        answer = change.run(["env"], env={"PATH": os.environ["PATH"]})
    assert "evil" not in answer.stdout


def test_what_a_worker_says_is_kept_without_credentials(world: World) -> None:
    world.make("1")
    with pytest.raises(InstallFailed) as failed, world.begin() as change:
        change.run(["sh", "-c", "echo https://me:secret@index.invalid/ >&2; exit 2"], env=world.environ)
    assert "index.invalid" in failed.value.text
    assert "secret" not in failed.value.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupt_discards_everything(world: World, tmp_path: Path, number: signal.Signals, times: int) -> None:
    world.make("1")
    before = fingerprint(world.env)

    def end(child: int) -> None:
        until(tmp_path / "working")
        for _ in range(times):
            time.sleep(0.02)
            os.kill(child, number)

    def work_and_be_ended() -> None:
        threading.Thread(target=end, args=(os.getpid(),)).start()
        with world.begin() as change:
            command = f"touch '{tmp_path}/working'; echo x > '{change.staged}/half'; exec sleep 60"
            change.run(["sh", "-c", command], env={"PATH": os.environ["PATH"]})

    assert in_child(work_and_be_ended) == 130
    assert fingerprint(world.env) == before
    assert transaction.unfinished(world.env) is None


def test_an_interrupt_during_the_commit_waits_for_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make("1")
    exchange = disk.exchange

    def interrupted(one: Path, other: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        exchange(one, other)

    with world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        monkeypatch.setattr(disk, "exchange", interrupted)
        made = change.commit()
    assert made.live
    assert world.verdict() == "2"


def test_an_interrupt_after_the_commit_says_that_the_new_environment_is_there(world: World) -> None:
    world.make("1")
    with pytest.raises(AfterCommitFailed), world.begin() as change:
        change.run(world.sync_command(change.python, "2"), env=world.environ)
        change.settle(SETS["2"])
        change.commit()
        os.kill(os.getpid(), signal.SIGINT)
    assert world.verdict() == "2"


def test_an_interrupt_before_anything_is_begun(world: World) -> None:
    def interrupted(_: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.raises(Interrupted):
        world.change("1", create=interrupted)
    assert list(world.env.parent.iterdir()) == []


# What the disk is told, and when


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (Debian package strace)")
def test_the_flush_comes_before_the_commit_and_the_folders_after_it(world: World, tmp_path: Path) -> None:
    world.make("1")
    log = tmp_path / "calls"
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path; from envs import World\n"
        "World(wheels=Path(sys.argv[3]), cache=Path(sys.argv[4]), env=Path(sys.argv[5])).change('2')\n"
    )
    here = Path(__file__).parent
    trace = ["strace", "-qq", "-y", "-o", str(log), "-e", "trace=syncfs,renameat2,fsync,rename"]
    paths = [here.parent / "installer", here, world.wheels, world.cache, world.env]
    subprocess.run([*trace, sys.executable, "-c", code, *map(str, paths)], check=True, timeout=60)
    calls = log.read_text().splitlines()

    def at(*words: str, start: int = 0) -> int:
        return next(n for n, line in enumerate(calls) if n >= start and all(word in line for word in words))

    commit = at("RENAME_EXCHANGE", '/.venv"')
    assert at("syncfs") < at("fsync", "intent") < commit
    assert at("fsync", f"{world.env.parent}>", start=commit) > commit
    assert at("fsync", "/gens>", start=commit) > commit
    assert run([world.python, "-I", "-B", "-c", "import torchlet; print(torchlet.version)"]).stdout == "2\n"


def test_looking_for_something_unfinished_costs_next_to_nothing(world: World) -> None:
    world.make("1")
    world.change("2")
    started = time.process_time()
    for _ in range(100):
        assert transaction.recover(world.env) is False
    assert (time.process_time() - started) / 100 < 0.005


def test_a_weaker_tier_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make("1")
    monkeypatch.setenv("PROVISION_TIER", "renames")
    with world.begin() as change:
        assert change.tier == "renames"
    assert any("between two renames" in line for line in world.said)


@pytest.fixture
def signals_as_they_were() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_signal_handlers_are_put_back(world: World, signals_as_they_were: None) -> None:
    world.make("1")
    world.change("2")


# Across versions


FORMATS = Path(__file__).parent / "formats" / "transaction"


def place_with(folder: Path, **files: str) -> Place:
    """A state folder that holds saved examples: `intent="intent.1.json"`."""
    place = Place(target=folder / ".venv")
    place.gens.mkdir(parents=True)
    for name, saved in files.items():
        (place.root / name.replace("__", "/")).write_bytes((FORMATS / saved).read_bytes())
    return place


def test_what_schema_1_wrote_is_still_read(tmp_path: Path) -> None:
    place = place_with(tmp_path, intent="intent.1.json")
    shutil.copy(FORMATS / "state.1.json", place.state)
    shutil.copy(FORMATS / "description.1.json", place.gens / "000001-a1b2c3.json")
    shutil.copy(FORMATS / "seal.1.json", place.gens / "000001-a1b2c3.seal")
    (place.gens / "000001-a1b2c3").mkdir()
    intent = swap.read_intent(place)
    assert intent is not None
    assert (intent.tier, intent.leaving, intent.incoming_ino) == (Tier.EXCHANGE, "000001-a1b2c3", 4711)
    assert swap.read_state(place)["before"] == "000001-a1b2c3"
    (kept,) = transaction.history(place.target)
    assert (kept.torch, kept.until, kept.size, kept.note["backend"]) == ("2.11.0+cu128", "2026-12-20", 3031253, "cu128")
    sealed = snapshot.load(place.gens / "000001-a1b2c3.seal")
    assert sealed is not None
    assert sealed["bin/ä"].size == 7


@pytest.mark.parametrize("name", ["intent", "state.json", "gens/000001-a1b2c3.json"])
def test_what_a_newer_provision_wrote_is_refused_with_what_to_do(world: World, name: str) -> None:
    world.make("1")
    world.change("2")
    kept = transaction.history(world.env)[-1].id
    path = world.state_folder / name.replace("000001-a1b2c3", kept)
    path.write_text('{"schema": 99}')
    before = fingerprint(world.env)
    with pytest.raises(BadData, match="newer provision") as refused:
        world.change("3")
    assert refused.value.code == "schema-too-new"
    assert "update" in (refused.value.hint or "")
    assert fingerprint(world.env) == before
    assert path.read_text() == '{"schema": 99}'


def test_a_generation_goes_after_its_day(world: World) -> None:
    world.make("1")
    world.change("2", keep_days=-1)
    assert len(transaction.history(world.env)) == 1
    world.change("3", keep_days=1)
    assert transaction.clean(world.env, keep=1, older_than_days=1) == ()
    assert len(transaction.clean(world.env, keep=1, older_than_days=0)) == 1


def test_a_new_environment_that_somebody_made_between_our_two_renames_stays(world: World) -> None:
    world.make("1")
    old = fingerprint(world.env)
    environ = {"PROVISION_TIER": "renames", "PROVISION_FAULT": "swap-half:kill"}
    assert in_child(lambda: world.change("2"), **environ) == KILLED
    assert world.verdict() == "absent"
    world.make("3")
    theirs = fingerprint(world.env)
    assert transaction.recover(world.env, say=world.said.append)
    assert fingerprint(world.env) == theirs
    assert any("somebody made a new" in line for line in world.said)
    (kept,) = transaction.history(world.env)
    assert kept.path is not None
    assert fingerprint(kept.path) == old
    assert world.litter() == []
