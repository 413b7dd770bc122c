"""How is a result told to a person? Values to lines; pure, nothing prints.

Words before bars, `+ - ~` as uv prints them, one `next:` line at most, colour never the only carrier of meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .checks import Check, Finding, Severity, Status, Verification

if TYPE_CHECKING:
    from .machine import Gpu, Machine
    from .plan import Plan

SEVERITIES = {Severity.ERROR: "✗", Severity.WARNING: "!", Severity.HINT: "-"}

MARKS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.SKIPPED: "-"}


def gpu_phrase(gpu: Gpu) -> str:
    """`NVIDIA GeForce RTX 5090 (sm_120, 32 GB)`."""
    facts = []
    if gpu.arch:
        facts.append("sm_" + gpu.arch.replace(".", "") if gpu.vendor == "nvidia" else gpu.arch)
    if gpu.memory_mib:
        facts.append(f"{gpu.memory_mib / 1024:.0f} GB")
    name = gpu.name or f"{gpu.vendor} GPU {gpu.pci_device_id or ''}".strip()
    return f"{name} ({', '.join(facts)})" if facts else name


def machine_phrase(machine: Machine) -> str:
    """One line: the GPUs and the driver, or that there is none."""
    platform = machine.platform
    where = f"{platform.system.value} {platform.machine}" + (" (WSL)" if platform.wsl else "")
    if not machine.gpus:
        return f"no GPU, {where}"
    parts = [", ".join(_counted(gpu_phrase(gpu) for gpu in machine.gpus))]
    for driver in machine.drivers:
        if driver.version or driver.cuda:
            serves = f" → CUDA up to {driver.cuda}" if driver.cuda else ""
            parts.append(f"{driver.vendor.value} driver {driver.version or 'unknown'}{serves}")
    if not any(driver.version or driver.cuda for driver in machine.drivers):
        parts.append("no driver")
    return ", ".join([*parts, where])


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
    for driver in machine.drivers:
        cuda = f" → CUDA up to {driver.cuda}" if driver.cuda else ""
        lines.append(f"Driver    {driver.vendor.value} {driver.version or 'unknown'}{cuda}   [{driver.source}]")
    if verbose or not machine.gpus:
        lines += [f"  looked at {skipped.probe}: {skipped.reason}" for skipped in machine.skipped]
    if verbose:
        lines += [f"  {fact.name} = {fact.value}   [{fact.source}]" for fact in machine.facts]
    return lines


def plan_lines(plan: Plan, *, verbose: bool = False) -> list[str]:
    """`provision plan`: the machine, the choice, what was passed over and why, the changes, the way to more."""
    resolution = plan.resolution
    lines = [f"Machine   {machine_phrase(plan.machine)}"]
    if plan.environment is not None:
        lines.append(f"Env       {environment_phrase(plan)}")
    choice = resolution.choice
    if choice is None:
        lines.append("Chosen    nothing: no build fits this machine")
    else:
        lines.append(f"Chosen    torch {choice.torch} for {choice.backend} from {choice.source.label}")
        for covered in resolution.coverage:
            how = "its own code" if covered.kind == "cubin" else "PTX, compiled at first use"
            how += ", seen in the binaries" if choice.confidence == "seen" else ""
            lines.append(f"          GPU {covered.gpu} ({covered.arch}) runs {covered.by}: {how}")
    lines += [f"Note      {note}" for note in resolution.notes]
    rejected = resolution.rejected
    shown = rejected if verbose else _telling(rejected, choice)
    if shown:
        lines.append("Passed over")
        for one in shown:
            name = f"{one.build.torch} {one.build.backend}"
            lines.append(f"  {name:<16} {one.reason.value}: wanted {one.wanted}, found {one.found}")
        if len(rejected) > len(shown):
            lines.append(f"  … and {len(rejected) - len(shown)} more (provision plan -v)")
    lines += change_lines(plan)
    for advice in resolution.advice:
        lines.append(f"To gain   {advice.gains}: {advice.do}")
    return lines


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
    return sorted(kept, key=lambda one: (one.build.torch, one.build.backend), reverse=True)[:8]


def environment_phrase(plan: Plan) -> str:
    environment = plan.environment
    assert environment is not None
    torch = environment.version("torch")
    now = "will be created" if not environment.exists else f"now torch {torch}" if torch else "no torch yet"
    return f"{environment.prefix} (Python {environment.python.version}), {now}"


def change_lines(plan: Plan) -> list[str]:
    """The changes as uv prints them: `- torch==2.6.0+cu124`, `+ torch==2.15.0+cu130`."""
    if plan.changes is None:
        return []
    if not plan.changes:
        return ["Changes   none"]
    from .plan import FAMILY

    lines = []
    others = 0
    for change in plan.changes:
        if change.name not in FAMILY and (change.old is None or change.new is None or change.name.startswith("nvidia")):
            others += 1
            continue
        lines += [f" - {change.name}=={change.old}"] if change.old else []
        lines += [f" + {change.name}=={change.new}"] if change.new else []
    for one in plan.broken:
        fate = "will be removed" if one.removed else "will no longer be satisfied"
        lines.append(f" ! {one.name}=={one.version} needs {one.requirement}: {fate}")
    if others:
        size = f", download {size_phrase(plan.download_bytes)}" if plan.download_bytes else ""
        lines.append(f" ~ {others} more package{'s' if others > 1 else ''} added or removed{size}")
    return lines


def size_phrase(size: int) -> str:
    """`2.7 GB`, `181 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def duration_phrase(seconds: float) -> str:
    """`2 min 6 s`, `4.1 s`, `0.3 s`."""
    if seconds >= 60:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{seconds:.1f} s"


def verification_lines(verification: Verification) -> list[str]:
    """`provision verify`: a mark, a name and a fact for each check, then the count."""
    torch = verification.torch
    cuda = f", CUDA {torch.cuda}" if torch.cuda else ""
    lines = [f"torch {torch.version or 'not found'}{cuda}"]
    lines += [check_line(check) for check in verification.checks]
    counts = {status: sum(check.status is status for check in verification.checks) for status in Status}
    lines.append(
        f"{counts[Status.PASSED]} ok, {counts[Status.SKIPPED]} skipped, {counts[Status.FAILED]} failed "
        f"in {duration_phrase(verification.seconds)}"
    )
    return lines


def proof_phrase(verification: Verification) -> str:
    """The proof in one line: what ran where, and what could not be checked."""
    passed = [check for check in verification.checks if check.status is Status.PASSED]
    skipped = [check for check in verification.checks if check.status is Status.SKIPPED]
    kernels = [check.name for check in passed if "matmul" in check.name or "conv" in check.name]
    where = "on the CPU" if all(name.startswith("cpu-") for name in kernels) else "on the GPU"
    named = ", ".join(dict.fromkeys(name.removeprefix("cpu-").partition("-")[0] for name in kernels))
    phrase = f"{len(passed)} checks" + (f", {named} {where} right" if kernels else "")
    if skipped:
        reasons = list(dict.fromkeys(check.detail or "no reason given" for check in skipped))
        phrase += f"; {len(skipped)} not made: {reasons[0]}" + (f" and {len(reasons) - 1} more" if reasons[1:] else "")
    return phrase


def check_line(check: Check) -> str:
    """One check on one line."""
    gpu = f" (GPU {check.gpu})" if check.gpu is not None else ""
    if check.status is Status.FAILED and check.expected is not None:
        fact = f"expected {check.expected}, got {check.actual}" + (f": {check.detail}" if check.detail else "")
    else:
        fact = check.detail or check.actual or ""
    return f"  [{MARKS[check.status]}] {check.name + gpu:<28} {fact}".rstrip()


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
