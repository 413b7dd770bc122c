"""Which build, and from where? Puts the table, the live sources and the machine together into one decision.

The order in which sources are asked is that of contracts 5.7: the PyTorch index (or the mirror), the user's own indexes
and find-links, the default package index. Each that cannot be reached is named; what no reached source holds is no
candidate. Offline, and for another machine's facts where the PyTorch index is out of reach, the shipped table answers
alone, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .catalog import Build, Catalog, Channel, Source, SourceKind, load_catalog
from .console import Console
from .errors import InstallFailed
from .job import Job
from .machine import Machine
from .resolve import Request, Resolution, resolve
from .values import frozen

if TYPE_CHECKING:
    from .host import Host
    from .index import Survey
    from .settings import Settings


@frozen
class Decision:
    """The resolution and what it rests on. `from_table`: the shipped table answered alone."""

    resolution: Resolution
    from_table: bool
    settings: Settings | None = None


def decide(job: Job, host: Host, console: Console, machine: Machine, request: Request, *, executing: bool) -> Decision:
    """Choose a build. Raises InstallFailed (`network`) where every source is out of reach."""
    catalog = _catalog(job)
    table = resolve(machine, request, catalog)
    if job.as_of or (job.offline and (job.foreign or not executing)):
        return Decision(resolution=table, from_table=True)
    from .listings import with_listings
    from .settings import ask_settings

    settings = ask_settings(host)
    answers = _ask(job, host, console, settings, catalog, table)
    pytorch = next((source for source in answers.reached if source.kind is SourceKind.PYTORCH_INDEX), None)
    for source, problem in answers.unreachable.items():
        console.message("warning", "source-unreachable", f"{source.label} could not be reached: {problem}")
    if pytorch is None and job.foreign and not executing:
        console.message("info", "from-table", "answered from the shipped table: what is on the index now was not seen")
        return Decision(resolution=table, settings=settings, from_table=True)
    if not answers.reached:
        if job.offline:
            return Decision(resolution=table, settings=settings, from_table=True)
        raise InstallFailed(
            "no source of torch could be reached: " + _problems(answers.unreachable),
            code="network",
            hint="check the connection and the proxy variables, name a mirror with --index-base, "
            "or see what would be chosen: provision plan --offline",
        )
    live = with_listings(catalog, answers.listings, reached=answers.reached)
    return Decision(resolution=resolve(machine, request, live), settings=settings, from_table=False)


def _catalog(job: Job) -> Catalog:
    catalog = load_catalog(job.base)
    if job.as_of is None:
        return catalog
    import datetime as dt

    from .errors import UsageProblem

    try:
        return catalog.as_of(dt.date.fromisoformat(job.as_of))
    except ValueError:
        raise UsageProblem(f"--as-of {job.as_of!r} is not a day", hint="for example: --as-of 2025-11-20") from None


def _ask(job: Job, host: Host, console: Console, settings: Settings, catalog: Catalog, table: Resolution) -> Survey:
    """Ask the PyTorch index for the backends that could matter, and the user's sources; then, if need be, the rest."""
    from . import uv
    from .index import Survey, http_fetch, package_index_question, pytorch_questions, survey, user_questions
    from .settings import uv_environment

    fetch = http_fetch(settings)
    cache = cache_folder()
    questions = pytorch_questions(job.base, _worth_asking(table, catalog))
    first = survey([*questions, *user_questions(settings)], fetch, cache, offline=job.offline)
    reached = {source.kind for source in first.reached}
    if SourceKind.PYTORCH_INDEX in reached or settings.index_url or settings.no_index:
        return first
    address = uv.default_index(host, uv.find_uv(host), uv_environment(settings, os.environ))
    if address is None:
        return first
    rest = survey([package_index_question(address)], fetch, cache, offline=job.offline)
    return Survey(answers=first.answers + rest.answers)


def _worth_asking(table: Resolution, catalog: Catalog) -> Iterable[tuple[str, Channel]]:
    """The pages that hold candidates; where there are none, those of the newest builds: perhaps that has changed."""
    builds: Iterable[Build] = table.candidates
    if not table.candidates:
        newest = max((one.build.torch for one in table.rejected), default=None)
        builds = [one.build for one in table.rejected if one.build.torch == newest]
    pages = dict.fromkeys((build.backend, build.channel) for build in builds)
    return list(pages)[:8] or [("cpu", Channel.STABLE)]


def _problems(unreachable: Mapping[Source, str]) -> str:

    from .settings import redact

    return "; ".join(f"{source.label}: {redact(problem)}" for source, problem in unreachable.items())


def cache_folder() -> Path:
    """Where index pages are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("torch-provision", appauthor=False)) / "index"
