"""May this environment be changed at all, and who is using it?

Refused before anything is written, each with the way out. Rules: contracts section 6; PEP 668 for
EXTERNALLY-MANAGED; an environment is only ever changed by its owner.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..detect.environment import interpreter
from ..errors import TargetUnusable


def check(target: Path) -> bool:
    """Whether an environment is at `target` (the real path); False where one can be made. Raises TargetUnusable."""
    if not os.path.lexists(target):
        return False
    if not target.is_dir():
        raise TargetUnusable(
            f"{target} is there, but it is not a folder",
            code="not-an-environment",
            hint="give another path with --env, or move this one away",
        )
    if os.path.samefile(target, sys.prefix):
        raise TargetUnusable(
            f"{target} is the environment that provision itself runs from",
            code="own-environment",
            hint="install torch-provision apart from it (uv tool install torch-provision, or pipx), or give another "
            "environment with --env",
        )
    _check_owner(target)
    if os.path.lexists(target / "pyvenv.cfg"):
        return True
    if not any(name not in (".provision", "lost+found") for name in os.listdir(target)):
        return False
    if (target / "conda-meta").is_dir():
        raise TargetUnusable(
            f"{target} is a conda environment, which conda must change itself",
            code="conda",
            hint="make a virtual environment with conda's Python and give it with --env: python -m venv .venv",
        )
    managed = any(target.glob("lib*/python3*/EXTERNALLY-MANAGED")) or (target / "Lib/EXTERNALLY-MANAGED").exists()
    if managed or interpreter(target).exists() or (target / "bin/python3").exists():
        raise TargetUnusable(
            f"{target} is a system Python"
            + (" that its distributor manages (EXTERNALLY-MANAGED)" if managed else ", not a virtual environment"),
            code="system-python",
            hint="give a virtual environment with --env; .venv here is made where none is given",
        )
    raise TargetUnusable(
        f"{target} is there, but it is not a Python environment (no pyvenv.cfg)",
        code="not-an-environment",
        hint="give another path with --env, or move this one away",
    )


def _check_owner(target: Path) -> None:
    if os.name != "posix":
        return
    owner = os.lstat(target).st_uid
    if owner != os.geteuid():
        raise TargetUnusable(
            f"{target} belongs to another user (uid {owner}; this is uid {os.geteuid()})",
            code="not-ours",
            hint=f"run this as its owner, or give it to yourself: sudo chown -R $USER {target}",
        )


def users(target: Path) -> tuple[str, ...]:
    """The processes that run from this environment, as `python (pid 4711)`. Empty where it cannot be asked."""
    if sys.platform == "win32":
        return tuple(_locked_files(target))
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return ()
    found = []
    inside = os.fsencode(target) + b"/"
    for pid in sorted(pids):
        if pid == os.getpid():
            continue
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
            works_in = os.fsencode(os.readlink(f"/proc/{pid}/cwd")) + b"/"
            maps = Path(f"/proc/{pid}/maps").read_bytes()
            if command.startswith(inside) or works_in.startswith(inside) or inside in maps:
                found.append(f"{os.path.basename(os.fsdecode(command))} (pid {pid})")
        except OSError:
            continue
    return tuple(found)


def _locked_files(target: Path) -> Iterator[str]:
    """Windows (not yet seen there): programs and libraries that cannot be opened for writing are in use."""
    for pattern in ("Scripts/*.exe", "Lib/site-packages/**/*.pyd", "Lib/site-packages/**/*.dll"):
        for path in target.glob(pattern):
            try:
                with open(path, "r+b"):
                    pass
            except PermissionError:
                yield f"whoever has {path} open"
                return


def announce_users(target: Path) -> str | None:
    """What to tell about processes that use the environment, or None. Raises TargetUnusable on Windows."""
    found = users(target)
    if not found:
        return None
    names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    if sys.platform == "win32":
        raise TargetUnusable(
            f"{target} is in use by {names}", code="in-use", hint="close these programs, then run it again"
        )
    return (
        f"in use by {names}: what they have loaded stays as it is, what they import later comes from the new "
        "environment; restart them afterwards"
    )
