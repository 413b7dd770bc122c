"""The door: what the tool can do, and which command is meant.

`--help` and `--version` answer from here, before anything else is imported; `commands` does the rest.
"""

from __future__ import annotations

import sys

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

FLAGS = {"--json", "-v", "--verbose", "-q", "--quiet", "--offline", "-y", "--yes", "--dry-run"}


def main(args: list[str] | None = None) -> None:
    """The console script: run a command and leave with its exit code."""
    arguments = sys.argv[1:] if args is None else args
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(help_text())
        sys.exit(0)
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"provision {__version__}\n")
        sys.exit(0)
    from .commands import run

    sys.exit(run(arguments))


def help_text() -> str:
    """What `provision --help` shows."""
    parts = [INTRO]
    for title, section in COMMANDS.items():
        parts += [f"\n{title}:\n", *(f"  {name:<12} {line}\n" for name, line in section.items())]
    return "".join([*parts, "\n", OPTIONS])
