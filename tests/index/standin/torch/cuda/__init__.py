"""`torch.cuda`, as far as a proof asks it."""

from __future__ import annotations

from types import SimpleNamespace

from .. import _build, _gpus


def is_available() -> bool:
    return bool(_gpus.usable())


def device_count() -> int:
    return len(_gpus.usable())


def get_arch_list() -> list[str]:
    return list(_build.ARCHES) if is_available() else []


def get_device_name(index: int = 0) -> str:
    return _gpus.require(index).name


def get_device_capability(index: int = 0) -> tuple[int, int]:
    return _gpus.require(index).capability


def get_device_properties(index: int = 0) -> SimpleNamespace:
    gpu = _gpus.require(index)
    major, minor = gpu.capability
    return SimpleNamespace(name=gpu.name, major=major, minor=minor, total_memory=gpu.memory)


def init() -> None:
    _gpus.require(0)


def synchronize() -> None:
    _gpus.require(0)
