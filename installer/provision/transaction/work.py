"""How is a changing command run, so that it ends in time and nobody works behind its back?

Its own process group, a deadline, exactly the environment variables that it is given, and the lock: as long as the
command (or a child of it) lives, no other run starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from .. import watch
from ..host import Completed


def run(
    argv: Sequence[str], *, env: Mapping[str, str], timeout: float, cwd: Path, lock_fd: int, stream: bool = False
) -> Completed:
    """Run to the end, then end its process group; `stream` repeats its stderr on ours.

    It is ended after `timeout` seconds, or where it gets nowhere (`watch`); why is then the last line of `stderr`.
    """
    posix = os.name == "posix"
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        pass_fds=(lock_fd,) if posix else (),
        start_new_session=posix,
    )
    assert process.stdout is not None and process.stderr is not None
    output: list[bytes] = []
    errors: list[bytes] = []
    readers = [
        threading.Thread(target=_read, args=(process.stdout, output, False), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, errors, stream), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        why = watch.wait(process, timeout=timeout, env=env)
    finally:
        _end_group(process)
    for reader in readers:
        reader.join(timeout=5)
    return Completed(
        argv=tuple(argv),
        returncode=process.returncode,
        stdout=b"".join(output).decode(errors="replace"),
        stderr=b"".join(errors).decode(errors="replace") + (f"\n{why}" if why else ""),
        timed_out=why is not None,
    )


def _read(pipe: IO[bytes], into: list[bytes], repeat: bool) -> None:
    with pipe:
        for line in pipe:
            into.append(line)
            if repeat:
                with suppress(OSError, ValueError):
                    sys.stderr.write(line.decode(errors="replace"))
                    sys.stderr.flush()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the command, and wait until it is gone."""
    if os.name != "posix":
        if process.poll() is None:
            process.kill()
        process.wait()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)
