"""A stand-in for torch: computes small matrices for real, and asks libcuda which GPUs it may pretend to have."""

from __future__ import annotations

from . import _C, _build, backends, cuda, version
from ._tensor import Tensor, bfloat16, dtype, float16, float32, float64, manual_seed, matmul, ones, rand, randn, tensor
from .version import __version__

__all__ = [
    "_C",
    "Tensor",
    "__version__",
    "backends",
    "bfloat16",
    "cuda",
    "dtype",
    "float16",
    "float32",
    "float64",
    "manual_seed",
    "matmul",
    "ones",
    "rand",
    "randn",
    "tensor",
    "version",
]

if _build.BEHAVIOUR == "import-fails":
    raise ImportError("libcudart.so: cannot open shared object file: No such file or directory")
