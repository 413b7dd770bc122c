"""Who chooses the right build of torch? provision, uv, torchruntime and light-the-torch on the same machines.

    python tests/bench/accuracy.py [--tool NAME]... [--json] [--picks]        (Linux or macOS; needs openssl)

Each tool decides for every machine of machines.toml before the same loopback model of the PyTorch index; the judge is
tests/referee.py, which tries every published build. Exits with 1 unless provision is right and newest everywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import referee
from packaging.version import Version

from bench.scene import PYTHON, Machine, Scene, machines, published, scene
from bench.tools import Answer, CannotRun, Provision, Tool, tools


class Verdict(StrEnum):
    """What an answer is worth."""

    RIGHT = "right and newest"
    OLDER = "runs, but older"
    SPARE = "GPU build without a GPU"
    CPU = "CPU on a GPU machine"
    BROKEN = "cannot run"
    NONE = "no answer"
    UNKNOWN = "not run"


GOOD = (Verdict.RIGHT, Verdict.OLDER)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One tool on one machine."""

    machine: Machine
    tool: str
    answer: Answer
    verdict: Verdict


def judge(machine: Machine, pick: str | None, *, exactly: bool = False) -> Verdict:
    """What a pick ("2.11.0+cu128", None: the tool installs nothing) is worth on a machine.

    Where no build runs, none is right. "Newest" is a torch not older than the first of the referee's answers, so that
    cu132 is as good as cu130, and a newer build that the project does not advertise is good too; `exactly` asks for
    that very answer.
    """
    right = machine.right_answers()
    if pick is None:
        return Verdict.NONE if right else Verdict.RIGHT
    torch, _, backend = pick.partition("+")
    if backend == "cpu" and machine.gpus:
        return Verdict.CPU
    if not machine.gpus and backend != "cpu":
        return Verdict.SPARE
    if pick not in right:
        return Verdict.BROKEN
    if exactly:
        return Verdict.RIGHT if pick == right[0] else Verdict.OLDER
    return Verdict.RIGHT if Version(torch) >= Version(right[0].partition("+")[0]) else Verdict.OLDER


def outcomes(scene: Scene, asked: Sequence[Tool], on: Iterable[Machine]) -> Iterable[Outcome]:
    """Ask every tool about every machine."""
    for machine in on:
        for tool in asked:
            try:
                answer = tool.ask(scene, machine)
                verdict = judge(machine, answer.pick, exactly=tool.name == Provision.name)
            except CannotRun as problem:
                answer, verdict = Answer(pick=None, said=str(problem)), Verdict.UNKNOWN
            yield Outcome(machine=machine, tool=tool.name, answer=answer, verdict=verdict)


def by_group(found: Sequence[Outcome], names: Sequence[str]) -> list[list[str]]:
    """A row a group: on how many machines a tool's build runs, in brackets: and is the newest that does."""
    rows = [["machines", "n", *names]]
    for group in [*dict.fromkeys(one.machine.group for one in found), "all"]:
        here = [one for one in found if group in ("all", one.machine.group)]
        row = [group, str(len({one.machine.name for one in here}))]
        for name in names:
            counts = Counter(one.verdict for one in here if one.tool == name)
            row.append(f"{sum(counts[verdict] for verdict in GOOD)} ({counts[Verdict.RIGHT]})")
        rows.append(row)
    return rows


def by_verdict(found: Sequence[Outcome], names: Sequence[str]) -> list[list[str]]:
    """A row a verdict, over all machines."""
    counts = Counter((one.tool, one.verdict) for one in found)
    rows = [["verdict", *names]]
    return rows + [
        [verdict.value, *(str(counts[name, verdict]) for name in names)]
        for verdict in Verdict
        if verdict is not Verdict.UNKNOWN or any(counts[name, verdict] for name in names)
    ]


def picks(found: Sequence[Outcome], names: Sequence[str]) -> list[list[str]]:
    """A row a machine: the right answer and everyone's, with what is wrong with it."""
    answers = {(one.machine.name, one.tool): one for one in found}
    rows = [["machine", "right", *names]]
    for machine in dict.fromkeys(one.machine for one in found):
        row = [machine.name, machine.right or "none"]
        for name in names:
            one = answers[machine.name, name]
            note = "" if one.verdict is Verdict.RIGHT else f": {one.verdict.value}"
            row.append((one.answer.pick or "none") + note)
        rows.append(row)
    return rows


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table; the first is the head."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def as_json(found: Sequence[Outcome], asked: Sequence[Tool], missing: dict[str, str]) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        "day": date.today().isoformat(),
        "python": PYTHON,
        "tools": {tool.name: tool.version for tool in asked},
        "missing": missing,
        "machines": [
            {
                "group": one.machine.group,
                "name": one.machine.name,
                "right": one.machine.right,
                "tool": one.tool,
                "pick": one.answer.pick,
                "said": one.answer.said,
                "verdict": one.verdict.value,
            }
            for one in found
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tool", action="append", default=[], help="only this tool (repeatable)")
    parser.add_argument("--machine", action="append", default=[], help="only machines whose name holds this text")
    parser.add_argument("--picks", action="store_true", help="show every answer")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    asked, missing = tools(options.tool)
    on = [one for one in machines() if not options.machine or any(text in one.name for text in options.machine)]
    found = []
    with scene(published()) as here:
        for one in outcomes(here, asked, on):
            found.append(one)
            print(f"\r{len(found)} of {len(on) * len(asked)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    names = [tool.name for tool in asked]
    if options.json:
        print(json.dumps(as_json(found, asked, missing), indent=1))
    else:
        print(f"{date.today()}, " + ", ".join(f"{tool.name} {tool.version}" for tool in asked))
        print(f"torch for Python {PYTHON}, {len(referee.rows())} published builds\n")
        tables = [by_group(found, names), by_verdict(found, names), *([picks(found, names)] if options.picks else [])]
        print("\n\n".join(as_table(table) for table in tables))
        for name, reason in missing.items():
            print(f"{name} is not in the comparison: {reason}")
    wrong = [one for one in found if one.tool == Provision.name and one.verdict is not Verdict.RIGHT]
    for one in wrong:
        said = one.answer.pick or one.answer.said
        print(f"provision is wrong on {one.machine.name}: {said}, {one.verdict.value}", file=sys.stderr)
    return 1 if wrong or Provision.name not in names else 0


if __name__ == "__main__":
    raise SystemExit(main())
