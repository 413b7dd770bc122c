"""How is each tool asked which torch a machine gets, and what does it answer?

Every tool is its released self, run as a process, asked for `torch` alone (no dependencies) for Python 3.12:

provision        plan --machine FILE --json
uv               pip compile --torch-backend=auto for the machine's platform. It reads the driver's version only, and
                 takes it from UV_CUDA_DRIVER_VERSION, its own variable; it asks download.pytorch.org (scene.Front)
torchruntime     install torch, with pip told by its variables to resolve only (PIP_DRY_RUN, PIP_PLATFORM). It reads
                 lspci; for Windows rows `platform` and the answer of PowerShell are replaced
light-the-torch  install torch, the same way. It reads nvidia-smi; for Windows rows its `platform.system` is replaced

torchruntime and light-the-torch live in an environment of their own, made when it is first needed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .scene import PYTHON, Machine, Scene, plain_backends

ROOT = Path(__file__).resolve().parents[2]
PEERS = {"torchruntime": "2.24.0", "light-the-torch": "0.8.1"}
DRIVER_IS_LOADED = Path("/sys/module/nvidia/version").exists() or Path("/proc/driver/nvidia/version").exists()


class CannotRun(Exception):
    """A tool that is not to be had here, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`pick` as "2.15.0+cu130"; None = the tool installs nothing, and `said` is its last line."""

    pick: str | None
    said: str = ""


class Tool:
    """A tool of the comparison."""

    name: str
    version: str

    def command(self, scene: Scene, machine: Machine) -> list[str]:
        """The process that decides for a machine."""
        raise NotImplementedError

    def environ(self, scene: Scene, machine: Machine) -> dict[str, str]:
        """The variables in which it runs."""
        return scene.on(machine)

    def read(self, done: subprocess.CompletedProcess[str], machine: Machine) -> Answer:
        """What the process answered."""
        raise NotImplementedError

    def ask(self, scene: Scene, machine: Machine) -> Answer:
        """Run it. Raises CannotRun where this machine cannot stand for that one."""
        command, environ = self.command(scene, machine), self.environ(scene, machine)
        scene.front.troubles.clear()
        answer = self.read(run(command, environ, scene.folder), machine)
        if answer.pick is None and scene.front.troubles:
            raise CannotRun(scene.front.troubles[0])
        return answer


class Provision(Tool):
    """The tool of this repository."""

    name = "provision"

    def __init__(self) -> None:
        self.version = run([sys.executable, "-m", "provision", "--version"], None).stdout.split()[-1]

    def command(self, scene: Scene, machine: Machine) -> list[str]:
        asked = ["plan", "--machine", str(scene.file(machine)), "--python", PYTHON, "--json"]
        return [sys.executable, "-m", "provision", *asked, "--index-base", scene.index.pytorch]

    def read(self, done: subprocess.CompletedProcess[str], machine: Machine) -> Answer:
        answer = json.loads(done.stdout)
        if done.returncode == 0:
            choice = answer["data"]["choice"]
            return Answer(pick=f"{choice['torch']}+{choice['backend']}")
        if done.returncode == 3:
            return Answer(pick=None, said=answer["errors"][0]["text"])
        raise CannotRun(f"provision plan ended with {done.returncode}: {answer['errors']}")


class Uv(Tool):
    """uv, as it comes with provision."""

    name = "uv"
    PLATFORMS: Mapping[str, str] = {
        "linux x86_64": "x86_64-manylinux_2_35",
        "linux aarch64": "aarch64-manylinux_2_35",
        "windows x86_64": "x86_64-pc-windows-msvc",
    }

    def __init__(self) -> None:
        import uv

        self.program = os.fsdecode(uv.find_uv_bin())
        self.version = run([self.program, "--version"], None).stdout.split()[1]

    def command(self, scene: Scene, machine: Machine) -> list[str]:
        wanted = scene.folder / "torch.in"
        wanted.write_text("torch\n")
        platform = ["--python", sys.executable, "--python-version", PYTHON]
        platform += ["--python-platform", self.PLATFORMS[machine.on]]
        quiet = ["--no-deps", "--no-header", "--no-annotate", "--color", "never"]
        return [self.program, "pip", "compile", str(wanted), "--torch-backend", "auto", *platform, *quiet]

    def environ(self, scene: Scene, machine: Machine) -> dict[str, str]:
        if machine.driver is None and DRIVER_IS_LOADED:
            raise CannotRun("uv would see this machine's own driver")
        driver = {"UV_CUDA_DRIVER_VERSION": machine.driver} if machine.driver else {}
        return scene.on(machine) | driver

    def read(self, done: subprocess.CompletedProcess[str], machine: Machine) -> Answer:
        return _picked(re.findall(r"^torch==(\S+)", done.stdout, re.MULTILINE), done, machine)


class OfPip(Tool):
    """A tool that ends in `pip install`, which is told to resolve for another platform and to install nothing."""

    PLATFORMS: Mapping[str, str] = {
        "linux x86_64": "manylinux_2_28_x86_64",
        "linux aarch64": "manylinux_2_28_aarch64",
        "windows x86_64": "win_amd64",
    }
    NAMES: Mapping[str, tuple[str, str]] = {
        "linux x86_64": ("Linux", "x86_64"),
        "linux aarch64": ("Linux", "aarch64"),
        "windows x86_64": ("Windows", "AMD64"),
    }
    PROGRAM: str

    def __init__(self) -> None:
        self.version = PEERS[self.name]
        self.python = peers()

    def command(self, scene: Scene, machine: Machine) -> list[str]:
        return [str(self.python), "-c", self.PROGRAM, *self.NAMES[machine.on], machine.display_adapters()]

    def environ(self, scene: Scene, machine: Machine) -> dict[str, str]:
        only = {"PIP_DRY_RUN": "1", "PIP_NO_DEPS": "1", "PIP_ONLY_BINARY": ":all:", "PIP_RETRIES": "0"}
        target = {"PIP_PLATFORM": self.PLATFORMS[machine.on], "PIP_PYTHON_VERSION": PYTHON}
        return scene.on(machine) | only | target | {"PIP_TARGET": str(scene.folder / "target"), "NO_COLOR": "1"}

    def read(self, done: subprocess.CompletedProcess[str], machine: Machine) -> Answer:
        return _picked(re.findall(r"Would install .*?\btorch-(\d\S*)", done.stdout), done, machine)


class Torchruntime(OfPip):
    """torchruntime: the GPU's model decides."""

    name = "torchruntime"
    PROGRAM = """
import platform, sys
system, machine, adapters = sys.argv[1:]
platform.system, platform.machine = lambda: system, lambda: machine
from torchruntime import device_db
from torchruntime.__main__ import main
device_db.get_windows_output = lambda: adapters
sys.argv[1:] = ["install", "torch"]
main()
"""


