"""What does an index page say? Pure parsing, from text to wheels.

Three formats: PEP 503 HTML (also a flat find-links page: both are lists of anchors), PEP 691 JSON, and the names in a
folder of wheels. File names of wheels are read here: what packaging has for them loads all that it knows about tags,
which takes as long as reading the pages.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin

from packaging.version import InvalidVersion, Version

from .catalog import Tag, Wheel
from .values import frozen


@frozen
class Page:
    """What one address answered. `status` 403 and 404 both mean: not there."""

    url: str
    status: int
    text: str
    kind: str = "text/html"
    etag: str | None = None
    modified: str | None = None
    fetched: float = 0.0


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: list[dict[str, str | None]] = []
        self.base: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.anchors.append(dict(attrs))
        elif tag == "base" and self.base is None:
            self.base = dict(attrs).get("href")


def parse_page(page: Page) -> tuple[Wheel, ...]:
    """Every wheel that a simple index page (HTML or JSON) or a find-links page names; other files are passed over."""
    if page.kind.endswith("+json"):
        return parse_json_page(page.text, page.url)
    return parse_html_page(page.text, page.url)


def parse_html_page(text: str, url: str) -> tuple[Wheel, ...]:
    """The wheels of a PEP 503 page or of any page of links; what is no link to a wheel is passed over."""
    parser = _read(text)
    base = _joined(url, parser.base or "") or url
    wheels = []
    for anchor in parser.anchors:
        address = _joined(base, anchor.get("href") or "")
        if address is None:
            continue
        address, _, fragment = address.partition("#")
        wheel = _wheel(
            _filename(address),
            address,
            sha256=_digest(fragment),
            requires_python=anchor.get("data-requires-python"),
            yanked="data-yanked" in anchor,
        )
        if wheel:
            wheels.append(wheel)
    return tuple(wheels)


def parse_json_page(text: str, url: str) -> tuple[Wheel, ...]:
    """The wheels of a PEP 691 page; entries that are not as they should be are passed over."""
    wheels = []
    for entry in _files(text) or ():
        address = _joined(url, str(entry.get("url") or ""))
        hashes = entry.get("hashes")
        size, python = entry.get("size"), entry.get("requires-python")
        if address is None:
            continue
        wheel = _wheel(
            str(entry.get("filename") or ""),
            address,
            sha256=_digest(f"sha256={hashes.get('sha256')}") if isinstance(hashes, dict) else None,
            size=size if isinstance(size, int) and size > 0 else None,
            requires_python=python if isinstance(python, str) else None,
            yanked=bool(entry.get("yanked")),
        )
        if wheel:
            wheels.append(wheel)
    return tuple(wheels)


def looks_like_index(page: Page) -> bool:
    """Whether a page without wheels is an index all the same, and not a login page or an error that calls itself 200.

    It says so (PEP 503's title or its repository version, a web server's list of a folder), it links to other files
    that packages come as, or it is a list of links and nothing else.
    """
    if page.kind.endswith("+json"):
        return _files(page.text) is not None
    if re.search(r"<form|<input|<script", page.text, re.I):
        return False
    if re.search(r"links for|simple index|index of|pypi:repository-version", page.text, re.I):
        return True
    names = [_filename(anchor.get("href") or "") for anchor in _read(page.text).anchors]
    return any(re.search(r"\.(whl|tar\.gz|zip|egg)$", name) for name in names)


def title_of(page: Page) -> str | None:
    """What a page calls itself: `Sign in to Example Corp`."""
    found = re.search(r"<title[^>]*>\s*([^<]{1,80})", page.text, re.I)
    return " ".join(found[1].split()) if found else None


def _read(text: str) -> _Anchors:
    parser = _Anchors()
    with suppress(
        AssertionError, ValueError
    ):  # a broken declaration (CPython 3.11 `_markupbase`): what was read counts
        parser.feed(text)
    return parser


def _joined(base: str, href: str) -> str | None:
    """The whole address of a link; None for one that is none."""
    try:
        return urljoin(base, href.strip()) or None
    except ValueError:
        return None


def _filename(address: str) -> str:
    """The last part of an address' path, as a file is called: `%2B` is a `+`."""
    return unquote(address.partition("?")[0].partition("#")[0].rpartition("/")[2])


def _digest(fragment: str) -> str | None:
    found = re.search(r"(?:^|&)sha256=([0-9a-fA-F]{64})(?:&|$)", fragment)
    return found[1].lower() if found else None


def _files(text: str) -> list[dict[str, object]] | None:
    """The `files` of a PEP 691 page; None where the text is no such page."""
    try:
        files = json.loads(text)["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [entry for entry in files if isinstance(entry, dict)] if isinstance(files, list) else None


def links_in_folder(folder: Path) -> tuple[Wheel, ...]:
    """Every wheel in a local folder. Raises OSError where there is no such folder."""
    found = []
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".whl"):
        wheel = _wheel(path.name, path.as_uri(), size=path.stat().st_size)
        if wheel:
            found.append(wheel)
    return tuple(found)


def _wheel(
    filename: str,
    url: str,
    *,
    sha256: str | None = None,
    size: int | None = None,
    requires_python: str | None = None,
    yanked: bool = False,
) -> Wheel | None:
    named = parse_filename(filename)
    if named is None:
        return None
    name, version, tags = named
    return Wheel(
        name=name,
        version=version,
        tags=tags,
        filename=filename,
        url=url,
        sha256=sha256,
        size=size,
        requires_python=requires_python,
        yanked=yanked,
    )


_FILENAME = re.compile(r"([\w.]+)-([^-]+)(?:-\d[^-]*)?-([^-]+)-([^-]+)-([^-]+)\.whl")


def parse_filename(filename: str) -> tuple[str, Version, frozenset[Tag]] | None:
    """Name (normalized), version and tags of a wheel's file name (PEP 427); None for one that is none."""
    match = _FILENAME.fullmatch(filename)
    if match is None or "__" in match[1]:
        return None
    interpreters, abis, platforms = (match[place].lower().split(".") for place in (3, 4, 5))
    if not all(map(str.isidentifier, interpreters)) or "" in (*abis, *platforms):
        return None
    try:
        version = Version(match[2])
    except InvalidVersion:
        return None
    tags = frozenset(
        Tag(interpreter=interpreter, abi=abi, platform=platform)
        for interpreter in interpreters
        for abi in abis
        for platform in platforms
    )
    return re.sub(r"[-_.]+", "-", match[1]).lower(), version, tags
