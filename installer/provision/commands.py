"""Every command: parse, call one function, render, return its code. Only bugs show a traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import COMMANDS, FLAGS, NAMES, help_text
from .console import Console
from .errors import ExitCode, Interrupted, ProvisionError

if TYPE_CHECKING:
    from .job import Job
    from .report import Result

PATH = click.Path(path_type=Path)

Options = Callable[[Callable[..., Any]], Callable[..., Any]]


def stack(*options: Options) -> Options:
    """Several options as one decorator, shown in the order given."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


deciding = stack(
    click.option("--machine", type=PATH, metavar="FILE", help="Another machine's facts (provision detect --json)."),
    click.option("--from", "capture", type=PATH, metavar="DIR", help="Another machine's capture."),
    click.option(
        "--gpu", "gpus", multiple=True, metavar="GPU", help="Only this GPU counts: index, UUID, name, sm_120."
    ),
    click.option("--backend", default="auto", metavar="NAME", help="auto, cpu, cu126 … cu132, rocmX.Y, xpu."),
    click.option("--channel", default="auto", type=click.Choice(["auto", "stable", "nightly", "test"])),
    click.option("--torch", metavar="SPEC", help="A version, or a specifier such as '<2.12'."),
    click.option("--python", metavar="VERSION", help="The environment's Python, such as 3.12."),
    click.option("--index-base", metavar="URL", help="A mirror of https://download.pytorch.org/whl."),
    click.option("--offline", is_flag=True, help="Ask no network."),
    click.option("--as-of", metavar="DAY", help="Choose as on that day (YYYY-MM-DD).", hidden=True),
)
target = click.option("--env", type=PATH, metavar="PATH", help="The environment [default: the active one, else .venv].")
changing = stack(
    target,
    click.option("-y", "--yes", is_flag=True, help="Ask nothing."),
)
telling = stack(
    click.option("--json", is_flag=True, help="One JSON object on stdout."),
    click.option("-v", "--verbose", is_flag=True, help="Show every reason and source."),
    click.option("-q", "--quiet", is_flag=True, help="Only errors."),
    click.option("--color", default="auto", type=click.Choice(["auto", "always", "never"])),
)


def command(function: Callable[..., Result]) -> click.Command:
    """A command whose function gets the console first and returns a Result."""
    name = function.__name__.rstrip("_")

    @functools.wraps(function)
    def run(*, json: bool, verbose: bool, quiet: bool, color: str, **options: Any) -> int:
        console = Console(json=json, verbose=verbose, quiet=quiet, color=color, yes=bool(options.get("yes")))
        try:
            return console.finish(function(console, **options))
        except ProvisionError as error:
            return console.fail(name, error)
        except KeyboardInterrupt:
            return console.fail(name, Interrupted("stopped by Ctrl-C; the environment is as it was"))
        except OSError as error:
            return console.fail(name, _system_error(error))

    decorated = telling(run)
    return click.command(name, context_settings={"help_option_names": ["-h", "--help"]})(decorated)


def _system_error(error: OSError) -> ProvisionError:
    """An error of the operating system that no room expected, with what it was about."""
    import errno

    from .errors import InstallFailed

    codes = {errno.ENOSPC: "no-space", errno.EDQUOT: "no-space", errno.EACCES: "permission", errno.EPERM: "permission"}
    about = f" ({error.filename})" if error.filename else ""
    return InstallFailed(
        f"{error.strerror or error}{about}; the environment is as it was",
        code=codes.get(error.errno or 0, "system"),
        hint="run it again with -v; if it stays, report it with provision doctor --report",
    )


def _not_a_command(profile: str) -> None:
    """`provision docter` means a command, not a profile."""
    import difflib

    from .errors import UsageProblem
    from .profile import find_profiles

    profiles = find_profiles()
    if profile in profiles:
        return
    near = difflib.get_close_matches(profile, [*NAMES, *profiles], n=1)
    raise UsageProblem(
        f"there is no command and no profile {profile!r}",
        code="unknown-profile",
        hint=f"provision {near[0]}" if near else f"provision --help; the profiles are {', '.join(sorted(profiles))}",
    )


