"""Whose facts count: this machine's, or another's that was saved?"""

from __future__ import annotations

import json

from .errors import BadData
from .host import Host
from .job import Job
from .machine import Machine, machine_from_json


def machine_for(job: Job, host: Host) -> Machine:
    """The machine that the job is about. Raises BadData for a file that is none."""
    if job.machine is not None:
        try:
            text = job.machine.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadData(
                f"the machine file {job.machine} cannot be read: {getattr(error, 'strerror', None) or error}",
                code="bad-machine",
                hint="write one with: provision detect --json > machine.json",
            ) from None
        try:
            return machine_from_json(json.loads(text), where=str(job.machine))
        except json.JSONDecodeError as error:
            raise BadData(
                f"the machine file {job.machine} is not JSON: {error}",
                code="bad-machine",
                hint="write one with: provision detect --json > machine.json",
            ) from None
    from .detect import detect

    if job.capture is not None:
        from .capture import ReplayHost

        return detect(ReplayHost(job.capture))
    return detect(host)
