"""Every command: what may be written after it, and the one function that it calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .params import Param, argument, flag, option
from .values import frozen

if TYPE_CHECKING:
    from .console import Console
    from .errors import InstallFailed
    from .job import Job
    from .report import Result

BACKENDS = "auto, cpu, cu126 … cu132, rocmX.Y, xpu"

DECIDING = (
    option("--machine", kind="path", metavar="FILE", help="Another machine's facts (provision detect --json)."),
    option("--from", to="capture", kind="path", metavar="DIR", help="Another machine's capture."),
    option("--gpu", to="gpus", many=True, metavar="GPU", help="Only this GPU counts: index, UUID, name or sm_120."),
    option("--backend", default="auto", metavar="NAME", help=f"The kind of build: {BACKENDS}."),
    option("--channel", default="auto", choices=("auto", "stable", "nightly", "test"), help="Where builds come from."),
    option("--torch", metavar="SPEC", help="A version, or a specifier such as '<2.12'."),
    option("--python", metavar="VERSION", help="The environment's Python, such as 3.12."),
    option("--index-base", metavar="URL", help="A mirror of https://download.pytorch.org/whl."),
    flag("--offline", help="Ask no network."),
    option("--as-of", metavar="DAY", help="Choose as on that day.", hidden=True),
)
ENV = option("--env", kind="path", metavar="PATH", help="The environment [default: the active one, else .venv].")
YES = flag("-y", "--yes", help="Ask nothing.")
DRY_RUN = flag("--dry-run", help="Only show what would change.")
MACHINE = DECIDING[0]
PROFILE = argument("profile", default="torch")
TELLING = (
    flag("--json", help="One JSON object on stdout."),
    flag("-v", "--verbose", help="Show every reason and source."),
    flag("-q", "--quiet", help="Only errors."),
    option("--color", default="auto", choices=("auto", "always", "never"), help="Whether to use colour."),
)


@frozen
class Command:
    """A command's name, parameters and function (console and parameters in, Result out)."""

    name: str
    params: tuple[Param, ...]
    function: Callable[..., Result]

    @property
    def help(self) -> str:
        return (self.function.__doc__ or "").strip()


COMMANDS: dict[str, Command] = {}


def command(*params: Param) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Enter a function as the command of its name."""

    def enter(function: Callable[..., Result]) -> Callable[..., Result]:
        name = function.__name__
        COMMANDS[name] = Command(name=name, params=(*params, *TELLING), function=function)
        return function

    return enter


def _job(options: dict[str, Any]) -> Job:
    from .job import Job

    return Job(**options)


@command(
    PROFILE,
    *DECIDING,
    ENV,
    YES,
    flag("--dry-run", help="Same as plan."),
    flag("--no-retry", to="retry", default=True, sets=False, help="Try no further candidate."),
    option("--plan", to="saved", kind="path", metavar="FILE", help="Apply a saved plan, if it is still the plan."),
    option("--depth", default="default", choices=("quick", "default", "full"), help="How much to prove."),
)
def apply(console: Console, *, dry_run: bool, yes: bool, saved: Path | None, **options: Any) -> Result:
    """Bring an environment to the right torch: detect, resolve, execute, verify, lock.

    PROFILE names the workload (provision profiles); without one it is torch alone.
    """
    from .host import LocalHost

    job = _job(options)
    check_profile(job.profile)
    if dry_run:
        from . import propose

        return propose.plan(job, LocalHost(), console)
    from .workflow import provision

    if saved is None:
        return provision(job, LocalHost(), console)
    from .saved import read_plan

    plan = read_plan(saved)
    return provision(plan.job, LocalHost(), console, saved=plan)


def check_profile(profile: str) -> None:
    """`provision docter` means a command, not a profile. Raises UsageProblem."""
    from .profile import DEFAULT, find_profiles

    if profile == DEFAULT:
        return
    profiles = find_profiles()
    if profile in profiles:
        return
    import difflib

    from .errors import UsageProblem

    near = difflib.get_close_matches(profile, [*COMMANDS, *profiles], n=1)
    raise UsageProblem(
        f"there is no command and no profile {profile!r}",
        code="unknown-profile",
        hint=f"provision {near[0]}" if near else f"provision --help; the profiles are {', '.join(sorted(profiles))}",
    )


@command(
    PROFILE,
    *DECIDING,
    ENV,
    flag("--exit-code", help="Exit with 10 when there is something to change."),
    option("-o", "--output", kind="path", metavar="FILE", help="Save the plan, for provision --plan FILE."),
)
def plan(console: Console, *, exit_code: bool, output: Path | None, **options: Any) -> Result:
    """Show what apply would do, and why each other build was passed over. Changes nothing."""
    from . import propose
    from .host import LocalHost

    return propose.plan(_job(options), LocalHost(), console, exit_code=exit_code, output=output)


@command(
    option("--from", to="source", kind="path", metavar="DIR", help="Replay a capture instead of asking this machine."),
    option("--capture", kind="path", metavar="DIR", help="Write what every source answered, without names."),
)
def detect(console: Console, *, source: Path | None, capture: Path | None) -> Result:
    """Show this machine's facts, each with its source."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.detect(LocalHost(), console, source=source, capture=capture)


