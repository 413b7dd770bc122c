"""Running `provision` as a person does: a process of its own, an empty home, an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a run came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The envelope of a run with `--json`."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def data(self) -> dict[str, Any]:
        value = self.json["data"]
        assert isinstance(value, dict)
        return value


class Person:
    """Someone with a home and a folder of their own, on a machine that `environ` describes."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder / "project"
        self.home = folder / "home"
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        self.environ = dict(environ) if environ is not None else _quiet(os.environ)

    @property
    def env(self) -> Path:
        """The environment that a run without `--env` is about."""
        return self.folder / ".venv"

    def run(self, *args: str | Path, environ: Mapping[str, str] | None = None, timeout: float = 300) -> Answer:
        """`provision ARGS`."""
        done = subprocess.run(
            [sys.executable, "-m", "provision", *map(str, args)],
            cwd=self.folder,
            env={**self.environ, "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache")}
            | dict(environ or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def python(self, program: str) -> str:
        """What the environment's own Python prints."""
        interpreter = self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        done = subprocess.run(
            [interpreter, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=self.home
        )
        return done.stdout.strip()


def _quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without those that configure pip, uv, an environment or us."""
    own = ("PIP_", "UV_", "PROVISION_", "VIRTUAL_ENV", "XDG_", "STAND_IN_")
    return {name: value for name, value in environ.items() if not name.upper().startswith(own)}


def tree_state(folder: Path) -> dict[str, tuple[int, int, int, int, bytes | str]]:
    """Every entry below a folder: mode, inode, size, mtime and content (or link target): equal means untouched."""
    state = {}
    for path in sorted([folder, *folder.rglob("*")]):
        found = path.lstat()
        content: bytes | str = b""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        size = 0 if path.is_dir() else found.st_size
        state[str(path.relative_to(folder))] = (found.st_mode, found.st_ino, size, found.st_mtime_ns, content)
    return state
