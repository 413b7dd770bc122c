"""Would Windows PowerShell 5.1 read this script? Asked of a grammar, since PowerShell itself is rarely at hand.

`python tests/powershell/check.py scripts/bootstrap.ps1` prints `file:line:column: problem` lines and exits 1 if any.
The grammar (tree-sitter-pwsh) finds broken syntax; the rules below find what only PowerShell 7 understands, and what
parses but can hardly be meant. What it cannot do is run the script: the public workflow does that on real Windows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import tree_sitter
import tree_sitter_pwsh

_ONLY_IN_7 = {
    "pipeline_chain_tail": "&& and || need PowerShell 7; use: if ($LASTEXITCODE -ne 0) { ... }",
    "ternary_expression": "?: needs PowerShell 7; use: if (...) { ... } else { ... }",
    "null_coalesce_expression": "?? needs PowerShell 7; use: if ($null -eq ...) { ... }",
}

_OPERATORS = {"!=": "use -ne", "==": "use -eq", "??=": "??= needs PowerShell 7"}


def problems(source: bytes) -> list[tuple[int, int, str]]:
    """(line, column, problem) of a script's text, in order, both counted from 1."""
    found = []
    if not source.startswith(b"\xef\xbb\xbf"):
        for number, line in enumerate(source.split(b"\n"), 1):
            column = next((place for place, byte in enumerate(line, 1) if byte > 127), None)
            if column:
                found.append((number, column, "not ASCII, and no byte order mark: 5.1 reads it in the ANSI code page"))
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_pwsh.language())).parse(source)
    for node in _walk(tree.root_node):
        problem = _problem(node)
        if problem:
            found.append((node.start_point[0] + 1, node.start_point[1] + 1, problem))
    return sorted(set(found))


def _walk(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _problem(node: tree_sitter.Node) -> str | None:
    kinds = {child.type for child in node.children}
    if node.is_missing:
        return f"{node.type} is missing"
    if node.is_error:
        return "syntax error"
    if node.type in _ONLY_IN_7:
        return _ONLY_IN_7[node.type]
    if node.type == "assignment_operator" or node.type in _OPERATORS:
        return _OPERATORS.get((node.text or b"").decode())
    if node.type == "try_statement" and not kinds & {"catch_clauses", "finally_clause"}:
        return "try without catch or finally"
    if node.type == "if_statement":
        condition = node.child_by_field_name("condition")
        if condition and any(inner.type == "assignment_expression" for inner in _walk(condition)):
            return "an assignment as condition; use -eq to compare"
    return None


def main() -> int:
    bad = 0
    for name in sys.argv[1:]:
        for line, column, problem in problems(Path(name).read_bytes()):
            print(f"{name}:{line}:{column}: {problem}")
            bad = 1
    return bad


if __name__ == "__main__":
    raise SystemExit(main())
