"""The order of steps: facts → decision → change → proof → record. `provision` is that picture on one screen."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import holding, transaction, uv
from .catalog import Build, load_catalog
from .checks import Depth, Verification
from .choose import Decision
from .compare import brought_along
from .console import Console
from .coverage import arches_of
from .detect.environment import inspect_environment, interpreter, target_prefix
from .doctor import Mending
from .environment import Environment
from .errors import NoBuildFits, UsageProblem, VerificationFailed
from .facts import machine_for
from .host import Host
from .job import Job
from .machine import Machine
from .plan import FAMILY, Change, Plan
from .profile import Profile, load_profile
from .propose import (
    Ready,
    attainable_for,
    bare_plan,
    base_python,
    decision_for,
    environment_for,
    keep_notes,
    no_build,
    pinned,
    tell_left_out,
)
from .record import learn, lock_for, proven_before, remember_failure, stamp, without_known_failures, write_lock
from .report import Result
from .room import check_room
from .saved import SavedPlan, refuse_if_stale
from .screens import (
    change_lines,
    coverage_words,
    duration_phrase,
    environment_phrase,
    labelled,
    machine_words,
    plan_lines,
    proof_words,
    shown,
)
from .values import replace
from .verify import Expected, verify
from .wants import checks_for

NOTHING = Mending()

TRIES = 3
"""The choice and at most two more candidates (contracts 5.8)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every step of one run needs. `lock` is the text of the lock that is put in force (`provision sync`)."""

    job: Job
    host: Host
    console: Console
    machine: Machine
    environment: Environment
    profile: Profile
    began: float
    saved: SavedPlan | None = None
    mending: Mending = NOTHING
    lock: str | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return round(time.monotonic() - self.began, 3)


def provision(
    job: Job, host: Host, console: Console, *, saved: SavedPlan | None = None, mending: Mending | None = None
) -> Result:
    """The one-shot job: from whatever state the environment is in to a proven torch. Raises ProvisionError.

    With a `saved` plan only exactly that is done. `mending` is what the doctor found besides the choice of a build.
    """
    began = time.monotonic()
    profile = load_profile(job.profile)
    prefix = target_prefix(job.env, os.environ, Path.cwd())
    transaction.recover(prefix, say=lambda text: console.message("info", "recovered", text))
    machine = machine_for(job, host)
    task = Task(job, host, console, machine, environment_for(job), profile, began, saved, mending or NOTHING)
    if saved is None and mending is None and proven_before(job, machine, task.environment):
        return already_right(task)
    console.lines(labelled("Detected", machine_words(machine)))
    decision = decision_for(job, host, console, machine, task.environment, profile, executing=True)
    decision = attainable_for(job, host, decision, machine, task.environment, profile)
    failed: VerificationFailed | None = None
    for build in candidates(task, decision)[: TRIES if job.retry and saved is None else 1]:
        try:
            return bring(task, decision, build)
        except VerificationFailed as problem:
            failed = problem
            remember_failure(machine, build, problem)
            console.message("warning", "candidate-failed", problem.text)
    assert failed is not None
    raise failed


def candidates(task: Task, decision: Decision) -> list[Build]:
    """The builds to try, the choice first. Raises NoBuildFits with the whole plan as its data."""
    resolution = decision.resolution
    if resolution.choice is None:
        proposal = bare_plan(task.machine, resolution, task.environment)
        keep_notes(resolution, task.console)
        task.console.lines(plan_lines(proposal, verbose=task.console.verbose)[len(machine_words(task.machine)) :])
        raise no_build(resolution, proposal)
    kept = without_known_failures(resolution.candidates, task.machine, task.console)
    if not kept:
        raise NoBuildFits(
            "every build that should run here has failed its proof on this machine before",
            hint="provision clean --failures forgets that; provision doctor looks for the cause",
        )
    return kept


def bring(task: Task, decision: Decision, build: Build) -> Result:
    """One build: pinned, and if anything is to be changed staged, proven, swapped in, recorded."""
    console, environment = task.console, task.environment
    runs = coverage_words(decision.resolution) if build == decision.resolution.choice else ()
    console.lines(labelled("Chose", [f"torch {build.name} from {build.source.label}", *runs]))
    for note in decision.resolution.notes:
        console.message(note.level, note.code, note.text)
    tell_left_out(task.job, console, decision, build, task.profile)
    with tempfile.TemporaryDirectory(prefix="provision-") as name:
        folder = Path(name)
        ready = pinned(task.job, task.host, decision, build, task.machine, environment, task.profile, folder)
        if task.saved is not None:
            refuse_if_stale(task.saved, ready.plan)
        ready = replace(ready, plan=mended(ready, task.mending))
        console.line(f"Env       {environment_phrase(ready.plan)}")
        if environment.exists and not ready.plan.changes:
            verification = prove(task, ready, interpreter(environment.prefix))
            if verification.ok:
                return right_in_place(task, ready, verification)
            console.message("warning", "repairing", "the right versions are there but fail: putting them in again")
            ready = replace(ready, plan=again(ready.plan))
        console.lines(change_lines(ready.plan))
        consent(ready.plan, console)
        return change(task, ready, folder / "pylock.toml")


def change(task: Task, ready: Ready, pins: Path) -> Result:
    """The transaction: stage, apply, settle, prove, commit; then the record."""
    console, prefix, build, proposal = task.console, task.environment.prefix, ready.build, ready.plan
    replaced = [one.name for one in proposal.changes or () if one.old and one.new]

    def create(staged: Path) -> None:
        command = uv.venv_command(ready.uv, path=staged, python=task.job.python_version or base_python())
        answer = task.host.run(command, timeout=300, env=ready.variables)
        if answer.returncode != 0:
            raise uv.failure(answer, "making the environment")

    check_room(
        task.host,
        ready.uv,
        prefix=prefix,
        versions=ready.pins.versions,
        variables=ready.variables,
        sizes=ready.sizes,
    )
    gone = {*replaced, *proposal.removed, *(task.mending.again & proposal.expected.keys())}
    with transaction.begin(prefix, create=create, without=gone, say=console.progress) as staging:
        started = time.monotonic()
        command = uv.install_command(
            ready.uv, python=staging.python, lock=pins, reinstall=replaced, wheelhouse=ready.wheelhouse
        )
        staging.run(command, env=ready.variables, stream=console.interactive)
        staging.unrequest(unasked(task.environment, proposal))
        holding.keep(staging, proposal.expected)
        learn(build, staging.staged)
        staging.settle(proposal.expected)
        count = sum(one.new is not None for one in proposal.changes or ())
        console.line(
            f"Installed {count} package{'s' if count != 1 else ''} in {duration_phrase(time.monotonic() - started)}"
        )
        verification = prove(task, ready, staging.python)
        if not verification.ok:
            raise not_proven(build, verification)
        console.lines(labelled("Verified", proof_words(verification)))
        text = task.lock or lock_for(task.machine, task.environment, ready, task.profile, verification)
        note = {"torch": build.requirement, "backend": build.backend, "profile": task.profile.name, "lock": text}
        generation = staging.commit(note=note)
    console.line(
        f"Swapped   {shown(prefix)}; the old one is kept" if task.environment.exists else f"Made      {shown(prefix)}"
    )
    lock = write_lock(prefix, text, console)
    stamp(task.job, task.machine, inspect_environment(prefix), build)
    tell_settings(task.profile, console)
    console.line(f"Done in {duration_phrase(task.seconds)}")
    if task.environment.exists:
        console.line("\nnext: provision rollback puts the old one back")
    data = {
        "changed": True,
        "verification": verification.to_json(),
        "lock": str(lock) if lock else None,
        "generation": generation.id,
        "seconds": task.seconds,
    }
    return Result(command="apply", data=proposal.to_json() | data)


def tell_settings(profile: Profile, console: Console) -> None:
    """What the profile wants set where it runs, and why, and what else there is to know of it."""
    for name, setting in profile.environment.items():
        why = f": {setting.why}" if setting.why else ""
        console.message("hint", "environment", f"set {name}={setting.value} where this runs{why}")
    for note in profile.notes:
        console.message("hint", "profile-note", note)


def unasked(environment: Environment, proposal: Plan) -> set[str]:
    """What torch brings along and nobody had asked for by name before: it may go again with this torch."""
    before = environment.installed
    return {
        name for name in proposal.expected if brought_along(name) and not (name in before and before[name].requested)
    }


def prove(task: Task, ready: Ready, python: Path) -> Verification:
    """The proof on the GPUs that count, in the interpreter of the staged (or of the live) environment."""
    build, gpus = ready.build, ready.plan.resolution.gpus
    companions = load_catalog(task.job.base).companions_of(build.torch, build.backend, build.system)
    return verify(
        task.host,
        python=python,
        machine=replace(task.machine, gpus=gpus),
        expected=Expected(torch=build.requirement, backend=build.backend),
        depth=Depth(task.job.depth),
        extra_checks=checks_for(build, task.profile, companions, arches_of(gpus)),
    )


def not_proven(build: Build, verification: Verification) -> VerificationFailed:
    """Which check failed, in one line."""
    first = next(iter(verification.failed), None)
    if first is None:
        said = "nothing could be checked"
    elif first.expected is None:
        said = f"{first.name}: {first.actual or first.detail or 'failed'}"
    else:
        said = f"{first.name}: expected {first.expected}, got {first.actual or first.detail or 'nothing'}"
    return VerificationFailed(
        f"torch {build.name} did not pass its proof ({said}); the environment is as it was",
        hint="provision doctor looks for the cause",
        data={"verification": verification.to_json()},
    )


def right_in_place(task: Task, ready: Ready, verification: Verification) -> Result:
    """Nothing was to be changed, and what is there works."""
    holding.keep_live(task.environment, task.console)
    write_lock(
        task.environment.prefix,
        task.lock or lock_for(task.machine, task.environment, ready, task.profile, verification),
        task.console,
    )
    stamp(task.job, task.machine, task.environment, ready.build)
    data = {"changed": False, "verification": verification.to_json(), "seconds": task.seconds}
    lines = (*labelled("Verified", proof_words(verification)), right_line(task))
    return Result(command="apply", data=ready.plan.to_json() | data, lines=lines)


def already_right(task: Task) -> Result:
    """The last proof still covers everything: no index is asked, torch is not imported."""
    environment = task.environment
    data = {
        "machine": task.machine.to_json(),
        "changed": False,
        "changes": [],
        "environment": {"path": str(environment.prefix), "torch": environment.version("torch")},
        "seconds": task.seconds,
    }
    return Result(command="apply", data=data, lines=(right_line(task),))


def right_line(task: Task) -> str:
    """`torch 2.15.0+cu130 in .venv: already right (checked in 0.4 s)`."""
    torch, where = task.environment.version("torch"), shown(task.environment.prefix)
    return f"torch {torch} in {where}: already right (checked in {duration_phrase(task.seconds)})"


def again(proposal: Plan) -> Plan:
    """The plan that puts the torch family in again at the versions that it has."""
    environment = proposal.environment
    assert environment is not None
    family = [(name, environment.version(name)) for name in environment.installed if name in FAMILY]
    return replace(proposal, changes=tuple(Change(name=name, old=version, new=version) for name, version in family))


def mended(ready: Ready, mending: Mending) -> Plan:
    """The plan with what the doctor wants put in again (where it is pinned) or taken away."""
    proposal, pinned_at = ready.plan, ready.pins.versions
    environment, changes = proposal.environment, proposal.changes or ()
    if environment is None or not environment.exists:
        return proposal
    named = {change.name for change in changes}
    again = sorted(mending.again & pinned_at.keys() - named)
    go = sorted(mending.go & environment.installed.keys() - named - pinned_at.keys())
    more = [Change(name=name, old=environment.version(name), new=pinned_at[name]) for name in again]
    more += [Change(name=name, old=environment.version(name), new=None) for name in go]
    return replace(proposal, changes=(*changes, *more)) if more else proposal


def consent(proposal: Plan, console: Console) -> None:
    """Replacing the torch family never asks; removing or breaking anything else does. Raises UsageProblem."""
    if not proposal.broken:
        return
    names = ", ".join(f"{one.name} {one.version} (needs {one.requirement})" for one in proposal.broken)
    answer = console.confirm(f"This breaks or removes {names}. Go on?")
    if answer is None:
        raise UsageProblem(
            f"this would break or remove {names}, and nobody can be asked",
            code="needs-consent",
            hint="agree with --yes, or ask for a torch that fits with --torch",
        )
    if not answer:
        raise UsageProblem("not agreed; nothing was changed", code="declined")
