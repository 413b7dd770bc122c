"""A machine with NVIDIA GPUs where there are none: libraries that real nvidia-ml-py and ctypes load, built once.

    env = stand_in.environment(gpus=[stand_in.gpu("NVIDIA GeForce RTX 5090", "12.0", 32607, device="2b85")],
                               driver="570.124.06", cuda="12.8")
    subprocess.run([sys.executable, "-m", "provision", "detect", "--json"], env=env)

Variables that the libraries read: see nvml.c, cuda.c, nvidia_smi.py. Needs gcc (Debian package `gcc`) and Linux.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIBRARIES = {"libnvidia-ml.so.1": "nvml.c", "libcuda.so.1": "cuda.c"}


def gpu(
    name: str,
    capability: str | None = None,
    memory_mib: int | None = None,
    *,
    device: str | None = None,
    bus: str | None = None,
    uuid: str | None = None,
    mig: int | None = None,
    slice: str | None = None,
    lost: bool = False,
    missing: Sequence[str] = (),
) -> str:
    """One GPU's row. `mig` is the number of its instances (-1: MIG is off); `missing` fields answer NotSupported."""
    fields = {
        "name": name,
        "cc": capability,
        "memory": memory_mib,
        "device": device,
        "bus": bus,
        "uuid": uuid,
        "mig": mig,
        "slice": slice,
        "lost": 1 if lost else None,
        "missing": ",".join(missing) or None,
    }
    return "|".join(f"{key}={value}" for key, value in fields.items() if value is not None)


RTX_5090 = gpu("NVIDIA GeForce RTX 5090", "12.0", 32607, device="2b85")
A100 = gpu("NVIDIA A100-SXM4-80GB", "8.0", 81920, device="20b2")
RTX_3090 = gpu("NVIDIA GeForce RTX 3090", "8.6", 24576, device="2204")
T4 = gpu("Tesla T4", "7.5", 15360, device="1eb8")


def environment(
    *,
    gpus: Sequence[str] = (RTX_5090,),
    driver: str = "580.95.05",
    cuda: str = "13.0",
    nvml: bool = True,
    libcuda: bool = True,
    smi: bool = True,
    base: Mapping[str, str] | None = None,
    **settings: str | int,
) -> dict[str, str]:
    """The variables with which a child process sees these GPUs.

    `nvml`, `libcuda`, `smi`: whether that source is there. `settings`: the rest of what the sources read, without
    `STAND_IN_` (`nvml_init=999`, `nvml_fault="crash:count"`, `cuda_init=803`, `smi_mode="garbage"`, …).
    """
    numbered = [
        row
        + ("" if "bus=" in row else f"|bus=00000000:{place + 1:02X}:00.0")
        + ("" if "uuid=" in row else f"|uuid=GPU-00000000-0000-0000-0000-{place:012d}")
        for place, row in enumerate(gpus)
    ]
    env = dict(os.environ if base is None else base)
    built = build()
    folders = [built / name for name, wanted in [("nvml", nvml), ("cuda", libcuda)] if wanted]
    env["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, folders), *filter(None, [env.get("LD_LIBRARY_PATH")])])
    if smi:
        env["PATH"] = os.pathsep.join([str(built / "bin"), env.get("PATH", os.defpath)])
    env |= {"STAND_IN_GPUS": "\n".join(numbered), "STAND_IN_DRIVER": driver, "STAND_IN_CUDA": cuda}
    for key, value in settings.items():
        env["STAND_IN_" + ("SMI" if key == "smi_mode" else key.upper())] = str(value)
    return env


@functools.cache
def build() -> Path:
    """Compile both libraries and write the fake nvidia-smi, once for these sources on this machine."""
    compiler = shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the NVML stand-in needs Linux and gcc (Debian package `gcc`)")
    sources = sorted([*HERE.glob("*.[ch]"), HERE / "nvidia_smi.py"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + sys.executable.encode()).hexdigest()[:16]
    done = Path(tempfile.gettempdir()) / f"provision-stand-in-{os.getuid()}-{digest}"
    if done.is_dir():
        return done
    work = Path(tempfile.mkdtemp(prefix="provision-stand-in-"))
    for library, source in LIBRARIES.items():
        folder = work / Path(source).stem
        folder.mkdir()
        options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-fvisibility=hidden", f"-Wl,-soname,{library}"]
        subprocess.run([compiler, *options, "-o", str(folder / library), str(HERE / source)], check=True)
    script = work / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable} -IS\n" + (HERE / "nvidia_smi.py").read_text())
    script.chmod(0o755)
    try:
        work.rename(done)
    except OSError:  # another test run was quicker
        shutil.rmtree(work)
    return done
