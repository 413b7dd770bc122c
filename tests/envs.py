"""Real environments to change in tests, and a judge that trusts nothing of ours.

`World` has a folder with tiny wheels, a cache and one environment, made by the real uv. The judge (`World.verdict`)
reads RECORDs, hashes and metadata by itself and runs the interpreter; `fingerprint` is every byte, mode, mtime and
inode of a tree.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import signal
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uv
from index import wheel
from provision import transaction
from provision.errors import ProvisionError
from provision.transaction.change import Change
from provision.transaction.generations import Generation

UV = uv.find_uv_bin()

SETS: Mapping[str, Mapping[str, str]] = {
    "1": {"torchlet": "1.0", "oldpart": "1.0", "bystander": "3.1"},
    "2": {"torchlet": "2.0", "newpart": "1.0", "bystander": "3.1"},
    "3": {"torchlet": "3.0", "newpart": "1.0", "bystander": "3.1"},
}
"""What the environment holds in each of its states. Both `oldpart` and `bystander` own `shared/__init__.py`."""


def make_wheels(folder: Path) -> None:
    """The wheels of `SETS`."""
    for version in SETS:
        wheel(
            "torchlet",
            f"{version}.0",
            files={
                "torchlet/__init__.py": "from torchlet.core import version\n",
                "torchlet/core.py": f"version = '{version}'\n\ndef main():\n"
                "    import bystander, shared.by\n    print(version)\n",
                "torchlet/lib/libtorchlet.so": bytes([int(version)]) * 100_000,
                f"torchlet/only_in_{version}.py": "",
                f"torchlet-{version}.0.data/scripts/torchlet-tool": f"#!python\nprint('{version}')\n",
            },
            console_scripts={"torchlet": "torchlet.core:main"},
        ).write(folder)
    wheel("oldpart", "1.0", files={"oldpart.py": "", "shared/__init__.py": ""}).write(folder)
    wheel("newpart", "1.0", files={"newpart/__init__.py": "", "newpart/ä.txt": "ä"}).write(folder)
    wheel(
        "bystander",
        "3.1",
        files={
            "bystander/__init__.py": "def main():\n    print('here')\n",
            "shared/__init__.py": "",
            "shared/by.py": "",
        },
        console_scripts={"bystander": "bystander:main"},
    ).write(folder)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheels, and a cache that every environment of the session shares."""
    folder = tmp_path_factory.mktemp("parts")
    make_wheels(folder / "wheels")
    return folder / "wheels", folder / "cache"


@pytest.fixture
def world(parts: tuple[Path, Path], tmp_path: Path) -> World:
    """A world whose environment does not exist yet, alone in its folder."""
    (tmp_path / "project").mkdir()
    return World(wheels=parts[0], cache=parts[1], env=tmp_path / "project" / ".venv")


