"""Tensors of a few thousand numbers: enough for a matmul that is really computed and really rounded."""

from __future__ import annotations

import ctypes
import math
import operator
import os
import random
import signal
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import _build, _gpus

_random = random.Random(0)


class dtype:  # noqa: N801 - torch's own name
    """A number format; `keep` rounds a Python float to what the format can hold."""

    def __init__(self, name: str, keep: Callable[[Any], Any]) -> None:
        self.name = name
        self.keep = keep

    def __repr__(self) -> str:
        return f"torch.{self.name}"


def _to_float32(value: float) -> float:
    return ctypes.c_float(value).value


def _to_float16(value: float) -> float:
    try:
        (rounded,) = struct.unpack("e", struct.pack("e", value))
    except OverflowError:
        return math.copysign(math.inf, value)
    return float(rounded)


def _to_bfloat16(value: float) -> float:
    (bits,) = struct.unpack("I", struct.pack("f", value))
    (rounded,) = struct.unpack("f", struct.pack("I", (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000))
    return float(rounded)


float64 = dtype("float64", float)
float32 = dtype("float32", _to_float32)
float16 = dtype("float16", _to_float16)
bfloat16 = dtype("bfloat16", _to_bfloat16)


class Tensor:
    """A vector, a matrix or (without a shape) one number: values in row order, a format and a place."""

    def __init__(self, values: Sequence[Any], shape: Sequence[int], kind: dtype = float32, device: str = "cpu") -> None:
        self.device = "cuda:0" if device == "cuda" else device
        if self.on_gpu:
            _gpus.require(self.gpu)
        self.values = [kind.keep(value) for value in values]
        self.shape = tuple(shape)
        self.dtype = kind

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def gpu(self) -> int:
        return int(self.device.partition(":")[2])

    def __repr__(self) -> str:
        return f"tensor({self.tolist()}, device={self.device!r}, dtype={self.dtype})"

    def to(self, what: str | dtype) -> Tensor:
        if isinstance(what, dtype):
            return Tensor(self.values, self.shape, what, self.device)
        return Tensor(self.values, self.shape, self.dtype, what)

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def cuda(self, index: int = 0) -> Tensor:
        return self.to(f"cuda:{index}")

    def item(self) -> Any:
        (value,) = self.values
        return value

    def tolist(self) -> Any:
        if len(self.shape) < 2:
            return list(self.values) if self.shape else self.values[0]
        rows, columns = self.shape
        return [self.values[row * columns : (row + 1) * columns] for row in range(rows)]

    def t(self) -> Tensor:
        rows, columns = self.shape
        turned = [self.values[row * columns + column] for column in range(columns) for row in range(rows)]
        return Tensor(turned, (columns, rows), self.dtype, self.device)

    def abs(self) -> Tensor:
        return Tensor([abs(value) for value in self.values], self.shape, self.dtype, self.device)

    def max(self) -> Tensor:
        return Tensor([max(self.values)], (), self.dtype, self.device)

    def sum(self) -> Tensor:
        return Tensor([math.fsum(self.values)], (), self.dtype, self.device)

    def _with(self, other: Tensor, apply: Callable[[Any, Any], Any]) -> Tensor:
        _same_device(self, other)
        values = [apply(one, two) for one, two in zip(self.values, other.values, strict=True)]
        return Tensor(values, self.shape, self.dtype, self.device)

    def __add__(self, other: Tensor) -> Tensor:
        return self._with(other, operator.add)

    def __sub__(self, other: Tensor) -> Tensor:
        return self._with(other, operator.sub)

    def __mul__(self, other: Tensor) -> Tensor:
        return self._with(other, operator.mul)

    def __matmul__(self, other: Tensor) -> Tensor:
        return matmul(self, other)


def _same_device(a: Tensor, b: Tensor) -> None:
    if a.device != b.device:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {a.device} and {b.device}!"
        )


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product, on the GPU's terms where both are on one: no code for it, no kernel."""
    _same_device(a, b)
    (rows, inner), (also_inner, columns) = a.shape, b.shape
    if inner != also_inner:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{inner} and {also_inner}x{columns})")
    _start_kernel(a)
    across = [a.values[row * inner : (row + 1) * inner] for row in range(rows)]
    down = [b.values[column::columns] for column in range(columns)]
    product = [math.fsum(map(operator.mul, row, column)) for row in across for column in down]
    if _build.BEHAVIOUR == "wrong-result" and _where_work_goes(a):
        product[0] += 1.0 + max(map(abs, product))
    return Tensor(product, (rows, columns), a.dtype, a.device)


def _where_work_goes(a: Tensor) -> bool:
    """The GPU if there is one, else the CPU."""
    return a.on_gpu or not _gpus.usable()


def _start_kernel(a: Tensor) -> None:
    """Where a build that cannot run kernels shows it."""
    if a.on_gpu:
        _gpus.require_kernel(a.gpu)
    if _where_work_goes(a) and _build.BEHAVIOUR == "hangs":
        time.sleep(3600)
    if _where_work_goes(a) and _build.BEHAVIOUR == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)


def tensor(rows: Any, *, dtype: dtype = float32, device: str = "cpu") -> Tensor:
    if not isinstance(rows, list):
        return Tensor([rows], (), dtype, device)
    if not isinstance(rows[0], list):
        return Tensor(rows, (len(rows),), dtype, device)
    return Tensor([value for row in rows for value in row], (len(rows), len(rows[0])), dtype, device)


def ones(*shape: int, dtype: dtype = float32, device: str = "cpu") -> Tensor:
    return Tensor([1.0] * math.prod(shape), shape, dtype, device)


def rand(*shape: int, dtype: dtype = float32, device: str = "cpu") -> Tensor:
    return Tensor([_random.random() for _ in range(math.prod(shape))], shape, dtype, device)


def randn(*shape: int, dtype: dtype = float32, device: str = "cpu") -> Tensor:
    return Tensor([_random.gauss(0.0, 1.0) for _ in range(math.prod(shape))], shape, dtype, device)


def manual_seed(seed: int) -> None:
    _random.seed(seed)
