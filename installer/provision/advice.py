"""What is the smallest change that gains a newer build, and which build? Computed by asking the rules again.

Each kind of change (another driver, another Python, fewer GPUs, another channel, a wish taken back) is tried on its
own; of each kind the smallest change that reaches its best gain is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from . import drivers
from .catalog import Build, Channel
from .coverage import version_tuple
from .machine import Driver, Gpu, Vendor
from .rules import DRIVER_RULES, RULES, Rule, Situation, arch_name, judge, preference, python_built
from .values import frozen, replace


@frozen
class Advice:
    """One change, and the build that it gains (`2.15.0+cu130`)."""

    do: str
    gains: str


def advise(
    choice: Build | None,
    builds: Sequence[Build],
    situation: Situation,
    *,
    others: Sequence[Gpu] = (),
    channel: Channel | None = None,
) -> tuple[Advice, ...]:
    """The changes worth making. `others` are GPUs of other vendors, `channel` is what was asked for (None = auto)."""
    better = [build for build in builds if choice is None or _rank(build) > _rank(choice)]
    if not better:
        return ()
    advice = [
        *_other_driver(better, situation),
        *_other_python(better, situation),
        *_fewer_gpus(better, situation),
        *_without_wishes(better, situation),
    ]
    if choice is None:
        advice += _other_vendor(better, situation, others)
        advice += _other_channel(better, situation, channel)
        advice = advice or list(_wait(situation))
        advice += _cpu(better, situation)
    return tuple(dict.fromkeys(advice))


def _rank(build: Build) -> tuple[object, ...]:
    """What makes one build newer than another in the eyes of a user."""
    return build.advertised, build.torch


def _best(builds: Iterable[Build], situation: Situation, rules: Sequence[Rule] = RULES) -> Build | None:
    fits = [build for build in builds if judge(build, situation, rules) is None]
    return max(fits, key=lambda build: preference(build, situation), default=None)


# ── driver ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _other_driver(better: Iterable[Build], situation: Situation) -> Iterator[Advice]:
    """The nearest driver that gains: an upgrade, or a downgrade where support for the GPU has ended."""
    capabilities = [gpu.arch for gpu in situation.gpus if gpu.arch and gpu.vendor is Vendor.NVIDIA]
    others = tuple(rule for rule in RULES if rule not in DRIVER_RULES)
    able = [build for build in better if build.toolkit and judge(build, situation, others) is None]
    if not capabilities or not able:
        return
    toolkits = {build.toolkit for build in able if build.toolkit}
    gains = [
        (version, best)
        for version in drivers.landmarks(capabilities, toolkits, windows=situation.windows)
        if (best := _best(able, replace(situation, driver=_driver(version, situation)), DRIVER_RULES))
    ]
    now = version_tuple(situation.driver.version or "0") if situation.driver else (0,)
    newer = [gain for gain in gains if version_tuple(gain[0]) > now]
    older = [gain for gain in reversed(gains) if version_tuple(gain[0]) <= now]
    if reach := newer or older:
        version, best = max(reach, key=lambda gain: _rank(gain[1]))  # of equals the first: the nearest
        yield Advice(do=f"driver {_limits(version, capabilities, situation, upgrade=bool(newer))}", gains=best.name)


def _driver(version: str, situation: Situation) -> Driver:
    cuda = drivers.served_cuda(version, windows=situation.windows)
    return Driver(vendor=Vendor.NVIDIA, version=version, cuda=cuda, source="advice")


def _limits(version: str, capabilities: Iterable[str], situation: Situation, *, upgrade: bool) -> str:
    """`>= 580`; `>= 525.60.13, <= 580.x` where support for a GPU ends there; for a downgrade `<= 580.x`."""
    rows = [drivers.support(capability, windows=situation.windows) for capability in capabilities]
    ends = [int(row.last) for row in rows if row is not None and row.last is not None]
    upper = [f"<= {min(ends)}.x"] if ends else []
    return ", ".join(upper if upper and not upgrade else [f">= {version}", *upper])


# ── Python ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _other_python(better: Iterable[Build], situation: Situation) -> Iterator[Advice]:
    """The nearest Python that the best of the otherwise fitting builds has a wheel for."""
    python = situation.python
    best = _best(better, situation, tuple(rule for rule in RULES if rule is not python_built))
    if python is None or best is None or not best.pythons or python.tag in best.pythons:
        return
    here = int(python.minor.partition(".")[2])
    offers = [(int(match[1]), match[2]) for tag in best.pythons if (match := re.fullmatch(r"cp3(\d+)(t?)", tag))]
    threads = "t" if python.free_threaded else ""
    minor, suffix = min(offers, key=lambda offer: (offer[1] != threads, abs(offer[0] - here), -offer[0]))
    yield Advice(do=f"Python 3.{minor}{suffix}", gains=best.name)


# ── GPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fewer_gpus(better: Sequence[Build], situation: Situation) -> Iterator[Advice]:
    """What all but one kind of GPU get, and each kind alone; a kind that gets nothing may need another driver too."""
    kinds: dict[tuple[Vendor, str | None], list[Gpu]] = {}
    for gpu in situation.gpus:
        kinds.setdefault((gpu.vendor, gpu.arch), []).append(gpu)
    if len(kinds) < 2:
        return
    groups = [[gpu for gpu in situation.gpus if (gpu.vendor, gpu.arch) != kind] for kind in kinds]
    groups += kinds.values()
    for group in sorted(groups, key=len, reverse=True):
        alone = replace(situation, gpus=tuple(group))
        if best := _best(better, alone):
            yield Advice(do=_options(group, situation), gains=best.name)
        elif group in kinds.values():
            for advice in _other_driver(better, alone):
                yield Advice(do=f"{_options(group, situation)} with {advice.do}", gains=advice.gains)


def _other_vendor(better: Iterable[Build], situation: Situation, others: Sequence[Gpu]) -> Iterator[Advice]:
    """Where nothing runs on the GPUs that count: what runs on those of other vendors."""
    for vendor in dict.fromkeys(gpu.vendor for gpu in others):
        theirs = replace(situation, gpus=tuple(gpu for gpu in others if gpu.vendor is vendor))
        if situation.backend is None and (best := _best(better, theirs)):
            yield Advice(do=f"--backend {best.backend}", gains=best.name)


def _options(gpus: Iterable[Gpu], situation: Situation) -> str:
    """`--gpu 0 --gpu 2`; by arch where indices would not tell them apart (each vendor counts from 0)."""
    vague = len({gpu.vendor for gpu in situation.gpus}) > 1 or any(gpu.index is None for gpu in situation.gpus)
    return " ".join(dict.fromkeys(f"--gpu {arch_name(gpu) if vague else gpu.index}" for gpu in gpus))


# ── wishes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _without_wishes(better: Iterable[Build], situation: Situation) -> Iterator[Advice]:
    """What is gained by taking back `--torch` or `--backend`."""
    if situation.torch is not None and (best := _best(better, replace(situation, torch=None))):
        yield Advice(do=f"without the limit torch {situation.torch}", gains=best.name)
    if situation.backend is not None and (best := _best(better, replace(situation, backend=None))):
        yield Advice(do=f"without --backend {situation.backend}", gains=best.name)


def _other_channel(better: Iterable[Build], situation: Situation, asked: Channel | None) -> Iterator[Advice]:
    """Another channel, where one was asked for and has nothing."""
    for channel in (Channel.STABLE, Channel.NIGHTLY):
        if asked not in (None, channel) and (best := _best(better, replace(situation, channel=channel))):
            yield Advice(do=f"--channel {channel.value}", gains=best.name)
            return


def _wait(situation: Situation) -> Iterator[Advice]:
    """A GPU that is newer than every driver that we know."""
    for gpu in situation.gpus:
        if gpu.vendor is Vendor.NVIDIA and gpu.arch and not drivers.support(gpu.arch, windows=situation.windows):
            todo = f"wait for a driver that serves {arch_name(gpu)} and a torch with code for it, then ask again"
            yield Advice(do=todo, gains=f"torch for {arch_name(gpu)}")


def _cpu(better: Iterable[Build], situation: Situation) -> Iterator[Advice]:
    """Where GPUs count and nothing runs on them: the CPU, only when asked for."""
    on_cpu = replace(situation, backend="cpu", channel=Channel.STABLE)
    if situation.gpus and situation.backend is None and (best := _best(better, on_cpu)):
        yield Advice(do="--backend cpu (the GPU stays unused)", gains=best.name)
