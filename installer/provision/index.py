"""What do the wheel indexes hold right now?

Asks simple indexes (download.pytorch.org, a mirror, the user's own, the default package index), find-links pages and
local folders for their torch wheels; `pages` reads the answers. Facts about download.pytorch.org (`%2B` in file names,
absolute links to another host, 403 for what is absent, pages good for 600 s): pytorch/test-infra
s3_management/manage_v2.py, read 2026-11-20.
Pages are kept under the user's cache directory, asked for again when they are older
than that, and answer alone when offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .catalog import PACKAGE_INDEX_LABEL, Channel, Listing, Source, SourceKind, Wheel, page_url, pytorch_index
from .pages import Page, links_in_folder, looks_like_index, parse_page
from .settings import Settings, redact
from .values import fields, frozen

if TYPE_CHECKING:
    import urllib.request

FRESH_SECONDS = 600
"""How long a page is good for without asking again: the `max-age` that download.pytorch.org sends."""

CONNECT_SECONDS = 6.0
"""How long one source may stay silent before it counts as out of reach."""

PAGE_SECONDS = 30.0
"""How long one page may take in all, however steadily it drips."""

PAGE_BYTES = 64 * 1024 * 1024
"""More than this is no index page."""


@frozen
class Question:
    """One page to ask for. `folder` is a local find-links folder instead."""

    source: Source
    url: str
    backend: str | None = None
    channel: Channel = Channel.STABLE


@frozen
class Answer:
    """What a question brought: a listing, or why there is none. `age` is in seconds where the page came from disk."""

    question: Question
    listing: Listing | None = None
    problem: str | None = None
    age: float | None = None


@frozen
class Survey:
    """Every answer. A source is reached when at least one of its pages answered, be it with "not there"."""

    answers: tuple[Answer, ...]

    @property
    def listings(self) -> tuple[Listing, ...]:
        return tuple(answer.listing for answer in self.answers if answer.listing is not None)

    @property
    def reached(self) -> tuple[Source, ...]:
        return tuple(dict.fromkeys(answer.question.source for answer in self.answers if answer.problem is None))

    @property
    def unreachable(self) -> Mapping[Source, str]:
        """Source → why it could not be reached."""
        reached = set(self.reached)
        return {
            answer.question.source: answer.problem
            for answer in self.answers
            if answer.problem is not None and answer.question.source not in reached
        }


Fetch = Callable[[str, Page | None], Page]
"""Asks for one address; given the page known so far, may answer with it again. Raises OSError when out of reach."""


def pytorch_questions(base: str, wanted: Iterable[tuple[str, Channel]]) -> list[Question]:
    """The torch pages of the PyTorch index (or a mirror of it) for some (backend, channel) pairs."""
    source = pytorch_index(base)
    return [
        Question(source=source, url=f"{page_url(source, backend, channel)}/torch/", backend=backend, channel=channel)
        for backend, channel in wanted
    ]


def user_questions(settings: Settings) -> list[Question]:
    """The torch pages of the user's own indexes and find-links, in pip's order."""
    questions = []
    if not settings.no_index:
        indexes = [*([settings.index_url] if settings.index_url else []), *settings.extra_index_urls]
        for url in indexes:
            source = Source(kind=SourceKind.USER_INDEX, url=url.rstrip("/"), label=_place(url))
            questions.append(Question(source=source, url=f"{url.rstrip('/')}/torch/"))
    for link in settings.find_links:
        source = Source(kind=SourceKind.FIND_LINKS, url=link, label=_place(link))
        questions.append(Question(source=source, url=link))
    return questions


def package_index_question(url: str) -> Question:
    """The torch page of the default package index, whose address the installer itself told."""
    source = Source(kind=SourceKind.PACKAGE_INDEX, url=url.rstrip("/"), label=PACKAGE_INDEX_LABEL)
    return Question(source=source, url=f"{url.rstrip('/')}/torch/")


def survey(questions: Sequence[Question], fetch: Fetch, cache: Path | None, *, offline: bool = False) -> Survey:
    """Ask every question at once. Costs at most the slowest page; a dead source costs CONNECT_SECONDS."""
    if not questions:
        return Survey(answers=())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(8, len(questions))) as pool:
        return Survey(answers=tuple(pool.map(lambda question: _ask(question, fetch, cache, offline), questions)))


def _ask(question: Question, fetch: Fetch, cache: Path | None, offline: bool) -> Answer:
    folder = local_folder(question.url)
    try:
        if folder is not None and folder.is_dir() and question.source.kind is SourceKind.FIND_LINKS:
            return Answer(question=question, listing=_listing(question, links_in_folder(folder)))
        if folder is not None:
            page = _local_page(folder, question.url)
            return Answer(question=question, listing=_listing(question, parse_page(page)))
        page, age = _through_cache(question.url, fetch, cache, offline)
        if page.status in (403, 404, 410):
            return Answer(question=question, listing=_listing(question, ()), age=age)
        if page.status != 200:
            return Answer(question=question, problem=f"answered with HTTP status {page.status}")
        links = parse_page(page)
        if not links and not looks_like_index(page):
            return Answer(question=question, problem="answered with something that is not an index page")
        return Answer(question=question, listing=_listing(question, links), age=age)
    except FileNotFoundError:
        return Answer(question=question, listing=_listing(question, ()))
    except OSError as error:
        return Answer(question=question, problem=reason(error))


def _through_cache(url: str, fetch: Fetch, cache: Path | None, offline: bool) -> tuple[Page, float | None]:
    """The page, and its age in seconds where it was read from disk without asking."""
    place = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json" if cache else None
    known = _load(place)
    age = time.time() - known.fetched if known else 0.0
    if known and (offline or 0 <= age < FRESH_SECONDS):
        return known, age
    if offline:
        raise OSError("offline, and no page of it was kept")
    try:
        page = fetch(url, known)
    except OSError:
        if known:
            return known, age
        raise
    if place and page.status == 200:
        _keep(place, page)
    return page, None


def _load(place: Path | None) -> Page | None:
    if place is None:
        return None
    try:
        return Page(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _keep(place: Path, page: Page) -> None:
    """A cache that cannot be written is only a slower one."""
    values = fields(page) | {"fetched": time.time(), "url": redact(page.url)}
    temporary = place.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(values), encoding="utf-8")
        temporary.replace(place)
    except OSError:
        temporary.unlink(missing_ok=True)


def _opener(settings: Settings) -> urllib.request.OpenerDirector:
    """Opens addresses through the user's proxy, with the user's certificates."""
    import ssl
    import urllib.request

    cafile = settings.cert if settings.cert and Path(settings.cert).is_file() else None
    context = ssl.create_default_context(cafile=cafile)
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if settings.proxy and not urllib.request.getproxies():
        handlers.append(urllib.request.ProxyHandler({"http": settings.proxy, "https": settings.proxy}))
    return urllib.request.build_opener(*handlers)


def ask_sizes(urls: Iterable[str], settings: Settings) -> Mapping[str, int]:
    """How many bytes the files at these addresses have; one that does not say so is left out."""
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    opener = _opener(settings)

    def ask(url: str) -> tuple[str, int]:
        folder = local_folder(url)
        if folder is not None:
            return url, folder.stat().st_size if folder.is_file() else 0
        address, credentials = _split_credentials(url)
        request = urllib.request.Request(address, method="HEAD")
        if credentials:
            request.add_header("Authorization", credentials)
        try:
            with opener.open(request, timeout=CONNECT_SECONDS) as response:
                return url, int(response.headers.get("Content-Length") or 0)
        except (OSError, ValueError):
            return url, 0

    with ThreadPoolExecutor(max_workers=8) as pool:
        return {url: size for url, size in pool.map(ask, urls) if size}


def http_fetch(settings: Settings) -> Fetch:
    """A Fetch over the network that honours the proxy variables, pip's certificate and the user's netrc."""
    import urllib.error
    import urllib.request

    opener = _opener(settings)

    def fetch(url: str, known: Page | None) -> Page:
        address, credentials = _split_credentials(url)
        headers = {"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5", "User-Agent": "torch-provision"}
        if credentials:
            headers["Authorization"] = credentials
        if known and known.etag:
            headers["If-None-Match"] = known.etag
        if known and known.modified:
            headers["If-Modified-Since"] = known.modified
        try:
            with opener.open(urllib.request.Request(address, headers=headers), timeout=CONNECT_SECONDS) as response:
                body = _read(response, time.monotonic() + PAGE_SECONDS)
                return Page(
                    url=response.geturl(),
                    status=response.status,
                    text=body.decode("utf-8", errors="replace"),
                    kind=response.headers.get_content_type(),
                    etag=response.headers.get("ETag"),
                    modified=response.headers.get("Last-Modified"),
                    fetched=time.time(),
                )
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304 and known:
                    values = fields(known)
                    return Page(**(values | {"fetched": time.time()}))
                return Page(url=url, status=error.code, text="")
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
        except (ValueError, EOFError) as error:
            raise OSError(f"spoke no proper HTTP: {error}") from error
        except Exception as error:  # http.client's errors are no OSErrors
            if type(error).__module__ == "http.client":
                raise OSError(f"spoke no proper HTTP: {type(error).__name__}") from error
            raise

    return fetch


def _read(response: object, deadline: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(1 << 16):  # type: ignore[attr-defined]
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError(f"sent only {size} bytes in {PAGE_SECONDS:.0f} s")
        if size > PAGE_BYTES:
            raise OSError("answered with more than an index page can be")
    return b"".join(chunks)


def _split_credentials(url: str) -> tuple[str, str | None]:
    """The address without user and password, and the `Authorization` header for it (from the URL or the netrc file)."""
    parts = urlsplit(url)
    user, password = parts.username, parts.password
    if user is None and parts.hostname:
        import netrc

        try:
            found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname)
        except (OSError, netrc.NetrcParseError):
            found = None
        if found:
            user, password = found[0], found[2]
    if user is None:
        return url, None
    import base64

    token = base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl(), f"Basic {token}"


def reason(error: OSError) -> str:
    """Why a source is out of reach, in one line."""
    import socket
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message})"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_SECONDS:.0f} s" if "bytes" not in str(error) else str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "connection dropped"
    return str(error) or type(error).__name__


def local_folder(url: str) -> Path | None:
    """The local path that an index or find-links setting names, or None where it is an address."""
    if url.startswith("file:"):
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(url).path))
    return Path(url).expanduser() if "://" not in url else None


def _local_page(path: Path, url: str) -> Page:
    if path.is_dir():
        path = path / "index.html"
        url = url.rstrip("/") + "/"
    address = url if "://" in url else path.as_uri()
    return Page(url=address, status=200, text=path.read_text(encoding="utf-8", errors="replace"))


def _listing(question: Question, wheels: tuple[Wheel, ...]) -> Listing:
    torch = tuple(wheel for wheel in wheels if wheel.name == "torch" and not wheel.yanked)
    return Listing(source=question.source, backend=question.backend, channel=question.channel, wheels=torch)


def _place(url: str) -> str:
    """How a screen names a source: the host, or the folder; never credentials."""
    if "://" in url and not url.startswith("file:"):
        return urlsplit(url).netloc.rpartition("@")[2]
    folder = local_folder(url)
    return str(folder) if folder else url
