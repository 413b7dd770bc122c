"""How is a result told to a person? Values to lines; pure, nothing prints.

Words before bars, `+ - ~` as uv prints them, one `next:` line at most, colour never the only carrier of meaning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import Check, Finding, Severity, Status, Verification

if TYPE_CHECKING:
    from .machine import Driver, Gpu, Machine
    from .plan import Plan
    from .resolve import Resolution

SEVERITIES = {Severity.ERROR: "✗", Severity.WARNING: "!", Severity.HINT: "-"}

MARKS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.SKIPPED: "-"}

VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}


def labelled(label: str, texts: Iterable[str]) -> list[str]:
    """`Detected  one`, and what follows below it."""
    return [f"{label if place == 0 else '':<10}{text}" for place, text in enumerate(texts)]


def shown(path: Path) -> str:
    """A path as it is told: relative where it lies in the working directory."""
    here = os.getcwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def fold(line: str, width: int) -> str:
    """A line broken at its spaces, with what follows below the text of its label; commands to paste stay whole.

    >>> print(fold("    cause: the driver is too old for it", 30))
        cause: the driver is too
               old for it
    """
    if len(line) <= width or "\n" in line or re.match(r" *(fix|next|or): ", line):
        return line
    import textwrap

    label = re.match(r"error\[| *\S.{0,36}? {2,}| *[a-z]+: +|[!~+-] | *", line)
    hang = 7 if line.startswith("error[") else label.end() if label else 0
    hang += 2 if hang <= 4 else 0
    return textwrap.fill(line, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)


def gpu_phrase(gpu: Gpu) -> str:
    """`NVIDIA GeForce RTX 5090 (sm_120, 32 GB)`."""
    facts = [_arch(gpu.arch)] if gpu.arch else []
    if gpu.memory_mib:
        facts.append(f"{gpu.memory_mib / 1024:.0f} GB")
    name = gpu.name or f"{VENDORS[gpu.vendor]} GPU {gpu.pci_device_id or ''}".strip()
    return f"{name} ({', '.join(facts)})" if facts else name


def _arch(arch: str) -> str:
    """`12.0` → `sm_120`; `gfx1100` as it is."""
    return "sm_" + arch.replace(".", "") if arch[0].isdigit() else arch


def driver_phrase(driver: Driver) -> str:
    """`570.124.06, CUDA up to 12.8`."""
    serves = f", CUDA up to {driver.cuda}" if driver.cuda else ""
    return f"{driver.version or 'of unknown version'}{serves}"


def machine_words(machine: Machine) -> list[str]:
    """A line for each kind of GPU, then the drivers and the platform; or that there is no GPU."""
    platform = machine.platform
    where = f"{platform.system.value} {platform.machine}" + (" (WSL)" if platform.wsl else "")
    if not machine.gpus:
        return [f"no GPU · {where}"]
    answering = [driver for driver in machine.drivers if driver.version or driver.cuda]
    drivers = [
        f"macOS {driver.version}"
        if driver.vendor == "apple"
        else f"{VENDORS[driver.vendor]} driver {driver_phrase(driver)}"
        for driver in answering
    ]
    if not drivers and any(gpu.vendor == "nvidia" for gpu in machine.gpus):
        drivers = ["no driver that answers"]
    return [*_counted(gpu_phrase(gpu) for gpu in machine.gpus), " · ".join([*drivers, where])]


def _counted(phrases: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for phrase in phrases:
        counts[phrase] = counts.get(phrase, 0) + 1
    return [phrase if count == 1 else f"{count} × {phrase}" for phrase, count in counts.items()]


def machine_lines(machine: Machine, *, verbose: bool = False) -> list[str]:
    """`provision detect`: one line a GPU, one a driver, and what could not be asked."""
    platform = machine.platform
    libc = " ".join(platform.libc) if platform.libc else ""
    extras = [libc, "WSL" if platform.wsl else "", f"container: {platform.container}" if platform.container else ""]
    place = " · ".join(part for part in [f"{platform.system.value} {platform.machine}", *extras] if part)
    lines = [f"Platform  {place}"]
    lines += [
        f"GPU {gpu.index if gpu.index is not None else '-'}     {gpu_phrase(gpu)}   [{gpu.source}]"
        for gpu in machine.gpus
    ]
    if not machine.gpus:
        lines.append("GPU       none found")
    lines += [
        f"Driver    {VENDORS[driver.vendor]} {driver_phrase(driver)}   [{driver.source}]" for driver in machine.drivers
    ]
    if verbose or not machine.gpus:
        lines += [f"  looked at {skipped.probe}: {skipped.reason}" for skipped in machine.skipped]
    if verbose:
        lines += [f"  {fact.name} = {fact.value}   [{fact.source}]" for fact in machine.facts]
    return lines


def plan_lines(plan: Plan, *, verbose: bool = False) -> list[str]:
    """`provision plan`: the machine, the choice, what was passed over and why, the changes, the way to more."""
    resolution = plan.resolution
    lines = labelled("Machine", machine_words(plan.machine))
    if plan.environment is not None:
        lines.append(f"Env       {environment_phrase(plan)}")
    choice = resolution.choice
    if choice is None:
        lines.append("Chosen    nothing: no build fits this machine")
    else:
        lines += labelled("Chosen", [f"torch {choice.name} from {choice.source.label}", *coverage_words(resolution)])
    lines += [f"Note      {note}" for note in resolution.notes]
    rejected = resolution.rejected
    passed_over = _newest_first(rejected) if verbose else _telling(rejected, choice)
    if passed_over:
        lines.append("Passed over")
        width = max(len(one.build.name) for one in passed_over)
        for one in passed_over:
            reason = f"{one.reason.value}: wanted {_listed(one.wanted)}, found {_listed(one.found)}"
            lines.append(f"  {one.build.name:<{width}}  {reason}")
        if len(rejected) > len(passed_over):
            lines.append(f"  … and {len(rejected) - len(passed_over)} more (provision plan -v)")
    lines += change_lines(plan)
    if choice is not None:  # otherwise the error names them as the ways out
        lines += [f"To gain   {advice.gains}: {advice.do}" for advice in resolution.advice]
    return lines


def coverage_words(resolution: Resolution) -> list[str]:
    """`GPU 0, 1 (sm_120) run sm_120: its own code`: which code of the choice each kind of GPU runs, and how."""
    kinds: dict[tuple[str, str, str], list[int | None]] = {}
    for one in resolution.coverage:
        kinds.setdefault((one.arch, one.by, one.kind), []).append(one.gpu)
    words = []
    for (arch, by, kind), places in kinds.items():
        own = "its own code" if by == _arch(arch) else "code of the same generation"
        how = "PTX, compiled at first use" if kind == "ptx" else own
        how += ", seen in the binaries" if resolution.choice and resolution.choice.confidence == "seen" else ""
        numbers = ", ".join(str(place) for place in places if place is not None)
        who = f"GPU {numbers} ({_arch(arch)})" if numbers else f"a GPU with {_arch(arch)}"
        words.append(f"{who} {'run' if ',' in numbers else 'runs'} {by}: {how}")
    return words


def _listed(words: str) -> str:
    """`sm_80 sm_86 sm_90` → `sm_80 86 90`; anything else as it is."""
    beginning = re.match(r"(sm_|gfx|cp)\w+ ", words)
    if beginning is None:
        return words
    return words.replace(f" {beginning[1]}", " ")


def _newest_first(rejected: Iterable[Any]) -> list[Any]:
    return sorted(rejected, key=lambda one: (one.build.torch, one.build.backend), reverse=True)


def _telling(rejected: Iterable[Any], choice: Any) -> list[Any]:
    """The rejections that answer "why not newer": the newest build of each backend, nothing older than the choice."""
    seen: dict[str, Any] = {}
    rejected = list(rejected)
    # What was excluded by a wish is shown where nothing else is to be told.
    rejected = [one for one in rejected if one.reason.value not in ("excluded-by-request", "channel")] or rejected
    for one in rejected:
        if one.reason.value == "channel" or (one.found.startswith("only ") and one.found.endswith(" code")):
            continue
        known = seen.get(one.build.backend)
        if known is None or one.build.torch > known.build.torch:
            seen[one.build.backend] = one
    kept = [one for one in seen.values() if choice is None or one.build.torch >= choice.torch]
    return _newest_first(kept)[:8]


def environment_phrase(plan: Plan) -> str:
    environment = plan.environment
    assert environment is not None
    torch = environment.version("torch")
    now = "will be created" if not environment.exists else f"now torch {torch}" if torch else "no torch yet"
    return f"{shown(environment.prefix)} (Python {environment.python.version}), {now}"


FEW = 3
"""So many packages beside the torch family are named one by one."""


def change_lines(plan: Plan) -> list[str]:
    """The changes as uv prints them: `- torch==2.6.0+cu124`, `+ torch==2.15.0+cu130`."""
    if plan.changes is None:
        return []
    if not plan.changes:
        return ["Changes   none"]
    from .plan import FAMILY

    lines = []
    others = {
        change.name
        for change in plan.changes
        if change.name not in FAMILY and (change.old is None or change.new is None or change.name.startswith("nvidia"))
    }
    if len(others) <= FEW:
        others = set()
    for change in plan.changes:
        if change.name in others:
            continue
        lines += [f" - {change.name}=={change.old}"] if change.old else []
        lines += [f" + {change.name}=={change.new}"] if change.new else []
    for one in plan.broken:
        fate = "will be removed" if one.removed else "will no longer be satisfied"
        lines.append(f" ! {one.name}=={one.version} needs {one.requirement}: {fate}")
    size = f"download {size_phrase(plan.download_bytes)}" if plan.download_bytes else ""
    if others:
        lines.append(f" ~ {len(others)} more packages added or removed" + (f", {size}" if size else ""))
    elif size:
        lines.append(f" ~ {size}")
    return lines


def size_phrase(size: int) -> str:
    """`2.7 GB`, `181 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def duration_phrase(seconds: float) -> str:
    """`2 min 6 s`, `4.1 s`, `0.3 s`."""
    if seconds >= 60:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{seconds:.1f} s"


def verification_lines(verification: Verification, *, where: Path | None = None) -> list[str]:
    """`provision verify`: a mark, a name and a fact for each check, then the count."""
    torch = verification.torch
    cuda = f", CUDA {torch.cuda}" if torch.cuda else ""
    lines = [f"torch {torch.version or 'not found'}{cuda}" + (f" in {shown(where)}" if where else "")]
    lines += [check_line(check) for check in verification.checks]
    counts = {status: sum(check.status is status for check in verification.checks) for status in Status}
    lines.append(
        f"{counts[Status.PASSED]} passed, {counts[Status.SKIPPED]} not made, {counts[Status.FAILED]} failed "
        f"in {duration_phrase(verification.seconds)}"
    )
    if counts[Status.FAILED]:
        lines.append("next: provision doctor looks for the cause")
    return lines


TELLING = ("matmul", "conv2d", "attention", "compile")
"""The checks whose names mean something to everyone."""


def proof_words(verification: Verification) -> list[str]:
    """The proof in short: what ran where, and what could not be checked.

    `matmul, conv2d on the GPU: right (22 checks)`, `1 not made: needs more than one GPU`
    """
    passed = [check for check in verification.checks if check.status is Status.PASSED]
    skipped = [check for check in verification.checks if check.status is Status.SKIPPED]
    ran = [check for check in passed if _plain_name(check).partition("-")[0] in TELLING]
    where = "on the GPU" if any(check.gpu is not None for check in ran) else "on the CPU"
    named = ", ".join(dict.fromkeys(_plain_name(check).partition("-")[0] for check in ran))
    count = f"{len(passed)} check{'s' if len(passed) > 1 else ''}"
    words = [f"{named} {where}: right ({count})" if ran else f"{count} passed"]
    if skipped:
        reasons = list(dict.fromkeys(check.detail or "no reason given" for check in skipped))
        others = len(reasons) - 1
        more = f", and {others} more reason{'s' if others > 1 else ''} (provision verify)" if others else ""
        words.append(f"{len(skipped)} not made: {reasons[0]}{more}")
    return words


def _plain_name(check: Check) -> str:
    return check.name.removeprefix("cpu-")


def check_line(check: Check) -> str:
    """One check on one line."""
    where = f" (GPU {check.gpu})" if check.gpu is not None else " (CPU)" if check.name.startswith("cpu-") else ""
    if check.status is Status.FAILED and check.expected is not None:
        fact = f"expected {check.expected}, got {check.actual}" + (f": {check.detail}" if check.detail else "")
    else:
        fact = check.detail or check.actual or ""
    return f"  [{MARKS[check.status]}] {_plain_name(check) + where:<28} {fact}".rstrip()


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """`provision doctor`: a mark and a title, then evidence, cause and fix; the count last."""
    findings = tuple(findings)
    lines = []
    for one in findings:
        lines.append(f"[{SEVERITIES[one.severity]}] {one.title}   ({one.code})")
        lines.append(f"    seen:  {one.evidence}")
        lines.append(f"    cause: {one.cause}")
        if one.remedy:
            lines.append(f"    do:    {one.remedy}")
        lines += [f"    fix:   {' '.join(argv)}" for argv in one.fix or ()]
    counts = {severity: sum(one.severity is severity for one in findings) for severity in Severity}
    words = [f"{count} {severity.value}{'s' if count > 1 else ''}" for severity, count in counts.items() if count]
    return [*lines, ", ".join(words)] if findings else []
