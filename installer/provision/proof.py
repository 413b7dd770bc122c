"""Has this very state been proven already?

A stamp says what the last proof of an environment proved: on which machine, for which request, with which files. While
all of that is unchanged, a second run needs neither the index nor an import of torch. And the other way round: builds
that failed on this machine are remembered, so that they are not tried again. Both lie in the user's data directory.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import __version__
from .environment import Environment
from .machine import Machine
from .values import fields, frozen

SCHEMA = 1

FRESH_SECONDS = 24 * 3600
"""After a day the index is asked again whether something newer fits; the proof itself does not age."""


@frozen
class Stamp:
    """The last proof: `key` over everything that it rests on, and what to say of it."""

    key: str
    torch: str
    backend: str
    proven: float
    asked: float

    @property
    def fresh(self) -> bool:
        """The index was asked less than a day ago."""
        return 0 <= time.time() - self.asked < FRESH_SECONDS


def proof_key(machine: Machine, environment: Environment, site: Path, request: Mapping[str, Any]) -> str:
    """sha256 over the machine, the request, every installed version, and the size of every file of the torch family.

    A half-removed torch has files missing and so another key; an edit that keeps a file's size escapes (use
    `provision verify`).
    """
    digest = hashlib.sha256()
    facts = machine.to_json()
    grounds = {
        "tool": __version__,
        "platform": facts["platform"],
        "gpus": facts["gpus"],
        "drivers": facts["drivers"],
        "request": dict(request),
        "python": environment.python.version,
        "installed": {name: found.version for name, found in sorted(environment.installed.items())},
    }
    digest.update(json.dumps(grounds, sort_keys=True).encode())
    for name in ("torch", "torchvision", "torchaudio", "triton"):
        version = environment.version(name)
        if version:
            digest.update(_sizes(site, f"{name}-{version}.dist-info"))
    return digest.hexdigest()


def _sizes(site: Path, info: str) -> bytes:
    """One byte string over the size of every file that a RECORD lists (bytecode apart)."""
    try:
        text = (site / info / "RECORD").read_text(encoding="utf-8")
    except OSError:
        return b"no RECORD"
    parts = []
    root = str(site)
    for row in csv.reader(text.splitlines()):
        if row and not row[0].endswith(".pyc"):
            try:
                parts.append(str(os.stat(f"{root}/{row[0]}").st_size))
            except OSError:
                parts.append("-")
    return ",".join(parts).encode()


def read_stamp(path: Path) -> Stamp | None:
    """The stamp, or None where there is none that this version understands."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("schema") != SCHEMA:
            return None
        return Stamp(**{name: found for name, found in data.items() if name != "schema"})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Keep the stamp; where it cannot be kept the next run proves again."""
    values = {"schema": SCHEMA} | fields(stamp)
    write_json(path, values)


@frozen
class Failure:
    """A build that did not pass its proof on this machine."""

    machine: str
    torch: str
    backend: str
    reason: str
    day: str


def machine_key(machine: Machine) -> str:
    """Which machine a failure belongs to: its GPUs and drivers."""
    facts = machine.to_json()
    grounds = json.dumps([facts["gpus"], facts["drivers"], facts["platform"]], sort_keys=True)
    return hashlib.sha256(grounds.encode()).hexdigest()[:16]


def data_folder() -> Path:
    """The user's data directory for this tool."""
    import platformdirs

    return Path(platformdirs.user_data_dir("torch-provision", appauthor=False))


def stamp_path(prefix: Path) -> Path:
    """Where the last proof of the environment at `prefix` is noted."""
    name = hashlib.sha256(os.path.realpath(prefix).encode()).hexdigest()[:24]
    return data_folder() / "proofs" / f"{name}.json"


def failures_path() -> Path:
    """Where failures are remembered."""
    return data_folder() / "failures.json"


def read_failures(path: Path) -> tuple[Failure, ...]:
    """Every remembered failure; an unreadable file counts as none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("schema") != SCHEMA:
            return ()
        return tuple(Failure(**row) for row in data["failures"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def remember(path: Path, failures: Iterable[Failure]) -> None:
    """Add failures to those already remembered."""
    known = list(read_failures(path))
    known += [failure for failure in failures if failure not in known]
    rows = [fields(failure) for failure in known[-100:]]
    write_json(path, {"schema": SCHEMA, "failures": rows})


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Keep a value in the user's data directory, in one step; where that cannot be, it is not kept."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
