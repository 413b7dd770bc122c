"""The rooms and their layers: what the package says of itself is so."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import provision
import pytest

PACKAGE = Path(__file__).parents[1] / "installer" / "provision"


def layers() -> dict[int, list[str]]:
    """Layer → its rooms, as the package's own documentation lists them."""
    paragraphs = (provision.__doc__ or "").split("\n\n")
    found = (re.fullmatch(r"(\d) [^:]+:(.*)", " ".join(one.split())) for one in paragraphs)
    return {int(match[1]): match[2].split() for match in found if match}


LAYER = {room: layer for layer, rooms in layers().items() for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms that a file imports when it is loaded (not those that its functions import when they are called)."""
    found = set()
    depth = len(path.relative_to(PACKAGE).parts) - 1
    guarded = [
        node
        for block in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in block.body
    ]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1 and node not in guarded:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            found |= {name for name in names if name in LAYER}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) not in ("__init__", "__main__"))


def test_every_room_is_in_a_layer() -> None:
    assert {room_of(path) for path in FILES} - set(LAYER) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_nothing_from_above(path: Path) -> None:
    layer = LAYER.get(room_of(path), 9)
    assert {room for room in imports(path) if LAYER[room] > layer} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_says_in_its_first_line_what_belongs_in_it(path: Path) -> None:
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if path.read_text(encoding="utf-8").strip():
        assert documentation, f"{path.name} has no first line"


def test_torch_is_imported_in_one_file_only() -> None:
    importing = [
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "torch" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "torch")
    ]
    assert set(importing) <= {"probe.py"}


def test_the_probe_imports_nothing_of_ours_and_nothing_of_ours_imports_it() -> None:
    text = (PACKAGE / "probe.py").read_text(encoding="utf-8")
    assert "from ." not in text
    assert "provision" not in {
        alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert not [path.name for path in FILES if "probe" in imports(path)]


HEAVY = {
    "asyncio", "click", "concurrent.futures", "dataclasses", "importlib.metadata", "inspect", "packaging.specifiers",
    "pynvml", "ssl", "subprocess", "tempfile", "urllib.request", "platformdirs", "uv",
}  # fmt: skip
"""What a decision has no use for, and what would cost it milliseconds (`tests/bench/startup.py` has the figures)."""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["plan", "--machine", "machine.json", "--offline", "--json"], set()),
        (["plan", "--machine", "machine.json", "--offline"], set()),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_decision_loads_nothing_heavy(tmp_path: Path, arguments: list[str], allowed: set[str]) -> None:
    facts = {"platform": {"system": "linux", "machine": "x86_64"}, "gpus": []}
    (tmp_path / "machine.json").write_text(json.dumps(facts))
    program = (
        "import sys; from provision.cli import serve; code = serve(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert set(run.stderr.split()) & HEAVY <= allowed
