"""Is uv still getting anywhere, or does a server only pretend to serve?

A server that drips a byte every few seconds defeats every read time-out (reliability 2d: uv waited for 150 s on 1 byte
per 5 s, with a time-out of 10 s). So uv is watched from outside: what it writes (a download goes to disk as it comes)
and the processor time that it and its children use (unpacking, hashing, compiling). Where both stay next to nothing for
a minute, it is ended, and what it has finished stays in its cache.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .carry import patience
from .host import Completed
from .values import frozen

BYTES_PER_SECOND = 10_000
"""A download that is slower counts as none (reliability P11): torch for CUDA would take days."""

BUSY = 0.03
"""The part of one processor from which on a process is at work."""

CALLS_PER_SECOND = 200
"""So many waits a second are work on slow file systems (hard links over NFS), and no drip: 50 bytes a second, one by
one, made uv wait 100 times a second (measured 2026-11-20)."""

ELSEWHERE = 5.0
"""Where a process can only be watched through its cache (not on Linux), it gets so many times as long."""


@frozen
class Sample:
    """What a process and its children have done so far.

    `written` in bytes, `busy` in seconds of processor time, `waits` is how often they gave the processor away.
    """

    at: float
    written: int
    busy: float
    waits: int = 0


def moved(old: Sample, new: Sample) -> bool:
    """Whether between two samples something was done that is worth waiting for."""
    seconds = new.at - old.at
    return (
        new.written - old.written > BYTES_PER_SECOND * seconds
        or new.busy - old.busy > BUSY * seconds
        or new.waits - old.waits > CALLS_PER_SECOND * seconds
    )


class Watch:
    """The progress of one process. `cache` is where it downloads to, for systems that do not tell what it writes."""

    def __init__(self, pid: int, *, seconds: float, cache: Path | None = None) -> None:
        self.pid = pid
        self.seconds = seconds if sys.platform == "linux" else seconds * ELSEWHERE
        self.cache = cache
        self.since = self._sample()

    def stuck(self) -> bool:
        """Whether next to nothing has happened for the whole of `seconds`. To be asked every second or so."""
        now = self._sample()
        if moved(self.since, now):
            self.since = now
        return now.at - self.since.at >= self.seconds

    def _sample(self) -> Sample:
        now = time.monotonic()
        if sys.platform == "linux":
            return _linux_tree(self.pid, now)
        return Sample(at=now, written=_growing(self.cache), busy=0.0)


def _linux_tree(pid: int, now: float) -> Sample:
    """A process and its living and ended children, as proc(5) tells it."""
    written, ticks, waits, queue = 0, 0, 0, [pid]
    while queue:
        one = queue.pop()
        with suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{one}/io").read_text().splitlines():
                if line.startswith("wchar:"):
                    written += int(line.split()[1])
        with suppress(OSError, ValueError, IndexError):
            after = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in after[11:15])
        with suppress(OSError, ValueError, IndexError):
            for task in os.listdir(f"/proc/{one}/task"):
                status = Path(f"/proc/{one}/task/{task}/status").read_text()
                waits += int(status.partition("\nvoluntary_ctxt_switches:")[2].split(maxsplit=1)[0])
                queue += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return Sample(at=now, written=written, busy=ticks / os.sysconf("SC_CLK_TCK"), waits=waits)


def _growing(cache: Path | None) -> int:
    """The bytes of what uv is just downloading: its cache's temporary folders."""
    total = 0
    for path in (path for top in (cache.glob(".tmp*") if cache else ()) for path in top.rglob("*")):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def wait(process: subprocess.Popen[bytes], *, timeout: float, env: Mapping[str, str]) -> str | None:
    """Wait for the end of a process that runs with the variables `env`; why it should be ended, None where it did end.

    It is neither to take longer than `timeout`, nor to get nowhere for as long as one source may be silent.
    """
    watch = _watch(process.pid, env)
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        if _ended(process, min(1.0, left, watch.seconds / 4)):
            return None
        if watch.stuck():
            return f"next to nothing arrived for {watch.seconds:.0f} s"
    return f"it gave no result in time ({timeout:.0f} s)"


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends within so many seconds; told at once where the kernel does (Popen.wait looks 20 times a s)."""
    if sys.platform == "linux":
        with suppress(OSError, ValueError):
            handle = os.pidfd_open(process.pid)
            try:
                select.select([handle], [], [], seconds)
            finally:
                os.close(handle)
            return process.poll() is not None
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    return process.returncode is not None


def run(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float) -> Completed:
    """Run a command that may use the network to its end, or until `wait` says to end it (then that is in `stderr`)."""
    import tempfile

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(env),
            cwd=cwd,
            start_new_session=os.name == "posix",
        )
        try:
            why = wait(process, timeout=timeout, env=env)
        finally:
            _end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Completed(
        argv=tuple(argv),
        returncode=process.returncode,
        stdout=texts[0],
        stderr=f"{texts[1]}\n{why}" if why else texts[1],
        timed_out=why is not None,
    )


def _watch(pid: int, env: Mapping[str, str]) -> Watch:
    """With the user's own time-out, where that is longer than what one source may cost otherwise."""
    seconds = patience(os.environ)
    with suppress(ValueError):
        seconds = max(seconds, float(env.get("UV_HTTP_TIMEOUT", "0")))
    cache = env.get("UV_CACHE_DIR")
    return Watch(pid, seconds=seconds, cache=Path(cache) if cache else None)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if os.name == "posix":
            import signal

            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
