"""The order of steps: facts → decision → change → proof → record. `provision` is that picture on one screen."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import proof, transaction, uv
from .catalog import Build, load_catalog
from .checks import Depth, Verification
from .choose import Decision, decide
from .console import Console
from .detect.environment import inspect_environment, interpreter, site_packages, target_prefix
from .environment import Environment
from .errors import (
    AfterCommitFailed,
    ExitCode,
    InstallFailed,
    NoBuildFits,
    UsageProblem,
    VerificationFailed,
)
from .facts import machine_for
from .host import Host
from .job import Job
from .lock import FILE_NAME, Target, is_ours, lock_text
from .machine import Machine
from .plan import COMPANIONS, Change, Plan, changes_between
from .profile import Profile, load_profile
from .report import Result, change_lines, duration_phrase, environment_phrase, machine_phrase, plan_lines
from .resolve import Resolution
from .settings import uv_environment
from .verify import Expected, verify

TRIES = 3
"""The choice and at most two more candidates (contracts 5.8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A build, pinned for one environment: everything that a change needs."""

    build: Build
    plan: Plan
    pins: uv.Pins
    uv: str
    variables: dict[str, str]


def provision(job: Job, host: Host, console: Console) -> Result:
    """The one-shot job: from whatever state the environment is in to a proven torch. Raises ProvisionError."""
    began = time.monotonic()
    profile = load_profile(job.profile)
    machine = machine_for(job, host)
    prefix = target_prefix(job.env, os.environ, Path.cwd())
    transaction.recover(prefix, say=lambda text: console.message("info", "recovered", text))
    environment = inspect_environment(prefix, python=job.python_version)
    if already := _already_right(job, machine, environment, began):
        return already
    console.line(f"Detected  {machine_phrase(machine)}")
    decision = _decided(job, host, console, machine, environment, profile, executing=True)
    problem: VerificationFailed | None = None
    for build in _candidates(decision.resolution, machine, console)[: TRIES if job.retry else 1]:
        try:
            return _bring(job, host, console, machine, environment, profile, decision, build, began)
        except VerificationFailed as failed:
            problem = failed
            _remember(machine, build, failed)
            console.message("warning", "candidate-failed", f"torch {build.name} did not pass: {failed.text}")
    assert problem is not None
    raise problem


def plan(job: Job, host: Host, console: Console, *, exit_code: bool = False) -> Result:
    """What `provision` would do, and why each other build was passed over; changes nothing."""
    profile = load_profile(job.profile)
    machine = machine_for(job, host)
    environment = None
    if not job.foreign:
        prefix = target_prefix(job.env, os.environ, Path.cwd())
        environment = inspect_environment(prefix, python=job.python_version)
    decision = _decided(job, host, console, machine, environment, profile, executing=False)
    proposal = Plan(machine=machine, resolution=decision.resolution, environment=environment, changes=None)
    build = decision.resolution.choice
    if build is not None and environment is not None and not decision.from_table and not job.offline:
        with tempfile.TemporaryDirectory(prefix="provision-") as folder:
            proposal = _pinned(job, host, decision, build, machine, environment, profile, Path(folder)).plan
    data = proposal.to_json()
    lines = tuple(plan_lines(proposal, verbose=console.verbose))
    if build is None:
        return Result(
            command="plan",
            data=data,
            lines=lines,
            exit_code=ExitCode.NO_BUILD,
            errors=(_no_build(decision.resolution),),
        )
    pending = exit_code and bool(proposal.changes)
    return Result(
        command="plan", data=data, lines=lines, exit_code=ExitCode.CHANGES_PENDING if pending else ExitCode.OK
    )


def _decided(
    job: Job,
    host: Host,
    console: Console,
    machine: Machine,
    environment: Environment | None,
    profile: Profile,
    *,
    executing: bool,
) -> Decision:
    python = inspect_environment(Path(os.devnull) / "none", python=job.python_version).python if job.python else None
    if python is None and environment is not None:
        python = environment.python
    decision = decide(job, host, console, machine, job.request(python, profile), executing=executing)
    if decision.resolution.choice is None and executing:
        proposal = Plan(machine=machine, resolution=decision.resolution, environment=environment, changes=None)
        console.lines(plan_lines(proposal, verbose=console.verbose)[1:])
        raise _no_build(decision.resolution, data=proposal.to_json())
    return decision


def _no_build(resolution: Resolution, data: dict[str, Any] | None = None) -> NoBuildFits:
    ways = "; ".join(f"{advice.do} (gains {advice.gains})" for advice in resolution.advice)
    return NoBuildFits(
        "no published build of torch can run on this machine as asked; each build's reason is in provision plan -v",
        hint=ways or "ask for less with --gpu, --torch or --python, or for the CPU with --backend cpu",
        data=data,
    )


def _candidates(resolution: Resolution, machine: Machine, console: Console) -> list[Build]:
    """The builds to try, in order, without those that are known to fail on this very machine."""
    key = proof.machine_key(machine)
    known = {(one.torch, one.backend): one for one in proof.read_failures(proof.failures_path()) if one.machine == key}
    kept = []
    for build in resolution.candidates:
        failed = known.get((str(build.torch), build.backend))
        if failed is None:
            kept.append(build)
        else:
            console.message(
                "info",
                "remembered-failure",
                f"torch {build.name} is passed over: it failed here on {failed.day} ({failed.reason}); "
                "`provision clean --failures` forgets that",
            )
    if not kept:
        raise NoBuildFits(
            "every build that should run here has failed its proof on this machine before",
            hint="provision clean --failures forgets that; provision doctor looks for the cause",
        )
    return kept


def _bring(
    job: Job,
    host: Host,
    console: Console,
    machine: Machine,
    environment: Environment,
    profile: Profile,
    decision: Decision,
    build: Build,
    began: float,
) -> Result:
    """One build: pinned, staged, proven, swapped in, recorded."""
    resolution = decision.resolution
    reason = " and ".join(dict.fromkeys(f"{one.by} for GPU {one.gpu}" for one in resolution.coverage))
    console.line(f"Chose     torch {build.name} from {build.source.label}" + (f", with {reason}" if reason else ""))
    for note in resolution.notes:
        console.message(note.level, note.code, note.text)
    with tempfile.TemporaryDirectory(prefix="provision-") as name:
        folder = Path(name)
        ready = _pinned(job, host, decision, build, machine, environment, profile, folder)
        console.line(f"Env       {environment_phrase(ready.plan)}")
        if not ready.plan.changes and environment.exists:
            settled = _proven_in_place(job, host, machine, environment, ready, began)
            if settled is not None:
                return settled
            console.message(
                "warning", "repairing", "the right versions are there but do not work: putting them in again"
            )
            ready = replace(ready, plan=_again(ready.plan))
        console.lines(change_lines(ready.plan))
        _consent(ready.plan, console)
        return _changed(job, host, console, machine, environment, profile, ready, folder, began)


def _pinned(
    job: Job,
    host: Host,
    decision: Decision,
    build: Build,
    machine: Machine,
    environment: Environment,
    profile: Profile,
    folder: Path,
) -> Ready:
    """Ask uv for the exact set, and compare it with what is installed."""
    engine = uv.find_uv(host)
    variables = uv_environment(decision.settings, os.environ, offline=job.offline)
    python = str(interpreter(environment.prefix)) if environment.exists else job.python_version or _base_python()
    keep = {name: one.version for name, one in environment.installed.items()}
    family = {"torch": f"=={build.requirement}"}
    companions = load_catalog(job.base).companions_of(build.torch, build.backend, build.system)
    for name in COMPANIONS:
        if name in companions and (name in environment.installed or name in profile.companions):
            family[name] = companions[name]
    wanted = uv.Wanted(family=family, others=profile.packages, source=build.source, index_url=build.index_url)
    try:
        pins = uv.compile_pins(
            host, engine, wanted, folder=folder, python=python, env=variables, installed=_outside_family(keep)
        )
    except InstallFailed as error:
        if error.code != "resolution" or len(family) == 1 or profile.companions:
            raise
        # The source holds torch alone: what was built for the old torch cannot stay, and the plan shows that it goes.
        alone = replace(wanted, family={"torch": family["torch"]})
        pins = uv.compile_pins(
            host, engine, alone, folder=folder, python=python, env=variables, installed=_outside_family(keep)
        )
    changes, broken = changes_between(environment, pins.versions)
    sizes = [pin.size for pin in pins.packages if environment.version(pin.name) != pin.version]
    proposal = Plan(
        machine=machine,
        resolution=decision.resolution,
        environment=environment,
        changes=changes,
        broken=broken,
        download_bytes=sum(size or 0 for size in sizes) or None,
    )
    return Ready(build=build, plan=proposal, pins=pins, uv=engine, variables=variables)


def _outside_family(installed: dict[str, str]) -> dict[str, str]:
    from .plan import FAMILY

    return {name: version for name, version in installed.items() if name not in FAMILY}


def _base_python() -> str:
    """The interpreter that this tool's own was made from: a new environment shall not depend on the tool."""
    return getattr(sys, "_base_executable", None) or sys.executable


def _again(proposal: Plan) -> Plan:
    """The plan that puts the torch family in again at the versions that it has."""
    from .plan import FAMILY

    environment = proposal.environment
    assert environment is not None
    family = [name for name in environment.installed if name in FAMILY]
    changes = tuple(Change(name=name, old=environment.version(name), new=environment.version(name)) for name in family)
    return replace(proposal, changes=changes)


def _consent(proposal: Plan, console: Console) -> None:
    """Replacing the torch family never asks; removing or breaking anything else does."""
    if not proposal.broken:
        return
    names = ", ".join(f"{one.name} {one.version} ({one.requirement})" for one in proposal.broken)
    answer = console.confirm(f"This breaks or removes {names}. Go on?")
    if answer is None:
        raise UsageProblem(
            f"this would break or remove {names}, and nobody can be asked",
            code="needs-consent",
            hint="agree with --yes, or ask for a torch that fits with --torch",
        )
    if not answer:
        raise UsageProblem("not agreed; nothing was changed", code="declined")


def _changed(
    job: Job,
    host: Host,
    console: Console,
    machine: Machine,
    environment: Environment,
    profile: Profile,
    ready: Ready,
    folder: Path,
    began: float,
) -> Result:
    build, proposal = ready.build, ready.plan
    prefix = environment.prefix

    def create(staged: Path) -> None:
        command = uv.venv_command(ready.uv, path=staged, python=job.python_version or _base_python())
        answer = host.run(command, timeout=300, env=ready.variables)
        if answer.returncode != 0:
            raise uv.failure(answer, "making the environment")

    again = [change.name for change in proposal.changes or () if change.old and change.new]
    with transaction.begin(prefix, create=create, say=console.progress) as change:
        staged_at = time.monotonic()
        if proposal.removed:
            change.run(
                uv.uninstall_command(ready.uv, python=change.python, names=proposal.removed), env=ready.variables
            )
        command = uv.install_command(ready.uv, python=change.python, lock=folder / "pylock.toml", reinstall=again)
        change.run(command, env=ready.variables, stream=console.interactive)
        change.settle(proposal.expected)
        installed = time.monotonic()
        console.line(f"Installed {len(proposal.changes or ())} packages in {duration_phrase(installed - staged_at)}")
        verification = _proof(job, host, machine, build, change.python, profile)
        if not verification.ok:
            raise _failed(build, verification)
        console.line(f"Verified  {proof_phrase(verification)}")
        text = _lock_text(job, machine, environment, ready, profile, verification)
        generation = change.commit(note={"torch": build.requirement, "backend": build.backend, "profile": profile.name})
    console.line(
        f"Swapped   {_shown(prefix)}; the old one is kept" if environment.exists else f"Made      {_shown(prefix)}"
    )
    lock = _write_lock(prefix, text, console)
    after = inspect_environment(prefix)
    _stamp(job, machine, after, build)
    seconds = time.monotonic() - began
    console.line(f"Done in {duration_phrase(seconds)}")
    if environment.exists:
        console.line("\nnext: provision rollback puts the old one back")
    data = proposal.to_json() | {
        "changed": True,
        "verification": verification.to_json(),
        "lock": str(lock) if lock else None,
        "generation": generation.id,
        "seconds": round(seconds, 3),
    }
    return Result(command="apply", data=data)


def _proof(job: Job, host: Host, machine: Machine, build: Build, python: Path, profile: Profile) -> Verification:
    expected = Expected(torch=build.requirement, backend=build.backend)
    return verify(
        host, python=python, machine=machine, expected=expected, depth=Depth(job.depth), extra_checks=profile.checks
    )


def _failed(build: Build, verification: Verification) -> VerificationFailed:
    first = verification.failed[0] if verification.failed else None
    said = "no check could be made" if first is None else f"{first.name}: expected {first.expected}, got {first.actual}"
    if first is not None and first.expected is None:
        said = f"{first.name}: {first.detail or first.actual or 'failed'}"
    return VerificationFailed(
        f"torch {build.name} did not pass its proof ({said}); the environment is as it was",
        hint="provision doctor looks for the cause",
        data={"verification": verification.to_json()},
    )


def _proven_in_place(
    job: Job, host: Host, machine: Machine, environment: Environment, ready: Ready, began: float
) -> Result | None:
    """Nothing is to be changed: prove what is there. None where it does not work."""
    profile = load_profile(job.profile)
    verification = _proof(job, host, machine, ready.build, interpreter(environment.prefix), profile)
    if not verification.ok:
        return None
    text = _lock_text(job, machine, environment, ready, profile, verification)
    _write_lock(environment.prefix, text, None)
    _stamp(job, machine, environment, ready.build)
    seconds = time.monotonic() - began
    data = ready.plan.to_json() | {
        "changed": False,
        "verification": verification.to_json(),
        "seconds": round(seconds, 3),
    }
    lines = (f"Verified  {proof_phrase(verification)}", _right(environment, seconds))
    return Result(command="apply", data=data, lines=lines)


def proof_phrase(verification: Verification) -> str:
    """What passed, in one line, and what could not be checked."""
    from .checks import Status

    passed = [check.name for check in verification.checks if check.status is Status.PASSED]
    skipped = [check for check in verification.checks if check.status is Status.SKIPPED]
    phrase = ", ".join(dict.fromkeys(passed))
    if skipped:
        why = "; ".join(dict.fromkeys(check.detail or "no reason" for check in skipped))
        phrase += f" ({len(skipped)} not checked: {why})"
    return phrase


# The record ----------------------------------------------------------------------------------------------------------


def _stamp(job: Job, machine: Machine, environment: Environment, build: Build) -> None:
    site = site_packages(environment.prefix)
    if site is None or job.foreign:
        return
    key = proof.proof_key(machine, environment, site, job.grounds())
    now = time.time()
    stamp = proof.Stamp(key=key, torch=build.requirement, backend=build.backend, proven=now, asked=now)
    proof.write_stamp(proof.stamp_path(environment.prefix), stamp)


def _already_right(job: Job, machine: Machine, environment: Environment, began: float) -> Result | None:
    """The result when the last proof still covers this machine, request and environment."""
    stamp = proof.read_stamp(proof.stamp_path(environment.prefix)) if environment.exists and not job.foreign else None
    site = site_packages(environment.prefix)
    if stamp is None or site is None or not (stamp.fresh or job.offline):
        return None
    if proof.proof_key(machine, environment, site, job.grounds()) != stamp.key:
        return None
    seconds = time.monotonic() - began
    data = {
        "machine": machine.to_json(),
        "changed": False,
        "changes": [],
        "environment": {"path": str(environment.prefix), "torch": environment.version("torch")},
        "proven": stamp.proven,
        "seconds": round(seconds, 3),
    }
    return Result(command="apply", data=data, lines=(_right(environment, seconds),))


def _right(environment: Environment, seconds: float) -> str:
    torch = environment.version("torch")
    return f"torch {torch} in {_shown(environment.prefix)}: already right (checked in {duration_phrase(seconds)})"


def _remember(machine: Machine, build: Build, failed: VerificationFailed) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime())
    failure = proof.Failure(
        machine=proof.machine_key(machine),
        torch=str(build.torch),
        backend=build.backend,
        reason=failed.text.partition("(")[2].partition(")")[0] or failed.text,
        day=day,
    )
    proof.remember(proof.failures_path(), [failure])