def _job(options: dict[str, Any]) -> Job:
    from .job import Job

    return Job(**options)


@command
@click.argument("profile", default="torch")
@deciding
@changing
@click.option("--dry-run", is_flag=True, help="Same as plan.")
@click.option("--no-retry", "retry", is_flag=True, flag_value=False, default=True, help="Try no further candidate.")
@click.option("--depth", default="default", type=click.Choice(["quick", "default", "full"]), help="How much to prove.")
def apply(console: Console, *, dry_run: bool, yes: bool, **options: Any) -> Result:
    """Bring an environment to the right torch: detect, resolve, execute, verify, lock.

    PROFILE names the workload (provision profiles); without one it is torch alone.
    """
    from .host import LocalHost

    job = _job(options)
    _not_a_command(job.profile)
    if dry_run:
        from .propose import plan

        return plan(job, LocalHost(), console)
    from . import workflow

    return workflow.provision(job, LocalHost(), console)


@command
@click.argument("profile", default="torch")
@deciding
@target
@click.option("--exit-code", is_flag=True, help="Exit with 10 when there is something to change.")
def plan(console: Console, *, exit_code: bool, **options: Any) -> Result:
    """Show what apply would do, and why each other build was passed over. Changes nothing."""
    from . import propose
    from .host import LocalHost

    return propose.plan(_job(options), LocalHost(), console, exit_code=exit_code)


@command
@click.option("--from", "source", type=PATH, metavar="DIR", help="Replay a capture instead of asking this machine.")
@click.option(
    "--capture", type=PATH, metavar="DIR", help="Write what every source answered, without names and serials."
)
def detect(console: Console, *, source: Path | None, capture: Path | None) -> Result:
    """Show this machine's facts, each with its source."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.detect(LocalHost(), console, source=source, capture=capture)


@command
@target
@click.option("--quick", "depth", flag_value="quick", help="Import, and one matrix product on each GPU.")
@click.option("--full", "depth", flag_value="full", help="Everything, torch.compile and long checks included.")
@click.option("--depth", "depth", default="default", hidden=True)
@click.option("--machine", type=PATH, metavar="FILE", help="Prove it for another machine's GPUs, from the binaries.")
def verify(console: Console, **options: Any) -> Result:
    """Prove that torch works in an environment: packages, kernels in the binaries, kernels on the hardware."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.verify(_job(options), LocalHost(), console)


@command
@click.argument("paths", nargs=-1, type=PATH)
@target
@click.option("--gpu", "gpus", multiple=True, metavar="ARCH", help="Judge for this architecture: sm_120 or 12.0.")
@click.option("--machine", type=PATH, metavar="FILE", help="Judge for another machine's GPUs.")
@click.option("--require", multiple=True, metavar="ARCH", help="Exit with 1 where this architecture is not covered.")
def scan(console: Console, *, paths: tuple[Path, ...], require: tuple[str, ...], **options: Any) -> Result:
    """Show which GPU code the native libraries of an environment, a wheel or a file hold."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.scan(_job(options), LocalHost(), console, paths=paths, require=require)


@command
@target
@click.option("--log", type=click.Path(allow_dash=True, path_type=str), metavar="FILE", help="Explain an error text.")
@click.option("--fix", is_flag=True, help="Apply the fixes that are provision's own, as a transaction.")
@click.option("--report", type=PATH, metavar="FILE", help="Write what a bug report needs, without names and paths.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.option("--machine", type=PATH, metavar="FILE", help="Another machine's facts.")
def doctor(console: Console, *, log: str | None, fix: bool, report: Path | None, yes: bool, **options: Any) -> Result:
    """Find what is wrong with this machine and environment, with the fix."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.doctor(_job(options), LocalHost(), console, log=log, fix=fix, report=report)


