"""A stand-in for nvidia-smi, as text: the header and the CSV query, from the variables of nvml.c.

STAND_IN_SMI   `ok`, `hang`, `garbage`, `exit-9` (no driver), `mismatch` (18), `signal`
STAND_IN_SMI_FIELDS  query fields that this generation knows (all)
STAND_IN_SMI_HEADER  `old` or `new` (KMD/UMD, since R610)
"""

from __future__ import annotations

import os
import sys
import time

MODE = os.environ.get("STAND_IN_SMI", "ok")
DRIVER = os.environ.get("STAND_IN_DRIVER", "580.95.05")
CUDA = os.environ.get("STAND_IN_CUDA", "13.0")
FIELDS = {
    "index": "index",
    "name": "name",
    "compute_cap": "cc",
    "memory.total": "memory",
    "uuid": "uuid",
    "pci.bus_id": "bus",
    "pci.device_id": "device",
    "driver_version": "driver",
    "mig.mode.current": "mig",
}


def gpus() -> list[dict[str, str]]:
    rows = [row for row in os.environ.get("STAND_IN_GPUS", "").split("\n") if row]
    return [
        {"index": str(place), **dict(field.split("=", 1) for field in row.split("|"))} for place, row in enumerate(rows)
    ]


def value(gpu: dict[str, str], field: str) -> str:
    if field in gpu.get("missing", "").split(","):
        return "[N/A]"
    if field == "driver":
        return DRIVER
    if field == "mig":
        return {"": "[N/A]", "-1": "Disabled"}.get(gpu.get("mig", ""), "Enabled")
    if field == "memory" and "memory" in gpu:
        return gpu["memory"] + " MiB"
    if field == "device" and "device" in gpu:
        return "0x" + gpu["device"].upper() + "10DE"
    return gpu.get(field, "[N/A]")


def main() -> int:
    if MODE == "hang":
        time.sleep(1000)
    if MODE == "signal":
        os.abort()
    if MODE == "garbage":
        sys.stdout.buffer.write(bytes(range(256)) * 16)
        return 0
    if MODE == "exit-9":
        print(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
            "NVIDIA driver is installed and running.\n"
        )
        return 9
    if MODE == "mismatch":
        print("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 610.57")
        return 18
    query = next((word.split("=", 1)[1] for word in sys.argv[1:] if word.startswith("--query-gpu=")), None)
    if query is None:
        if os.environ.get("STAND_IN_SMI_HEADER") == "new":
            print(f"| NVIDIA-SMI {DRIVER}   KMD Version: {DRIVER}   CUDA UMD Version: {CUDA} |")
        else:
            print(f"| NVIDIA-SMI {DRIVER}   Driver Version: {DRIVER}   CUDA Version: {CUDA} |")
        return 0
    known = os.environ.get("STAND_IN_SMI_FIELDS", ",".join(FIELDS)).split(",")
    asked = query.split(",")
    for field in asked:
        if field not in known:
            print(f'Field "{field}" is not a valid field to query.\n')
            return 2
    if not gpus():
        print("No devices were found")
        return 6
    units = {"memory.total": "memory.total [MiB]"}
    print(", ".join(units.get(field, field) for field in asked))
    for gpu in gpus():
        if "lost" not in gpu:
            print(", ".join(value(gpu, FIELDS[field]) for field in asked))
    return 0


raise SystemExit(main())
