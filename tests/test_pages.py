"""What does an index page say? A case is a file under tests/parse/pages, as some server really sends such pages.

`<case>.html` is a PEP 503 page or a list of links, `<case>.page` a PEP 691 one; `<case>.expected.json` beside it tells
its wheels, whether it is an index at all, and what it calls itself where that helps to say what it is instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from provision.catalog import Tag, Wheel
from provision.pages import (
    Page,
    links_in_folder,
    looks_like_index,
    parse_filename,
    parse_html_page,
    parse_json_page,
    parse_page,
    title_of,
)


def wheel_names() -> st.SearchStrategy[str]:
    """Names of wheels, most of them right."""
    parts = [("torch", "Torch.Vision_2", "a__b"), ("2.11.0+cu130", "1!2.0.dev3", "two"), ("", "-1", "-1a", "-a")]
    tags = [("cp313", "py2.py3", "CP313", "3"), ("cp313t", "none.abi3", "."), ("win_amd64", "any", "a.B", "")]
    return st.tuples(*(st.sampled_from(choices) for choices in parts + tags)).map(
        lambda one: f"{one[0]}-{one[1]}{one[2]}-{one[3]}-{one[4]}-{one[5]}.whl"
    )


CASES = sorted(path for path in (Path(__file__).parent / "parse" / "pages").iterdir() if path.suffix != ".json")
URL = "https://mirror.example/whl/cu130/torch/"
KINDS = {".html": "text/html", ".page": "application/vnd.pypi.simple.v1+json"}


def told(wheel: Wheel) -> dict[str, Any]:
    values = {name: getattr(wheel, name) for name in ("filename", "url", "sha256", "size", "requires_python", "yanked")}
    return {name: value for name, value in values.items() if value}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_page_is_read_as_what_it_is(case: Path) -> None:
    expected = json.loads(case.with_suffix(".expected.json").read_text(encoding="utf-8"))
    page = Page(url=URL, status=200, text=case.read_text(encoding="utf-8"), kind=KINDS[case.suffix])
    wheels = parse_page(page)
    assert [told(wheel) for wheel in wheels] == expected["wheels"]
    assert bool(wheels) or looks_like_index(page) is expected["index"]
    if "title" in expected:
        assert title_of(page) == expected["title"]


def test_a_wheel_knows_what_it_is_for() -> None:
    [wheel] = parse_html_page('<a href="torch-2.11.0%2Bcu130-cp313-cp313t-manylinux_2_28_x86_64.whl">t</a>', URL)
    assert (wheel.name, str(wheel.version)) == ("torch", "2.11.0+cu130")
    assert wheel.tags == {Tag(interpreter="cp313", abi="cp313t", platform="manylinux_2_28_x86_64")}


PARTS = ["torch", "Torch_Vision", "a__b", "a.b", "é", "", "2.11.0", "2.11.0+cu130", "x", "1", "1local", "-", "-", "-"]
PARTS += [
    "cp313",
    "CP313",
    "py2.py3",
    "cp313.",
    "3",
    "none",
    "abi3.none",
    "any",
    "win_amd64",
    "a.b.c",
    ".whl",
    ".zip",
    " ",
]


@settings(max_examples=2000, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), wheel_names()))
def test_a_file_name_says_what_packaging_says(filename: str) -> None:
    try:
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        assert parse_filename(filename) is None
    else:
        told = frozenset(Tag(interpreter=tag.interpreter, abi=tag.abi, platform=tag.platform) for tag in tags)
        assert parse_filename(filename) == (name, version, told)


def test_a_folder_of_wheels_is_a_page_too(tmp_path: Path) -> None:
    for name in ("torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl", "notes.txt", "torch.whl"):
        (tmp_path / name).write_bytes(b"12345")
    [wheel] = links_in_folder(tmp_path)
    assert (wheel.filename, wheel.size) == ("torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl", 5)
    assert wheel.url.startswith("file:")


def test_a_folder_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        links_in_folder(tmp_path / "absent")


TEXTS = st.text(alphabet=st.sampled_from("<>!a href=\"whl/[]#&;-?{}:,1.torch\\'é\x00"), max_size=80) | st.text(
    max_size=40
)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_whatever_a_server_sends_is_read_without_an_error(text: str) -> None:
    for kind in KINDS.values():
        page = Page(url=URL, status=200, text=text, kind=kind)
        parse_page(page)
        looks_like_index(page)
        title_of(page)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["files", "filename", "url", "hashes", "size", "sha256"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_json_of_any_shape_is_read_without_an_error(value: Any) -> None:
    parse_json_page(json.dumps(value), URL)
    parse_json_page(json.dumps({"files": value}), URL)
