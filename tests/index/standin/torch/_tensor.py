"""Tensors of a few thousand numbers: enough for a matmul that is really computed and really rounded."""

from __future__ import annotations

import contextlib
import ctypes
import math
import operator
import os
import random
import signal
import struct
import time
from builtins import float as number
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import _build, _gpus

_random = random.Random(0)


class dtype:  # noqa: N801 - torch's own name
    """A number format; `keep` rounds a Python float to what the format can hold."""

    def __init__(self, name: str, keep: Callable[[Any], Any], *, floating: bool = True) -> None:
        self.name = name
        self.keep = keep
        self.is_floating_point = floating

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
int64 = dtype("int64", int, floating=False)


class device:  # noqa: N801 - torch's own name
    def __init__(self, name: str | int | device) -> None:
        text = f"cuda:{name}" if isinstance(name, int) else str(name)
        self.type, _, index = text.partition(":")
        self.index = int(index) if index else None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}, index={self.index})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


CPU = device("cpu")


class Tensor:
    """Numbers in row order with a shape, a format and a place."""

    def __init__(self, values: Sequence[Any], shape: Sequence[int], kind: dtype = float32, place: device = CPU) -> None:
        if place.type == "cuda":
            _gpus.require(place.index or 0)
        self.values = [kind.keep(value) for value in values]
        self.shape = tuple(shape)
        self.dtype = kind
        self.device = place

    def __repr__(self) -> str:
        return f"tensor({self.tolist()}, device={str(self.device)!r}, dtype={self.dtype})"

    def _like(self, values: Sequence[Any], shape: Sequence[int] | None = None) -> Tensor:
        return Tensor(values, self.shape if shape is None else shape, self.dtype, self.device)

    def to(self, *what: Any, device: Any = None, dtype: Any = None, **_: Any) -> Tensor:
        kind, place = dtype or self.dtype, _place(device or self.device)
        for one in what:
            if isinstance(one, _dtype):
                kind = one
            else:
                place = _place(one)
        return Tensor(self.values, self.shape, kind, place)

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def cuda(self, index: int = 0) -> Tensor:
        return self.to(f"cuda:{index}")

    def float(self) -> Tensor:
        return self.to(float32)

    def double(self) -> Tensor:
        return self.to(float64)

    def half(self) -> Tensor:
        return self.to(float16)

    def bfloat16(self) -> Tensor:
        return self.to(bfloat16)

    def size(self, axis: int | None = None) -> Any:
        return self.shape if axis is None else self.shape[axis]

    def numel(self) -> int:
        return len(self.values)

    def dim(self) -> int:
        return len(self.shape)

    def item(self) -> Any:
        (value,) = self.values
        return value

    def tolist(self) -> Any:
        rows: list[Any] = list(self.values)
        for size in reversed(self.shape[1:]):
            rows = [rows[at : at + size] for at in range(0, len(rows), size)]
        return rows if self.shape else rows[0]

    def reshape(self, *shape: Any) -> Tensor:
        sizes = list(shape[0]) if shape and isinstance(shape[0], tuple | list) else list(shape)
        if -1 in sizes:
            sizes[sizes.index(-1)] = self.numel() // -math.prod(sizes)
        if math.prod(sizes) != self.numel():
            raise RuntimeError(f"shape '{sizes}' is invalid for input of size {self.numel()}")
        return self._like(self.values, sizes)

    view = reshape

    def t(self) -> Tensor:
        rows, columns = self.shape
        turned = [self.values[row * columns + column] for column in range(columns) for row in range(rows)]
        return self._like(turned, (columns, rows))

    @property
    def T(self) -> Tensor:  # noqa: N802 - torch's own name
        return self.t()

    def abs(self) -> Tensor:
        return self._like([abs(value) for value in self.values])

    def sum(self) -> Tensor:
        return self._like([math.fsum(self.values)], ())

    def mean(self) -> Tensor:
        return self._like([math.fsum(self.values) / self.numel()], ())

    def max(self) -> Tensor:
        return self._like([max(self.values)], ())

    def min(self) -> Tensor:
        return self._like([min(self.values)], ())

    def all(self) -> Tensor:
        return self._like([all(self.values)], ())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> number:
        return number(self.item())

    def _with(self, other: Any, apply: Callable[[Any, Any], Any]) -> Tensor:
        if isinstance(other, Tensor):
            if other.device != self.device:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found {self.device} and {other.device}!"
                )
            return self._like([apply(a, b) for a, b in zip(self.values, other.values, strict=True)])
        return self._like([apply(a, other) for a in self.values])

    def __add__(self, other: Any) -> Tensor:
        return self._with(other, operator.add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return self._with(other, operator.sub)

    def __mul__(self, other: Any) -> Tensor:
        return self._with(other, operator.mul)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return self._with(other, operator.truediv)

    def __matmul__(self, other: Tensor) -> Tensor:
        return matmul(self, other)


_dtype = dtype


def _place(where: Any) -> device:
    place = where if isinstance(where, device) else device(where)
    return device("cuda:0") if str(place) == "cuda" else place


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product, on the GPU's terms where both are on one: no code for it, no kernel."""
    if a.device != b.device:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {a.device} and {b.device}!")
    _misbehave(a.device)
    (rows, inner), (also_inner, columns) = a.shape, b.shape
    if inner != also_inner:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{inner} and {also_inner}x{columns})")
    across = [a.values[row * inner : (row + 1) * inner] for row in range(rows)]
    down = [b.values[column::columns] for column in range(columns)]
    product = [math.fsum(map(operator.mul, row, column)) for row in across for column in down]
    if _build.BEHAVIOUR == "wrong-result" and _is_best(a.device):
        product[0] += 1.0 + abs(product[0])
    return Tensor(product, (rows, columns), a.dtype, a.device)


