"""Which build, and from where? Puts the table, the live sources and the machine together into one decision.

The order in which sources are asked is that of contracts 5.7: the PyTorch index (or the mirror), the user's own indexes
and find-links, the default package index. Each that cannot be reached is named; what no reached source holds is no
candidate. Offline, and for another machine's facts where the PyTorch index is out of reach, the shipped table answers
alone, and says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .catalog import PYTORCH_INDEX, Build, Catalog, Channel, SourceKind, load_catalog
from .console import Console
from .errors import InstallFailed, UsageProblem
from .job import Job
from .machine import Machine, Vendor
from .resolve import Request, Resolution, resolve
from .values import frozen, replace

if TYPE_CHECKING:
    from .host import Host
    from .index import Survey
    from .settings import Settings

_BACKEND = re.compile(r"cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+)*")


@frozen
class Decision:
    """The resolution and what it rests on. `from_table`: the shipped table answered alone."""

    resolution: Resolution
    request: Request
    catalog: Catalog
    from_table: bool
    settings: Settings | None = None
    survey: Survey | None = None


def decide(
    job: Job,
    host: Host,
    console: Console,
    machine: Machine,
    request: Request,
    *,
    executing: bool,
    prefix: Path | None = None,
) -> Decision:
    """Choose a build for the environment at `prefix`. Raises InstallFailed where every source is out of reach."""
    catalog = _catalog(job)
    table = _from_table(machine, request, catalog, job)
    alone = Decision(resolution=table, request=request, catalog=catalog, from_table=True)
    if job.as_of:
        return alone
    if job.offline and job.foreign and not executing:
        _say_table_alone(catalog, console)
        return alone
    from .index import age_phrase, remarks
    from .listings import with_listings
    from .settings import ask_settings

    settings = ask_settings(host, prefix=prefix, base=job.base_as_given)
    if job.for_others:
        settings = shared(settings, console)
    answers = _ask(job, host, settings, catalog, table, machine, request)
    pytorch = any(source.kind is SourceKind.PYTORCH_INDEX for source in answers.reached)
    missed = any(source.kind is SourceKind.PYTORCH_INDEX for source in answers.missed)
    nothing = not answers.reached or (missed and not any(one.wheels for one in answers.listings))
    for remark in () if job.offline else remarks(answers):
        console.message(remark.level, remark.code, remark.text)
    if (job.offline and nothing) or (job.foreign and not pytorch and not executing):
        _say_table_alone(catalog, console)
        return replace(alone, settings=settings)
    if nothing:
        raise _out_of_reach(answers)
    if job.offline:
        age = f" kept {age_phrase(answers.oldest)} ago" if answers.oldest is not None else ""
        console.message("info", "from-cache", f"offline: answered from index pages{age} and the shipped table")
    live = with_listings(catalog, answers.listings, reached=answers.reached)
    return Decision(
        resolution=resolve(machine, request, live),
        request=request,
        catalog=live,
        settings=settings,
        survey=answers,
        from_table=False,
    )


def shared(settings: Settings, console: Console) -> Settings:
    """The settings without what only this machine has: folders of wheels, and indexes that are folders."""
    from .index import local_folder

    def elsewhere(urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(url for url in urls if local_folder(url) is None)

    index = settings.index_url if settings.index_url and local_folder(settings.index_url) is None else None
    found = replace(
        settings,
        index_url=index,
        extra_index_urls=elsewhere(settings.extra_index_urls),
        find_links=elsewhere(settings.find_links),
    )
    if found != settings:
        console.message("info", "local-sources-left-out", "folders of this machine are no source of a lock for others")
    return found


def _from_table(machine: Machine, request: Request, catalog: Catalog, job: Job) -> Resolution:
    """What the table alone would say; of a backend that it does not know, an index may (`--backend cu134`)."""
    try:
        return resolve(machine, request, catalog)
    except UsageProblem as problem:
        if (
            problem.code != "unknown-backend"
            or job.offline
            or job.as_of
            or not _BACKEND.fullmatch(request.backend or "")
        ):
            raise
        return resolve(machine, replace(request, backend=None), catalog)


def _say_table_alone(catalog: Catalog, console: Console) -> None:
    text = f"answered from the shipped table of {catalog.read}: what is on the index now was not seen"
    console.message("info", "from-table", text)


def _out_of_reach(answers: Survey) -> InstallFailed:
    """No source at all: exit 5, with the class of cause of the first."""
    from .uv import HINTS

    cause = next((answer.cause for answer in answers.missed.values()), "network")
    hints = {
        "network": "check the connection and the proxy variables, name a mirror with --index-base, "
        "or see what would be chosen: provision plan --offline"
    }
    problems = "; ".join(f"{source.label}: {problem}" for source, problem in answers.unreachable.items())
    return InstallFailed(
        f"no source of torch could be reached: {problems or 'none is configured (no-index)'}",
        code=cause,
        hint=hints.get(cause, HINTS.get(cause)),
    )


def _catalog(job: Job) -> Catalog:
    """The shipped table, with what was seen in binaries on this machine; for another machine the table as it is."""
    catalog = load_catalog(job.base)
    if job.as_of is None and not job.foreign:
        from .seen import read_seen, seen_path, with_seen

        return with_seen(catalog, read_seen(seen_path()))
    if job.as_of is None:
        return catalog
    import datetime as dt

    try:
        return catalog.as_of(dt.date.fromisoformat(job.as_of))
    except ValueError:
        raise UsageProblem(f"--as-of {job.as_of!r} is not a day", hint="for example: --as-of 2025-11-20") from None


def _ask(
    job: Job,
    host: Host,
    settings: Settings,
    catalog: Catalog,
    table: Resolution,
    machine: Machine,
    request: Request,
) -> Survey:
    """Ask the PyTorch index for the backends that could matter, and the user's sources; then, if need be, the rest."""
    from .index import Survey, package_index_question, pytorch_questions, survey, user_questions

    cache = cache_folder()
    pages = _worth_asking(table, catalog, machine, request)
    closed = settings.no_index and job.base == PYTORCH_INDEX  # pip's no-index: nothing but what is named
    questions = [] if closed else pytorch_questions(job.base, pages)
    first = survey([*questions, *user_questions(settings)], settings, cache, offline=job.offline)
    reached = {source.kind for source in first.reached}
    if SourceKind.PYTORCH_INDEX in reached or settings.index_url or settings.no_index:
        return first
    from . import uv
    from .carry import uv_environment

    address = uv.default_index(host, uv.find_uv(host), uv_environment(settings, os.environ))
    if address is None:
        return first
    rest = survey([package_index_question(address)], settings, cache, offline=job.offline)
    return Survey(answers=first.answers + rest.answers)