@command(
    ENV,
    MACHINE,
    flag("--quick", to="depth", default="default", sets="quick", help="Import, and one matrix product on each GPU."),
    flag("--full", to="depth", default="default", sets="full", help="Everything, torch.compile included."),
)
def verify(console: Console, **options: Any) -> Result:
    """Prove that torch works in an environment: packages, kernels in the binaries, kernels on the hardware."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.verify(_job(options), LocalHost(), console)


@command(
    argument("paths", kind="path", many=True),
    ENV,
    MACHINE,
    option("--gpu", to="gpus", many=True, metavar="ARCH", help="Judge for this architecture: sm_120 or 12.0."),
    option("--require", many=True, metavar="ARCH", help="Exit with 1 where this architecture is not covered."),
)
def scan(console: Console, *, paths: tuple[Path, ...], require: tuple[str, ...], **options: Any) -> Result:
    """Show which GPU code the native libraries of an environment, a wheel or a file hold."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.scan(_job(options), LocalHost(), console, paths=paths, require=require)


@command(
    ENV,
    MACHINE,
    option("--log", metavar="FILE", help="Explain an error text (- for stdin)."),
    flag("--fix", help="Apply the fixes that are provision's own, as a transaction."),
    option("--report", kind="path", metavar="FILE", help="Write what a bug report needs, without names and paths."),
    YES,
    DRY_RUN,
)
def doctor(
    console: Console, *, log: str | None, fix: bool, report: Path | None, yes: bool, dry_run: bool, **options: Any
) -> Result:
    """Find what is wrong with this machine and environment, with the fix."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.doctor(_job(options), LocalHost(), console, log=log, fix=fix and not dry_run, report=report)


@command(argument("generation"), ENV, YES, DRY_RUN)
def rollback(console: Console, *, generation: str | None, yes: bool, dry_run: bool, **options: Any) -> Result:
    """Put an earlier state of the environment back: the last one, or the GENERATION that `history` names."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.rollback(_job(options), LocalHost(), console, generation=generation, dry_run=dry_run)


@command(ENV)
def history(console: Console, **options: Any) -> Result:
    """List the states of the environment that can be put back."""
    from . import upkeep

    return upkeep.history(_job(options))


@command(argument("code", required=True))
def explain(console: Console, *, code: str) -> Result:
    """Say what an error, finding or rejection code means, and what to do."""
    from . import upkeep

    return upkeep.explain(code)


@command(
    PROFILE,
    *DECIDING,
    ENV,
    option("--for", to="platforms", many=True, metavar="PLATFORM", help="Another platform, such as windows-x86_64."),
    option("--gpu-arch", to="arches", many=True, metavar="ARCH", help="A GPU that is not here, such as sm_120."),
    option("-o", "--output", kind="path", metavar="DIR", help="Where to write [default: here]."),
    option("--engine", default="uv", choices=("uv", "pip-tools"), help="Who resolves."),
    flag("--check", help="Write nothing; exit with 8 when the lock is stale."),
    option("--upgrade", many=True, metavar="NAME", help="Take the newest of this package, or of all."),
    option("--wheelhouse", kind="path", metavar="DIR", help="Also bring every file into this folder."),
)
def lock(
    console: Console,
    *,
    platforms: tuple[str, ...],
    arches: tuple[str, ...],
    output: Path | None,
    engine: str,
    check: bool,
    upgrade: tuple[str, ...],
    wheelhouse: Path | None,
    **options: Any,
) -> Result:
    """Write the pinned, hashed lock of PROFILE, and touch no environment.

    pip and uv install from pylock.PROFILE.toml and requirements.PROFILE.txt alone.
    """
    from . import locking
    from .aims import Order
    from .host import LocalHost

    order = Order(
        platforms=platforms,
        arches=arches,
        output=output,
        engine=engine,
        check=check,
        upgrade=upgrade,
        wheelhouse=wheelhouse,
    )
    return locking.lock(_job(options), LocalHost(), console, order)


@command(
    argument("lock_file", kind="path", required=True, metavar="LOCK"),
    option("--gpu", to="gpus", many=True, metavar="GPU", help="Only this GPU counts: index, UUID, name or sm_120."),
    option("--backend", default="auto", metavar="NAME", help="cpu: a lock of the CPU build is meant despite a GPU."),
    flag("--offline", help="Ask no network."),
    option("--find-links", to="wheelhouse", kind="path", metavar="DIR", help="Take every file from this folder."),
    ENV,
    YES,
    flag("--dry-run", help="Show what would change."),
    option("--depth", default="default", choices=("quick", "default", "full"), help="How much to prove."),
)
def sync(
    console: Console,
    *,
    lock_file: Path,
    wheelhouse: Path | None,
    dry_run: bool,
    yes: bool,
    **options: Any,
) -> Result:
    """Make an environment equal to LOCK, in one transaction, with every hash checked.

    A lock that is not for this machine is refused with the reason (exit 8).
    """
    from . import syncing
    from .host import LocalHost

    return syncing.sync(_job(options), LocalHost(), console, lock_file, wheelhouse=wheelhouse, dry_run=dry_run)


