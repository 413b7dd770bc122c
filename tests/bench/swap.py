"""What does a change that cannot break anything cost beside a bare `uv pip install` of the same packages?

    python tests/bench/swap.py [--old torch==2.8.0] [--new torch==2.9.1] [--rounds 3] [--folder DIR] [--json]

Both swap one environment from the old pins to the new and back, in turn, with everything in uv's cache (the first
round downloads: several GB with CUDA). `check` is the proof that the copy is what was asked for (sha256 of all that
was installed); bare uv has no such thing, so the ratio is told with and without it. Times are the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "installer"))

import uv
from provision import transaction
from provision.detect.environment import installed_in, normalize, site_packages

UV = uv.find_uv_bin()
_PHASES = ("stage", "install", "check", "commit", "whole")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--old", default="torch==2.8.0")
    parser.add_argument("--new", default="torch==2.9.1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the environment is made (default: beside uv's cache)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cache = Path(uv_says("cache", "dir").strip())
    folder = Path(tempfile.mkdtemp(prefix="swap-", dir=options.folder or cache.parent))
    try:
        row = measure(folder, [options.old, options.new], options.rounds)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(row, indent=2) if options.json else screen(row))
    return 0


def uv_says(*arguments: str | Path, cwd: Path | None = None) -> str:
    command = [UV, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd).stdout


def measure(folder: Path, requirements: list[str], rounds: int) -> dict[str, Any]:
    """Bare and ours in turn, there and back."""
    env = folder / ".venv"
    uv_says("venv", "--quiet", env)
    pins = []
    for number, requirement in enumerate(requirements):
        (folder / f"{number}.in").write_text(requirement.replace(" ", "\n") + "\n")
        uv_says(
            "pip", "compile", "--quiet", "--python", env, "--output-file", f"{number}.txt", f"{number}.in", cwd=folder
        )
        pins.append(folder / f"{number}.txt")
    for pin in reversed(pins):
        install(env, pin)
    files, size = count(env)
    bare: list[float] = []
    ours: list[dict[str, float]] = []
    extra: list[int] = []
    for _ in range(rounds):
        for pin in reversed(pins):
            os.sync()
            started = time.perf_counter()
            install(env, pin)
            bare.append(time.perf_counter() - started)
        for pin in reversed(pins):
            os.sync()
            used = shutil.disk_usage(folder).used
            ours.append(swap(env, pin))
            extra.append(shutil.disk_usage(folder).used - used)
            started = time.perf_counter()
            transaction.clean(env)
            ours[-1]["collect"] = time.perf_counter() - started
    swap(env, pins[1])
    started = time.perf_counter()
    transaction.rollback(env)
    rollback = time.perf_counter() - started
    phases = {name: round(median(one[name] for one in ours), 3) for name in (*_PHASES, "collect")}
    unchecked = median(one["whole"] - one["check"] for one in ours)
    return {
        "old": requirements[0],
        "new": requirements[1],
        "files": files,
        "mb": size >> 20,
        "bare_seconds": round(median(bare), 3),
        "ours_seconds": phases,
        "ratio": round(median(one["whole"] for one in ours) / median(bare), 2),
        "ratio_without_check": round(unchecked / median(bare), 2),
        "rollback_seconds": round(rollback, 3),
        "extra_mb": max(extra) >> 20,
    }


def install(env: Path, pins: Path) -> None:
    uv_says("pip", "install", "--quiet", "--python", env, "--requirements", pins)


def swap(env: Path, pins: Path) -> dict[str, float]:
    """The same by a transaction; seconds by phase."""
    site = site_packages(env)
    assert site is not None
    before = {name: one.version for name, one in installed_in(site).items()}
    lines = (line.partition(" ")[0] for line in pins.read_text().splitlines() if "==" in line and line[0].isalnum())
    wanted = {normalize(name): version for name, _, version in (line.partition("==") for line in lines)}
    moments = [time.perf_counter()]
    replaced = [name for name, version in wanted.items() if name in before and before[name] != version]
    with transaction.begin(env, without=replaced) as change:
        moments.append(time.perf_counter())
        command = [UV, "pip", "install", "--quiet", "--python", str(change.python), "--requirements", str(pins)]
        change.run(command, env=os.environ)
        moments.append(time.perf_counter())
        change.settle({**before, **wanted})
        moments.append(time.perf_counter())
        change.commit()
    moments.append(time.perf_counter())
    steps = [later - earlier for earlier, later in pairwise(moments)]
    return dict(zip(_PHASES, [*steps, moments[-1] - moments[0]], strict=True))


def count(tree: Path) -> tuple[int, int]:
    """Files and bytes."""
    sizes = [os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(tree) for name in names]
    return len(sizes), sum(sizes)


def screen(row: dict[str, Any]) -> str:
    ours = "  ".join(f"{name} {seconds:.2f}" for name, seconds in row["ours_seconds"].items())
    return (
        f"{row['old']} ⇄ {row['new']}: {row['files']} files, {row['mb']} MB\n"
        f"  uv pip install  {row['bare_seconds']:.2f} s\n"
        f"  transaction     {ours}  (s)\n"
        f"  ratio           {row['ratio']:.2f}, {row['ratio_without_check']:.2f} without the check\n"
        f"  rollback        {row['rollback_seconds']:.2f} s, extra disk {row['extra_mb']} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
