"""The smaller jobs around the main one: look, prove, explain, put back, clean up. Each is one function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ExitCode, TargetUnusable
from .report import Result

if TYPE_CHECKING:
    from .checks import Finding
    from .console import Console
    from .host import Host
    from .job import Job


def _prefix(job: Job) -> Path:
    from .detect.environment import target_prefix

    return target_prefix(job.env, os.environ, Path.cwd())


def detect(host: Host, console: Console, *, source: Path | None, capture: Path | None) -> Result:
    """The machine's facts; `capture` keeps what every source answered, `source` replays such a folder."""
    from .facts import look
    from .screens import machine_lines

    if capture is not None:
        from .capture import record

        record(host, capture)
        console.message("info", "captured", f"what every source answered is in {capture}")
    machine = look(host, replay=source)
    lines = tuple(machine_lines(machine, verbose=console.verbose))
    return Result(command="detect", data=machine.to_json(), lines=lines)


def verify(job: Job, host: Host, console: Console) -> Result:
    """Prove the environment as it is. Exit 1 where a check fails."""
    from . import verify as proofs
    from .checks import Depth
    from .counting import counted
    from .detect.environment import inspect_environment, interpreter
    from .facts import machine_for
    from .screens import verification_lines

    prefix = _prefix(job)
    environment = inspect_environment(prefix)
    if not environment.exists:
        raise TargetUnusable(f"there is no environment at {prefix}", code="no-environment", hint="provision makes one")
    verification = proofs.verify(
        host,
        python=interpreter(prefix),
        machine=counted(machine_for(job, host), named=job.gpus),
        expected=proofs.Expected(torch=environment.version("torch")),
        depth=Depth(job.depth),
    )
    return Result(
        command="verify",
        data=verification.to_json(),
        lines=tuple(verification_lines(verification, where=prefix)),
        exit_code=ExitCode.OK if verification.ok else ExitCode.FINDINGS,
    )


def history(job: Job) -> Result:
    """The generations of the environment, the newest first."""
    from . import transaction

    generations = transaction.history(_prefix(job))
    rows = [generation.to_json() for generation in generations]
    for row in rows:
        row["note"] = {name: found for name, found in row["note"].items() if name != "lock"}
    lines = ["     generation     torch             made"] if rows else ["nothing to go back to"]
    lines += [
        f"{'now' if one.live else '':<5}{one.id:<15}{one.torch or '-':<18}{_local_time(one.made)}"
        for one in generations
    ]
    return Result(command="history", data={"generations": rows}, lines=tuple(lines))


def _local_time(stamp: str) -> str:
    """`2026-11-20T18:39:02+00:00` as a clock on the wall shows it: `2026-11-20 18:39`."""
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return stamp


def rollback(job: Job, host: Host, console: Console, *, generation: str | None, dry_run: bool = False) -> Result:
    """One exchange, without a network; the state that leaves becomes a generation. Its lock comes back with it."""
    from . import transaction
    from . import verify as proofs
    from .checks import Depth
    from .counting import counted
    from .detect.environment import inspect_environment, interpreter
    from .facts import machine_for
    from .record import restore_lock
    from .screens import labelled, proof_words, shown

    prefix = _prefix(job)
    before = inspect_environment(prefix).version("torch")
    if dry_run:
        goal = transaction.aim(prefix, generation)
        there = f"torch {goal.torch or 'none'} (generation {goal.id})" if goal else "no environment"
        data = {
            "environment": str(prefix),
            "before": before,
            "after": goal and goal.torch,
            "generation": goal and goal.id,
        }
        line = f"{shown(prefix)}: torch {before or 'none'} → {there}; nothing was changed (--dry-run)"
        return Result(command="rollback", data=data, lines=(line,))
    live = transaction.rollback(prefix, generation, say=console.progress)
    restore_lock(prefix, live.note.get("lock") if live else None)
    after = inspect_environment(prefix)
    now = after.version("torch")
    there = f"torch {now or 'none'}" if after.exists else "no environment"
    console.line(f"{shown(prefix)}: torch {before or 'none'} → {there}")
    data = {"environment": str(prefix), "before": before, "after": now, "generation": live.id if live else None}
    if now is None:
        return Result(command="rollback", data=data)
    machine = counted(machine_for(job, host))
    verification = proofs.verify(host, python=interpreter(prefix), machine=machine, depth=Depth.QUICK)
    failed = "; ".join(f"{check.name}: {check.actual or check.detail or 'failed'}" for check in verification.failed)
    lines = (
        labelled("Verified", proof_words(verification))
        if verification.ok
        else [f"! it is as it was, and fails: {failed}"]
    )
    return Result(command="rollback", data=data | {"verification": verification.to_json()}, lines=tuple(lines))