def _is_best(place: device) -> bool:
    """Where work would go: the GPU if there is one, else the CPU."""
    return place.type == "cuda" or not _gpus.usable()


def _misbehave(place: device) -> None:
    """Kernels start here, so this is where a build that cannot run them shows it."""
    if place.type == "cuda":
        _gpus.require_kernel(place.index or 0)
    if _is_best(place):
        if _build.BEHAVIOUR == "hangs":
            time.sleep(3600)
        if _build.BEHAVIOUR == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)


def _count(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(shape[0]) if shape and isinstance(shape[0], tuple | list) else tuple(shape)


def tensor(rows: Any, *, dtype: _dtype | None = None, device: Any = "cpu") -> Tensor:
    shape: list[int] = []
    values = [rows]
    while values and isinstance(values[0], list | tuple):
        shape.append(len(values[0]))
        values = [value for row in values for value in row]
    kind = dtype or (float32 if any(isinstance(value, float) for value in values) else int64)
    return Tensor(values, shape, kind, _place(device))


def full(shape: Sequence[int], value: float, *, dtype: _dtype = float32, device: Any = "cpu") -> Tensor:
    return Tensor([value] * math.prod(shape), shape, dtype, _place(device))


def zeros(*shape: Any, **how: Any) -> Tensor:
    return full(_count(shape), 0.0, **how)


def ones(*shape: Any, **how: Any) -> Tensor:
    return full(_count(shape), 1.0, **how)


def eye(size: int, **how: Any) -> Tensor:
    return tensor([[float(row == column) for column in range(size)] for row in range(size)], **how)


def arange(*bounds: int, dtype: _dtype = int64, device: Any = "cpu") -> Tensor:
    values = range(*bounds)
    return Tensor(values, (len(values),), dtype, _place(device))


def rand(*shape: Any, dtype: _dtype = float32, device: Any = "cpu", generator: Any = None) -> Tensor:
    sizes = _count(shape)
    return Tensor([_random.random() for _ in range(math.prod(sizes))], sizes, dtype, _place(device))


def randn(*shape: Any, dtype: _dtype = float32, device: Any = "cpu", generator: Any = None) -> Tensor:
    sizes = _count(shape)
    return Tensor([_random.gauss(0.0, 1.0) for _ in range(math.prod(sizes))], sizes, dtype, _place(device))


def manual_seed(seed: int) -> None:
    _random.seed(seed)


def allclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    return all(abs(x - y) <= atol + rtol * abs(y) for x, y in zip(a.values, b.values, strict=True))


def isfinite(a: Tensor) -> Tensor:
    return Tensor([math.isfinite(value) for value in a.values], a.shape, int64, a.device)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    yield
