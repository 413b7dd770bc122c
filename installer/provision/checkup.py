"""The doctor's whole visit: ask everything about a machine and an environment, prove torch, and say what is wrong.

`checkup` asks and `doctor.diagnose` decides. `report_text` is what a bug report needs, without names, paths, addresses
and serials.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import __version__, transaction
from .capture import Recorder, anonymous
from .checks import Depth, Finding, Severity, Verification
from .counting import counted
from .detect.environment import interpreter, site_packages
from .detect.surroundings import ask_surroundings
from .doctor import Case, diagnose
from .environment import Environment
from .errors import BadData
from .holding import escaped
from .host import Host
from .lock import FILE_NAME, read_lock
from .machine import Machine
from .situations import situations
from .values import frozen, replace
from .verify import deciding_libraries, verify


@frozen
class Checkup:
    """What was found, the gravest first, and on which grounds: the machine, and the case with the GPUs that count."""

    findings: tuple[Finding, ...]
    machine: Machine
    case: Case

    @property
    def verification(self) -> Verification | None:
        return self.case.verification

    def to_json(self) -> dict[str, Any]:
        """The `data` of `doctor --json`."""
        return {"findings": [finding.to_json() for finding in self.findings]}


def checkup(
    host: Host, machine: Machine, environment: Environment, *, prove: bool = True, depth: Depth = Depth.QUICK
) -> Checkup:
    """Everything that is wrong with `machine` and `environment`.

    `prove` runs torch (quickly, unless `depth` says otherwise) where there is one. Works where torch is missing, half
    removed, or ends its interpreter on import.
    """
    site = site_packages(environment.prefix) if environment.exists else None
    around = ask_surroundings(host, machine, environment, site)
    with suppress(OSError):
        around = replace(around, unfinished=transaction.unfinished(environment.prefix))
        around = replace(around, damaged=transaction.damaged(environment.prefix) if environment.exists else {})
    around = replace(around, drift=lock_drift(environment, _lock_text(environment.prefix)))
    around = replace(around, escaped=escaped(environment) if environment.exists else {})
    counting = counted(machine)
    case = Case(
        machine=counting,
        environment=environment,
        around=around,
        libraries=deciding_libraries(str(site / "torch")) if site else {},
    )
    if prove and environment.exists and (case.has_torch or around.unowned):
        proof = verify(host, python=interpreter(environment.prefix), machine=counting, depth=depth)
        case = replace(case, verification=proof)
    return Checkup(findings=merged(situations(machine), diagnose(case)), machine=machine, case=case)


def merged(*groups: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings of several sources: each code once (the first), the gravest first, otherwise in their order."""
    found: dict[str, Finding] = {}
    for group in groups:
        for finding in group:
            found.setdefault(finding.code, finding)
    return tuple(sorted(found.values(), key=lambda one: list(Severity).index(one.severity)))


def lock_drift(environment: Environment, text: str | None) -> Mapping[str, tuple[str, str]]:
    """package → (locked, installed) where they differ; nothing without a lock of ours."""
    if text is None or not environment.exists:
        return MappingProxyType({})
    try:
        locked = read_lock(text, where=FILE_NAME).versions
    except BadData:
        return MappingProxyType({})
    return {
        name: (version, environment.version(name) or "not installed")
        for name, version in locked.items()
        if environment.version(name) != version
    }


def _lock_text(prefix: Path) -> str | None:
    try:
        return (prefix.parent / FILE_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


# The report


def report_text(host: Host, visit: Checkup) -> str:
    """One JSON text for a bug report: the capture of the machine, the environment's packages, findings, checks.

    The capture can be replayed and the machine part is readable with `--machine`; what names a person, a computer, a
    place on the disk, an address or a single device is taken out or numbered.
    """
    from .detect import detect

    recorder = Recorder(host)
    detect(recorder)
    case = visit.case
    data = {
        "schema": 1,
        "tool": __version__,
        "machine": visit.machine.to_json(),
        "environment": {
            "python": case.environment.python.version,
            "manager": case.environment.manager.value,
            "installed": {name: one.version for name, one in sorted(case.environment.installed.items())},
        },
        "torch": {"version": case.around.torch_version, "cuda": case.around.torch_cuda, "hip": case.around.torch_hip},
        "findings": [finding.to_json() for finding in visit.findings],
        "verification": case.verification.to_json() if case.verification else None,
    }
    private = host.private_words()
    capture = anonymous(recorder.answers(), private)
    return json.dumps({**without_places(anonymous(data, private)), "capture": capture}, indent=1) + "\n"


def without_places(value: Any) -> Any:
    """A JSON value without where things lie: of a path its last two names, of an address nothing."""
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_places(each) for each in value]
    return _without_places(value) if isinstance(value, str) else value


_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://(?!download\.pytorch\.org|github\.com|aka\.ms)[^\s'\"<>)]+", re.I)
_PATH = re.compile(r"(?<![\w.…])(?:[A-Za-z]:[\\/]|[\\/]|~[\\/])(?:[^\s\\/:;,'\"<>|()]+[\\/])+([^\s\\/:;,'\"<>|()]*)")
_ADDRESS = re.compile(
    r"\b(?:192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}\b|\b\d{1,3}(?:\.\d{1,3}){3}(?=:\d)"
    r"|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|[\w.+-]+@[\w-]+\.[\w.-]+",
    re.I,
)
"""Addresses of computers and people. Four numbers alone are more often the version of one of NVIDIA's libraries."""


def _without_places(text: str) -> str:
    def tail(match: re.Match[str]) -> str:
        parts = [part for part in re.split(r"[\\/]", match[0]) if part]
        return "…/" + "/".join(parts[-2:])

    return _ADDRESS.sub("…", _PATH.sub(tail, _URL.sub("https://…", text)))
