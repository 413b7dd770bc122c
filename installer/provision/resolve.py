"""Which build of torch is right for this machine, and why not each other one? (contracts, section 5)

One pure function, `resolve`: machine + request + catalog → choice, later candidates, a reason for every other build,
and advice. The GPUs that count come from `counting`, the rules and the order of preference from `rules`, the advice
from `advice`; row order in the tables is never policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import drivers
from .advice import Advice, advise
from .catalog import Build, Catalog, Channel
from .counting import Note, counting_gpus
from .environment import Python
from .errors import UsageProblem
from .machine import Driver, Gpu, Machine, System, Vendor
from .rules import Reason, Rejection, Situation, asked_for, best_first, covering, in_channel, judge, runs_plainly
from .values import frozen, replace

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from .profile import Limit

__all__ = ["Advice", "Coverage", "Note", "Reason", "Rejection", "Request", "Resolution", "known_driver", "resolve"]


@frozen
class Request:
    """What the user asked for. None = auto; `gpus` are the texts of `--gpu`; without a `python` every wheel counts.

    `limits` are what the packages of a profile leave of the choice.
    """

    torch: SpecifierSet | None = None
    backend: str | None = None
    channel: Channel | None = None
    gpus: tuple[str, ...] = ()
    python: Python | None = None
    limits: tuple[Limit, ...] = ()


@frozen
class Coverage:
    """Which code of the choice serves a GPU; `kind` is "cubin" or "ptx" (compiled at first use)."""

    gpu: int | None
    arch: str
    by: str
    kind: str


@frozen
class Resolution:
    """The answer. `candidates` are all builds that fit, in order, the choice first; `rejected` tells of every build of
    the platform but the choice why it was passed over, so later candidates are there too (`older`, `not-advertised`).
    """

    gpus: tuple[Gpu, ...]
    choice: Build | None
    coverage: tuple[Coverage, ...]
    candidates: tuple[Build, ...]
    rejected: tuple[Rejection, ...]
    advice: tuple[Advice, ...]
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """The choice's part of `plan --json` data (contracts, section 4)."""
        return {
            "choice": build_json(self.choice) if self.choice else None,
            "candidates": [build_json(build) for build in self.candidates],
            "coverage": [{"gpu": one.gpu, "arch": one.arch, "by": one.by, "kind": one.kind} for one in self.coverage],
            "rejected": [
                {
                    "torch": str(one.build.torch),
                    "backend": one.build.backend,
                    "reason": one.reason.value,
                    "wanted": one.wanted,
                    "found": one.found,
                }
                for one in self.rejected
            ],
            "advice": [{"do": one.do, "gains": one.gains} for one in self.advice],
        }


def build_json(build: Build) -> dict[str, Any]:
    """`choice` of `plan --json`; nobody's password is in it."""
    return {
        "torch": str(build.torch),
        "backend": build.backend,
        "channel": build.channel.value,
        "index_url": re.sub(r"://[^/@]*@", "://", build.index_url),
        "packages": {"torch": build.requirement},
        "confidence": build.confidence,
    }


def resolve(machine: Machine, request: Request, catalog: Catalog) -> Resolution:
    """The right build for a machine, and why not each other one.

    Raises UsageProblem for a request that makes no sense (an unknown backend, a GPU that is not there).
    """
    check_backend(request.backend, catalog)
    counted = counting_gpus(machine, catalog, named=request.gpus, backend=request.backend)
    builds = catalog.on(machine.platform.system, machine.platform.machine)
    situation, notes = _situation(machine, request, counted.gpus, builds)
    verdicts = [(build, judge(build, situation)) for build in builds]
    if request.channel is None and all(rejection for _, rejection in verdicts):
        nightly = replace(situation, channel=Channel.NIGHTLY)
        judged = [(b, judge(b, nightly) if b.channel is Channel.NIGHTLY else why) for b, why in verdicts]
        if not all(rejection for _, rejection in judged):
            situation, verdicts = nightly, judged
            notes.append(Note(code="nightly", text="no stable build fits, so this is a nightly", level="warning"))
    candidates = best_first((build for build, rejection in verdicts if rejection is None), situation)
    choice = candidates[0] if candidates else None
    notes += _narrowed(choice, builds, situation)
    if choice:
        notes += _notes(choice, situation, catalog)
    return Resolution(
        gpus=counted.gpus,
        choice=choice,
        coverage=_coverage(choice, situation) if choice else (),
        candidates=tuple(candidates),
        rejected=(*_rejections(verdicts, choice), *_elsewhere(catalog, builds, machine, situation)),
        advice=advise(choice, builds, situation, others=counted.others, channel=request.channel),
        notes=(*counted.notes, *notes),
    )


def check_backend(backend: str | None, catalog: Catalog) -> None:
    """Raises UsageProblem for a backend that no build has, with the nearest that exists."""
    known = {build.backend for build in (*catalog.builds, *catalog.history)}
    if backend is None or backend in known:
        return
    from difflib import get_close_matches

    near = get_close_matches(backend.lower(), sorted(known), n=3, cutoff=0.5)
    raise UsageProblem(
        f"--backend {backend}: there is no such backend",
        code="unknown-backend",
        hint=f"did you mean {' or '.join(near)}?" if near else f"known: auto, {', '.join(sorted(known))}",
    )


