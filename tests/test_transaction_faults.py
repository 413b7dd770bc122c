"""Whatever fails or dies, at every step: the environment is whole, the exit code is true, the next run heals.

Each point runs in a child process with `PROVISION_FAULT=STEP:kill` (as `kill -9`) or `STEP:error` (EIO), then:
the environment is the whole old one, byte, mode, mtime and inode, or the whole new one, proven by a judge that trusts
nothing of ours; an exit code below 7 means old, 7 means new; the same change succeeds next; no litter is left.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from envs import KILLED, SETS, Fingerprint, World, fingerprint, in_child, make_wheels
from provision import transaction
from provision.transaction import STEPS

HOW = ("kill", "error")
COMMITTED = STEPS[STEPS.index("swapped") :]
SWITCH = tuple(
    step for step in STEPS[STEPS.index("flush") : STEPS.index("collect")] if step not in ("drift", "swap-half")
)
"""What going from one tree to another passes, also in a rollback."""

NEXT = {"1": "2", "2": "3", "3": "1"}


class Ring:
    """One environment that goes round through its states, so that each point starts where the last one ended."""

    def __init__(self, folder: Path, numbers: itertools.count[int]) -> None:
        self.folder = folder
        self.numbers = numbers
        self.waiting: tuple[World, str] | None = None

    def take(self) -> tuple[World, str]:
        """The environment and its state; a new one if the last point has failed."""
        if self.waiting is None:
            folder = self.folder / str(next(self.numbers))
            world = World(wheels=self.folder / "wheels", cache=self.folder / "cache", env=folder / ".venv")
            folder.mkdir()
            world.make("1")
            self.waiting = world, "1"
        taken, self.waiting = self.waiting, None
        return taken

    def give_back(self, world: World, state: str) -> None:
        self.waiting = world, state


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ring]:
    """Rings by name, all with the same wheels and cache."""
    folder = tmp_path_factory.mktemp("rings")
    make_wheels(folder / "wheels")
    known: dict[str, Ring] = {}
    numbers = itertools.count()
    return lambda name: known.setdefault(name, Ring(folder, numbers))


def judge(world: World, before: Fingerprint, old: str, new: str, code: int, fault: str) -> str:
    """The state after a fault and the next command's healing; asserts that it is whole and the exit code was true."""
    how = fault.partition(":")[2]
    assert code != 99, "a traceback instead of an error"
    assert code == KILLED if how == "kill" else code in (4, 5, 7), f"the fault was not met: exit {code}"
    transaction.recover(world.env)
    now = world.verdict()
    assert now in (old, new)
    if now == old:
        assert fingerprint(world.env) == before
        assert code != 7, "told that the new environment is in place"
    else:
        assert code in (KILLED, 7), "told that the environment is as it was"
    assert world.litter() == []
    assert transaction.unfinished(world.env) is None
    return now


def points(steps: tuple[str, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", [f"{step}:{how}" for step in steps for how in HOW])


@points(tuple(step for step in STEPS if step != "swap-half"))
def test_a_swap_that_is_hit(rings: Callable[[str], Ring], fault: str) -> None:
    ring = rings("swap")
    world, old = ring.take()
    before = fingerprint(world.env)
    code = in_child(lambda: world.change(NEXT[old]), PROVISION_FAULT=fault)
    now = judge(world, before, old, NEXT[old], code, fault)
    assert now == (NEXT[old] if fault.partition(":")[0] in COMMITTED else old)
    world.change(NEXT[now])
    assert world.verdict() == NEXT[now]
    assert world.litter() == []
    ring.give_back(world, NEXT[now])


@points(("locked", "clone", "ran", "audited", "seal", "flushed", "intended", "swapped", "state", "finish", "collect"))
def test_a_first_install_that_is_hit(rings: Callable[[str], Ring], fault: str) -> None:
    """Nothing is there before; nothing at all is left of us unless the commit has happened."""
    ring = rings("swap")
    world, old = ring.take()
    ring.give_back(world, old)
    first = World(wheels=world.wheels, cache=world.cache, env=world.env.parent / "deep" / "down" / "env")
    code = in_child(lambda: first.change("1"), PROVISION_FAULT=fault)
    now = judge(first, {}, "absent", "1", code, fault)
    assert now == ("1" if fault.partition(":")[0] in COMMITTED else "absent")
    if now == "absent":
        assert not first.state_folder.exists()
    first.change("2")
    assert first.verdict() == "2"
    shutil.rmtree(first.env.parent.parent)


@points(SWITCH)
def test_a_rollback_that_is_hit(rings: Callable[[str], Ring], fault: str) -> None:
    ring = rings("rollback")
    world, old = ring.take()
    if not transaction.history(world.env):
        world.change(NEXT[old])
        old = NEXT[old]
    before = fingerprint(world.env)
    kept = {found.id: fingerprint(found.path) for found in transaction.history(world.env) if found.path}
    code = in_child(lambda: transaction.rollback(world.env), PROVISION_FAULT=fault)
    now = judge(world, before, old, {"1": "2", "2": "1"}[old], code, fault)
    assert now == old or fingerprint(world.env) in kept.values()
    transaction.rollback(world.env)
    later = world.verdict()
    assert later in SETS
    assert later != now
    assert world.litter() == []
    ring.give_back(world, later)


@pytest.mark.parametrize("tier", ["renames", "inside", "copy-up"])
@points(("intended", "swap-half", "swapped", "finish"))
def test_a_swap_in_a_weaker_tier_that_is_hit(rings: Callable[[str], Ring], tier: str, fault: str) -> None:
    """Without the exchange it may be away or mixed until the next command of ours, and then it is whole."""
    ring = rings(tier)
    world, old = ring.take()
    before = fingerprint(world.env)
    code = in_child(lambda: world.change(NEXT[old]), PROVISION_FAULT=fault, PROVISION_TIER=tier)
    now = judge(world, before, old, NEXT[old], code, fault)
    assert in_child(lambda: world.change(NEXT[now]), PROVISION_TIER=tier) == 0
    assert world.verdict() == NEXT[now]
    assert world.litter() == []
    ring.give_back(world, NEXT[now])


@points(("parents-synced", "retire", "retired", "state", "finish", "finished", "trash"))
def test_healing_that_is_hit(rings: Callable[[str], Ring], fault: str) -> None:
    """A run was killed right after its commit, and so is the command that heals it."""
    ring = rings("swap")
    world, old = ring.take()
    code = in_child(lambda: world.change(NEXT[old]), PROVISION_FAULT="swapped:kill")
    assert code == KILLED
    code = in_child(lambda: transaction.recover(world.env), PROVISION_FAULT=fault)
    assert code in (KILLED, 0)
    transaction.recover(world.env)
    assert world.verdict() == NEXT[old]
    assert world.litter() == []
    ring.give_back(world, NEXT[old])


def test_a_step_that_is_not_in_the_list_would_not_be_attacked() -> None:
    """Every step that the code passes is in STEPS, and the other way round."""
    import re

    folder = Path(transaction.__file__).parent
    passed = {name for path in folder.glob("*.py") for name in re.findall(r'\bstep\("([a-z-]+)"\)', path.read_text())}
    assert passed == set(STEPS)
