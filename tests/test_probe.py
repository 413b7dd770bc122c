"""Can each check fail? Every check of the probe, on a real torch that was broken for it (marked `registry`)."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
from provision import judge, probe, verify
from real_torch import real_torch

HERE = Path(__file__).parent
PROBE = Path(probe.__file__)

BROKEN = {
    "matmul-fp32": "torch.Tensor.__matmul__ = lambda a, b: torch.matmul(a, b) * 1.001",
    "memory": "torch.Tensor.clone = lambda a: torch.cat([a[:-1], a[-1:] + 1])",
    "matmul-tf32": "torch.Tensor.__matmul__ = lambda a, b: torch.matmul(a, b) * 1.01",
    "matmul-fp16": "torch.Tensor.__matmul__ = only(torch.float16, torch.matmul, 1.01)",
    "matmul-bf16": "torch.Tensor.__matmul__ = only(torch.bfloat16, torch.matmul, float('nan'))",
    "matmul-fp8": "torch._scaled_mm = lambda a, b, **_: scaled_mm(a, b) * 1.1",
    "conv2d": "torch.nn.Conv2d.forward = off(torch.nn.Conv2d.forward)",
    "lstm": "torch.nn.LSTM.forward = off(torch.nn.LSTM.forward)",
    "gru": "torch.nn.GRU.forward = off(torch.nn.GRU.forward)",
    "attention": "torch.nn.functional.scaled_dot_product_attention = lambda q, k, v: v",
    "fft": "right = torch.fft.rfft; torch.fft.rfft = lambda a: right(a) * 1.01",
    "sort": "torch.sort = lambda a: (torch.arange(a.numel()), torch.arange(a.numel()))",
    "index": "torch.Tensor.index_add_ = lambda a, *_: a",
    "embedding": "torch.nn.functional.embedding = lambda rows, table: table[rows] + 1",
    "autograd": "torch.optim.SGD.step = lambda *_: None",
    "linalg": "torch.linalg.solve = lambda a, b: b",
    "numpy": "torch.from_numpy = lambda a: torch.zeros(2, 3, dtype=torch.int64)",
    "compile": "torch.compile = lambda f: lambda x: f(x) * 1.01",
    "nccl": "torch.cuda.nccl.all_reduce = lambda shares: None",
    "torchvision-nms": "vision.nms = lambda *_: torch.tensor([0, 1, 2])",
    "torchaudio": "audio.resample = lambda wave, *_: wave",
    "torchcodec": "del sys.modules['torchcodec']; sys.meta_path.insert(0, Unloadable)",
    "bitsandbytes-4bit": "bits.dequantize_4bit = lambda packed, scale: packed * 0",
    "xformers-attention": "xformers.memory_efficient_attention = lambda q, k, v: v",
    "flash-attn": "flash.flash_attn_func = lambda q, k, v: v",
}
"""For each check, what is done to torch (or to a package that stands in where the real one needs a GPU)."""


def test_the_battery_and_the_probe_know_the_same_checks() -> None:
    assert set(probe.CHECKS) == set(judge.BATTERY)
    assert set(BROKEN) == set(probe.CHECKS)


def test_each_package_of_the_battery_is_looked_for() -> None:
    assert {trial.package for trial in judge.BATTERY.values()} - {None} <= set(probe.PACKAGES)


def test_the_mark_on_stderr_is_the_one_that_verify_reads() -> None:
    assert probe.MARK == verify.MARK


def test_the_probe_stands_alone_and_runs_on_python_3_8() -> None:
    """Only the standard library, and no syntax newer than 3.8."""
    tree = ast.parse(PROBE.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported <= {
        *("__future__", "collections", "faulthandler", "importlib", "json", "operator", "os", "shutil", "sys", "time"),
        *("traceback", "typing", "warnings"),
    }


def test_nothing_of_ours_imports_the_probe() -> None:
    for path in PROBE.parent.rglob("*.py"):
        assert "import probe" not in path.read_text(encoding="utf-8"), path


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """Every check on a real torch: whole, and broken for it. One process with a child for each check."""
    if not hasattr(os, "fork"):
        pytest.skip("a child for each check needs fork: Linux or macOS")
    completed = subprocess.run(
        [str(real_torch(request.config)), "-I", str(HERE / "probe" / "break_torch.py"), str(PROBE), json.dumps(BROKEN)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert completed.returncode == 0, completed.stderr
    answer: dict[str, list[str]] = json.loads(completed.stdout)
    return answer


@pytest.mark.registry
@pytest.mark.parametrize("name", BROKEN)
def test_a_check_passes_on_a_whole_torch_and_fails_on_one_broken_for_it(
    name: str, outcomes: dict[str, list[str]]
) -> None:
    whole, broken = outcomes[name]
    assert whole == "passed"
    assert broken.startswith("failed"), broken
