"""What do the wheel indexes hold right now?

Asks simple indexes (download.pytorch.org, a mirror, the user's own, the default package index), find-links pages and
local folders for their torch wheels; `pages` reads the answers, `fetch` goes over the network, `kept` remembers. Facts
about download.pytorch.org (`%2B` in file names, absolute links to another host, 403 for what is absent, pages good for
600 s): pytorch/test-infra s3_management/manage_v2.py, read 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from .catalog import (
    PACKAGE_INDEX_LABEL,
    PYTORCH_INDEX,
    Channel,
    Listing,
    Source,
    SourceKind,
    Wheel,
    page_url,
    pytorch_index,
)
from .kept import Got, Kept
from .pages import Page, links_in_folder, looks_like_index, parse_page, title_of
from .settings import Settings
from .values import frozen, replace

ABSENT = (403, 404, 410)
"""What an index answers where it has no such page: the PyTorch index 403, others 404."""


@frozen
class Question:
    """One page to ask for; its `url` may be a local folder."""

    source: Source
    url: str
    backend: str | None = None
    channel: Channel = Channel.STABLE


@frozen
class Answer:
    """What a question brought: a listing, or why there is none (`problem`, of the class `cause`).

    `age` is in seconds where the page came from disk; `stale` says why it did although it was old.
    """

    question: Question
    listing: Listing | None = None
    problem: str | None = None
    cause: str = "network"
    age: float | None = None
    stale: str | None = None


@frozen
class Remark:
    """Something that a person should hear about the sources."""

    level: str
    code: str
    text: str


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
    def missed(self) -> Mapping[Source, Answer]:
        """Each source that could not be reached, with the answer that says why."""
        reached = set(self.reached)
        missed: dict[Source, Answer] = {}
        for answer in self.answers:
            if answer.problem is not None and answer.question.source not in reached:
                missed.setdefault(answer.question.source, answer)
        return missed

    @property
    def unreachable(self) -> Mapping[Source, str]:
        """Source → why it could not be reached."""
        return {source: answer.problem or "" for source, answer in self.missed.items()}

    @property
    def oldest(self) -> float | None:
        """The age in seconds of the oldest page that was not asked for anew, None where there is none."""
        return max((answer.age for answer in self.answers if answer.age is not None), default=None)

    def wheels(self, source: Source) -> tuple[Wheel, ...]:
        """The torch wheels that were seen there."""
        return tuple(wheel for one in self.listings if one.source == source for wheel in one.wheels)


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
        for url in [*([settings.index_url] if settings.index_url else []), *settings.extra_index_urls]:
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


def survey(questions: Sequence[Question], settings: Settings, cache: Path | None, *, offline: bool = False) -> Survey:
    """Ask every question at once. Costs at most the slowest page, and a minute whatever a server does."""
    kept = Kept(settings, cache, offline=offline)
    calls: list[Callable[[], Answer]] = [lambda question=question: _ask(question, kept) for question in questions]  # type: ignore[misc]
    answers = _checked(kept.at_once([question.url for question in questions], calls), kept)
    return Survey(answers=tuple(answers))


def _ask(question: Question, kept: Kept) -> Answer:
    try:
        folder = local_folder(question.url)
        if folder is not None:
            return _in_folder(question, folder)
        got = kept.page(question.url)
        if got.page.status not in ABSENT:
            return _read(question, got)
        if question.source.kind is SourceKind.PYTORCH_INDEX and question.source.url != PYTORCH_INDEX:
            flat = _ask_flat(question, kept)
            if flat is not None:
                return flat
        return Answer(question=question, listing=_listing(question, ()), age=got.age, stale=got.stale)
    except OSError as error:
        from .fetch import reason

        cause, problem = reason(error)
        return Answer(question=question, problem=problem + kept.through(question.url), cause=cause)


def _ask_flat(question: Question, kept: Kept) -> Answer | None:
    """Some mirrors have one page of links to all wheels of a backend (find-links) instead of an index."""
    got = kept.page(question.url.removesuffix("torch/"))
    if got.page.status != 200:
        return None
    flat = replace(question, source=replace(question.source, flat=True))
    listing = _listing(flat, parse_page(got.page))
    return Answer(question=question, listing=listing, age=got.age, stale=got.stale) if listing.wheels else None


def _read(question: Question, got: Got) -> Answer:
    page = got.page
    if page.status != 200:
        from .fetch import status_problem

        cause = "credentials" if page.status in (401, 407) else "network"
        return Answer(question=question, problem=status_problem(page.status), cause=cause)
    wheels = parse_page(page)
    if not wheels and not looks_like_index(page):
        return Answer(question=question, problem=_no_index(question.url, page))
    return Answer(question=question, listing=_listing(question, wheels), age=got.age, stale=got.stale)


def _no_index(url: str, page: Page) -> str:
    title = title_of(page)
    called = f' (it calls itself "{title}": a login page?)' if title else ""
    there = urlsplit(page.url).netloc.rpartition("@")[2]
    if there != urlsplit(url).netloc:
        return f"sent us on to {there}, which answered with something that is not an index page{called}"
    return f"answered with something that is not an index page{called}"


def _in_folder(question: Question, folder: Path) -> Answer:
    if question.source.kind is SourceKind.FIND_LINKS and folder.is_dir():
        return Answer(question=question, listing=_listing(question, links_in_folder(folder)))
    if question.source.kind is SourceKind.FIND_LINKS and not folder.exists():
        return Answer(question=question, problem="there is no such folder")
    try:
        return Answer(question=question, listing=_listing(question, parse_page(_local_page(folder, question.url))))
    except FileNotFoundError:
        if folder.parent.is_dir():
            return Answer(question=question, listing=_listing(question, ()))
        return Answer(question=question, problem="there is no such folder")


# A second look at the PyTorch index and its mirrors -----------------------------------------------------------------


def _checked(answers: Sequence[Answer], kept: Kept) -> list[Answer]:
    """The answers, where those of one mirror together say that it cannot serve: then all of them say so."""
    problems = {}
    for source in {answer.question.source for answer in answers if answer.question.source.url.startswith("http")}:
        here = [answer for answer in answers if answer.question.source == source]
        wheels = [wheel for answer in here if answer.listing for wheel in answer.listing.wheels]
        absent = all(answer.listing is not None and not answer.listing.wheels for answer in here)
        if source.kind is SourceKind.PYTORCH_INDEX and absent:
            problems[source] = _nothing_there(here, kept)
        elif wheels:
            problems[source] = _elsewhere_out_of_reach(source, wheels, kept)
        if problems.get(source) is None:
            absent_ones = [answer.question.url for answer in here if answer.listing and not answer.listing.wheels]
            kept.keep_absent([*absent_ones, *(url.removesuffix("torch/") for url in absent_ones)])
    return [
        replace(answer, listing=None, problem=problem)
        if answer.problem is None and (problem := problems.get(answer.question.source))
        else answer
        for answer in answers
    ]


def _nothing_there(answers: Sequence[Answer], kept: Kept) -> str | None:
    """Not one page that was asked for is there. Where not even torch for the CPU is, this is no index of torch."""
    control = pytorch_questions(answers[0].question.source.url, [("cpu", Channel.STABLE)])[0]
    if any(answer.question.url == control.url for answer in answers):
        found = next(answer for answer in answers if answer.question.url == control.url)
    else:
        found = _ask(control, kept)
    if found.problem is not None:
        return found.problem
    if found.listing is not None and found.listing.wheels:
        return None
    return "has none of the pages of a torch index, or shows them to nobody without a login"


def _elsewhere_out_of_reach(source: Source, wheels: Sequence[Wheel], kept: Kept) -> str | None:
    """Pages may link to files on other hosts. Where those are out of reach, the pages are of no use."""
    for host, wheel in sorted(_elsewhere(source, wheels).items()):
        problem = kept.out_of_reach(wheel.url)
        if problem is not None:
            return f"its pages link to files on {host}, which {_as_verb(problem)}"
    return None


def _as_verb(problem: str) -> str:
    """`connection refused` → `cannot be reached (connection refused)`; `refuses access` stays."""
    verbs = ("refuses", "wants", "is ", "answered", "redirects", "speaks", "spoke", "sent")
    return problem if problem.startswith(verbs) else f"cannot be reached ({problem})"


def _elsewhere(source: Source, wheels: Iterable[Wheel]) -> dict[str, Wheel]:
    """Host → the newest wheel on it, for hosts that are not the source's own."""
    own = urlsplit(source.url).netloc
    found: dict[str, Wheel] = {}
    for wheel in sorted(wheels, key=lambda one: one.version):
        host = urlsplit(wheel.url).netloc.rpartition("@")[2]
        if host and host != own:
            found[host] = wheel
    return found


