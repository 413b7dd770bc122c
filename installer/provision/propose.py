"""What would be done? From facts to a plan: decide, pin, compare. Changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .catalog import Build, load_catalog
from .choose import Decision, cache_folder, decide
from .console import Console
from .coverage import arches_of
from .environment import Environment, Python
from .errors import ExitCode, InstallFailed, NoBuildFits
from .facts import machine_for
from .job import Job
from .machine import Machine
from .profile import Profile, load_profile
from .report import Message, Result
from .resolve import Resolution
from .values import frozen, replace

if TYPE_CHECKING:
    from .host import Host
    from .plan import Plan
    from .settings import Settings
    from .uv import Pin, Pins, Wanted


NARROWINGS = 12
"""So many packages may each narrow the choice further."""


@frozen
class Ready:
    """A build, pinned for one environment: everything that a change needs.

    With a `wheelhouse` the files come from that folder and from nowhere else.
    """

    build: Build
    plan: Plan
    pins: Pins
    uv: str
    variables: dict[str, str]
    sizes: Mapping[str, int]
    wheelhouse: Path | None = None


def plan(job: Job, host: Host, console: Console, *, exit_code: bool = False, output: Path | None = None) -> Result:
    """What `provision` would do, and why each other build was passed over; saved in `output`. Raises ProvisionError."""
    profile = load_profile(job.profile)
    machine = machine_for(job, host)
    environment = None if job.foreign else environment_for(job)
    decision = decision_for(job, host, console, machine, environment, profile, executing=False)
    build = decision.resolution.choice
    proposal = bare_plan(machine, decision.resolution, environment)
    if build is not None and environment is not None and not decision.from_table and not job.offline:
        import tempfile

        decision = attainable_for(job, host, decision, machine, environment, profile)
        build = decision.resolution.choice or build
        with tempfile.TemporaryDirectory(prefix="provision-") as folder:
            proposal = pinned(job, host, decision, build, machine, environment, profile, Path(folder)).plan
    if output is not None and build is not None:
        from .saved import plan_text

        output.write_text(plan_text(job, proposal), encoding="utf-8")
        console.message("info", "plan-saved", f"saved; to apply exactly this: provision --plan {output}")
    keep_notes(decision.resolution, console)
    lines: tuple[str, ...] = ()
    if not console.json:
        from .screens import plan_lines

        lines = tuple(plan_lines(proposal, verbose=console.verbose))
        if console.verbose and decision.settings is not None:
            from .settings import settings_lines

            lines += tuple(settings_lines(decision.settings))
    if build is None:
        problem = no_build(decision.resolution)
        return Result(
            command="plan", data=proposal.to_json(), lines=lines, exit_code=ExitCode.NO_BUILD, errors=(problem,)
        )
    tell_left_out(job, console, decision, build, profile)
    code = ExitCode.CHANGES_PENDING if exit_code and proposal.changes else ExitCode.OK
    return Result(command="plan", data=proposal.to_json(), lines=lines, exit_code=code)


def environment_for(job: Job) -> Environment:
    """The environment that the job is about, as it is."""
    from .detect.environment import inspect_environment, target_prefix

    return inspect_environment(target_prefix(job.env, os.environ, Path.cwd()), python=job.python_version)


def decision_for(
    job: Job,
    host: Host,
    console: Console,
    machine: Machine,
    environment: Environment | None,
    profile: Profile,
    *,
    executing: bool,
) -> Decision:
    """The choice for this environment's Python, or for the Python that was asked for."""
    asked = job.python_version
    python = environment.python if environment else None
    if asked is not None:
        python = Python(version=asked.rstrip("t"), free_threaded=asked.endswith("t"))
    prefix = environment.prefix if environment and environment.exists else None
    return decide(job, host, console, machine, job.request(python, profile), executing=executing, prefix=prefix)


def bare_plan(machine: Machine, resolution: Resolution, environment: Environment | None) -> Plan:
    """The plan before anything is pinned."""
    from .plan import Plan

    return Plan(machine=machine, resolution=resolution, environment=environment, changes=None)


def keep_notes(resolution: Resolution, console: Console) -> None:
    """What the screen of a plan says of the choice is in the messages of the JSON object."""
    console.messages += [Message(level=note.level, code=note.code, text=note.text) for note in resolution.notes]


def no_build(resolution: Resolution, proposal: Plan | None = None) -> NoBuildFits:
    """That nothing fits, with the ways out."""
    ways = "; or ".join(
        advice.do if advice.do.startswith("wait ") else f"{advice.do} gives {advice.gains}"
        for advice in resolution.advice
    )
    return NoBuildFits(
        "no published build of torch can run here as asked (each build's reason: provision plan -v)",
        hint=ways or "ask for less with --gpu, --torch or --python, or for the CPU with --backend cpu",
        data=proposal.to_json() if proposal else None,
    )


