"""Does pip's own resolver mean the same set? pip-tools pins, uv is held to that and finds the files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import piptools
from .aims import Aim
from .catalog import SourceKind
from .errors import InstallFailed, UsageProblem
from .settings import Settings
from .uv import Wanted, own_names
from .values import replace

if TYPE_CHECKING:
    from .host import Host


def same_here(aim: Aim, host: Host) -> None:
    """pip-tools resolves for the Python and the platform that it runs on. Raises UsageProblem for another target."""
    from .detect.system import ask_platform

    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    here, there = ask_platform(host), aim.machine.platform
    if aim.python != own or (here.system, here.machine) != (there.system, there.machine):
        raise UsageProblem(
            f"pip-tools can only lock for {here.system.value} {here.machine} and Python {own}, on which it runs; the "
            f"lock is for {there.system.value} {there.machine} and Python {aim.python}",
            hint="leave out --engine pip-tools: uv locks for any target",
        )


def second_opinion(
    wanted: Wanted, settings: Settings, keep: Mapping[str, str], host: Host, folder: Path
) -> tuple[Wanted, dict[str, str]]:
    """What pip-tools pins, and the order to uv to pin exactly that."""
    base = wanted.index_url.rstrip("/")
    if wanted.source.flat or wanted.source.kind is SourceKind.FIND_LINKS:
        pages = [wanted.index_url]
    else:
        pages = [f"{base}/{name}/" for name in own_names(wanted)]
    family = [f"{name}{spec}" for name, spec in wanted.family.items()]
    chosen = piptools.pin(
        host,
        [*family, *wanted.needs, *wanted.others],
        [*wanted.constraints],
        folder=folder,
        env=piptools.pip_environment(
            settings,
            os.environ,
            () if wanted.source.kind is SourceKind.PACKAGE_INDEX else pages,
        ),
        keep=keep,
    )
    exact = [f"{name}=={version}" for name, version in chosen.items() if name not in own_names(wanted)]
    return replace(wanted, constraints=(*wanted.constraints, *exact)), chosen


def agree(chosen: Mapping[str, str], pinned: Mapping[str, str]) -> None:
    """pip-tools and uv mean the same set. Raises InstallFailed."""
    if dict(chosen) != dict(pinned):
        apart = [
            f"{name} {chosen.get(name, 'absent')} / {pinned.get(name, 'absent')}"
            for name in sorted(chosen.keys() | pinned.keys())
            if chosen.get(name) != pinned.get(name)
        ]
        raise InstallFailed(
            f"pip-tools and uv do not pin the same set (pip-tools / uv): {', '.join(apart)}",
            code="engines-disagree",
            hint="leave out --engine pip-tools",
        )
