"""A real torch for the CPU, installed once into pytest's cache: for the tests marked `registry`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TORCH = "2.13.0"
"""The newest that has wheels for every Python from 3.10 to 3.14."""

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def real_torch(config: pytest.Config, *packages: str) -> Path:
    """The interpreter of an environment with torch for the CPU and numpy, and `packages`; skips where that fails."""
    name = "-".join(["torch", TORCH, f"py{sys.version_info.major}{sys.version_info.minor}", *packages])
    prefix = Path(config.cache.mkdir("environments")) / name.replace("==", "-")
    python = prefix / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (prefix / "complete").exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(prefix)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--retries", "0", "--timeout", "20"]
    done = subprocess.run(
        [*command, "--extra-index-url", CPU_INDEX, f"torch=={TORCH}+cpu", "numpy", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"torch {TORCH}+cpu could not be installed: {done.stderr.strip().splitlines()[-1:]}")
    (prefix / "complete").touch()
    return python