def _lock_text(
    job: Job, machine: Machine, environment: Environment, ready: Ready, profile: Profile, verification: Verification
) -> str:
    build = ready.build
    arches = tuple(sorted({"sm_" + gpu.arch.replace(".", "") if gpu.vendor == "nvidia" else gpu.arch
                           for gpu in machine.gpus if gpu.arch}))  # fmt: skip
    target = Target(system=build.system.value, machine=build.machine, python=environment.python.minor, arches=arches)
    return lock_text(
        ready.pins.text,
        backend=build.backend,
        channel=build.channel.value,
        profile=profile.name,
        target=target,
        index_url=build.index_url,
        verification=verification,
    )


def _write_lock(prefix: Path, text: str, console: Console | None) -> Path | None:
    """Beside the environment; a file there that is not ours stays. Raises AfterCommitFailed."""
    path = prefix.parent / FILE_NAME
    try:
        if path.exists():
            known = path.read_text(encoding="utf-8", errors="replace")
            if known == text:
                return path
            if not is_ours(known):
                if console:
                    console.message(
                        "warning", "foreign-lock", f"{path} was not written by provision and stays as it is"
                    )
                return None
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise AfterCommitFailed(
            f"the new environment is in place, but its lock {path} could not be written: {error.strerror or error}",
            code="lock-not-written",
            hint="make the folder writable and run provision again; nothing else is missing",
        ) from error
    return path


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
