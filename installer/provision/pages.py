"""What does an index page say? Pure parsing, from text to wheels.

Three formats: PEP 503 HTML (also a flat find-links page: both are lists of anchors), PEP 691 JSON, and the names in a
folder of wheels.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from .catalog import Wheel
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
    parser = _Anchors()
    parser.feed(text)
    base = urljoin(url, parser.base) if parser.base else url
    wheels = []
    for anchor in parser.anchors:
        href = anchor.get("href")
        if not href:
            continue
        address, _, fragment = urljoin(base, href).partition("#")
        digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        wheel = _wheel(
            unquote(urlsplit(address).path.rpartition("/")[2]),
            address,
            sha256=digest[1] if digest else None,
            requires_python=anchor.get("data-requires-python"),
            yanked="data-yanked" in anchor,
        )
        if wheel:
            wheels.append(wheel)
    return tuple(wheels)


def parse_json_page(text: str, url: str) -> tuple[Wheel, ...]:
    try:
        files = json.loads(text)["files"]
    except (ValueError, KeyError, TypeError):
        return ()
    wheels = []
    for entry in files:
        wheel = _wheel(
            str(entry.get("filename", "")),
            urljoin(url, str(entry.get("url", ""))),
            sha256=entry.get("hashes", {}).get("sha256"),
            size=entry.get("size"),
            requires_python=entry.get("requires-python"),
            yanked=bool(entry.get("yanked")),
        )
        if wheel:
            wheels.append(wheel)
    return tuple(wheels)


def looks_like_index(page: Page) -> bool:
    """Whether a page without wheels is an index all the same (and not, say, a login page)."""
    if page.kind.endswith("+json"):
        return '"files"' in page.text
    parser = _Anchors()
    parser.feed(page.text)
    return "<form" not in page.text.lower() and bool(re.search(r"links for|<!doctype html|<html", page.text, re.I))


def links_in_folder(folder: Path) -> tuple[Wheel, ...]:
    """Every torch wheel in a local folder."""
    found = []
    for path in sorted(folder.glob("*.whl")):
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
    if not filename.endswith(".whl"):
        return None
    try:
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return Wheel(
        name=canonicalize_name(name),
        version=version,
        tags=tags,
        filename=filename,
        url=url,
        sha256=sha256,
        size=size,
        requires_python=requires_python,
        yanked=yanked,
    )
