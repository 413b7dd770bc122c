"""What is the smallest change that gains a newer build, and which build? Computed by asking the rules again.

Each kind of change (another driver, another Python, fewer GPUs, another channel, a wish taken back) is tried on its
own; of each kind the smallest change that reaches its best gain is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from . import drivers
from .catalog import Build, Channel
from .coverage import version_tuple
from .machine import Driver, Gpu, Vendor
from .rules import DRIVER_RULES, Situation, arch_name, asked_for, fitting, judge, python_built


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One change, and the build that it gains (`2.15.0+cu130`)."""

    do: str
    gains: str


def advise(
    choice: Build | None, builds: Sequence[Build], situation: Situation, *, channel: Channel | None
) -> tuple[Advice, ...]:
    """The changes worth making; `channel` is the one that was asked for (None = auto)."""
    better = [build for build in builds if choice is None or _rank(build) > _rank(choice)]
    if not better:
        return ()
    advice = [*_other_driver(better, situation), *_other_python(better, situation), *_fewer_gpus(better, situation)]
    advice += _without_wishes(better, situation)
    if choice is None:
        advice += _other_channel(better, situation, channel)
        advice += [] if advice else _wait(situation)
        advice += _cpu(better, situation)
    return tuple(dict.fromkeys(advice))


def _rank(build: Build) -> tuple[object, ...]:
    """What makes a build newer than another in the eyes of a user."""
    return build.advertised, build.torch


def _best(builds: Iterable[Build], situation: Situation) -> Build | None:
    return next(iter(fitting(builds, situation)), None)


# ── driver ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _other_driver(better: Sequence[Build], situation: Situation) -> Iterator[Advice]:
    """The nearest driver that gains: an upgrade, or a downgrade where support for the GPU has ended."""
    if not any(gpu.vendor is Vendor.NVIDIA and gpu.arch for gpu in situation.gpus):
        return
    open_to_drivers = [build for build in better if judge(build, situation, without=DRIVER_RULES) is None]
    if not open_to_drivers:
        return
    now = version_tuple(situation.driver.version or "0") if situation.driver else (0,)
    gains = [
        (version, best)
        for version in drivers.landmarks((gpu.arch or "" for gpu in situation.gpus), windows=situation.windows)
        if (best := _best(open_to_drivers, replace(situation, driver=_driver(version, situation)))) is not None
    ]
    newer = [(version, best) for version, best in gains if version_tuple(version) > now]
    older = [(version, best) for version, best in reversed(gains) if version_tuple(version) <= now]
    for direction in (newer, older):
        if direction:
            version, best = max(direction, key=lambda gain: _rank(gain[1]))
            yield Advice(do=f"driver {_limits(version, situation, down=direction is older)}", gains=best.name)
            return


def _driver(version: str, situation: Situation) -> Driver:
    cuda = drivers.served_cuda(version, windows=situation.windows)
    return Driver(vendor=Vendor.NVIDIA, version=version, cuda=cuda, source="advice")


def _limits(version: str, situation: Situation, *, down: bool) -> str:
    """`>=580`, `>=525.60.13, <=580.x` where support for a GPU has ended, `<=580.x`."""
    ends = [
        row.last
        for gpu in situation.gpus
        if (row := drivers.support(gpu.arch or "", windows=situation.windows)) is not None and row.last is not None
    ]
    upper = f"<={min(ends)}.x" if ends else ""
    return upper if down and upper else ", ".join(limit for limit in (f">={version}", upper) if limit)


# ── Python ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _other_python(better: Sequence[Build], situation: Situation) -> Iterator[Advice]:
    """The nearest Python that the best of the otherwise fitting builds has a wheel for."""
    python = situation.python
    if python is None:
        return
    best = next(iter(fitting(better, situation, without=(python_built,))), None)
    if best is None or not best.pythons:
        return
    here = int(python.minor.partition(".")[2])
    offers = [(int(match[1]), bool(match[2])) for tag in best.pythons if (match := re.fullmatch(r"cp3(\d+)(t?)", tag))]
    if not offers or python.tag in best.pythons:
        return
    minor, free_threaded = min(
        offers, key=lambda offer: (offer[1] != python.free_threaded, abs(offer[0] - here), -offer[0])
    )
    yield Advice(do=f"Python 3.{minor}{'t' if free_threaded else ''}", gains=best.name)


# ── GPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fewer_gpus(better: Sequence[Build], situation: Situation) -> Iterator[Advice]:
    """What all but one kind of GPU get, and each kind alone; a kind that gets nothing is told which driver it wants."""
    kinds: dict[tuple[Vendor, str | None], list[Gpu]] = {}
    for gpu in situation.gpus:
        kinds.setdefault((gpu.vendor, gpu.arch), []).append(gpu)
    if len(kinds) < 2:
        return
    groups = [[gpu for other in kinds if other != kind for gpu in kinds[other]] for kind in kinds] + list(
        kinds.values()
    )
    for group in sorted(groups, key=len, reverse=True):
        alone = replace(situation, gpus=tuple(group))
        if best := _best(better, alone):
            yield Advice(do=_gpu_options(group), gains=best.name)
        elif group in kinds.values():
            for advice in _other_driver(better, alone):
                yield Advice(do=f"{_gpu_options(group)} with {advice.do}", gains=advice.gains)


def _gpu_options(gpus: Iterable[Gpu]) -> str:
    return " ".join(f"--gpu {arch_name(gpu) if gpu.index is None else gpu.index}" for gpu in gpus)


# ── wishes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _without_wishes(better: Sequence[Build], situation: Situation) -> Iterator[Advice]:
    """What is gained by taking back `--torch` or `--backend`."""
    if situation.torch is not None and (best := _best(better, replace(situation, torch=None))):
        yield Advice(do=f"without the limit torch {situation.torch}", gains=best.name)
    if situation.backend is not None and (best := _best(better, replace(situation, backend=None))):
        yield Advice(do=f"without --backend {situation.backend}", gains=best.name)


def _other_channel(better: Sequence[Build], situation: Situation, asked: Channel | None) -> Iterator[Advice]:
    """Another channel, where one was asked for and has nothing."""
    for channel in (Channel.STABLE, Channel.NIGHTLY):
        if asked not in (None, channel) and (best := _best(better, replace(situation, channel=channel))):
            yield Advice(do=f"--channel {channel.value}", gains=best.name)
            return


def _wait(situation: Situation) -> Iterator[Advice]:
    """A GPU that is newer than every build."""
    for gpu in situation.gpus:
        if gpu.arch and drivers.support(gpu.arch, windows=situation.windows) is None and gpu.vendor is Vendor.NVIDIA:
            yield Advice(
                do=f"wait for a driver that serves {arch_name(gpu)} and a torch with code for it, then ask again",
                gains=f"torch for {arch_name(gpu)}",
            )


def _cpu(better: Sequence[Build], situation: Situation) -> Iterator[Advice]:
    if situation.gpus and situation.backend != "cpu":
        best = _best(better, replace(situation, backend="cpu", channel=Channel.STABLE))
        if best is not None and asked_for(best, replace(situation, backend=None)) is None:
            yield Advice(do="--backend cpu (the GPU stays unused)", gains=best.name)
