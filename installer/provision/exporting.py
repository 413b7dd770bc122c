"""What `provision export` does: decide as `plan` does, and say the choice in another tool's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .catalog import load_catalog
from .coverage import arches_of
from .errors import UsageProblem
from .export import KINDS, Choice, choice_of, dockerfile
from .profile import load_profile
from .propose import bare_plan, decision_for, environment_for, no_build, tell_left_out, wish
from .report import Result
from .wants import wanted_for

if TYPE_CHECKING:
    from .console import Console
    from .host import Host
    from .job import Job


def export(job: Job, host: Host, console: Console, *, kind: str, base: str) -> Result:
    """The text of one kind, on stdout. Raises UsageProblem, NoBuildFits and what deciding raises."""
    if base == "cuda" and kind != "dockerfile":
        raise UsageProblem("--base is for the Dockerfile", hint="provision export dockerfile --base cuda")
    choice = choose(job, host, console)
    text = dockerfile(choice, cuda=True) if base == "cuda" else KINDS[kind](choice)
    return Result(
        command="export", data={"kind": kind, "text": text, "pins": dict(choice.pins)}, lines=(text.rstrip("\n"),)
    )


def choose(job: Job, host: Host, console: Console) -> Choice:
    """The choice for the machine and profile of a job; for this environment's Python where it is about this machine."""
    from .detect.environment import this_python
    from .environment import Python
    from .facts import machine_for

    profile = load_profile(job.profile)
    machine = machine_for(job, host)
    environment = None if job.foreign else environment_for(job)
    decision = decision_for(job, host, console, machine, environment, profile, executing=False)
    build = decision.resolution.choice
    if build is None:
        raise no_build(decision.resolution, bare_plan(machine, decision.resolution, environment))
    tell_left_out(job, console, decision, build, profile)
    asked = job.python_version
    python = Python(version=asked) if asked else environment.python if environment else this_python()
    companions = load_catalog(job.base).companions_of(build.torch, build.backend, build.system)
    arches = arches_of(decision.resolution.gpus)
    if decision.settings is None:
        wanted = wanted_for(build, profile, companions, arches=arches)
    else:
        wanted = wish(job, decision, build, profile, python)
    if not wanted.needs and (job.offline or decision.settings is None) and not build.backend.startswith(("cpu", "cu")):
        text = f"torch for {build.backend} wants packages of its own index; without a network they are not named here"
        console.message("warning", "needs-unread", text)
    return choice_of(
        build,
        wanted,
        python=python.minor,
        profile=profile.name,
        arches=arches,
        gpus=[gpu.name for gpu in decision.resolution.gpus if gpu.name],
        environment={name: setting.value for name, setting in profile.environment.items()},
    )
