"""Is a plan that was saved still the plan? Written by `plan -o FILE`, read back by `provision --plan FILE`.

The file holds what was asked for and what was proposed. Before anything moves the proposal is made again: where it
differs from the saved one, it is refused with what changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BadData, Mismatch
from .job import Job
from .plan import Plan
from .values import fields, frozen

SCHEMA = 1


@frozen
class SavedPlan:
    """What was asked for, and the proposal (`plan --json` data)."""

    job: Job
    proposal: Mapping[str, Any]


def plan_text(job: Job, plan: Plan) -> str:
    """The file's text."""
    asked = {name: _plain(value) for name, value in fields(job).items()}
    return json.dumps({"schema": SCHEMA, "job": asked, "plan": plan.to_json()}, indent=1) + "\n"


def read_plan(path: Path) -> SavedPlan:
    """The plan in a file. Raises BadData for one that is none, or of a newer schema."""
    hint = "write one with: provision plan -o FILE"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        schema, asked, proposal = data["schema"], data["job"], data["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = getattr(error, "strerror", None) or f"it is no saved plan ({type(error).__name__}: {error})"
        raise BadData(f"{path}: {problem}", code="bad-plan", hint=hint) from None
    if schema != SCHEMA:
        raise BadData(
            f"{path}: schema {schema!r} was written by a newer provision; this one reads up to {SCHEMA}",
            code="schema-too-new",
            hint="update torch-provision, or plan again with this version",
        )
    try:
        given = {name: _typed(name, value) for name, value in asked.items()}
        return SavedPlan(job=Job(**given), proposal=proposal)
    except (TypeError, AttributeError) as error:
        raise BadData(f"{path}: {error}", code="bad-plan", hint=hint) from None


def refuse_if_stale(saved: SavedPlan, plan: Plan) -> None:
    """Raises Mismatch, naming what changed, where the proposal is no longer the saved one."""
    now = plan.to_json()
    changed = [
        f"{what}: was {_words(saved.proposal, keys)}, is {_words(now, keys)}"
        for what, keys in (
            ("the machine", ("machine",)),
            ("the environment", ("environment",)),
            ("the choice", ("choice",)),
            ("the changes", ("changes",)),
        )
        if _picked(saved.proposal, keys) != _picked(now, keys)
    ]
    if changed:
        raise Mismatch(
            "the plan is stale: " + "; ".join(changed),
            code="plan-stale",
            hint="plan again, look at it, and apply that: provision plan -o FILE",
        )


def _picked(proposal: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    found: Any = proposal
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    if keys == ("machine",) and isinstance(found, Mapping):
        return {key: found.get(key) for key in ("platform", "gpus", "drivers")}
    return found


def _words(proposal: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    found = _picked(proposal, keys)
    if keys == ("choice",):
        return f"torch {found['packages']['torch']} from {found['index_url']}" if found else "none"
    if keys == ("environment",):
        return f"torch {found['torch']} at {found['path']}" if found else "none"
    if keys == ("machine",):
        gpus = ", ".join(str(gpu.get("name")) for gpu in found["gpus"]) or "no GPU"
        return f"{gpus} with driver {', '.join(str(one.get('version')) for one in found['drivers']) or 'none'}"
    return f"{len(found or [])} packages"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _typed(name: str, value: Any) -> Any:
    if name in ("machine", "capture", "env") and value is not None:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