def remarks(answers: Survey) -> list[Remark]:
    """What is to be said about the sources: the unreachable, the old pages, mirrors that lead elsewhere."""
    said = [
        Remark(level="warning", code="source-unreachable", text=f"{source.label} could not be reached: {problem}")
        for source, problem in answers.unreachable.items()
    ]
    old: dict[Source, Answer] = {}
    for answer in answers.answers:
        if answer.stale is not None and answer.age is not None:
            old.setdefault(answer.question.source, answer)
    said += [
        Remark(
            level="warning",
            code="kept-pages",
            text=f"{source.label} could not be reached ({answer.stale}): "
            f"its pages as they were {age_phrase(answer.age or 0)} ago stand for it",
        )
        for source, answer in old.items()
    ]
    for source in answers.reached:
        if source.kind is not SourceKind.PYTORCH_INDEX or source.url == PYTORCH_INDEX:
            continue
        wheels = [wheel for one in answers.listings if one.source.url == source.url for wheel in one.wheels]
        hosts = sorted(_elsewhere(source, wheels))
        if hosts:
            text = f"{source.label} is only a list: its links lead to {', '.join(hosts)}, where the files come from"
            said.append(Remark(level="warning", code="mirror-leads-elsewhere", text=text))
    return said


def age_phrase(seconds: float) -> str:
    """`5 min`, `3 h`, `2 days`."""
    for limit, unit, name in ((7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(1, round(seconds / unit))} {name}"
    return f"{round(seconds / 86400)} days"


# Sizes --------------------------------------------------------------------------------------------------------------


def ask_sizes(urls: Iterable[str], settings: Settings) -> Mapping[str, int]:
    """How many bytes the files at these addresses have; one that does not say so is left out."""
    from .fetch import Web, at_once

    web = Web(settings)

    def ask(url: str) -> int | None:
        try:
            folder = local_folder(url)
            return folder.stat().st_size if folder is not None else web.size(url)
        except OSError:
            return None

    asked = list(dict.fromkeys(urls))
    sizes = at_once([lambda url=url: ask(url) for url in asked])  # type: ignore[misc]
    return {url: size for url, size in zip(asked, sizes, strict=True) if size}


# Places -------------------------------------------------------------------------------------------------------------


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


def _listing(question: Question, wheels: Iterable[Wheel]) -> Listing:
    torch = tuple(wheel for wheel in wheels if wheel.name == "torch" and not wheel.yanked)
    return Listing(source=question.source, backend=question.backend, channel=question.channel, wheels=torch)


def _place(url: str) -> str:
    """How a screen names a source: the host, or the folder."""
    if "://" in url and not url.startswith("file:"):
        return urlsplit(url).netloc.rpartition("@")[2]
    folder = local_folder(url)
    return str(folder) if folder else url
