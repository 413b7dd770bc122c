"""The door: what the tool can do, and which command is meant.

`--help` and `--version` answer from here, before anything else is imported. A line without anything unusual is read by
`params`; click (`face`) reads the others.
"""

from __future__ import annotations

import os
import sys

from . import __version__

SECTIONS = {
    "Everyday": {
        "apply": "Bring an environment to the right torch (the default)",
        "plan": "Show what apply would do, and why; change nothing",
        "verify": "Prove that torch works on this machine's GPUs",
        "doctor": "Find what is wrong with machine and environment, with the fix",
        "add": "Install further packages with torch held",
        "hold": "Show, set or lift the hold on the torch that was proven",
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
        "export": "Write a Dockerfile, requirements, uv, shell or CI settings",
        "profiles": "List the profiles",
        "clean": "Remove old states, caches and remembered failures",
        "completion": "Print the shell completion for bash, zsh, fish or PowerShell",
    },
}
"""Section → command → one line. The lines are those of `--help`."""

NAMES = {name for section in SECTIONS.values() for name in section}

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

VALUED = {
    "--backend", "--channel", "--color", "--depth", "--env", "--from", "--gpu", "--index-base", "--machine", "--plan",
    "--python", "--torch",
}  # fmt: skip
"""The options of the default command that take the next word: it names no command."""


def main() -> None:
    """The console script: run a command and leave with its exit code."""
    code = serve(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written and closed: taking the interpreter apart object by object would only cost time.
    os._exit(code)


def serve(arguments: list[str]) -> int:
    """Run what the arguments mean; the exit code."""
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(help_text())
        return 0
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"provision {__version__}\n")
        return 0
    import gc

    # What a decision makes lives until the end: looking for cycles among it is waste.
    gc.set_threshold(100_000)
    from .commands import COMMANDS, run
    from .params import read

    name, *rest = route(arguments)
    given = read(COMMANDS[name].params, rest) if name in COMMANDS and "_PROVISION_COMPLETE" not in os.environ else None
    if given is not None:
        return run(COMMANDS[name], given)
    from .face import face

    return face(arguments)


def route(args: list[str]) -> list[str]:
    """Arguments with the command first: the default command is put in where none is named.

    `provision qlora --yes` → `apply qlora --yes`; `provision --env here plan` → `plan --env here`.
    """
    if args and args[0] in ("-h", "--help", "--version"):
        return args
    place = 0
    while place < len(args) and args[place].startswith("-"):
        place += 2 if args[place] in VALUED else 1
    if place < len(args) and args[place] in NAMES:
        return [args[place], *args[:place], *args[place + 1 :]]
    return ["apply", *args]


def help_text() -> str:
    """What `provision --help` shows."""
    parts = [INTRO]
    for title, section in SECTIONS.items():
        parts += [f"\n{title}:\n", *(f"  {name:<12} {line}\n" for name, line in section.items())]
    return "".join([*parts, "\n", OPTIONS])
