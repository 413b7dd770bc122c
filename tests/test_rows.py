"""How is a table of data read quickly? As a TOML parser would read it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from provision import catalog, drivers
from provision.errors import BadData
from provision.rows import parse_rows, read_rows


@pytest.mark.parametrize("path", [catalog.TABLE, drivers.TABLE], ids=lambda path: path.name)
def test_every_table_reads_as_toml_does(path: Path) -> None:
    whole = tomllib.loads(path.read_text(encoding="utf-8"))
    del whole["sources"]
    assert read_rows(path) == whole


def test_values_of_every_kind() -> None:
    text = (
        'schema = 1\nread = 2026-11-20\n\n# why\nrow = [\n  # here\n  {a = "x \\"y\\" \\\\ z", b-c = true, d = 3},\n]\n'
    )
    assert parse_rows(text, name="t.toml") == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    ['row = [\n  {a = "1"}\n]\n', '  {a = "1"},\n', 'row = [\na = "1"\n]\n', "row = [1]\n", 'a = "unclosed\n'],
)
def test_another_layout_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(BadData, match=r"t\.toml, line \d: this is no row of a table"):
        parse_rows(text, name="t.toml")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"lost\.toml cannot be read"):
        read_rows(tmp_path / "lost.toml")
