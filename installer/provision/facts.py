"""Whose facts count: this machine's, or another's that was saved?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadData
from .machine import Machine, machine_from_json

if TYPE_CHECKING:
    from .host import Host
    from .job import Job


def machine_for(job: Job, host: Host) -> Machine:
    """The machine that the job is about. Raises BadData for a file that is none."""
    if job.machine is not None:
        return machine_in(job.machine)
    return look(host, replay=job.capture)


def look(host: Host, *, replay: Path | None = None) -> Machine:
    """This machine, or the one whose answers were captured in a folder."""
    from .detect import detect

    if replay is None:
        return detect(host)
    from .capture import ReplayHost

    return detect(ReplayHost(replay))


def machine_in(path: Path) -> Machine:
    """The machine in a file that `provision detect --json` wrote. Raises BadData."""
    hint = "write one with: provision detect --json > machine.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadData(f"the machine file {path} is not JSON: {error}", code="bad-machine", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise BadData(f"the machine file {path} cannot be read: {problem}", code="bad-machine", hint=hint) from None
    return machine_from_json(data, where=str(path))