@command
@click.argument("generation", required=False)
@changing
def rollback(console: Console, *, generation: str | None, yes: bool, **options: Any) -> Result:
    """Put an earlier state of the environment back: the last one, or the GENERATION that `history` names."""
    from . import upkeep
    from .host import LocalHost

    return upkeep.rollback(_job(options), LocalHost(), console, generation=generation)


@command
@target
def history(console: Console, **options: Any) -> Result:
    """List the states of the environment that can be put back."""
    from . import upkeep

    return upkeep.history(_job(options))


@command
@click.argument("code")
def explain(console: Console, *, code: str) -> Result:
    """Say what an error, finding or rejection code means, and what to do."""
    from . import upkeep

    return upkeep.explain(code)


@command
@click.argument("name", required=False)
def profiles(console: Console, *, name: str | None) -> Result:
    """List the profiles, or show one."""
    from . import upkeep

    return upkeep.profiles(name)


@command
@changing
@click.option("--failures", is_flag=True, help="Forget the builds that failed on this machine.")
@click.option("--cache", is_flag=True, help="Remove the kept index pages.")
@click.option("--all", "everything", is_flag=True, help="Remove everything this tool ever made, environments apart.")
def clean(console: Console, *, failures: bool, cache: bool, everything: bool, yes: bool, **options: Any) -> Result:
    """Remove old states of the environment, caches and remembered failures."""
    from . import upkeep

    return upkeep.clean(_job(options), console, failures=failures, cache=cache, everything=everything)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
def completion(shell: str) -> int:
    """Print the completion script of a shell, to be evaluated in it."""
    from click.shell_completion import get_completion_class

    source = get_completion_class(shell)
    if source is None:
        click.echo(f"error: this version of click has no completion for {shell}", err=True)
        return int(ExitCode.USAGE)
    click.echo(source(provision, {}, "provision", "_PROVISION_COMPLETE").source())
    return 0


class Door(click.Group):
    """The group: one command is the default, and its help is the door's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # While completing, the words typed so far stay as they are: the next one may still name a command.
        return super().parse_args(ctx, args if ctx.resilient_parsing else route(args))

    def get_help(self, ctx: click.Context) -> str:
        return help_text().rstrip("\n")


def route(args: list[str]) -> list[str]:
    """Arguments with the command first: the default command is put in where none is named.

    `provision qlora --yes` → `apply qlora --yes`; `provision --json plan` → `plan --json`.
    """
    if args and args[0] in ("-h", "--help", "--version"):
        return args
    place = next((place for place, arg in enumerate(args) if not arg.startswith("-")), None)
    if place is None:
        return ["apply", *args]
    before = args[:place]
    if args[place] in NAMES and all(arg in FLAGS for arg in before):
        return [args[place], *before, *args[place + 1 :]]
    return ["apply", *args]


provision = Door(
    "provision",
    commands={
        one.name: one
        for one in (apply, plan, verify, doctor, rollback, detect, scan, history, explain, profiles, clean, completion)
        if one.name
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: list[str]) -> int:
    """Run the command that the arguments mean; its exit code."""
    try:
        code = provision.main(arguments, prog_name="provision", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        return _usage(error, arguments)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was changed", err=True)
        return int(ExitCode.INTERRUPTED)
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError, arguments: list[str]) -> int:
    """A wrong command line: one line, and what to write instead."""
    if "--json" in arguments:
        from .errors import UsageProblem
        from .report import Result, envelope

        problem = UsageProblem(error.format_message(), hint="provision --help")
        command = error.ctx.info_name if error.ctx and error.ctx.info_name in NAMES else "provision"
        click.echo(envelope(Result(command=command, data={}, exit_code=problem.exit_code, errors=(problem,))))
        return 2
    where = f" {error.ctx.info_name}" if error.ctx and error.ctx.info_name in NAMES else ""
    click.echo(f"error: {error.format_message()}", err=True)
    click.echo(f"fix:   provision{where} --help", err=True)
    return 2