@dataclass(kw_only=True)
class World:
    """One environment at `env` and all that is needed to change it."""

    wheels: Path
    cache: Path
    env: Path
    base: str = sys.executable
    extra: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """What uv gets; nothing of the person's own settings."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR") if name in os.environ}
        return {**kept, "HOME": str(self.cache.parent), "UV_CACHE_DIR": str(self.cache), "UV_NO_CONFIG": "1"}

    def uv(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [UV, *map(str, arguments)]
        return subprocess.run(command, env=self.environ, check=check, capture_output=True, text=True, timeout=60)

    def create(self, path: Path) -> None:
        """A new, empty environment."""
        self.uv("venv", "--quiet", "--python", self.base, path)

    def expected(self, version: str) -> dict[str, str]:
        """What the environment holds in this state: the set, and what this world has besides."""
        return {**SETS[version], **self.extra}

    def sync_command(self, python: Path, version: str) -> list[str]:
        """One uv call that makes the environment of `python` hold exactly what is expected."""
        wanted = self.wheels.parent / f"set-{version}-{len(self.extra)}.txt"
        if not wanted.exists():
            wanted.write_text("".join(f"{name}=={at}\n" for name, at in self.expected(version).items()))
        where = ["--no-index", "--find-links", str(self.wheels), "--quiet"]
        return [UV, "pip", "sync", *where, "--python", str(python), str(wanted)]

    def make(self, version: str = "1") -> None:
        """The environment as a person has made it, without us."""
        self.create(self.env)
        subprocess.run(self.sync_command(self.python, version), env=self.environ, check=True, timeout=60)

    def change(self, version: str = "2", **how: Any) -> Generation:
        """The environment to another state, by a transaction from begin to commit."""
        commit = {name: how.pop(name) for name in ("note", "check") if name in how}
        with self.begin(**how) as change:
            change.run(self.sync_command(change.python, version), env=self.environ, timeout=60)
            change.put({"held.txt": f"{version}\n"})
            change.settle(self.expected(version))
            return change.commit(**commit)

    def begin(self, **how: Any) -> Change:
        return transaction.begin(self.env, **{"create": self.create, "say": self.said.append, **how})

    @property
    def python(self) -> Path:
        return self.env / "bin" / "python"

    @property
    def state_folder(self) -> Path:
        real = Path(os.path.realpath(self.env))
        return real.with_name(real.name + ".provision")

    def verdict(self, env: Path | None = None) -> str:
        """Which of `SETS` the environment is, complete to the last hash; "absent"; or what is broken about it."""
        env = env or self.env
        if not os.path.lexists(env):
            return "absent"
        problems = broken(env)
        if problems:
            return "broken: " + "; ".join(problems[:3])
        held = {name: at for name, at, _ in distributions(env)}
        version = next((version for version in SETS if self.expected(version) == held), None)
        if version is None:
            return f"broken: holds {held}"
        answer = run([env / "bin" / "torchlet"])
        if answer.stdout.strip() != version:
            return f"broken: metadata say {version}, the script says {answer.stdout}{answer.stderr}"
        for script in ("torchlet-tool", "bystander"):
            interpreter = (env / "bin" / script).read_text().splitlines()[0]
            if interpreter == "#!/bin/sh":  # a path that the kernel's #! cannot take
                if run([env / "bin" / script]).stdout.strip() not in (version, "here"):
                    return f"broken: {script} does not run"
            elif not os.path.samefile(interpreter.removeprefix("#!"), env / "bin/python"):
                return f"broken: {script} runs {interpreter}"
        return version

    def litter(self) -> list[str]:
        """What lies around that should not: unfinished copies, probes, intents, traces of the staging name."""
        left = []
        for state in (self.state_folder, self.env / ".provision"):
            if state.exists():
                known = {".gitignore", "CACHEDIR.TAG", "lock", "gens", "state.json"}
                left += [str(path) for path in state.iterdir() if path.name not in known]
                gens = {path.name for path in (state / "gens").iterdir()}
                left += [name for name in gens if name.endswith((".staging", ".out", ".new", ".intent"))]
                kept = {name for name in gens if "." not in name}
                left += [name for name in kept if not {f"{name}.json", f"{name}.seal"} <= gens]
                left += [] if gens else [f"{state} holds nothing"]
        if self.env.exists():
            left += [f"{path} names the staging folder" for path in naming(self.env, b".staging")]
        return left


def run(command: list[Any]) -> subprocess.CompletedProcess[str]:
    """A command that writes no bytecode and knows nothing of our own variables."""
    environ = {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=60, env=environ)


def distributions(env: Path) -> list[tuple[str, str, Path]]:
    """(name, version, dist-info) of everything installed."""
    found = []
    for info in sorted(env.glob("lib/python*/site-packages/*.dist-info")):
        headers = dict(line.split(": ", 1) for line in (info / "METADATA").read_text().splitlines() if ": " in line)
        found.append((headers["Name"], headers["Version"], info))
    return found


def broken(env: Path) -> list[str]:
    """What RECORDs and files disagree about."""
    problems = [f"{path} is litter" for path in env.glob("lib/python*/site-packages/[~.]*") if path.name != ".lock"]
    owned: set[Path] = set()
    for name, _, info in distributions(env):
        try:
            with open(info / "RECORD", newline="") as file:
                rows = list(csv.reader(file))
        except OSError as error:
            problems.append(f"{name}: {error}")
            continue
        if not any(row and row[0].endswith(".dist-info/RECORD") for row in rows):
            problems.append(f"{name}: RECORD is torn")
        for path, wanted, _ in rows:
            file_path = Path(os.path.normpath(info.parent / path))
            owned.add(file_path)
            if not file_path.exists():
                problems.append(f"{name}: {path} is missing")
            elif wanted:
                digest = hashlib.sha256(file_path.read_bytes()).digest()
                if "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != wanted:
                    problems.append(f"{name}: {path} is not what RECORD says")
    inside = [path for path in env.glob("lib/python*/site-packages/*/**/*") if "__pycache__" not in path.parts]
    return problems + [f"{path} belongs to nobody" for path in inside if path.is_file() and path not in owned]


def naming(tree: Path, words: bytes) -> list[Path]:
    """The files and links in a tree that hold these bytes."""
    found = []
    for folder, names, files in os.walk(tree):
        names[:] = [name for name in names if name != ".provision"]
        for name in files:
            path = Path(folder, name)
            content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
            if words in content:
                found.append(path)
    return found


def append(path: Path, text: str) -> None:
    """Add to a file as an editor does: a new inode, so that uv's cache, which shares the old one, is not spoiled."""
    content = path.read_text()
    path.unlink()
    path.write_text(content + text)


Fingerprint = dict[str, tuple[Any, ...]]


def fingerprint(tree: Path) -> Fingerprint:
    """Every byte, mode, mtime and inode of a tree, its top included; {} where there is none."""
    if not os.path.lexists(tree):
        return {}
    found = {".": _print(tree)}
    for folder, names, files in os.walk(tree):
        names[:] = [name for name in names if name != ".provision"]
        for name in [*names, *files]:
            path = Path(folder, name)
            found[str(path.relative_to(tree))] = _print(path)
    return found


def _print(path: Path) -> tuple[Any, ...]:
    status = os.lstat(path)
    content: Any = None
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    return stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_ino, content


def contents(found: Fingerprint) -> dict[str, Any]:
    """A fingerprint without inodes: what a faithful copy keeps."""
    return {path: (row[:2] if stat.S_ISDIR(row[0]) else (*row[:3], row[4])) for path, row in found.items()}


def in_child(work: Callable[[], object], **environ: str) -> int:
    """Do `work` in a child process; its exit code as the command line would give it, negative for a signal.

    99 is a traceback, which is a bug; it goes to stderr.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.environ.update(environ)
            work()
            code = 0
        except ProvisionError as error:
            code = int(error.exit_code)
            print(f"{error.code}: {error.text}", file=sys.stderr)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


KILLED = -signal.SIGKILL