class LightTheTorch(OfPip):
    """light-the-torch: the driver's version decides."""

    name = "light-the-torch"
    PROGRAM = """
import sys, types
from light_the_torch import _cb, _cli
system = sys.argv[1]
_cb.platform = types.SimpleNamespace(system=lambda: system)
sys.exit(_cli.main(["install", "torch"]))
"""


def _picked(found: Sequence[str], done: subprocess.CompletedProcess[str], machine: Machine) -> Answer:
    if not found:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        return Answer(pick=None, said=lines[-1].strip() if lines else f"exit code {done.returncode}")
    torch, _, backend = found[0].partition("+")
    return Answer(pick=f"{torch}+{backend or plain_backends()[torch, machine.on]}")


def run(
    command: Sequence[str], environ: Mapping[str, str] | None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A process in a folder, without a terminal; what it comes to."""
    return subprocess.run(
        command,
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def peers(folder: Path = ROOT / ".tools" / "peers") -> Path:
    """The interpreter that has torchruntime and light-the-torch; made on first use. CannotRun where that fails."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = [f"{name}=={version}" for name, version in PEERS.items()]
    done = folder / "installed.txt"
    if done.exists() and done.read_text().split() == wanted:
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *wanted],
    ):
        made = run(command, None)
        if made.returncode != 0:
            raise CannotRun(f"{' '.join(wanted)}: {(made.stderr.strip().splitlines() or ['not installed'])[-1]}")
    done.write_text("\n".join(wanted))
    return python


def tools(names: Sequence[str] = ()) -> tuple[list[Tool], dict[str, str]]:
    """The tools of these names (all), and for each that cannot be run here the reason."""
    made: list[Tool] = []
    missing = {}
    for kind in (Provision, Uv, Torchruntime, LightTheTorch):
        if names and kind.name not in names:
            continue
        try:
            made.append(kind())
        except CannotRun as problem:
            missing[kind.name] = str(problem)
    return made, missing
