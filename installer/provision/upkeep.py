"""The smaller jobs around the main one: look, prove, explain, put back, clean up. Each is one function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadData, ExitCode, TargetUnusable
from .report import Result

if TYPE_CHECKING:
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
        machine=machine_for(job, host),
        expected=proofs.Expected(torch=environment.version("torch")),
        depth=Depth(job.depth),
    )
    return Result(
        command="verify",
        data=verification.to_json(),
        lines=tuple(verification_lines(verification)),
        exit_code=ExitCode.OK if verification.ok else ExitCode.FINDINGS,
    )


def history(job: Job) -> Result:
    """The generations of the environment, the newest first."""
    from . import transaction

    generations = transaction.history(_prefix(job))
    rows = [generation.to_json() for generation in generations]
    lines = [
        f"{'now' if one.live else '   '}  {one.id}  torch {one.torch or '-':<16} {one.made[:16].replace('T', ' ')}"
        for one in generations
    ]
    return Result(command="history", data={"generations": rows}, lines=tuple(lines or ["nothing to go back to"]))


def rollback(job: Job, host: Host, console: Console, *, generation: str | None) -> Result:
    """One exchange, without a network; the state that leaves becomes a generation itself."""
    from . import transaction
    from .detect.environment import inspect_environment

    prefix = _prefix(job)
    before = inspect_environment(prefix).version("torch")
    transaction.rollback(prefix, generation)
    after = inspect_environment(prefix)
    now = after.version("torch") if after.exists else None
    data = {"environment": str(prefix), "before": before, "after": now}
    lines = (f"{prefix}: torch {before or 'none'} → {now or ('none' if after.exists else 'no environment')}",)
    return Result(command="rollback", data=data, lines=lines)


def profiles(name: str | None) -> Result:
    """Every profile in a line, or one with all it asks for."""
    from .profile import find_profiles, load_profile

    if name is not None:
        profile = load_profile(name)
        data = {
            "name": profile.name,
            "summary": profile.summary,
            "path": str(profile.path),
            "torch": profile.torch,
            "companions": list(profile.companions),
            "packages": list(profile.packages),
            "checks": list(profile.checks),
            "environment": dict(profile.environment),
            "notes": list(profile.notes),
        }
        lines = [f"{key:<12} {value}" for key, value in data.items() if value]
        return Result(command="profiles", data=data, lines=tuple(lines))
    rows = []
    for found in sorted(find_profiles()):
        try:
            rows.append((found, load_profile(found).summary))
        except BadData as error:
            rows.append((found, f"! {error.text}"))
    return Result(
        command="profiles",
        data={"profiles": [{"name": one, "summary": summary} for one, summary in rows]},
        lines=tuple(f"  {one:<14} {summary}" for one, summary in rows),
    )


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


def clean(job: Job, console: Console, *, failures: bool, cache: bool, everything: bool) -> Result:
    """Remove kept generations (default), remembered failures, index pages, or everything this tool ever made."""
    import shutil

    from . import proof, transaction
    from .choose import cache_folder

    removed = []
    prefix = _prefix(job)
    if everything or not (failures or cache):
        removed += [str(one) for one in transaction.clean(prefix, everything=everything, say=console.progress)]
    folders = [cache_folder()] if cache or everything else []
    folders += [proof.failures_path()] if failures or everything else []
    folders += [proof.data_folder() / "proofs"] if everything else []
    for path in folders:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        removed.append(str(path))
    lines = [f" - {one}" for one in removed] or ["nothing to remove"]
    return Result(command="clean", data={"removed": removed}, lines=tuple(lines))
