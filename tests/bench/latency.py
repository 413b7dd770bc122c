"""How long does a decision take? `provision plan` as a whole process beside uv's, torchruntime's and ltt's, in one run.

    python tests/bench/latency.py [--runs N] [--distance MS] [--json]        (Linux or macOS; needs openssl)

All decide for an RTX 5090 on driver 570.124.06, before the same loopback index; a round runs every command once, and
the table holds the medians of the rounds. "cold" has an empty cache, "warm" the pages of the last ten minutes. uv is
`uv pip compile` of torch with --torch-backend=auto. Bytecode is written first, as an installation does.

Exits with 1 where a bar is missed: provision takes no longer than uv's resolution, cold and warm; offline it takes at
most 6 times the CPU of a bare `python -c pass`.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from index import standard_tree

from bench.accuracy import as_table
from bench.scene import PYTHON, Machine, Scene, machines, scene
from bench.tools import ROOT, LightTheTorch, OfPip, Provision, Torchruntime, Uv, tools

MACHINE = "RTX 5090 on 570"

DECISIONS = {
    "torchruntime": ["-m", "torchruntime", "info"],
    "light-the-torch": ["-c", "from light_the_torch import _cb; print(_cb.detect_compatible_computation_backends())"],
}
"""What of these tools decides the backend, without asking an index for a torch."""


@dataclass(kw_only=True)
class Row:
    """One command and what its runs took. `before` is done before each run and is not measured."""

    name: str
    command: Sequence[str]
    environ: dict[str, str]
    before: Callable[[], None] = lambda: None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, folder: Path, *, measured: bool) -> None:
        self.before()
        spent = _cpu()
        began = time.perf_counter()
        done = subprocess.run(
            self.command, env=self.environ, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        wall = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(
                f"{self.name} ended with {done.returncode}: {(done.stderr or done.stdout).decode()[-400:]}"
            )
        if measured:
            self.wall.append(wall * 1000)
            self.cpu.append((_cpu() - spent) * 1000)

    @property
    def wall_ms(self) -> float:
        return statistics.median(self.wall)

    @property
    def cpu_ms(self) -> float:
        return statistics.median(self.cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows(here: Scene, machine: Machine) -> list[Row]:
    """Every command of the comparison; those of tools that are not to be had here are left out, and said."""
    ours, uv = Provision(), Uv()
    cache = Path(here.environ["XDG_CACHE_HOME"])
    uv_cache = Path(here.environ["UV_CACHE_DIR"])
    environ = {name: value for name, value in here.on(machine).items() if not name.startswith(("PIP_", "UV_"))}
    program = [str(Path(sys.executable).with_name("provision"))]
    plan = [*program, *ours.command(here, machine)[3:]]
    of_uv, in_uv = uv.command(here, machine), uv.environ(here, machine)
    whole = [word for word in of_uv if word != "--no-deps"]
    told = [*of_uv[: of_uv.index("--torch-backend")], *of_uv[of_uv.index("auto") + 1 :]]
    told += ["--index", f"{here.index.pytorch}/cu128"]
    found = [
        Row(name="python -c pass", command=[sys.executable, "-c", "pass"], environ=environ),
        Row(name="provision plan, offline", command=[*plan, "--offline"], environ=environ),
        Row(name="provision plan, warm", command=plan, environ=environ),
        Row(name="provision plan, cold", command=plan, environ=environ, before=lambda: _empty(cache)),
        Row(name="uv --no-deps, warm", command=of_uv, environ=in_uv),
        Row(name="uv --no-deps, cold", command=of_uv, environ=in_uv, before=lambda: _empty(uv_cache)),
        Row(name="uv, warm", command=whole, environ=in_uv),
        Row(name="uv, cold", command=whole, environ=in_uv, before=lambda: _empty(uv_cache)),
        Row(name="uv --no-deps, told the one index, warm", command=told, environ=in_uv),
    ]
    of_pip, missing = tools([Torchruntime.name, LightTheTorch.name])
    for tool in of_pip:
        assert isinstance(tool, OfPip)
        python, environ = str(tool.python), tool.environ(here, machine)
        found.append(Row(name=f"{tool.name}, backend only", command=[python, *DECISIONS[tool.name]], environ=environ))
        found.append(Row(name=f"{tool.name} install, dry", command=tool.command(here, machine), environ=environ))
    for name, reason in missing.items():
        print(f"{name} is not in the comparison: {reason}", file=sys.stderr)
    return found


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def measure(found: Sequence[Row], folder: Path, runs: int) -> None:
    """Run every command once in each round. A cold run comes before the warm one of the next round, which fills."""
    for place in range(-1, runs):
        for row in found:
            row.run(folder, measured=place >= 0)
        print(f"\rround {place + 1} of {runs}", end="", file=sys.stderr)
    print(file=sys.stderr)


def bars(found: Sequence[Row]) -> list[tuple[str, float, float]]:
    """(what, measured, at most) of each bar: medians of the ratios within a round."""
    by_name = {row.name: row for row in found}

    def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))

    offline = ratio(by_name["provision plan, offline"].cpu, by_name["python -c pass"].cpu)
    held = [("offline plan, CPU in bare Pythons", offline, 6.0)]
    for state in ("warm", "cold"):
        ours, uv = by_name[f"provision plan, {state}"], by_name[f"uv, {state}"]
        held.append((f"{state} plan, time in uv's resolutions", ratio(ours.wall, uv.wall), 1.0))
    return held


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--distance", type=float, default=0, metavar="MS", help="how far away the index is")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    compileall.compile_dir(ROOT / "installer", quiet=1)
    machine = next(one for one in machines() if one.name == MACHINE)
    with scene(standard_tree()) as here:
        here.index.distance = options.distance / 1000
        found = rows(here, machine)
        measure(found, here.folder, options.runs)
    held = bars(found)
    if options.json:
        table = {row.name: {"wall_ms": row.wall_ms, "cpu_ms": row.cpu_ms} for row in found}
        told = {"day": date.today().isoformat(), "distance_ms": options.distance}
        print(json.dumps(told | {"commands": table, "bars": held}, indent=1))
    else:
        python = f"Python {sys.version.split()[0]}, uv {Uv().version}, {os.cpu_count()} cores"
        print(f"{date.today()}, {python}, medians of {options.runs} rounds")
        print(f"{MACHINE}, torch for Python {PYTHON}, index {options.distance:g} ms away\n")
        _show(found, held)
    return 1 if any(measured > most for _, measured, most in held) else 0


def _show(found: Sequence[Row], held: Sequence[tuple[str, float, float]]) -> None:
    bare = found[0]
    table = [["command", "ms", "times bare", "CPU ms", "times bare"]]
    for row in found:
        wall = [f"{row.wall_ms:.0f}", f"{row.wall_ms / bare.wall_ms:.1f}"]
        table.append([row.name, *wall, f"{row.cpu_ms:.0f}", f"{row.cpu_ms / bare.cpu_ms:.1f}"])
    print(as_table(table) + "\n")
    for what, measured, most in held:
        print(f"{what}: {measured:.2f}, at most {most:g}{' MISSED' if measured > most else ''}")


if __name__ == "__main__":
    raise SystemExit(main())