def _situation(
    machine: Machine, request: Request, gpus: tuple[Gpu, ...], builds: Sequence[Build]
) -> tuple[Situation, list[Note]]:
    notes = []
    driver = known_driver(machine)
    if driver is None and gpus and all(gpu.vendor is Vendor.NVIDIA and gpu.source.startswith("--gpu") for gpu in gpus):
        driver = Driver(vendor=Vendor.NVIDIA, version="999999", cuda="999.0", source="assumed")
        text = "the GPU that was named is not here and there is no driver: it is taken to be new enough"
        notes.append(Note(code="driver-assumed", text=text, level="warning"))
    situation = Situation(
        platform=machine.platform,
        gpus=gpus,
        driver=driver,
        python=request.python,
        torch=request.torch,
        backend=request.backend,
        channel=request.channel or Channel.STABLE,
        limits=request.limits,
    )
    for_the_cpu = request.backend == "cpu" or not (gpus or request.backend)
    within_reach = any(build.backend == "cpu" and judge(build, situation) is None for build in builds)
    return replace(situation, plain_on_cpu=for_the_cpu and not within_reach), notes


def known_driver(machine: Machine) -> Driver | None:
    """NVIDIA's usable driver, its version and CUDA completed from the driver table; None without one.

    The version decides; CUDA alone stands for the oldest branch that serves it. A version newer than the table keeps
    the CUDA that the machine tells.
    """
    driver = machine.driver(Vendor.NVIDIA)
    if driver is None or (driver.version is None and driver.cuda is None):
        return None
    windows = drivers.is_windows(machine.platform)
    if driver.version is None:
        oldest = drivers.oldest_version(driver.cuda or "", windows=windows)
        return replace(driver, version=oldest or drivers.newest_branch(windows=windows))
    table = drivers.served_cuda(driver.version, windows=windows)
    if table is None or drivers.beyond_table(driver.version, windows=windows):
        return replace(driver, cuda=driver.cuda or table)
    return replace(driver, cuda=table)


def _rejections(verdicts: Iterable[tuple[Build, Rejection | None]], choice: Build | None) -> Iterable[Rejection]:
    for build, rejection in verdicts:
        if rejection is not None:
            yield rejection
        elif choice is not None and build is not choice:
            yield _passed_over(build, choice)


def _passed_over(build: Build, choice: Build) -> Rejection:
    """Why a build that fits is not the choice."""
    if choice.advertised and not build.advertised:
        wanted, found = "a build that the project names", "it only lies on the index"
        return Rejection(build=build, reason=Reason.NOT_ADVERTISED, wanted=wanted, found=found)
    if build.torch == choice.torch:
        return Rejection(build=build, reason=Reason.OLDER, wanted=f"{choice.backend} first", found=build.backend)
    return Rejection(build=build, reason=Reason.OLDER, wanted=str(choice.torch), found=str(build.torch))


def _elsewhere(
    catalog: Catalog, builds: Sequence[Build], machine: Machine, situation: Situation
) -> Iterable[Rejection]:
    """Where this platform has nothing of what was asked for: the newest of it on other platforms, by backend."""
    wanted = (asked_for, in_channel)
    if any(all(rule(build, situation) is None for rule in wanted) for build in builds):
        return
    newest: dict[str, Build] = {}
    for build in catalog.builds:
        known = newest.get(build.backend)
        if all(rule(build, situation) is None for rule in wanted) and (known is None or build.torch > known.torch):
            newest[build.backend] = build
    here = f"{machine.platform.system.value} {machine.platform.machine}"
    for build in newest.values():
        yield Rejection(build=build, reason=Reason.PLATFORM_NOT_BUILT, wanted=build.platform, found=here)


def _narrowed(choice: Build | None, builds: Sequence[Build], situation: Situation) -> Iterable[Note]:
    """Which package of the profile keeps a better build from being the choice."""
    if not situation.limits:
        return
    free = replace(situation, limits=())
    best = next(iter(best_first((build for build in builds if judge(build, free) is None), free)), None)
    for limit in situation.limits:
        if best is not None and best != choice and (refused := limit.refuses(best)):
            text = f"{refused[0]}, so torch {best.name} is passed over" + (f": {limit.why}" if limit.why else "")
            yield Note(code="narrowed", text=text)


def _notes(choice: Build, situation: Situation, catalog: Catalog) -> list[Note]:
    notes = []
    here, anywhere = (
        {build.torch for build in builds if build.channel is Channel.STABLE}
        for builds in (catalog.on(choice.system, choice.machine), catalog.builds)
    )
    if here and choice.torch == max(here) < max(anywhere):
        text = f"{choice.torch} is the last torch for {choice.platform}"
        notes.append(Note(code="platform-ended", text=text, level="warning"))
    if any(served is not None and served.kind == "ptx" for _, served in covering(choice, situation)):
        notes.append(Note(code="compiled-at-first-use", text="the driver compiles this build's PTX at first use"))
    if choice.system is System.MACOS and choice.machine == "aarch64":
        notes.append(Note(code="mps", text="on Apple silicon this build runs on the GPU through mps"))
    if runs_plainly(choice, situation) and choice.backend != "cpu":
        text = f"no cpu build is within reach: {choice.name} from {choice.source.label} runs on the CPU too"
        notes.append(Note(code="plain-wheel-on-cpu", text=text, level="warning"))
    if not choice.advertised:
        text = f"{choice.name} lies on the index, but the project does not name it"
        notes.append(Note(code="not-advertised", text=text, level="warning"))
    if choice.floating:
        text = f"a nightly of the {choice.torch.base_version} series; which days exist, only the index knows"
        notes.append(Note(code="ask-the-index", text=text))
    return notes


def _coverage(build: Build, situation: Situation) -> tuple[Coverage, ...]:
    return tuple(
        Coverage(gpu=gpu.index, arch=gpu.arch or "", by=served.by, kind=served.kind)
        for gpu, served in covering(build, situation)
        if served is not None
    )
