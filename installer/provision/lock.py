"""What was chosen and proven, as a file that pip and uv read without us (PEP 751, with a `[tool.provision]` table).

Pure: text in, text out. The same pins give the same bytes: nothing here knows the time of day.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from .checks import Status, Verification
from .errors import BadData
from .values import frozen

SCHEMA = 1
FILE_NAME = "pylock.provision.toml"
"""Beside the environment, after the one-shot job."""


@frozen
class Target:
    """Which machines a lock is for. `arches` are GPU architectures in torch's spelling."""

    system: str
    machine: str
    python: str
    arches: tuple[str, ...] = ()


@frozen
class Lock:
    """Our table of a lock file, and its packages' versions."""

    backend: str
    channel: str
    profile: str
    target: Target
    versions: Mapping[str, str]
    verification: Mapping[str, Any]


def lock_text(
    pylock: str,
    *,
    backend: str,
    channel: str,
    profile: str,
    target: Target,
    index_url: str,
    verification: Verification | None = None,
) -> str:
    """uv's pylock text with our table. Raises BadData where the text is no pylock."""
    import tomli_w

    data = _parsed(pylock, "pylock")
    data["created-by"] = "torch-provision"
    data.setdefault("requires-python", f">={target.python}")
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "profile": profile,
        "backend": backend,
        "channel": channel,
        "index-url": index_url,
        "target": {
            "system": target.system,
            "machine": target.machine,
            "python": target.python,
            "arches": list(target.arches),
        },
    }
    if verification is not None:
        table["verification"] = summary(verification)
    data.setdefault("tool", {})["provision"] = table
    first = ("lock-version", "created-by", "requires-python", "environments", "extras", "dependency-groups")
    ordered = {key: data[key] for key in first if key in data} | {k: v for k, v in data.items() if k not in first}
    return tomli_w.dumps(ordered)


def summary(verification: Verification) -> dict[str, Any]:
    """The verification as the lock keeps it: what passed, and what could not be checked."""
    return {
        "torch": verification.torch.version or "",
        "ok": verification.ok,
        "passed": [check.name for check in verification.checks if check.status is Status.PASSED],
        "skipped": [check.name for check in verification.checks if check.status is Status.SKIPPED],
    }


def read_lock(text: str, *, where: str) -> Lock:
    """Our table of a lock file. Raises BadData where it is no pylock, not ours, or of a newer schema."""
    data = _parsed(text, where)
    table = data.get("tool", {}).get("provision")
    if not isinstance(table, dict):
        raise BadData(
            f"{where} has no [tool.provision] table",
            code="foreign-lock",
            hint="pip and uv can install from it; provision only changes and checks its own locks",
        )
    schema = table.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise BadData(
            f"{where}: schema {schema!r} was written by a newer provision; this one reads up to {SCHEMA}",
            code="schema-too-new",
            hint="update torch-provision, or lock again with this version",
        )
    try:
        target = table["target"]
        return Lock(
            backend=table["backend"],
            channel=table["channel"],
            profile=table["profile"],
            target=Target(
                system=target["system"],
                machine=target["machine"],
                python=target["python"],
                arches=tuple(target["arches"]),
            ),
            versions={package["name"]: str(package.get("version", "")) for package in data.get("packages", [])},
            verification=table.get("verification", {}),
        )
    except (KeyError, TypeError) as error:
        raise BadData(f"{where}: [tool.provision] lacks {error}", code="bad-lock", hint="lock again") from None


def is_ours(text: str) -> bool:
    """Whether a file at the lock's place was written by us and may be replaced."""
    try:
        return isinstance(tomllib.loads(text).get("tool", {}).get("provision"), dict)
    except (tomllib.TOMLDecodeError, AttributeError):
        return False


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadData(f"{where} is not TOML: {error}", code="bad-lock", hint="lock again") from None
    if "lock-version" not in data:
        raise BadData(f"{where} is not a pylock: it has no lock-version", code="bad-lock", hint="lock again")
    return data
