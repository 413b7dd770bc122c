"""Asking the machine: files, environment variables, commands. The one place that does.

`Host` is the port: decisions never see it, probes get it as their argument, `capture` records and replays it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a command answered. `returncode` is negative for a signal; `timed_out` says that we ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


class Host(Protocol):
    """What a probe may ask. Everything raises OSError where the machine does not answer."""

    def read_text(self, path: str) -> str:
        """The text of a (small) file, undecodable bytes replaced."""

    def list_dir(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def read_link(self, path: str) -> str:
        """Where a symbolic link points."""

    def getenv(self, name: str) -> str | None:
        """An environment variable."""

    def which(self, name: str) -> str | None:
        """The path of a command on PATH, or None."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        cwd: str | None = None,
    ) -> Completed:
        """Run a command to its end or to `timeout` seconds (then its process group is ended)."""


class LocalHost:
    """This machine."""

    def read_text(self, path: str) -> str:
        return Path(path).read_text(encoding="utf-8", errors="replace")

    def list_dir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def read_link(self, path: str) -> str:
        return os.readlink(path)

    def getenv(self, name: str) -> str | None:
        return os.environ.get(name)

    def which(self, name: str) -> str | None:
        return shutil.which(name)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        cwd: str | None = None,
    ) -> Completed:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=os.name == "posix",
        )
        timed_out = False
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            _end(process)
            stdout, stderr = process.communicate()
        except BaseException:
            _end(process)
            process.communicate()
            raise
        return Completed(
            argv=tuple(argv), returncode=process.returncode, stdout=stdout, stderr=stderr, timed_out=timed_out
        )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that we started, with everything in its group."""
    if os.name == "posix":
        import contextlib
        import signal

        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