@command(argument("words", many=True, metavar="[show] NAME"))
def profiles(console: Console, *, words: tuple[str, ...]) -> Result:
    """List the profiles; show NAME shows one, validate FILE reads one strictly."""
    from . import workloads

    return workloads.profiles(words)


@command(
    ENV,
    YES,
    DRY_RUN,
    flag("--failures", help="Forget the builds that failed on this machine."),
    flag("--cache", help="Remove the kept index pages."),
    flag("--all", to="everything", help="Remove everything this tool ever made, environments apart."),
)
def clean(
    console: Console, *, failures: bool, cache: bool, everything: bool, yes: bool, dry_run: bool, **options: Any
) -> Result:
    """Remove old states of the environment, caches and remembered failures."""
    from . import upkeep

    return upkeep.clean(_job(options), console, failures=failures, cache=cache, everything=everything, dry_run=dry_run)


@command(
    argument("packages", many=True, required=True),
    MACHINE,
    option("--gpu", to="gpus", many=True, metavar="GPU", help="Only this GPU counts: index, UUID, name or sm_120."),
    option("--index-base", metavar="URL", help="A mirror of https://download.pytorch.org/whl."),
    flag("--offline", help="Ask no network."),
    ENV,
    YES,
    flag("--dry-run", help="Only show what would change."),
)
def add(console: Console, *, packages: tuple[str, ...], dry_run: bool, yes: bool, **options: Any) -> Result:
    """Install further packages into an environment, with its torch family held."""
    from . import adding
    from .host import LocalHost

    return adding.add(_job(options), packages, LocalHost(), console, dry_run=dry_run)


@command(
    argument("kind", choices=("dockerfile", "requirements", "uv", "env", "ci"), required=True),
    PROFILE,
    *DECIDING,
    option("--base", default="slim", choices=("slim", "cuda"), help="What the Dockerfile stands on."),
    ENV,
)
def export(console: Console, *, kind: str, base: str, **options: Any) -> Result:
    """Say the choice in another tool's words: a Dockerfile, requirements, uv's project, shell settings, a CI job."""
    from . import exporting
    from .host import LocalHost

    return exporting.export(_job(options), LocalHost(), console, kind=kind, base=base)


@command(
    ENV,
    flag("--on", to="on", sets=True, default=None, help="Hold the torch that is installed."),
    flag("--off", to="on", sets=False, default=None, help="Let go of it."),
)
def hold(console: Console, *, on: bool | None, **options: Any) -> Result:
    """Show, set or lift the hold: by it pip keeps to the torch that was proven in the environment."""
    from . import holding

    return holding.hold(_job(options), console, on=on)


@command(argument("shell", choices=("bash", "zsh", "fish", "powershell"), required=True, metavar="SHELL"))
def completion(console: Console, *, shell: str) -> Result:
    """Print the completion script of a shell, to be evaluated in it."""
    from .face import completion_script
    from .report import Result

    script = completion_script(shell)
    return Result(command="completion", data={"shell": shell, "script": script}, lines=(script,))


def run(chosen: Command, given: dict[str, Any]) -> int:
    """Call a command's function and tell what came of it; the exit code. Only bugs show a traceback."""
    from .console import Console
    from .errors import Interrupted, ProvisionError

    telling = {param.to: given.pop(param.to) for param in TELLING}
    console = Console(**telling, yes=bool(given.get("yes")))
    try:
        return console.finish(chosen.function(console, **given))
    except ProvisionError as error:
        return console.fail(chosen.name, error)
    except KeyboardInterrupt:
        hint = "run it again when you like; nothing has to be cleaned up first"
        return console.fail(chosen.name, Interrupted("stopped by Ctrl-C; the environment is as it was", hint=hint))
    except OSError as error:
        return console.fail(chosen.name, _system_error(error))
    except Exception as error:
        if not console.json:
            raise
        # A program that reads our JSON gets its one object even from a bug; the traceback is for the report.
        import traceback

        traceback.print_exc()
        hint = "this is a bug in provision: please report it with the traceback and provision doctor --report FILE"
        return console.fail(chosen.name, ProvisionError(f"{type(error).__name__}: {error}", code="bug", hint=hint))


def _system_error(error: OSError) -> InstallFailed:
    """An error of the operating system that no room expected, with what it was about."""
    import errno

    from .errors import InstallFailed

    codes = {errno.ENOSPC: "no-space", errno.EACCES: "permission", errno.EPERM: "permission", errno.EROFS: "read-only"}
    about = f" ({error.filename})" if error.filename else ""
    return InstallFailed(
        f"{error.strerror or error}{about}; the environment is as it was",
        code=codes.get(error.errno or 0, "system"),
        hint="run it again with -v; if it stays, report it with provision doctor --report FILE",
    )