def scan(job: Job, host: Host, console: Console, *, paths: tuple[Path, ...], require: tuple[str, ...]) -> Result:
    """What the binaries hold, judged for this machine's GPUs, those asked for, or another machine's."""
    from . import scan as scanning
    from .errors import UsageProblem
    from .facts import machine_for
    from .machine import Vendor

    asked = [_capability(text) for text in (*job.gpus, *require)]
    driver_cuda = None
    if not asked:
        machine = machine_for(job, host)
        asked = [gpu.arch for gpu in machine.gpus if gpu.vendor is Vendor.NVIDIA and gpu.arch]
        driver = machine.driver(Vendor.NVIDIA)
        driver_cuda = driver.cuda if driver else None
    prefix = _prefix(job)
    if not paths and not prefix.exists():
        raise UsageProblem(f"there is no environment at {prefix}", hint="give a path: provision scan PATH")
    report = scanning.scan(paths or (prefix,), asked, driver_cuda=driver_cuda)
    lines = scanning.report_lines(report)
    unmet = [reason for text in require for reason in report.unmet("sm_" + _capability(text).replace(".", ""))]
    return Result(
        command="scan",
        data=report.to_json() | ({"unmet": unmet} if require else {}),
        lines=(*lines, *(f"! {reason}" for reason in unmet)),
        exit_code=ExitCode.FINDINGS if unmet else ExitCode.OK,
    )


def _capability(text: str) -> str:
    """`sm_120` or `12.0` → `12.0`. Raises UsageProblem."""
    import re

    from .errors import UsageProblem

    match = re.fullmatch(r"(?:sm_)?(\d{1,2})\.?(\d)[af]?", text)
    if match is None:
        raise UsageProblem(f"{text!r} is not a GPU architecture", hint="for example: sm_120 or 12.0")
    return f"{match[1]}.{match[2]}"


def clean(
    job: Job, console: Console, *, failures: bool, cache: bool, everything: bool, dry_run: bool = False
) -> Result:
    """Remove kept generations (default), remembered failures, index pages, or everything this tool ever made."""
    import shutil

    from . import proof, transaction
    from .choose import cache_folder
    from .screens import shown

    removed: list[str] = []
    prefix = _prefix(job)
    if everything or not (failures or cache):
        if dry_run:
            removed += [one.id for one in transaction.history(prefix) if one.path and not one.live]
        else:
            removed += transaction.clean(prefix, everything=everything, say=console.progress)
    generations = len(removed)
    folders = [cache_folder()] if cache or everything else []
    folders += [proof.failures_path()] if failures or everything else []
    folders += [proof.data_folder() / "proofs"] if everything else []
    for path in folders:
        if not path.exists():
            continue
        removed.append(str(path))
        if not dry_run:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    lines = [f" - generation {one} of {shown(prefix)}" for one in removed[:generations]]
    lines += [f" - {one}" for one in removed[generations:]]
    lines = lines or ["nothing to remove"]
    if dry_run and removed:
        lines.append("nothing was removed (--dry-run)")
    return Result(command="clean", data={"removed": removed}, lines=tuple(lines))


def doctor(job: Job, host: Host, console: Console, *, log: str | None, fix: bool, report: Path | None) -> Result:
    """What is wrong with this machine and environment, or what an error text means. Exit 1 where something is."""
    from .checks import Severity
    from .screens import finding_lines

    if log is not None:
        from .symptoms import explain_log

        findings = explain_log(_log_text(log))
        lines = finding_lines(findings) or ["unknown: nothing in this text is an error that is known here"]
        return _findings(findings, lines, grave=findings)
    from .checkup import checkup, report_text
    from .facts import machine_for
    from .propose import environment_for

    environment = environment_for(job)
    visit = checkup(host, machine_for(job, host), environment)
    if report is not None:
        report.write_text(report_text(host, visit), encoding="utf-8")
        console.message("info", "report", f"the report is in {report}; read it before you send it")
    if fix and any(("provision",) in (finding.fix or ()) for finding in visit.findings):
        from .doctor import mending
        from .workflow import provision

        console.lines(finding_lines(visit.findings))
        provision(job, host, console, mending=mending(visit.case))
        visit = checkup(host, machine_for(job, host), environment_for(job))
    grave = tuple(one for one in visit.findings if one.severity is not Severity.HINT)
    return _findings(visit.findings, finding_lines(visit.findings) or ["all good"], grave=grave)


def _findings(findings: tuple[Finding, ...], lines: list[str], *, grave: tuple[Finding, ...]) -> Result:
    return Result(
        command="doctor",
        data={"findings": [finding.to_json() for finding in findings]},
        lines=tuple(lines),
        exit_code=ExitCode.FINDINGS if grave else ExitCode.OK,
    )


def _log_text(log: str) -> str:
    """The text of a file, or of stdin. Raises UsageProblem."""
    import sys

    from .errors import UsageProblem

    if log == "-":
        return sys.stdin.read()
    try:
        return Path(log).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageProblem(
            f"the log {log} cannot be read: {error.strerror}", hint="give a file, or - for stdin"
        ) from None


def explain(code: str) -> Result:
    """What a code means, offline."""
    from . import explain as explaining

    found = explaining.explain(code)
    data = {"code": code, "explanations": [one.to_json() for one in found]}
    return Result(command="explain", data=data, lines=tuple(explaining.explanation_lines(found)))
