"""What is written down after a proof: the lock beside the environment, the stamp, and builds that failed here."""

from __future__ import annotations

import os
import time
from pathlib import Path

from . import proof
from .catalog import Build, SourceKind
from .checks import Verification
from .console import Console
from .coverage import arches_of
from .detect.environment import site_packages
from .environment import Environment
from .errors import AfterCommitFailed, VerificationFailed
from .job import Job
from .lock import FILE_NAME, Target, is_ours, lock_text
from .machine import Machine
from .profile import COMPANIONS, Profile
from .propose import Ready


def lock_for(
    machine: Machine, environment: Environment, ready: Ready, profile: Profile, verification: Verification
) -> str:
    """The text of the lock: what uv pinned, for which machine, and what was proven."""
    build = ready.build
    return lock_text(
        ready.pins.text,
        backend=build.backend,
        channel=build.channel.value,
        profile=profile.name,
        target=Target(
            system=build.system.value,
            machine=build.machine,
            python=environment.python.minor + ("t" if environment.python.free_threaded else ""),
            arches=arches_of(ready.plan.resolution.gpus),
        ),
        index_url=build.index_url,
        from_index=()
        if build.source.kind is SourceKind.PACKAGE_INDEX
        else {"torch", *COMPANIONS} & set(ready.pins.versions),
        flat=build.source.flat,
        machine=machine,
        environment={name: setting.value for name, setting in profile.environment.items()},
        verification=verification,
    )


def write_lock(prefix: Path, text: str, console: Console) -> Path | None:
    """Put the lock beside the environment; a file there that is not ours stays. Raises AfterCommitFailed."""
    path = prefix.parent / FILE_NAME
    try:
        if path.exists():
            known = path.read_text(encoding="utf-8", errors="replace")
            if known == text:
                return path
            if not is_ours(known):
                console.message("warning", "foreign-lock", f"{path} was not written by provision and stays as it is")
                return None
        _replace(path, text)
    except OSError as error:
        raise AfterCommitFailed(
            f"the new environment is in place, but its lock {path} could not be written: {error.strerror or error}",
            code="lock-not-written",
            hint="make the folder writable and run provision again; nothing else is missing",
        ) from error
    return path


def restore_lock(prefix: Path, text: str | None) -> None:
    """After a rollback: the lock of the generation that is back, or none of ours where it had none."""
    path = prefix.parent / FILE_NAME
    if path.exists() and not is_ours(path.read_text(encoding="utf-8", errors="replace")):
        return
    if text is None:
        path.unlink(missing_ok=True)
    else:
        _replace(path, text)


def _replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def learn(build: Build, prefix: Path) -> None:
    """Remember which GPU code the build's own binaries hold, whatever the table says of them."""
    from .seen import remember_seen, seen_in, seen_path
    from .verify import deciding_libraries

    site = site_packages(prefix)
    if site is None or build.toolkit is None:
        return
    found = seen_in(build, deciding_libraries(str(site / "torch")), time.strftime("%Y-%m-%d", time.gmtime()))
    if found is not None:
        remember_seen(seen_path(), found)


def stamp(job: Job, machine: Machine, environment: Environment, build: Build) -> None:
    """Note that this environment is proven for this machine and request."""
    site = site_packages(environment.prefix)
    if site is None or job.foreign:
        return
    now = time.time()
    key = proof.proof_key(machine, environment, site, job.grounds())
    proof.write_stamp(
        proof.stamp_path(environment.prefix),
        proof.Stamp(key=key, torch=build.requirement, backend=build.backend, proven=now, asked=now),
    )


def proven_before(job: Job, machine: Machine, environment: Environment) -> proof.Stamp | None:
    """The stamp, where the last proof still covers this machine, request and environment."""
    if not environment.exists or job.foreign:
        return None
    found = proof.read_stamp(proof.stamp_path(environment.prefix))
    site = site_packages(environment.prefix)
    if found is None or site is None or not (found.fresh or job.offline):
        return None
    return found if proof.proof_key(machine, environment, site, job.grounds()) == found.key else None


def remember_failure(machine: Machine, build: Build, failed: VerificationFailed) -> None:
    """This build did not pass on this machine: do not try it again."""
    failure = proof.Failure(
        machine=proof.machine_key(machine),
        torch=str(build.torch),
        backend=build.backend,
        reason=failed.text.partition("(")[2].rpartition(")")[0] or failed.text,
        day=time.strftime("%Y-%m-%d", time.gmtime()),
    )
    proof.remember(proof.failures_path(), [failure])


def without_known_failures(builds: tuple[Build, ...], machine: Machine, console: Console) -> list[Build]:
    """The builds, in order, that are not known to fail on this very machine."""
    key = proof.machine_key(machine)
    known = {(one.torch, one.backend): one for one in proof.read_failures(proof.failures_path()) if one.machine == key}
    kept = []
    for build in builds:
        failed = known.get((str(build.torch), build.backend))
        if failed is None:
            kept.append(build)
        else:
            text = (
                f"torch {build.name} is passed over: it failed here on {failed.day} ({failed.reason}); "
                "provision clean --failures forgets that"
            )
            console.message("info", "remembered-failure", text)
    return kept