def pinned(
    job: Job,
    host: Host,
    decision: Decision,
    build: Build,
    machine: Machine,
    environment: Environment,
    profile: Profile,
    folder: Path,
    *,
    wanted: Wanted | None = None,
) -> Ready:
    """Ask uv for the exact set (into `folder/pylock.toml`), and compare it with what is installed.

    It is the profile that says what is `wanted`, unless that is given.
    """
    from . import uv
    from .carry import login_variables, uv_environment
    from .compare import changes_between
    from .detect.environment import interpreter
    from .plan import FAMILY, Plan

    assert decision.settings is not None
    engine = uv.find_uv(host)
    settings = decision.settings
    variables = uv_environment(settings, os.environ, offline=job.offline)
    pinning = variables | login_variables(settings, build.index_url)
    python = str(interpreter(environment.prefix)) if environment.exists else job.python_version or base_python()
    keep = {name: one.version for name, one in environment.installed.items() if name not in FAMILY}
    exactly = wanted is not None
    wanted = wanted or wish(job, decision, build, profile, environment.python, installed=environment.installed)

    def compiled(wanted: uv.Wanted) -> uv.Pins:
        return uv.compile_pins(host, engine, wanted, folder=folder, python=python, env=pinning, installed=keep)

    try:
        pins = compiled(wanted)
    except InstallFailed as error:
        if error.code != "resolution" or len(wanted.family) == 1 or profile.companions or exactly:
            raise
        # The source holds torch alone: what was built for the old torch cannot stay, and the plan shows that it goes.
        pins = compiled(replace(wanted, family={"torch": wanted.family["torch"]}))
    changes, broken = changes_between(environment, pins.versions)
    fetched = [pin for pin in pins.packages if environment.version(pin.name) != pin.version]
    sizes = download_sizes(fetched, settings, offline=job.offline)
    proposal = Plan(
        machine=machine,
        resolution=decision.resolution,
        environment=environment,
        changes=changes,
        broken=broken,
        download_bytes=sum(sizes.values()) or None,
    )
    return Ready(
        build=build,
        plan=proposal,
        pins=pins,
        uv=engine,
        variables=variables | login_variables(settings, build.index_url, installing=variables),
        sizes=sizes,
    )


def wish(
    job: Job, decision: Decision, build: Build, profile: Profile, python: Python, *, installed: Collection[str] = ()
) -> Wanted:
    """What uv is to pin for a build and a profile; what torch wants of its own index is read from its metadata."""
    from .needs import needs_of
    from .wants import wanted_for

    assert decision.settings is not None
    companions, arches = companions_and_arches(job, build, decision)
    listed = decision.survey.wheels(build.source) if decision.survey else ()
    needs = needs_of(build, listed, python, decision.settings, cache_folder(), offline=job.offline)
    return replace(wanted_for(build, profile, companions, arches=arches, installed=installed), needs=needs)


def companions_and_arches(job: Job, build: Build, decision: Decision) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """What the table knows to go with a build, and the GPU architectures that count."""
    companions = load_catalog(job.base).companions_of(build.torch, build.backend, build.system)
    return companions, arches_of(decision.resolution.gpus)


def tell_left_out(job: Job, console: Console, decision: Decision, build: Build, profile: Profile) -> None:
    """What the profile names and this build does not get is told."""
    if not profile.plain:
        from .wants import left_out

        for message in left_out(build, profile, *companions_and_arches(job, build, decision)):
            console.message(message.level, message.code, message.text)


def attainable_for(
    job: Job, host: Host, decision: Decision, machine: Machine, environment: Environment, profile: Profile
) -> Decision:
    """`attainable` for one environment; torch alone is always attainable."""
    if profile.plain:
        return decision
    import tempfile

    with tempfile.TemporaryDirectory(prefix="provision-") as folder:

        def pin(decision: Decision, build: Build) -> object:
            return pinned(job, host, decision, build, machine, environment, profile, Path(folder))

        return attainable(decision, machine, pin)


def attainable(decision: Decision, machine: Machine, pin: Callable[[Decision, Build], object]) -> Decision:
    """The decision narrowed until everything that is wanted can be had together.

    What uv says of the package that wants another torch becomes a limit of the choice, which then names it. Raises
    InstallFailed (`resolution`) where no build is left, with uv's first words.
    """
    from .narrow import limit_in
    from .resolve import resolve

    first: InstallFailed | None = None
    for _ in range(NARROWINGS):
        build = decision.resolution.choice
        if build is None:
            break
        try:
            pin(decision, build)
        except InstallFailed as error:
            first = first or error
            limit = limit_in(error.text, build, decision.resolution.candidates) if error.code == "resolution" else None
            if limit is None:
                raise
            request = replace(decision.request, limits=(*decision.request.limits, limit))
            decision = replace(decision, request=request, resolution=resolve(machine, request, decision.catalog))
        else:
            return decision
    assert first is not None
    raise first


def download_sizes(pins: Collection[Pin], settings: Settings, *, offline: bool) -> dict[str, int]:
    """Name → the bytes to fetch, as far as the index or the files' hosts tell."""
    from .index import ask_sizes

    unknown = [pin.url for pin in pins if pin.size is None and pin.url]
    asked = ask_sizes(unknown, settings) if unknown and not offline else {}
    sizes = {pin.name: pin.size or asked.get(pin.url or "") for pin in pins}
    return {name: size for name, size in sizes.items() if size}


def base_python() -> str:
    """The interpreter that this tool's own was made from: a new environment shall not depend on the tool."""
    return getattr(sys, "_base_executable", None) or sys.executable
