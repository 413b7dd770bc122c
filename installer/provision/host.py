"""Asking the machine: files, environment variables, libraries, commands. The one place that does.

`Host` is the port: decisions never see it, probes get it as their argument, `capture` records and replays it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from .values import frozen

if TYPE_CHECKING:
    import subprocess


@frozen
class Completed:
    """What a command answered. `returncode` is negative for a signal; `timed_out` says that we ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


@frozen
class Uname:
    """What the interpreter says of its system: `sys.platform`, the processor, the kernel's release, its C library.

    `libc` is "glibc 2.36", or None where the C library does not name itself (musl, Windows, macOS).
    """

    system: str
    machine: str
    release: str = ""
    libc: str | None = None


class Host(Protocol):
    """What a probe may ask. Everything raises OSError where the machine does not answer."""

    def uname(self) -> Uname:
        """The operating system, the processor and the C library."""

    def read_text(self, path: str) -> str:
        """The text of a (small) file, undecodable bytes replaced."""

    def list_dir(self, path: str, *, prefix: str = "") -> list[str]:
        """The names in a directory that start with `prefix`, sorted."""

    def read_link(self, path: str) -> str:
        """Where a symbolic link points."""

    def real_path(self, path: str) -> str:
        """The file that a path leads to, all links followed."""

    def getenv(self, name: str) -> str | None:
        """An environment variable."""

    def which(self, name: str) -> str | None:
        """The path of a command on PATH, or None."""

    def find_library(self, name: str) -> str | None:
        """The file that the system's loader takes for a library (`libcuda.so.1`, `nvml.dll`), or None."""

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

    def run_script(self, name: str, *, timeout: float, module: str | None = None) -> Completed:
        """Run this package's `detect/<name>.py` in a child, where what crashes or hangs harms nobody.

        The child gets the folder of `module`, if one is named, as its argument.
        """

    def private_words(self) -> tuple[str, ...]:
        """User, host name and home folder: what a capture must not hold."""


class LocalHost:
    """This machine."""

    def uname(self) -> Uname:
        if os.name == "nt":
            machine = os.environ.get("PROCESSOR_ARCHITEW6432") or os.environ.get("PROCESSOR_ARCHITECTURE") or "unknown"
            return Uname(system=sys.platform, machine=machine)
        kernel = os.uname()
        try:
            libc = os.confstr("CS_GNU_LIBC_VERSION")
        except (OSError, ValueError):
            libc = None
        return Uname(system=sys.platform, machine=kernel.machine, release=kernel.release, libc=libc)

    def read_text(self, path: str) -> str:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def list_dir(self, path: str, *, prefix: str = "") -> list[str]:
        return sorted(name for name in os.listdir(path) if name.startswith(prefix))

    def read_link(self, path: str) -> str:
        return os.readlink(path)

    def real_path(self, path: str) -> str:
        return os.path.realpath(path, strict=True)

    def getenv(self, name: str) -> str | None:
        return os.environ.get(name)

    def which(self, name: str) -> str | None:
        if os.name == "nt":  # PATHEXT and the current directory: the standard library knows the rules
            import shutil

            return shutil.which(name)
        if os.sep in name:
            return name if _executable(name) else None
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        return next((path for folder in folders if _executable(path := os.path.join(folder, name))), None)

    def find_library(self, name: str) -> str | None:
        folders = _windows_folders() if os.name == "nt" else _linux_folders()
        for folder in folders:
            if os.path.isfile(path := os.path.join(folder, name)):
                return path
        return _in_loader_cache(name) if sys.platform == "linux" else None

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        cwd: str | None = None,
    ) -> Completed:
        import subprocess

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
            stdout, stderr = _last_words(process)
        except BaseException:
            _end(process)
            _last_words(process)
            raise
        returncode = process.returncode if process.returncode is not None else -9
        return Completed(argv=tuple(argv), returncode=returncode, stdout=stdout, stderr=stderr, timed_out=timed_out)

    def run_script(self, name: str, *, timeout: float, module: str | None = None) -> Completed:
        folders = [_folder_of(module)] if module else []
        script = os.path.join(os.path.dirname(__file__), "detect", f"{name}.py")
        return self.run([sys.executable, "-I", "-S", script, *folders], timeout=timeout)

    def private_words(self) -> tuple[str, ...]:
        names = [os.environ.get(name) for name in ("USER", "LOGNAME", "USERNAME", "COMPUTERNAME", "HOSTNAME")]
        node = "" if os.name == "nt" else os.uname().nodename
        home = os.path.expanduser("~")
        words = [*names, node, node.partition(".")[0], home, os.path.basename(home)]
        return tuple(dict.fromkeys(word for word in words if word and word not in "~/"))


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _folder_of(module: str) -> str:
    """The folder from which this interpreter imports a one-file module; OSError where it has none."""
    import importlib.machinery

    found = importlib.machinery.PathFinder.find_spec(module)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"the Python module {module} is not installed")
    return os.path.dirname(found.origin)


def _linux_folders() -> list[str]:
    """Where the dynamic loader looks, but for its cache (ld.so(8); musl reads LD_LIBRARY_PATH, /lib and /usr/lib)."""
    asked = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":") if folder]
    return [*asked, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"]


def _windows_folders() -> list[str]:
    """Where NVIDIA's driver packages put their libraries: System32 since the DCH drivers, NVSMI before."""
    return [
        os.path.join(os.environ.get("WINDIR", "C:\\Windows"), "System32"),
        os.path.join(os.environ.get("PROGRAMFILES", "C:\\Program Files"), "NVIDIA Corporation", "NVSMI"),
    ]


def _in_loader_cache(name: str, cache: str = "/etc/ld.so.cache") -> str | None:
    """The path that glibc's cache holds for a library. The cache keeps each path as a NUL-terminated string."""
    try:
        with open(cache, "rb") as file:
            content = file.read()
    except OSError:
        return None
    ending = b"/" + name.encode() + b"\0"
    found = content.find(ending)
    while found >= 0:
        start = content.rfind(b"\0", 0, found) + 1
        path = (content[start:found] + ending[:-1]).decode(errors="replace")
        if os.path.isfile(path):
            return path
        found = content.find(ending, found + 1)
    return None


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that we started, with everything in its group."""
    if os.name == "posix":
        import contextlib
        import signal

        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _last_words(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What an ended process had printed. One that even a kill does not end (a hung driver) is left to the kernel."""
    import subprocess

    try:
        return process.communicate(timeout=1)
    except subprocess.TimeoutExpired as left:
        process.poll()
        if os.name == "posix":
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return _decoded(left.output), _decoded(left.stderr)


def _decoded(said: object) -> str:
    """What TimeoutExpired holds: bytes even in text mode, or None."""
    return said.decode(errors="replace") if isinstance(said, bytes) else ""
