"""How much faster than NVIDIA's cuobjdump is the scan of one library, and does it say the same?

    python tests/bench/scan_cuobjdump.py LIBRARY... [--cuobjdump PATH] [--json]        (Linux)

Both read the same file in one run, the scan in a process of its own too; cuobjdump comes with CUDA and in the package
nvidia-cuda-cuobjdump. Times are the best of the runs, memory is the greatest resident size of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "installer"))

from provision.fatbin import scan_file

_SCAN = """
import sys
sys.path.insert(0, sys.argv[1])
from provision.fatbin import scan_file
scan_file(sys.argv[2])
print(open("/proc/self/status").read())
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("libraries", nargs="+")
    parser.add_argument("--cuobjdump", default=shutil.which("cuobjdump"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.cuobjdump is None:
        parser.error("no cuobjdump on PATH: name one with --cuobjdump (package nvidia-cuda-cuobjdump, or CUDA)")
    rows = [measure(library, options.cuobjdump) for library in options.libraries]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            found = "equal" if row["equal"] else "DIFFERENT"
            print(f"{row['library']}, {row['mb']} MB, {row['entries']} entries: {found}")
            process = f"{row['process_ms']:9.1f} ms and {row['scan_mb']:.0f} MB as a process"
            print(f"  scan       {row['scan_ms']:9.1f} ms here, {process}")
            print(f"  cuobjdump  {row['cuobjdump_ms']:27.1f} ms and {row['cuobjdump_mb']:.0f} MB as a process")
            print(f"  ratio      {row['times']:.0f} x the time, {row['memory']:.0f} x the memory")
    return 0 if all(row["equal"] for row in rows) else 1


def measure(library: str, cuobjdump: str) -> dict[str, Any]:
    """Both readings of one library: their times, their memory and whether they list the same code."""
    scan_seconds = []
    for _ in range(5):
        began = time.perf_counter()
        found = scan_file(library)
        scan_seconds.append(time.perf_counter() - began)
    installer = str(Path(__file__).resolve().parents[2] / "installer")
    scans = [_run([sys.executable, "-I", "-S", "-c", _SCAN, installer, library]) for _ in range(3)]
    scan_mb = max(int(re.findall(r"VmHWM:\s*(\d+) kB", printed)[0]) / 1024 for _, _, printed in scans)
    other_seconds, other_mb, listed = _run([cuobjdump, "-all", "--list-elf", "--list-ptx", library])
    entries = found.entries()
    return {
        "library": os.path.basename(library),
        "mb": os.path.getsize(library) >> 20,
        "entries": entries.total(),
        "equal": as_listed(entries) == parse_list(listed),
        "scan_ms": min(scan_seconds) * 1000,
        "process_ms": min(seconds for seconds, _, _ in scans) * 1000,
        "scan_mb": scan_mb,
        "cuobjdump_ms": other_seconds * 1000,
        "cuobjdump_mb": other_mb,
        "times": other_seconds / min(seconds for seconds, _, _ in scans),
        "memory": other_mb / scan_mb,
    }


def parse_list(text: str) -> Counter[str]:
    """How often cuobjdump lists what: `sm_75.cubin`, `sm_120.ptx`. The `f` of a family it shows only now and then."""
    listed = re.findall(r"\.(sm_\d+[af]?\.(?:cubin|ptx))$", text, re.MULTILINE)
    return Counter(name.replace("f.", ".") for name in listed)


def as_listed(entries: Counter[str]) -> Counter[str]:
    """What `Library.entries` counts, as cuobjdump lists it."""
    counts: Counter[str] = Counter()
    for arch, count in entries.items():
        kind, _, number = arch.partition("_")
        counts[f"sm_{number.rstrip('f')}.{'ptx' if kind == 'compute' else 'cubin'}"] += count
    return counts


def _run(argv: list[str]) -> tuple[float, float, str]:
    """Run a command: its seconds, its greatest resident size in MB, what it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} ended with {process.returncode}: {printed[-400:]}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024, printed


if __name__ == "__main__":
    sys.exit(main())
