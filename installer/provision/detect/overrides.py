"""What does the user say instead? Variables that stand for what detection cannot or should not see.

| variable | stands for |
|---|---|
| `PROVISION_GPU_ARCH` | the GPUs: `12.0`, `sm_120` or `gfx1100`, several with commas; `none`: no GPU |
| `PROVISION_CUDA_DRIVER_VERSION` | NVIDIA's driver: `570.124.06` |
| `PROVISION_CUDA_VERSION` | the newest CUDA that the driver serves: `12.8` |

They replace what was found, and are recorded with the source `override`.
"""

from __future__ import annotations

import re

from ..errors import UsageProblem
from ..host import Host
from ..machine import Driver, Vendor
from .answer import Answer, Seen, facts_of

ARCH = "PROVISION_GPU_ARCH"
DRIVER_VERSION = "PROVISION_CUDA_DRIVER_VERSION"
CUDA_VERSION = "PROVISION_CUDA_VERSION"


def ask_overrides(host: Host) -> Answer:
    """The variables that are set. Raises UsageProblem for one that makes no sense."""
    arch, version, cuda = (host.getenv(name) or None for name in (ARCH, DRIVER_VERSION, CUDA_VERSION))
    _check(DRIVER_VERSION, version, r"\d+(\.\d+)*", "570.124.06")
    _check(CUDA_VERSION, cuda, r"\d+\.\d+", "12.8")
    driver = Driver(vendor=Vendor.NVIDIA, version=version, cuda=cuda, source="override") if version or cuda else None
    return Answer(
        source="override",
        gpus=parse_archs(arch) if arch else (),
        drivers=(driver,) if driver else (),
        facts=facts_of(
            "override", override__gpu_arch=arch, override__cuda_driver_version=version, override__cuda_version=cuda
        ),
    )


def parse_archs(text: str) -> tuple[Seen, ...]:
    """`sm_120, 8.6, gfx1100` → one GPU each; `none` → no GPU. Raises UsageProblem for anything else."""
    if text.strip().lower() == "none":
        return ()
    gpus = []
    for index, word in enumerate(part.strip().lower() for part in text.split(",")):
        compute = re.fullmatch(r"(?:sm_)?(\d{1,2})(\d)[af]?|(\d{1,2})\.(\d)", word)
        if re.fullmatch(r"gfx[0-9a-f]{3,5}", word):
            gpus.append(Seen(vendor=Vendor.AMD, index=index, arch=word))
        elif compute:
            arch = ".".join(part for part in compute.groups() if part)
            gpus.append(Seen(vendor=Vendor.NVIDIA, index=index, arch=arch))
        else:
            _check(ARCH, word, r"(?!)", "12.0, sm_120, gfx1100 or none")
    return tuple(gpus)


def _check(name: str, value: str | None, pattern: str, example: str) -> None:
    if value is not None and not re.fullmatch(pattern, value):
        raise UsageProblem(
            f"{name}={value} makes no sense here",
            code="bad-override",
            hint=f"set it to something like {example}, or unset it",
        )
