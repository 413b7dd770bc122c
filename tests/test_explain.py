"""Does every code that the tool prints have its explanation?"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import provision
import pytest
from provision import uv
from provision.doctor import RULES
from provision.errors import UsageProblem
from provision.explain import KINDS, TABLE, explain, explanation_lines, table
from provision.judge import BATTERY
from provision.rules import Reason
from provision.situations import explanations
from provision.symptoms import meanings

PACKAGE = Path(provision.__file__).parent


def codes_in_source() -> Iterator[tuple[str, str]]:
    """(code, where) for every code that the package writes down: `code="…"`, `default_code`, messages and notes."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg == "code":
                        yield from ((text, where) for text in _texts(keyword.value))
                if isinstance(node.func, ast.Attribute) and node.func.attr == "message" and len(node.args) >= 2:
                    yield from ((text, where) for text in _texts(node.args[1]))
            elif isinstance(node, ast.Assign | ast.AnnAssign) and _assigned(node) == "default_code" and node.value:
                yield from ((text, where) for text in _texts(node.value))


def _assigned(node: ast.Assign | ast.AnnAssign) -> str | None:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return target.id if isinstance(target, ast.Name) else None


def _texts(node: ast.expr) -> list[str]:
    """The kebab-case words in an expression: `"a" if x else "b"` has two, a call's arguments do not count."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z][a-z0-9-]+", node.value):
        return [node.value]
    return []


def test_every_code_in_the_source_is_explained() -> None:
    missing = {code: where for code, where in codes_in_source() if code not in table()}
    assert missing == {}, "add a row to data/explain.toml"


def test_the_search_for_codes_finds_them() -> None:
    found = {code for code, _ in codes_in_source()}
    assert {"bad-machine", "no-build-fits", "source-unreachable", "read-only", "unknown-check"} <= found


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param([reason.value for reason in Reason], id="reasons"),
        pytest.param(list(RULES), id="findings"),
        pytest.param(list(explanations()), id="situations"),
        pytest.param(list(meanings()), id="log"),
        pytest.param(list(BATTERY), id="checks"),
        pytest.param(
            ["import", "version", "backend", "gpu-available", "arch-list", "kernels-sm_120"], id="judged checks"
        ),
        pytest.param([code for code, _ in uv._CAUSES], id="uv's errors"),
    ],
)
def test_every_closed_set_of_codes_is_explained(codes: list[str]) -> None:
    for code in codes:
        assert explain(code), code


def test_every_explanation_is_a_sentence_and_says_what_to_do() -> None:
    for code, rows in table().items():
        for row in rows:
            assert row.kind in KINDS, code
            assert row.means.endswith((".", "/")) and row.todo.endswith((".", "/")), code


def test_a_word_that_means_several_things_is_explained_for_each() -> None:
    kinds = [one.kind for one in explain("driver-too-old")]
    assert kinds == ["finding", "reason"]
    lines = "\n".join(explanation_lines(explain("driver-too-old")))
    assert "a finding of provision doctor" in lines and "a reason why a build is not the choice" in lines


def test_either_spelling_will_do() -> None:
    assert explain("cpu_torch") == explain("cpu-torch") == explain("CPU-Torch")
    assert explain("cpu-conv2d") == explain("conv2d")


def test_an_unknown_code_gets_the_nearest() -> None:
    with pytest.raises(UsageProblem) as caught:
        explain("no-bild-fits")
    assert caught.value.hint == "did you mean no-build-fits?"


def test_no_row_is_left_over() -> None:
    """A row for a code that nothing prints any more is removed with the code."""
    own = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    printed = {code for code, _ in codes_in_source()} | {code for code, _ in uv._CAUSES} | {"error", "system"}
    assert set(own["error"]) - printed == set()
    assert set(own["reason"]) == {reason.value for reason in Reason}
    assert set(own["message"]) - printed == set()
