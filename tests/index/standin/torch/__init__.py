"""A stand-in for torch: computes small matrices for real, and asks NVML which GPUs it may pretend to have."""

from __future__ import annotations

from . import _build, backends, cuda, nn, version
from ._tensor import (
    Tensor,
    allclose,
    arange,
    bfloat16,
    device,
    dtype,
    eye,
    float16,
    float32,
    float64,
    full,
    int64,
    isfinite,
    manual_seed,
    matmul,
    no_grad,
    ones,
    rand,
    randn,
    tensor,
    zeros,
)
from .version import __version__

half = float16
float = float32  # noqa: A001 - torch has it too
double = float64
mm = matmul
inference_mode = no_grad

__all__ = [
    "Tensor",
    "__version__",
    "allclose",
    "arange",
    "backends",
    "bfloat16",
    "cuda",
    "device",
    "double",
    "dtype",
    "eye",
    "float",
    "float16",
    "float32",
    "float64",
    "full",
    "half",
    "inference_mode",
    "int64",
    "isfinite",
    "manual_seed",
    "matmul",
    "mm",
    "nn",
    "no_grad",
    "ones",
    "rand",
    "randn",
    "tensor",
    "version",
    "zeros",
]

if _build.BEHAVIOUR == "import-fails":
    raise ImportError("libcudart.so: cannot open shared object file: No such file or directory")
