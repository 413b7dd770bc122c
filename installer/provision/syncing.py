"""How does an environment become equal to a lock? `provision sync`: fit, compare, change, prove.

Exact: what the lock names is put in at its version, with its hashes checked; what it does not name goes (packages
outside the torch family only after asking; pip stays where it came with the environment, as with uv and pip-tools). A
lock that is for another machine changes nothing and says what differs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from . import transaction, uv
from .carry import login_variables, uv_environment
from .catalog import Build, Catalog, Channel, Source, SourceKind, load_catalog, pytorch_index
from .compare import changes_between
from .console import Console
from .detect.environment import inspect_environment, interpreter, target_prefix, this_python
from .environment import Environment, Manager, Python
from .errors import BadData, Mismatch, UsageProblem
from .facts import look
from .job import Job
from .lock import Lock, read_lock, requirements_text
from .machine import Machine, System
from .plan import Change, Plan
from .profile import Profile, load_profile
from .propose import Ready
from .report import Result
from .resolve import Request, Resolution, resolve
from .rules import Reason
from .screens import change_lines, environment_phrase
from .settings import ask_settings
from .values import replace
from .workflow import Task, again, change, prove, right_in_place

if TYPE_CHECKING:
    from .host import Host

SEEDS = ("pip", "setuptools", "wheel")
"""What `python -m venv` and `virtualenv` put into an environment; an environment that uv made starts without."""


def sync(
    job: Job, host: Host, console: Console, path: Path, *, wheelhouse: Path | None = None, dry_run: bool = False
) -> Result:
    """Make the environment equal to the lock at `path`. Raises ProvisionError; Mismatch where it is for another."""
    began = time.monotonic()
    text, lock = lock_at(path)
    prefix = target_prefix(job.env, os.environ, Path.cwd())
    transaction.recover(prefix, say=lambda said: console.message("info", "recovered", said))
    machine = look(host)
    environment = inspect_environment(prefix, python=lock.target.python)
    resolution, build, unfit = fitting(lock, machine, environment, job)
    if unfit:
        raise Mismatch(
            f"{path} is not for this machine: {'; '.join(unfit)}; nothing was changed",
            code="lock-does-not-fit",
            hint="lock for it: provision lock, or choose anew: provision",
            data={"lock": str(path), "differences": list(unfit)},
        )
    if wheelhouse is not None:
        from .wheelhouse import check_complete

        wheelhouse = Path(os.path.abspath(wheelhouse))
        check_complete(wheelhouse, lock)
    changes, asking = exact_changes(environment, lock)
    proposal = Plan(machine=machine, resolution=resolution, environment=environment, changes=changes)
    console.line(f"Lock      {path}: torch {lock.torch} and {len(lock.packages) - 1} packages for {lock.target}")
    console.line(f"Env       {environment_phrase(proposal)}")
    if dry_run:
        return Result(command="sync", data=proposal.to_json(), lines=tuple(change_lines(proposal)))
    profile = profile_of(lock, console)
    task = Task(task_job(job, lock), host, console, machine, environment, profile, began, lock=text)
    with tempfile.TemporaryDirectory(prefix="provision-") as name:
        pins = Path(name) / ("requirements.txt" if wheelhouse else "pylock.toml")
        pins.write_text(requirements_text(lock, beside=path.name, folder=True) if wheelhouse else text, "utf-8")
        ready = ready_for(task, lock, build, proposal, wheelhouse)
        if environment.exists and not changes:
            verification = prove(task, ready, interpreter(prefix))
            if verification.ok:
                return replace(right_in_place(task, ready, verification), command="sync")
            console.message("warning", "repairing", "the right versions are there but fail: putting them in again")
            ready = replace(ready, plan=again(ready.plan))
        console.lines([*change_lines(ready.plan), *(f" - {name}=={environment.version(name)}" for name in asking)])
        consent(asking, environment, console)
        return replace(change(task, ready, pins), command="sync")


def lock_at(path: Path) -> tuple[str, Lock]:
    """The text and the value of a lock file. Raises BadData."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(
            f"the lock {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            code="bad-lock",
            hint="provision lock writes one",
        ) from None
    return text, read_lock(text, where=str(path))


# Does it fit? -------------------------------------------------------------------------------------------------------


def fitting(
    lock: Lock, machine: Machine, environment: Environment, job: Job
) -> tuple[Resolution, Build, tuple[str, ...]]:
    """The build that is locked, what the rules say of it here, and every difference between lock and machine.

    A GPU that counts must be one of those that the lock is for; `--gpu` selects, and `--backend cpu` means that a lock
    of the CPU build is wanted although there is a GPU.
    """
    target = lock.target
    catalog = load_catalog(job.base)
    build = locked_build(lock, catalog)
    known = (*(one for one in catalog.builds if not same(one, build)), build)
    request = Request(
        torch=SpecifierSet(f"=={build.torch}"),
        backend=build.backend if build.backend == job.backend or build.backend != "cpu" else None,
        channel=build.channel,
        gpus=job.gpus,
        python=environment.python,
    )
    resolution = resolve(machine, request, replace(catalog, builds=known))
    here = machine.platform
    unfit = []
    if (target.system, target.machine) != (here.system.value, here.machine):
        unfit.append(f"the lock is for {target.system} {target.machine}, this is {here.system.value} {here.machine}")
    if target.python != spelled(environment.python):
        unfit.append(f"the lock is for Python {target.python}, the environment has {spelled(environment.python)}")
    asked_for_cpu = build.backend == job.backend == "cpu"
    if not asked_for_cpu:
        unfit += gpu_differences(lock, resolution)
    if not unfit:
        unfit += [
            f"{one.reason.value}: torch {build.name} wants {one.wanted}, found {one.found}"
            for one in resolution.rejected
            if one.build == build and one.reason not in (Reason.OLDER, Reason.NOT_ADVERTISED)
        ]
    return resolution, build, tuple(unfit)


