"""What does this code mean, and what is to be done? Offline, for every code that the tool ever prints.

A word can be a code in several places (`driver-too-old` is a reason against a build and a finding): each gets its
answer. Findings are explained by their own rows (`doctor`, `situations`, `symptoms`), the rest by `data/explain.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UsageProblem
from .situations import explanations
from .symptoms import meanings

TABLE = Path(__file__).parent / "data" / "explain.toml"

KINDS = {
    "finding": "a finding of provision doctor",
    "log": "what provision doctor --log can say of an error text",
    "error": "an error",
    "reason": "a reason why a build is not the choice",
    "message": "a message beside a result",
    "check": "a check of provision verify",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One meaning of a code: `kind` is one of `KINDS`."""

    code: str
    kind: str
    means: str
    todo: str
    title: str | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One of the `explanations` of `explain --json`."""
        return {
            "code": self.code,
            "kind": self.kind,
            "title": self.title,
            "means": self.means,
            "todo": self.todo,
            "source": self.source,
        }


def explain(code: str) -> tuple[Explanation, ...]:
    """Every meaning of a code, in either spelling (`cpu_torch`, `cpu-torch`). Raises UsageProblem for one unknown."""
    wanted = _plain(code)
    found = table().get(wanted, ())
    if found:
        return found
    from difflib import get_close_matches

    near = get_close_matches(wanted, sorted(table()), n=3, cutoff=0.6)
    raise UsageProblem(
        f"{code}: there is no such code",
        code="unknown-code",
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else "codes are the words in brackets beside an error or finding",
    )


def explanation_lines(explanations: tuple[Explanation, ...]) -> list[str]:
    """What a person reads."""
    lines: list[str] = []
    for one in explanations:
        if lines:
            lines.append("")
        lines.append(f"{one.code}: {KINDS[one.kind]}" + (f": {one.title}" if one.title else ""))
        lines += [f"  means  {one.means}", f"  do     {one.todo}"]
        if one.source:
            lines.append(f"  source {one.source}")
    return lines


def _plain(code: str) -> str:
    """`CPU_torch` → `cpu-torch`; `kernels-sm_120` is the check `kernels`."""
    plain = code.strip().lower().replace("_", "-")
    if plain.startswith("kernels-"):
        return "kernels"
    return plain.removeprefix("cpu-") if plain.removeprefix("cpu-") in _checks() else plain


@cache
def _checks() -> frozenset[str]:
    return frozenset(_own()["check"])


@cache
def _own() -> Mapping[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


@cache
def table() -> Mapping[str, tuple[Explanation, ...]]:
    """Every code, as it is written with `-`, and its meanings."""
    from .doctor import RULES, meaning

    found: dict[str, list[Explanation]] = {}
    for code in RULES:
        row = meaning(code)
        _add(found, Explanation(code=code, kind="finding", title=row.title, means=row.cause, todo=row.remedy))
    for code, said in explanations().items():
        if code not in found:
            _add(
                found,
                Explanation(
                    code=code,
                    kind="finding",
                    title=said["title"],
                    means=said["cause"],
                    todo=said["remedy"],
                    source=said["source"],
                ),
            )
    for code, row in meanings().items():
        if code.replace("_", "-") not in found:
            _add(found, Explanation(code=code, kind="log", title=row.title, means=row.cause, todo=row.remedy))
    for kind, rows in _own().items():
        for code, said in rows.items():
            _add(found, Explanation(code=code, kind=kind, means=said["means"], todo=said["todo"]))
    return {code: tuple(rows) for code, rows in sorted(found.items())}


def _add(found: dict[str, list[Explanation]], one: Explanation) -> None:
    found.setdefault(one.code.replace("_", "-"), []).append(one)
