"""Runs in an environment with a real torch: each check of the probe on the whole torch, then on one broken for it.

Arguments: the probe's path, and JSON of {check: Python statement that breaks torch for it}. Prints JSON of {check:
[how it went on the whole torch, how on the broken one]}. Each check has a child of its own, so that nothing that is
broken must be mended. What needs a GPU runs on the CPU here: `Context.nvidia` lets it through, and packages that exist
for GPUs alone are stood in for by small modules that compute on the CPU.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import types
from typing import Any

import torch

probe = runpy.run_path(sys.argv[1], run_name="probe")


def outcome(name: str) -> str:
    try:
        probe["CHECKS"][name](probe["Context"](torch, "cuda:0" if name == "nccl" else "cpu"))
    except probe["Skip"] as skip:
        return f"skipped: {skip}"
    except Exception as error:  # noqa: BLE001 - whatever it is, the probe would call it failed
        return f"failed: {error!r}"
    return "passed"


# Packages and functions that stand in where the real ones need a GPU or are not here


def module(name: str, **members: Any) -> Any:
    """A module that can be imported under this name."""
    made = types.ModuleType(name)
    made.__dict__.update(
        members, __version__="0", __spec__=__import__("importlib.util").util.spec_from_loader(name, None)
    )
    sys.modules[name] = made
    return made


def attend(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def resample(wave: Any, before: int, after: int) -> Any:
    return wave.repeat_interleave(after // before, dim=-1)


def overlap(a: Any, b: Any) -> float:
    """Intersection over union of two boxes."""
    common = float((torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod())
    return common / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - common)


def nms(boxes: Any, scores: Any, threshold: float) -> Any:
    kept: list[int] = []
    for one in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[one], boxes[other]) <= threshold for other in kept):
            kept.append(one)
    return torch.tensor(kept)


def quantize_4bit(values: Any, quant_type: str) -> tuple[Any, Any]:
    scale = values.abs().max() / 7
    return (values / scale).round(), scale


def dequantize_4bit(packed: Any, scale: Any) -> Any:
    return packed * scale


def linear_4bit(rows: int, columns: int, *, bias: bool, compute_dtype: Any, quant_type: str) -> Any:
    return torch.nn.Linear(rows, columns, bias=bias, dtype=compute_dtype)


def all_reduce(shares: list[Any]) -> None:
    total = torch.stack(shares).sum(0)
    for share in shares:
        share.copy_(total)


def scaled_mm(a: Any, b: Any, **_: Any) -> Any:
    return (a.float() @ b.float()).to(torch.bfloat16)


def stand_ins() -> dict[str, Any]:
    """Everything above put in place; the names under which the breaking statements speak of it."""
    ones = torch.ones

    def ones_here(*shape: Any, device: Any = None, **more: Any) -> Any:
        return ones(*shape, **more)

    torch.ones = ones_here
    torch.cuda.device_count = lambda: 2
    torch.cuda.nccl = types.SimpleNamespace(all_reduce=all_reduce)
    torch._scaled_mm = scaled_mm
    probe["Context"].nvidia = lambda self, least, what: None
    vision, audio = module("torchvision.ops", nms=nms), module("torchaudio.functional", resample=resample)
    bits = module("bitsandbytes.functional", quantize_4bit=quantize_4bit, dequantize_4bit=dequantize_4bit)
    module("torchvision", ops=vision)
    module("torchaudio", functional=audio)
    module("torchcodec")
    module("bitsandbytes", functional=bits, nn=types.SimpleNamespace(Linear4bit=linear_4bit))
    module("xformers")
    return {
        "vision": vision,
        "audio": audio,
        "bits": bits,
        "xformers": module("xformers.ops", memory_efficient_attention=attend),
        "flash": module("flash_attn", flash_attn_func=attend),
    }


# What the breaking statements use


def only(kind: Any, function: Any, factor: float) -> Any:
    """`function`, off by `factor` for tensors of this type alone."""
    return lambda a, b: function(a, b) * factor if a.dtype is kind else function(a, b)


def off(forward: Any) -> Any:
    """A module's forward, off by a percent; not in float64, where it is the judge."""

    def wrong(self: Any, *inputs: Any) -> Any:
        result = forward(self, *inputs)
        if inputs[0].dtype is torch.float64:
            return result
        return (result[0] * 1.01, result[1]) if isinstance(result, tuple) else result * 1.01

    return wrong


class Unloadable:
    """A finder for which a package is there, and its library is not."""

    @staticmethod
    def exec_module(_: Any) -> None:
        raise OSError("libavutil.so.59: cannot open shared object file: No such file or directory")

    @staticmethod
    def create_module(_: Any) -> None:
        return None

    @classmethod
    def find_spec(cls, name: str, *_: Any) -> Any:
        machinery: Any = __import__("importlib.machinery").machinery
        return machinery.ModuleSpec(name, cls) if name == "torchcodec" else None


def in_child(name: str, statement: str) -> list[str]:
    """[on the whole torch, on the broken one]."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as answer:
            text = answer.read()
        os.waitpid(child, 0)
        return json.loads(text) if text else ["no answer"]
    names = {**globals(), **stand_ins()}
    outcomes = [outcome(name)]
    exec(statement, names)
    outcomes.append(outcome(name))
    os.write(writing, json.dumps(outcomes).encode())
    os._exit(0)


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)
    answers = {name: in_child(name, statement) for name, statement in json.loads(sys.argv[2]).items()}
    os.write(out, json.dumps(answers).encode())
