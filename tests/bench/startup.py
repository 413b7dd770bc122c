"""What does starting cost? CPU time of whole processes, as multiples of a bare `python -c pass` in the same run.

    python tests/bench/startup.py

Prints a table and exits with 1 where a bar is missed. Bars: `--help` 2.6, `plan --machine FILE --offline --json` 6,
`detect` on a machine without a GPU 8. The least of many runs counts: what else the machine does only adds. Bytecode is
written first, as an installation does.
"""

from __future__ import annotations

import compileall
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 25

MACHINE = {
    "platform": {"system": "linux", "machine": "x86_64", "libc": ["glibc", "2.35"]},
    "gpus": [{"vendor": "nvidia", "name": "NVIDIA GeForce RTX 5090", "arch": "12.0"}],
    "drivers": [{"vendor": "nvidia", "version": "570.124.06"}],
}


def cpu_ms(argv: list[str]) -> float:
    """The least CPU time (user and system, with children) of RUNS runs, in milliseconds."""
    best = float("inf")
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return best * 1000


def main() -> int:
    provision = [str(Path(sys.executable).with_name("provision"))]
    compileall.compile_dir(Path(__file__).resolve().parents[2] / "installer", quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "machine.json"
        file.write_text(json.dumps(MACHINE))
        rows: list[tuple[str, list[str], float | None]] = [
            ("python -c pass", [sys.executable, "-c", "pass"], None),
            ("provision --help", [*provision, "--help"], 2.6),
            ("provision plan --machine FILE --offline --json", [*provision, "plan", "--machine", str(file)], 6.0),
            ("provision detect", [*provision, "detect"], 8.0),
        ]
        rows[2][1].extend(["--offline", "--json"])
        base = cpu_ms(rows[0][1])
        missed = 0
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
        print(f"{'command':<50} {'ms':>7} {'times':>6} {'bar':>5}")
        for name, argv, bar in rows:
            spent = base if bar is None else cpu_ms(argv)
            late = bar is not None and spent > bar * base
            missed += late
            print(f"{name:<50} {spent:>7.1f} {spent / base:>6.2f} {bar or '':>5}{'   missed' if late else ''}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
