"""How does an environment change without ever being anything but whole?

A copy is staged, changed, put right and checked; then one atomic step makes it the environment. Leaving without a
commit discards the copy: the environment has not been touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .. import uv
from ..detect.environment import interpreter
from ..errors import AfterCommitFailed, InstallFailed, Interrupted, ProvisionError, TargetUnusable
from ..host import Completed
from . import (
    audit,
    clone,
    disk,
    generations,
    guard,
    heal,
    lock,
    recovery,
    remains,
    settle,
    signals,
    snapshot,
    swap,
    switch,
    texts,
    tiers,
    work,
)
from .generations import Generation
from .outcome import after_commit, explain, honest, honest_after
from .place import STAGING, Place, existing, real
from .settle import Staged
from .snapshot import Entry
from .steps import step
from .tiers import Tier

RUN_SECONDS = 3600.0
"""A changing command that needs longer is hanging: everything has been downloaded before."""


class Change:
    """One change of one environment; `transaction.begin` makes it, `with` opens and closes it."""

    staged: Path
    """The complete copy that may be changed (a fresh environment where there was none)."""
    fresh: bool
    """Whether there was no environment before."""
    tier: Tier

    def __init__(
        self,
        target: Path,
        *,
        create: Callable[[Path], None] | None,
        without: Collection[str],
        keep: int,
        keep_days: int | None,
        wait: float,
        say: Callable[[str], None],
    ) -> None:
        self._target = target
        self._create = create
        self._without = without
        self._keep = keep
        self._keep_days = keep_days
        self._wait = wait
        self._say = say
        self._open = ExitStack()
        self._place: Place | None = None
        self._lock: lock.Lock | None = None
        self._seen: dict[str, Entry] = {}
        self._before: dict[str, Entry] = {}
        self._gone = remains.NOTHING
        self._settled: dict[str, Entry] | None = None
        self._parents: list[Path] = []
        self.committed = False

    @property
    def target(self) -> Path:
        """The real path of the environment (where a link leads)."""
        assert self._place is not None
        return self._place.target

    @property
    def python(self) -> Path:
        """The staged interpreter."""
        return interpreter(self.staged)

    # Opening and closing

    def __enter__(self) -> Self:
        self._open.enter_context(signals.interrupting())
        try:
            with honest(f"preparing a change of {self._target}"):
                self._begin()
        except BaseException as error:
            self._close()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted("interrupted; the environment is as it was") from None
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()
        if isinstance(error, KeyboardInterrupt):
            if self.committed:
                raise AfterCommitFailed(
                    "interrupted; the new environment is in place, what was to follow was not done",
                    code="interrupted-after-commit",
                    hint="run the same command again, or provision rollback",
                ) from None
            raise Interrupted("interrupted; the environment is as it was") from None
        if isinstance(error, OSError) and not isinstance(error, ProvisionError):
            if self.committed:
                raise after_commit(error) from error
            raise explain(error, f"changing {self._target}") from error

    def _begin(self) -> None:
        target = real(self._target)
        for found in existing(target):
            if found.untidy():
                recovery.recover(found, self._say)
        self.fresh = not guard.check(target)
        if self.fresh and self._create is None:
            raise TargetUnusable(
                f"there is no environment at {target}",
                code="no-environment",
                hint="give an existing one with --env, or let provision make it",
            )
        self._make_parents(target)
        place = self._place = tiers.choose_place(target)
        self._lock = lock.acquire(place, wait=self._wait, say=self._say)
        heal.heal(place, self._say)
        step("locked")
        self.fresh = not guard.check(target)
        warning = None if self.fresh else guard.announce_users(target)
        if warning:
            self._say(warning)
        self.tier = tiers.probe(place)
        if self.tier.weakens:
            self._say(self.tier.weakens)
        step("probed")
        generations.of_place(place)  # what a newer provision wrote is refused now, not after the commit
        self._number, number = generations.numbers(place)
        self._id = generations.new_id(number)
        self._live_ino = disk.identity(target)
        self.staged = place.gens / (self._id + STAGING)
        self._started = time.time_ns()
        if self.fresh:
            self._make()
        else:
            self._copy()
        step("cloned")

    def _make(self) -> None:
        """A fresh environment."""
        assert self._create is not None
        step("clone")
        self._create(self.staged)
        if not (self.staged / "pyvenv.cfg").is_file():
            raise InstallFailed(f"no environment was made at {self.staged}", code="no-environment")
        self._before = snapshot.take(self.staged)

    def _copy(self) -> None:
        """A copy of the live tree, or, where that cannot be renamed, of a full copy that will be kept for it."""
        assert self._place is not None
        self.staged.mkdir(mode=0o700)
        step("clone")
        source = self.target
        gone = remains.remains(source, self._without)
        for path in remains.litter(source):
            self._say(f"left out, since it is the rest of a broken install: {path}")
        try:
            with lock.neighbours_lock(self.target):
                if self.tier is Tier.COPY_UP:
                    source = self._place.gens / f"{self._id}.out"
                    source.mkdir(mode=0o700)
                    self._seen = clone.clone(self.target, source, link=False, say=self._say).source
                cloned = clone.clone(source, self.staged, without=gone, say=self._say)
        except FileNotFoundError as error:
            raise self._changed_meanwhile([str(error.filename)]) from error
        self._gone = gone
        self._seen = self._but_gone(self._seen or cloned.source)
        self._before = cloned.copy

    def _but_gone(self, snapshot: Mapping[str, Entry]) -> dict[str, Entry]:
        """A snapshot of the live tree but for the files that go; their dist-info stays, by which changes are seen."""
        closed = tuple(f"{folder}/" for folder in self._gone.closed)
        return {
            path: entry
            for path, entry in snapshot.items()
            if path not in self._gone.files and not path.startswith(closed)
        }

    def _make_parents(self, target: Path) -> None:
        """The folders above a first environment; they go again if nothing comes of it."""
        missing = []
        parent = target.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            folder.mkdir()
            self._parents.append(folder)

    def _close(self) -> None:
        """Put everything away; interrupting it twice only leaves that to the next command."""
        with signals.waiting():
            if self._lock is not None and self._place is not None:
                if not self.committed and not self._place.intent.exists():
                    with suppress(OSError):
                        heal.sweep(self._place, self._say)
                self._lock.release()
                self._lock = None
            if not self.committed:
                for folder in reversed(self._parents):
                    with suppress(OSError):
                        folder.rmdir()
        self._open.close()

    # Changing

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        timeout: float = RUN_SECONDS,
        cwd: Path | None = None,
        stream: bool = False,
        doing: str = "installing",
    ) -> Completed:
        """Run a changing command (uv) against the staged copy, with exactly these environment variables.

        Raises InstallFailed with its output and the class of cause.
        """
        assert self._place is not None and self._lock is not None
        self._settled = None
        step("run")
        answer = work.run(
            argv, env=env, timeout=timeout, cwd=cwd or self._place.root, lock_fd=self._lock.fd, stream=stream
        )
        if answer.returncode != 0 or answer.timed_out:
            raise uv.failure(answer, doing)
        step("ran")
        return answer

    def put(self, files: Mapping[str, str | None]) -> None:
        """Write small files of our own at the top of the copy (None: remove one); they name the final path."""
        self._settled = None
        with honest(f"writing into {self.staged}"):
            texts.put(self.staged, files)

    def unrequest(self, names: Collection[str]) -> None:
        """Say that nobody asked for these distributions by name; uv 0.13.8 says so of every package of a pylock."""
        self._settled = None
        with honest(f"writing into {self.staged}"):
            settle.unrequest(self.staged, names)

    def settle(self, expected: Mapping[str, str]) -> None:
        """Put the copy right and check that it is exactly `expected` (normalized name → version, the whole set).

        Raises InstallFailed(code="integrity").
        """
        with honest(f"checking {self.staged}"):
            self._settled = settle.settle(self._as_staged(), expected)

    def _as_staged(self) -> Staged:
        return Staged(
            tree=self.staged,
            final=self.target,
            original=None if self.fresh else self.target,
            before=self._before,
        )

    # The commit

    def commit(
        self, note: Mapping[str, Any] | None = None, *, check: Callable[[Path], None] | None = None
    ) -> Generation:
        """Make the staged copy the environment; what was there becomes a kept generation.

        `note` is stored with the new generation. `check` is called with the environment at its final path; if it
        raises, the old environment comes back and the error goes on. Raises TargetUnusable(code="changed-meanwhile"),
        InstallFailed, and AfterCommitFailed for what fails when the new environment is already there.
        """
        assert self._place is not None
        place = self._place
        with signals.waiting() as noted:
            with honest(f"committing {place.target}"):
                self._prepare(note or {})
            with lock.neighbours_lock(place.target):
                with honest(f"committing {place.target}"):
                    step("drift")
                    intent = self._intend(self._live_unchanged())
                if noted:
                    raise KeyboardInterrupt
                try:
                    switch.replace(place, intent)
                except AfterCommitFailed:
                    self.committed = True
                    raise
            self.committed = True
            if check is not None:
                self._check_in_place(check, intent.leaving)
            with honest_after():
                step("collect")
                generations.collect(place, keep=self._keep, say=self._say)
        return next(generation for generation in generations.of_place(place) if generation.live)

    def _prepare(self, note: Mapping[str, Any]) -> None:
        """Seal and describe the copy and flush it, so that the commit itself is short."""
        place = self._place
        assert place is not None
        step("seal")
        if self._settled is None:
            raise RuntimeError("a copy is checked (settle) before it is committed")
        sealed = settle.seal(self.staged, self._started)
        differing = snapshot.differences(self._settled, sealed)
        if differing:
            raise InstallFailed(
                f"the new environment changed after it had been checked: {', '.join(differing[:3])}",
                code="integrity",
                hint="run it again; nothing else may write into the staging folder",
            )
        snapshot.save(place.gens / f"{self._id}.seal", sealed)
        torch = generations.torch_version(self.staged)
        generations.write_description(place, self._id, made=generations.now(), torch=torch, note=dict(note))
        swap.flush(place, (self.staged / path for path in audit.changed(self._before, sealed)))

    def _live_unchanged(self) -> dict[str, Entry]:
        """The snapshot of the live tree, which nobody else has changed since it was copied. Raises TargetUnusable.

        Of what goes, the metadata are compared: whoever changes it changes them.
        """
        if disk.identity(self.target) != self._live_ino:
            raise self._changed_meanwhile([str(self.target)])
        if self._live_ino is None:
            return {}
        try:
            now = snapshot.take(self.target)
        except FileNotFoundError as error:
            raise self._changed_meanwhile([str(error.filename)]) from error
        drift = snapshot.differences(self._seen, self._but_gone(now))
        if drift:
            raise self._changed_meanwhile(drift)
        return now

    def _intend(self, live: Mapping[str, Entry]) -> swap.Intent:
        """Describe and seal the tree that leaves, and say what the commit will do."""
        place = self._place
        assert place is not None
        leaving = None
        if self._live_ino is not None:
            leaving = generations.live_id(place, live) or generations.new_id(self._number)
            shared = {entry.ino for entry in (self._settled or {}).values()}
            until = None if self._keep_days is None else generations.day_after(self._keep_days)
            step("describe")
            switch.describe_leaving(place, leaving, live, shared=shared, until=until)
        intent = swap.intent_for(
            place, self.tier, incoming=self.staged.name, leaving=leaving, live=self._id, before=leaving
        )
        if self.tier is Tier.COPY_UP and leaving is not None:
            os.rename(place.gens / f"{self._id}.out", place.gens / str(intent.outgoing))
        return intent

    def _changed_meanwhile(self, drift: Sequence[str]) -> TargetUnusable:
        shown = ", ".join(drift[:3]) + (f" and {len(drift) - 3} more" if len(drift) > 3 else "")
        return TargetUnusable(
            f"{self.target} was changed by somebody else while we worked ({shown}); it stays as they made it",
            code="changed-meanwhile",
            hint="run it again",
        )

    def _check_in_place(self, check: Callable[[Path], None], leaving: str | None) -> None:
        place = self._place
        assert place is not None
        try:
            with signals.interrupting():
                check(place.target)
        except BaseException:
            switch.go_back(place, leaving, self._say)
            with honest_after():
                heal.discard(place, [self._id])
                heal.sweep(place, self._say)
            self.committed = False
            raise
