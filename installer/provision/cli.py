"""The command line's door: which command is meant, and what happens when it fails.

`--help` must answer before anything heavy is imported, so the group knows its commands from a static table and imports
`commands` only when one is run. `provision [PROFILE]` without a command is the one-shot job.
"""

from __future__ import annotations

import sys

import click

from . import __version__

COMMANDS = {
    "Everyday": {
        "apply": "Bring an environment to the right torch (the default)",
        "plan": "Show what apply would do, and why; change nothing",
        "verify": "Prove that torch works on this machine's GPUs",
        "doctor": "Find what is wrong with machine and environment, with the fix",
        "rollback": "Put an earlier state of the environment back",
    },
    "Look closer": {
        "detect": "Show this machine's facts, each with its source",
        "scan": "Show which GPU code the binaries hold",
        "history": "List the states that can be put back",
        "explain": "Say what an error or finding code means",
    },
    "Reproduce and share": {
        "lock": "Write a hashed lock file without touching an environment",
        "sync": "Make an environment equal to a lock file",
        "profiles": "List the profiles",
        "clean": "Remove old states, caches and remembered failures",
        "completion": "Print the shell completion for bash, zsh, fish or PowerShell",
    },
}
"""Section → command → one line. The lines are those of `--help`."""

NAMES = {name for section in COMMANDS.values() for name in section}

INTRO = """\
Usage: provision [OPTIONS] [PROFILE]
       provision COMMAND [OPTIONS]

  Put the right PyTorch on this machine: detect the GPU, choose the build,
  swap torch, prove that it works.

Examples:
  provision                      detect, swap torch in .venv, verify, lock
  provision plan                 show what would change, and why
  provision --torch 2.11.0       ask for a version
  provision --backend cpu        ask for a backend
"""

OPTIONS = """\
Options:
  --env PATH          Environment      [default: the active one, else .venv]
  --torch SPEC        Version or specifier, such as 2.11.0 or "<2.12"
  --backend NAME      auto, cpu, cu126 ... cu132, rocm7.2, xpu
  --channel NAME      auto, stable, nightly, test
  --gpu GPU           Only this GPU counts: index, UUID, name or sm_120
  --python VERSION    Python of a new environment, such as 3.12
  --index-base URL    Mirror of https://download.pytorch.org/whl
  --offline           Ask no network
  --machine FILE      Another machine's facts (provision detect --json)
  -y, --yes           Ask nothing
  --dry-run           Same as plan
  --json              One JSON object on stdout
  --color WHEN        auto, always, never
  -v, --verbose       Show every reason and source
  -q, --quiet         Only errors
  --version           Show the version
  -h, --help          Show this help; each command has its own
"""


class Door(click.Group):
    """A group that knows its commands by name and loads them when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NAMES:
            return None
        from . import commands

        command = getattr(commands, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, route(args))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(INTRO)
        for title, section in COMMANDS.items():
            formatter.write(f"\n{title}:\n")
            formatter.write("".join(f"  {name:<12} {line}\n" for name, line in section.items()))
        formatter.write("\n" + OPTIONS)


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


FLAGS = {"--json", "-v", "--verbose", "-q", "--quiet", "--offline", "-y", "--yes", "--dry-run"}


@click.group(cls=Door, add_help_option=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="provision", message="%(prog)s %(version)s")
def provision() -> None:
    """Put the right PyTorch on this machine."""


def main(args: list[str] | None = None) -> None:
    """The console script: run a command and leave with its exit code. Only bugs show a traceback."""
    arguments = sys.argv[1:] if args is None else args
    try:
        code = provision.main(arguments, prog_name="provision", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.UsageError as error:
        code = _usage(error, arguments)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was changed", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


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
