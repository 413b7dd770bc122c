"""Which locks are to be made: for which machine, asked how, into which file? From the command line to `Aim`s."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadData, ProvisionError, UsageProblem
from .facts import machine_for
from .job import Job
from .lock import Lock, is_ours, read_lock
from .machine import Machine, machine_from_json
from .profile import PLATFORMS
from .targets import DEFAULT_PYTHON, is_arch, machine_on, parse_platform
from .values import frozen, replace

if TYPE_CHECKING:
    from .host import Host

ALL = "all"
"""`--upgrade all`."""


@frozen
class Order:
    """What `lock` is told besides what every deciding command is told."""

    platforms: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    output: Path | None = None
    engine: str = "uv"
    check: bool = False
    upgrade: tuple[str, ...] = ()
    wheelhouse: Path | None = None


@frozen
class Aim:
    """One lock to make: its file, the machine that it is for, what is asked, and what the file says so far."""

    path: Path
    machine: Machine
    job: Job
    python: str
    known: Lock | None

    @property
    def requirements(self) -> Path:
        """The same pins as text, beside the lock."""
        name = self.path.name.removeprefix("pylock.").removesuffix(".toml")
        return self.path.with_name(f"requirements.{name}.txt")


def aims(job: Job, host: Host, order: Order) -> list[Aim]:
    """Which locks to make. Raises UsageProblem, BadData."""
    folder = order.output or Path()
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"--output {folder} is no folder", hint="a lock's name follows from its profile")
    if (order.check or order.upgrade) and not asks_for_a_target(job, order):
        found = [aim for path in existing(folder, job.profile) if (aim := as_recorded(path, job)) is not None]
        if found:
            return found
    machine, named = facts(job, host, order)
    job = replace(job, machine=None, capture=None, gpus=(*job.gpus, *order.arches), for_others=True)
    python = job.python_version or (DEFAULT_PYTHON if named or order.platforms else python_here(job))
    platforms = [parse_platform(text) for text in order.platforms] or [machine.platform]
    several = len(set(platforms)) > 1
    names = {one: file_name(job.profile, f"{one.system.value}-{one.machine}" if several else "") for one in platforms}
    return [
        Aim(
            path=folder / name,
            machine=machine_on(one, machine),
            job=job,
            python=python,
            known=known_lock(folder / name),
        )
        for one, name in names.items()
    ]


def asks_for_a_target(job: Job, order: Order) -> bool:
    """Whether anything on the command line says what the lock is to be for."""
    said = (job.machine, job.capture, job.gpus, job.torch, job.python, order.platforms, order.arches)
    return any(said) or job.backend != "auto" or job.channel != "auto"


def facts(job: Job, host: Host, order: Order) -> tuple[Machine, bool]:
    """The machine that targets are made from, and whether it is another one than this.

    Where GPUs are named by their architecture, nothing of this machine counts: the same words, the same lock.
    """
    if job.foreign:
        return machine_for(job, host), True
    here = machine_for(job, host)
    if order.arches or (job.gpus and all(map(is_arch, job.gpus))):
        return Machine(platform=replace(here.platform, libc=None, wsl=False, container=None)), True
    return here, False


def file_name(profile: str, suffix: str) -> str:
    """`pylock.qlora.toml`, `pylock.qlora-linux-x86_64.toml` (PEP 751 allows no dot in the name)."""
    return f"pylock.{profile}{f'-{suffix}' if suffix else ''}.toml"


def existing(folder: Path, profile: str) -> list[Path]:
    """The locks of a profile that lie in a folder."""
    names = [file_name(profile, suffix) for suffix in ("", *PLATFORMS)]
    return [folder / name for name in names if (folder / name).exists()]


def known_lock(path: Path) -> Lock | None:
    """What the file says so far. Raises BadData for a file that is not ours: it is never replaced."""
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    if not is_ours(text):
        raise BadData(
            f"{path} was not written by provision and stays as it is",
            code="foreign-lock",
            hint="move it away, or write elsewhere with --output DIR",
        )
    return read_lock(text, where=str(path))


def as_recorded(path: Path, job: Job) -> Aim | None:
    """The target and the wishes that a lock was made for, to make it again anywhere; None where it does not tell."""
    known = known_lock(path)
    if known is None or known.machine is None or known.request is None:
        return None
    asked = known.request
    machine = machine_from_json(dict(known.machine), where=str(path))
    job = replace(
        job,
        gpus=tuple(asked.get("gpus", ())),
        backend=asked.get("backend", "auto"),
        channel=asked.get("channel", "auto"),
        torch=asked.get("torch"),
        python=known.target.python,
        for_others=True,
    )
    return Aim(path=path, machine=machine, job=job, python=known.target.python, known=known)


def python_here(job: Job) -> str:
    """The Python of the environment, where there is one, else of this tool."""
    from .detect.environment import this_python
    from .propose import environment_for

    try:
        python = environment_for(job).python
    except ProvisionError:
        python = this_python()
    return python.minor + ("t" if python.free_threaded else "")
