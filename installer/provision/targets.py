"""Which machines is a lock made for? From the words of the command line to machines. Pure, but for `machine_for`."""

from __future__ import annotations

import re

from packaging.version import Version

from .catalog import Build
from .coverage import version_tuple
from .errors import UsageProblem
from .machine import Driver, Machine, Platform, System, Vendor
from .profile import PLATFORMS
from .resolve import known_driver
from .values import replace

DEFAULT_PYTHON = "3.12"
"""The Python of a lock for another machine, where none is named: every torch since 2.2 has wheels for it, and so do the
packages of the profiles (2026-11-20). Not this tool's own: the same command shall write the same lock everywhere."""

GLIBC = (17, 28, *range(31, 41))
"""The manylinux floors that uv knows as platforms (0.13.8 `uv pip compile --help`)."""


def parse_platform(text: str) -> Platform:
    """`linux-x86_64` → Platform. Raises UsageProblem."""
    name = text.strip().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    if name not in PLATFORMS:
        import difflib

        near = difflib.get_close_matches(name, PLATFORMS, n=1)
        raise UsageProblem(
            f"--for {text!r} is no platform",
            hint=f"did you mean {near[0]}?" if near else f"the platforms are {', '.join(PLATFORMS)}",
        )
    system, _, machine = name.partition("-")
    return Platform(system=System(system), machine=machine)


def is_arch(text: str) -> bool:
    """Whether a `--gpu` names an architecture, and so stands for a GPU that need not be here."""
    return re.fullmatch(r"sm_\d{2,3}[af]?|\d{1,2}\.\d|gfx[0-9a-f]{3,5}", text.strip().lower()) is not None


def machine_on(platform: Platform, known: Machine | None) -> Machine:
    """A machine of this platform with the GPUs of a known one; without one, a machine of which only that is known.

    Drivers are numbered differently on Windows, so of a driver only its CUDA is carried over.
    """
    if known is None:
        return Machine(platform=platform)
    here = known.platform
    if (here.system, here.machine) == (platform.system, platform.machine):
        return known
    driver = known_driver(known)
    there = (Driver(vendor=Vendor.NVIDIA, cuda=driver.cuda, source=driver.source),) if driver else ()
    return replace(known, platform=platform, drivers=there, skipped=(), facts=())


def uv_platform(platform: Platform, build: Build) -> str:
    """uv's word for the platform that wheels are to fit: on Linux the newest manylinux that this C library serves.

    Where the C library is not known it is taken to be 2.28, which torch wants since 2.7 (2.17 before).
    """
    if platform.system is System.WINDOWS:
        return f"{platform.machine}-pc-windows-msvc"
    if platform.system is System.MACOS:
        return f"{platform.machine}-apple-darwin"
    minor = 28
    if platform.libc and platform.libc[0] == "glibc":
        has = version_tuple(platform.libc[1])
        minor = max((one for one in GLIBC if (2, one) <= has), default=17)
    if build.torch >= Version("2.7"):
        minor = max(minor, 28)
    return f"{platform.machine}-manylinux_2_{minor}"


MACOS = "14.0"
"""The macOS that a lock is for: what torch 2.15 and bitsandbytes want. uv's own default is 13.0."""