def _worth_asking(table: Resolution, catalog: Catalog, machine: Machine, request: Request) -> list[tuple[str, Channel]]:
    """The pages that hold candidates (without any, the newest builds: perhaps that has changed), and new backends."""
    builds: Iterable[Build] = table.candidates
    if not table.candidates:
        newest = max((one.build.torch for one in table.rejected), default=None)
        builds = [one.build for one in table.rejected if one.build.torch == newest]
    pages = list(dict.fromkeys((build.backend, build.channel) for build in builds))[:8]
    if request.backend and all(request.backend != backend for backend, _ in pages):
        pages.insert(0, (request.backend, request.channel or Channel.STABLE))
    elif request.backend is None and request.channel in (None, Channel.STABLE):
        pages += [(backend, Channel.STABLE) for backend in new_backends(catalog, machine)]
    return pages or [("cpu", Channel.STABLE)]


def new_backends(catalog: Catalog, machine: Machine) -> list[str]:
    """The CUDA backends that the table lacks and an index may have by now: of the newest toolkit's next minors.

    As far as the driver serves them, and two more (a driver also runs later minors of its major). Only where there is
    an NVIDIA GPU to use them.
    """
    driver = next((one for one in machine.drivers if one.vendor is Vendor.NVIDIA and one.cuda), None)
    known = {
        (int(match[1]), int(match[2]))
        for build in catalog.builds
        if build.channel is Channel.STABLE and (match := re.fullmatch(r"cu(\d+)(\d)", build.backend))
    }
    if driver is None or not known or not any(gpu.vendor is Vendor.NVIDIA for gpu in machine.gpus):
        return []
    major, minor = max(known)
    served = [int(part) for part in str(driver.cuda).split(".")[:2]]
    last = max(minor + 2, served[1]) if served[0] == major and len(served) > 1 else minor + 2
    return [f"cu{major}{later}" for later in range(minor + 1, min(last, 9) + 1)] if served[0] >= major else []


def cache_folder() -> Path:
    """Where index pages are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("torch-provision", appauthor=False)) / "index"
