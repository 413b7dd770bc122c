"""The command line as click shows it: help, mistakes, completion. Built from the declarations in `commands`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import SECTIONS, help_text, route
from .commands import COMMANDS, Command, check_profile, run
from .params import Param

if TYPE_CHECKING:
    from .errors import UsageProblem

HELP = {"help_option_names": ["-h", "--help"]}


class Door(click.Group):
    """The group: one command is the default, and its help is the door's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section if name in COMMANDS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # While completing, the words typed so far stay as they are: the next one may still name a command.
        return super().parse_args(ctx, args if ctx.resilient_parsing else route(args))

    def get_help(self, ctx: click.Context) -> str:
        return help_text().rstrip("\n")


def door() -> Door:
    """The whole command line as a click group."""
    return Door(
        "provision", commands={name: _click(chosen) for name, chosen in COMMANDS.items()}, context_settings=HELP
    )


def face(arguments: list[str]) -> int:
    """Read the arguments with click, and run what they mean; the exit code."""
    try:
        code = door().main(arguments, prog_name="provision", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        return _usage(error, arguments)
    except click.Abort:
        click.echo("interrupted; nothing was changed", err=True)
        return 130
    return code if isinstance(code, int) else 0


def completion_script(shell: str) -> str:
    """What bash, zsh, fish or PowerShell evaluates to complete `provision`. Raises UsageProblem."""
    from click.shell_completion import get_completion_class

    source = get_completion_class(shell)
    if source is None:
        from .errors import UsageProblem

        raise UsageProblem(f"this version of click has no completion for {shell}", hint="update click")
    return source(door(), {}, "provision", "_PROVISION_COMPLETE").source()


def _click(chosen: Command) -> click.Command:
    def call(**given: Any) -> int:
        return run(chosen, given)

    params = [_parameter(param) for param in chosen.params]
    return click.Command(chosen.name, params=params, callback=call, help=chosen.help, context_settings=HELP)


def _parameter(param: Param) -> click.Parameter:
    kind: Any = str
    if param.kind == "path":
        kind = click.Path(path_type=Path)
    elif param.choices:
        kind = click.Choice(param.choices)
    if param.is_argument:
        # A required argument with a default, were it None, would not be required.
        default = {} if param.required or param.many else {"default": param.default}
        return click.Argument(
            [param.to],
            type=kind,
            nargs=-1 if param.many else 1,
            required=param.required,
            metavar=param.metavar or (param.to.upper() if param.choices else None),
            **default,
        )
    shared: dict[str, Any] = {"help": param.help, "hidden": param.hidden, "default": param.default}
    if param.kind == "flag":
        return click.Option([*param.names, param.to], is_flag=True, flag_value=param.sets, **shared)
    shared["default"] = None if param.many else param.default
    return click.Option([*param.names, param.to], type=kind, multiple=param.many, metavar=param.metavar, **shared)


def _usage(error: click.UsageError, arguments: list[str]) -> int:
    """A wrong command line: one line, and what to write instead."""
    from .report import Result, envelope, error_lines

    command = error.ctx.info_name if error.ctx and error.ctx.info_name in COMMANDS else "apply"
    problem = _problem(error, command, arguments)
    if "--json" in arguments:
        click.echo(envelope(Result(command=command, data={}, exit_code=problem.exit_code, errors=(problem,))))
    else:
        click.echo("\n".join(error_lines(problem)), err=True)
    return int(problem.exit_code)


def _problem(error: click.UsageError, command: str, arguments: list[str]) -> UsageProblem:
    """What is wrong in our words. `provision instal torch` is about `instal`, which is no command."""
    from .errors import UsageProblem

    named = command in arguments
    first = next((word for word in arguments if not word.startswith("-")), None)
    if not named and first is not None and "extra argument" in error.message:
        try:
            check_profile(first)
        except UsageProblem as unknown:
            return unknown
    message = " ".join(error.format_message().split())
    return UsageProblem(message, hint=f"provision {command} --help" if named else "provision --help")