def gpu_differences(lock: Lock, resolution: Resolution) -> list[str]:
    """The GPUs that count and the lock is not for."""
    from .coverage import arches_of

    here, there = arches_of(resolution.gpus), lock.target.arches
    if there and not here:
        return [f"the lock is for {' '.join(there)}, this machine has no GPU that counts"]
    others = [arch for arch in here if arch not in there]
    if not others:
        return []
    return [f"the lock is for {' '.join(there) or 'machines without a GPU'}, this machine has {' '.join(others)}"]


def same(one: Build, other: Build) -> bool:
    """Whether two rows are about one build."""
    fields = ("torch", "backend", "system", "machine", "channel")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def locked_build(lock: Lock, catalog: Catalog) -> Build:
    """The build that a lock pins: the table's row, else what the lock itself tells. Raises BadData."""
    version = Version(lock.torch)
    try:
        channel = Channel(lock.channel)
    except ValueError:
        raise BadData(f"the lock names the channel {lock.channel!r}", code="bad-lock", hint="lock again") from None
    torch = Version(version.public)
    source = (
        pytorch_index()
        if "torch" in lock.from_index
        else Source(kind=SourceKind.PACKAGE_INDEX, url=lock.index_url, label="the lock")
    )
    made = Build(
        torch=torch,
        backend=lock.backend,
        system=System(lock.target.system),
        machine=lock.target.machine,
        source=source,
        channel=channel,
        arches=lock.target.arches,
        local=version.local,
        confidence="inferred",
    )
    row = next((one for one in catalog.builds if same(one, made)), None)
    return made if row is None else replace(row, local=version.local, source=source, published=True)


def spelled(python: Python) -> str:
    """`3.13t`."""
    return python.minor + ("t" if python.free_threaded else "")


# What changes -------------------------------------------------------------------------------------------------------


def exact_changes(environment: Environment, lock: Lock) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Every change that leads to exactly the lock, and the packages whose removal is asked for first."""
    changes, broken = changes_between(environment, lock.versions)
    gone = {one.name for one in changes if one.new is None}
    extra = [
        name
        for name in sorted(environment.installed)
        if name not in lock.versions and name not in gone and not is_seed(name, environment)
    ]
    removed = tuple(Change(name=name, old=environment.version(name), new=None) for name in extra)
    return (*changes, *removed), (*(one.name for one in broken if one.name in gone), *extra)


def is_seed(name: str, environment: Environment) -> bool:
    """What the environment was made with stays (uv and pip-tools do the same)."""
    return name in SEEDS and environment.manager is not Manager.UV


def consent(names: Sequence[str], environment: Environment, console: Console) -> None:
    """Removing a package that the lock does not name asks. Raises UsageProblem."""
    if not names:
        return
    said = ", ".join(f"{name} {environment.version(name)}" for name in names)
    answer = console.confirm(f"The lock does not name {said}. Remove?")
    if answer is None:
        raise UsageProblem(
            f"this would remove {said}, which the lock does not name, and nobody can be asked",
            code="needs-consent",
            hint="agree with --yes, or add them to the profile and lock again",
        )
    if not answer:
        raise UsageProblem("not agreed; nothing was changed", code="declined")


# Ready --------------------------------------------------------------------------------------------------------------


def task_job(job: Job, lock: Lock) -> Job:
    """The job that the lock stands for: `provision` asked in these words afterwards finds it done."""
    python = None if lock.target.python == spelled(this_python()) else lock.target.python
    return replace(job, profile=lock.profile, torch=f"=={lock.torch}", backend=lock.backend, python=python)


def profile_of(lock: Lock, console: Console) -> Profile:
    """The profile that was locked, for its checks; without it here only torch is proven."""
    try:
        return load_profile(lock.profile)
    except UsageProblem:
        text = f"the profile {lock.profile} is not here: torch is proven, what else the profile checks is not"
        console.message("warning", "profile-absent", text)
        return Profile(name=lock.profile, summary="", path=Path(), packages=())


def ready_for(task: Task, lock: Lock, build: Build, proposal: Plan, wheelhouse: Path | None) -> Ready:
    """Everything that the change needs, and the network as the user's settings open it."""
    assert task.lock is not None
    settings = ask_settings(task.host, prefix=task.environment.prefix, base=task.job.base_as_given)
    variables = uv_environment(settings, os.environ, offline=task.job.offline or wheelhouse is not None)
    changed = {one.name for one in proposal.changes or () if one.new is not None}
    sizes = {one.name: one.files[0].size or 0 for one in lock.packages if one.name in changed}
    return Ready(
        build=build,
        plan=proposal,
        pins=uv.parse_pins(task.lock),
        uv=uv.find_uv(task.host),
        variables=variables | login_variables(settings, lock.index_url, installing=variables),
        sizes=sizes,
        wheelhouse=wheelhouse,
    )
