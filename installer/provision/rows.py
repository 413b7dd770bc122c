"""How is a table of data read quickly? Its rows are lines, and its lines are read one by one.

The tables in `data/` are TOML, with one row a line: `  {torch = "2.15.0", backend = "cu130", …},` below `build = [`.
For that layout a regular expression does in 2 ms what a TOML parser does in 10, and a decision needs no more; the tests
read every table both ways.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

from .errors import BadData

_PAIR = re.compile(r'([\w-]+) = (?:"((?:[^"\\]|\\.)*)"|(\d{4}-\d\d-\d\d)|(\d+)|(true|false))')


def read_rows(path: Path) -> dict[str, Any]:
    """The tables of a file by their names, each a list of rows, and the values before them. `[sources]` is left out.

    Raises BadData naming the file and the line.
    """
    try:
        return parse_rows(path.read_text(encoding="utf-8"), name=path.name)
    except OSError as error:
        raise BadData(f"{path.name} cannot be read: {error}", hint="install torch-provision again") from error


def parse_rows(text: str, *, name: str) -> dict[str, Any]:
    """See `read_rows`."""
    table: dict[str, Any] = {}
    rows: list[dict[str, Any]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("  {"):
            if rows is None or not line.endswith("},"):
                raise _misplaced(name, number, line)
            rows.append(_pairs(line))
        elif line.endswith(" = ["):
            rows = table.setdefault(line.removesuffix(" = ["), [])
        elif line == "[sources]":
            return table
        elif line == "]":
            rows = None
        elif line and not line.lstrip().startswith("#"):
            if rows is not None or not _PAIR.fullmatch(line):
                raise _misplaced(name, number, line)
            table |= _pairs(line)
    return table


def _pairs(line: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, text, day, number, flag in _PAIR.findall(line):
        if day:
            pairs[key] = date.fromisoformat(day)
        elif number:
            pairs[key] = int(number)
        elif flag:
            pairs[key] = flag == "true"
        else:
            pairs[key] = re.sub(r"\\(.)", r"\1", text) if "\\" in text else text
    return pairs


def _misplaced(name: str, number: int, line: str) -> BadData:
    return BadData(f"{name}, line {number}: this is no row of a table: {line[:60]!r}", hint="one row a line")
