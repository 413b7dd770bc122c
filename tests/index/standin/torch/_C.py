"""`torch._C`: the one private function that tells a build's code where no GPU answers."""
# ruff: noqa: N999

from . import _build


def _cuda_getArchFlags() -> str:  # noqa: N802 - torch's own name
    return " ".join(_build.ARCHES)
