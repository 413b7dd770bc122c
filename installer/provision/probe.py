"""Does torch work in this very interpreter? Imports torch, runs kernels, prints one JSON object.

This file imports nothing of ours and nothing of ours imports it. `verify` passes its text on stdin to the target
interpreter (`python -I - ORDER`, an empty working directory). It must run on Python 3.8 and with any torch 2.x: the
targets are old.

Order (JSON, first argument): `{"checks": {NAME: LIMIT_SECONDS, …}, "done": ["NAME@DEVICE", …], "not_on_cpu": [NAME, …],
"scratch": FOLDER, "patience": FACTOR}`. Each check runs on every GPU that torch sees, or else on the CPU, where it is
not `done`. Without checks nothing is imported.

Answer (stdout): `{"torch": …, "torch_dir": …, "packages": …, "devices": […], "results": […], "warnings": […],
"complete": BOOL}`. A failed check ends the process (a GPU that took a fault answers nothing true afterwards), so
`complete` is false and `verify` starts a fresh process for the rest. Before each check its name goes to stderr, so that
a crash has a name; a check over its limit is ended by a watchdog thread, which needs no GIL.

What a check at the default depth needs of torch as a minimum (a check whose further needs are missing in the target is
skipped, and says so; a stand-in for torch must have at least these):

    torch.__version__                     torch.manual_seed(0)          tensor.to("cuda:0")   tensor @ tensor
    torch.version.cuda / .hip             torch.randn(rows, columns)    tensor.cpu()          tensor - tensor
    torch.cuda.is_available()             torch.cuda.device_count()     tensor.abs().max().item()
    torch.cuda.get_device_name(index)     torch.cuda.get_device_capability(index) -> (major, minor)
    torch.cuda.get_arch_list()            on the CPU also: torch.tensor(lists), tensor.t().tolist()
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import operator
import os
import shutil
import sys
import time
import traceback
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK = "\x1eprovision-check "

DROPPED = (
    "PYTHON", "TORCH", "PYTORCH_", "CUDA_LAUNCH_", "CUDA_MODULE_", "CUDA_FORCE_", "CUDA_DEVICE_", "CUDA_CACHE_DISABLE",
    "CUBLAS", "CUDNN_", "CUFFT", "NCCL_", "NVIDIA_TF32_", "TRITON_", "XFORMERS_", "BNB_", "FLASH_ATTENTION_",
    "OMP_SCHEDULE", "KMP_", "GOMP_", "MKL_", "HSA_OVERRIDE_", "MIOPEN_", "ROCBLAS_", "HIPBLASLT_",
)  # fmt: skip
"""Starts of the names of variables that change what torch computes or loads: the proof is of the environment as it is
installed. What selects GPUs and what tells the loader where libraries lie stays."""

KEPT = ("HSA_OVERRIDE_GFX_VERSION",)
"""Without it some AMD GPUs run nothing at all: their owners have set it for every program."""

PACKAGES = (
    "torchvision", "torchaudio", "torchcodec", "triton", "bitsandbytes", "xformers", "flash_attn", "numpy",
)  # fmt: skip
"""Packages that some check needs: the answer says which can be found (nothing is imported for that)."""


class Skip(Exception):
    """This check cannot run here; the argument says why."""


class Wrong(Exception):
    """The check ran and the answer is wrong: expected, actual."""


class Context:
    """What a check gets: torch, the device ("cuda:0", "cpu"), and the scaffolding of a comparison with the CPU."""

    def __init__(self, torch: Any, device: str) -> None:
        self.torch = torch
        self.device = device
        self.kind, _, index = device.partition(":")
        self.index = int(index or 0)

    def need(self, *names: str) -> None:
        """Skip unless torch has these dotted names."""
        for name in names:
            value = self.torch
            for part in name.split("."):
                if not hasattr(value, part):
                    raise Skip(f"this torch has no torch.{name}")
                value = getattr(value, part)

    def package(self, name: str) -> Any:
        """Import a package; skip where it is not installed."""
        if importlib.util.find_spec(name) is None:
            raise Skip(f"{name} is not installed")
        return importlib.import_module(name)

    def nvidia(self, least: tuple[int, int], what: str) -> None:
        """Skip unless this is an NVIDIA GPU of at least this compute capability."""
        if self.kind != "cuda" or getattr(self.torch.version, "hip", None):
            raise Skip(f"{what} is tried on NVIDIA GPUs only")
        if tuple(self.torch.cuda.get_device_capability(self.index)) < least:
            raise Skip(f"{what} needs compute capability {least[0]}.{least[1]} or later")

    def random(self, *shape: int) -> Any:
        """The same random numbers each time, on the CPU."""
        self.torch.manual_seed(0)
        return self.torch.randn(*shape)

    def same(self, what: str, actual: Any, wanted: Any, tolerance: float) -> tuple[str, str]:
        """Compare with the CPU: the largest error relative to the largest value. NaN is wrong, and so is all zero."""
        error = float((actual.cpu() - wanted).abs().max().item())
        scale = float(wanted.abs().max().item())
        relative = error / scale if scale else float("nan")
        expected, found = f"{what} right within {tolerance:.0e}", f"error {relative:.1e}"
        if not relative <= tolerance:
            raise Wrong(expected, found)
        return expected, found

    def equal(self, what: str, actual: Any, wanted: Any) -> tuple[str, str]:
        """For answers that are exact: indices, sorted values, copies."""
        expected = f"{what} exactly as on the CPU"
        if actual.cpu().tolist() != wanted.tolist():
            raise Wrong(expected, f"different: {str(actual.cpu().flatten()[:4].tolist())[:80]}")
        return expected, "equal"

    def double(self, module: Any, *inputs: Any) -> Any:
        """What a float32 module gives on the CPU in float64: the judge of every other device and type."""
        with self.torch.no_grad():
            result = module.cpu().double()(*(one.double() for one in inputs))
        module.float()
        return (result[0] if isinstance(result, tuple) else result).float()

    def module(self, what: str, module: Any, *inputs: Any) -> tuple[str, str]:
        """A module on the device against itself on the CPU in float64."""
        wanted = self.double(module, *inputs)
        with self.torch.no_grad():
            actual = module.to(self.device)(*(one.to(self.device) for one in inputs))
        return self.same(what, actual[0] if isinstance(actual, tuple) else actual, wanted, LAYER)


# Tolerances, relative to the largest value of the result. In a matmul the inputs are rounded to the tested type before
# both sides compute, so what remains is accumulation and the rounding of the result: a few units in the last place
# (2**-24 for fp32 times the square root of the number of terms; 2**-11 for fp16 and for the inputs of TF32, 2**-8 for
# bf16, 2**-4 for fp8 e4m3 as input), with a margin of about eight. Layers may use TF32 inside cuDNN: torch's default.
FP32, TF32, FP16, BF16, FP8, LAYER = 1e-5, 4e-3, 4e-3, 3e-2, 3e-2, 4e-3


def matmul(context: Context, dtype: str | None, tolerance: float) -> tuple[str, str]:
    torch = context.torch
    pair = context.random(64, 64), torch.randn(64, 64)
    if dtype is None:
        wanted = pair[0] @ pair[1] if context.kind != "cpu" else by_hand(torch, *pair)
        return context.same("matmul", pair[0].to(context.device) @ pair[1].to(context.device), wanted, tolerance)
    context.need(dtype, "float32")
    left, right = (one.to(getattr(torch, dtype)) for one in pair)
    actual = left.to(context.device) @ right.to(context.device)
    wanted = left.to(torch.float32) @ right.to(torch.float32)
    return context.same("matmul", actual.cpu().to(torch.float32), wanted, tolerance)


def by_hand(torch: Any, left: Any, right: Any) -> Any:
    """The product in plain Python: the CPU's own matmul needs a judge that is not torch."""
    rows, columns = left.tolist(), right.t().tolist()
    return torch.tensor([[sum(map(operator.mul, row, column)) for column in columns] for row in rows])


def matmul_fp32(context: Context) -> tuple[str, str]:
    return matmul(context, None, FP32)


def matmul_tf32(context: Context) -> tuple[str, str]:
    context.nvidia((8, 0), "TF32")
    context.need("backends.cuda.matmul.allow_tf32")
    context.torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return matmul(context, None, TF32)
    finally:
        context.torch.backends.cuda.matmul.allow_tf32 = False


def matmul_fp16(context: Context) -> tuple[str, str]:
    return matmul(context, "float16", FP16)


def matmul_bf16(context: Context) -> tuple[str, str]:
    return matmul(context, "bfloat16", BF16)


def matmul_fp8(context: Context) -> tuple[str, str]:
    context.nvidia((8, 9), "fp8")
    context.need("float8_e4m3fn", "_scaled_mm")
    torch = context.torch
    left, right = (one.to(torch.float8_e4m3fn) for one in (context.random(64, 64), torch.randn(64, 64)))
    wanted = left.to(torch.float32) @ right.to(torch.float32)
    one = torch.ones((), device=context.device)
    columns = right.t().contiguous().to(context.device).t()  # cuBLASLt wants the second factor by columns
    actual = torch._scaled_mm(left.to(context.device), columns, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    actual = actual[0] if isinstance(actual, tuple) else actual  # torch up to 2.4 also returns the largest value
    return context.same("fp8 matmul", actual.cpu().to(torch.float32), wanted, FP8)


def memory(context: Context) -> tuple[str, str]:
    """16 MiB to the device and back, with a copy on the device between."""
    context.need("arange", "int32", "equal")
    torch = context.torch
    there = torch.arange(4 << 20, dtype=torch.int32)
    back = there.to(context.device).clone().cpu()
    expected = "16 MiB to the device and back unchanged"
    if not torch.equal(there, back):
        raise Wrong(expected, "changed")
    return expected, "unchanged"


def conv2d(context: Context) -> tuple[str, str]:
    """A convolution (cuDNN on NVIDIA, MIOpen on AMD, oneDNN on the CPU)."""
    context.need("nn.Conv2d")
    inputs = context.random(2, 8, 32, 32)
    return context.module("conv2d", context.torch.nn.Conv2d(8, 16, 3, padding=1), inputs)


def recurrent(context: Context, kind: str) -> tuple[str, str]:
    context.need(f"nn.{kind}")
    inputs = context.random(12, 4, 16)
    module = getattr(context.torch.nn, kind)(16, 32, num_layers=2)
    if context.kind == "cuda":
        module.to(context.device).flatten_parameters()
    return context.module(kind, module, inputs)


def lstm(context: Context) -> tuple[str, str]:
    """flatten_parameters of an LSTM: where whisper pipelines die on a GPU that the build has no code for."""
    return recurrent(context, "LSTM")


def gru(context: Context) -> tuple[str, str]:
    return recurrent(context, "GRU")


def attention(context: Context) -> tuple[str, str]:
    """scaled_dot_product_attention, in the type for which the fast kernels exist."""
    context.need("nn.functional.scaled_dot_product_attention", "float16")
    torch = context.torch
    attend = torch.nn.functional.scaled_dot_product_attention
    kind = torch.float32 if context.kind == "cpu" else torch.float16
    shape = (2, 4, 64, 64)
    q, k, v = (one.to(kind) for one in (context.random(*shape), torch.randn(*shape), torch.randn(*shape)))
    scores = (q.double() @ k.double().transpose(-2, -1)) / 8.0
    wanted = (scores.softmax(-1) @ v.double()).float()
    actual = attend(q.to(context.device), k.to(context.device), v.to(context.device))
    return context.same("attention", actual.cpu().float(), wanted, FP16)


def fft(context: Context) -> tuple[str, str]:
    """A spectrum (cuFFT, MKL) against the same in float64, and the way back."""
    context.need("fft.rfft", "fft.irfft", "view_as_real")
    torch = context.torch
    signal = context.random(4, 1024)
    spectrum = torch.fft.rfft(signal.to(context.device))
    frequencies = (
        torch.arange(513).double().reshape(-1, 1) * torch.arange(1024).double() * (2 * 3.141592653589793 / 1024)
    )
    wanted = signal.double() @ frequencies.cos().t()  # the real part by its definition, without any FFT
    context.same("FFT", torch.view_as_real(spectrum)[..., 0], wanted.float(), 1e-4)
    return context.same("FFT and back", torch.fft.irfft(spectrum, n=1024), signal, 1e-4)


def sort(context: Context) -> tuple[str, str]:
    context.need("sort", "randperm", "arange")
    numbers = context.torch.randperm(100_000, generator=None)
    values, places = context.torch.sort(numbers.to(context.device))
    wanted = context.torch.arange(100_000)
    context.equal("sorted values", values, wanted)
    return context.equal("sorted places", numbers[places.cpu()], wanted)


def index(context: Context) -> tuple[str, str]:
    """Gather, scatter and boolean masks."""
    context.need("arange", "zeros", "int64")
    torch = context.torch
    rows = torch.arange(4096).reshape(512, 8)
    chosen = torch.arange(0, 512, 3)
    on_device = rows.to(context.device)
    context.equal(
        "gather", on_device[chosen.to(context.device)], torch.tensor([rows[i].tolist() for i in range(0, 512, 3)])
    )
    context.equal("mask", on_device[on_device % 7 == 0], torch.arange(0, 4096, 7))
    added = torch.zeros(16, dtype=torch.int64, device=context.device)
    added.index_add_(0, on_device.flatten() % 16, torch.ones_like(on_device.flatten()))
    return context.equal("index", added, torch.tensor([256] * 16))


def embedding(context: Context) -> tuple[str, str]:
    context.need("nn.functional.embedding", "arange")
    torch = context.torch
    table = torch.arange(4000.0).reshape(1000, 4)
    rows = torch.tensor([[0, 999, 7], [500, 3, 3]])
    wanted = torch.tensor([[[row * 4.0 + column for column in range(4)] for row in line] for line in rows.tolist()])
    return context.equal(
        "embedding", torch.nn.functional.embedding(rows.to(context.device), table.to(context.device)), wanted
    )


def autograd(context: Context) -> tuple[str, str]:
    """A gradient whose value is known, then training steps that must lower the loss."""
    context.need("nn.Linear", "optim.SGD", "nn.functional.mse_loss")
    torch = context.torch
    x = context.random(32, 8)
    weight = torch.ones(8, 1, device=context.device, requires_grad=True)
    (x.to(context.device) @ weight).pow(2).sum().backward()
    wanted = 2 * (x.double().t() @ (x.double() @ torch.ones(8, 1).double())).float()
    context.same("gradient", weight.grad, wanted, LAYER)
    inputs, targets = x.to(context.device), x.sum(1, keepdim=True).to(context.device)
    model = torch.nn.Linear(8, 1).to(context.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.item()))
    expected, found = "20 steps of SGD lower the loss", f"{losses[0]:.3f} to {losses[-1]:.3f}"
    if not losses[-1] < 0.5 * losses[0]:
        raise Wrong(expected, found)
    return expected, found


def linalg(context: Context) -> tuple[str, str]:
    """Solve, least squares, eigenvalues: cuSOLVER and MAGMA, a library of its own with gaps of its own."""
    context.need("linalg.solve", "linalg.eigvalsh", "eye")
    torch = context.torch
    matrix = context.random(32, 32)
    matrix = matrix @ matrix.t() + 32 * torch.eye(32)
    x = torch.randn(32, 4)
    solved = torch.linalg.solve(matrix.to(context.device), (matrix @ x).to(context.device))
    context.same("solve", solved, x, 1e-3)
    values = torch.linalg.eigvalsh(matrix.to(context.device)).cpu()
    return context.same("eigenvalues (their sum is the trace)", values.sum(), matrix.trace(), 1e-4)


def compiled(context: Context) -> tuple[str, str]:
    """torch.compile of a fused expression: triton on a GPU, C++ on the CPU. Both need a C compiler."""
    context.need("compile")
    if context.kind == "cuda" and importlib.util.find_spec("triton") is None:
        raise Skip("triton is not installed")
    compilers = [os.environ.get("CXX"), os.environ.get("CC"), "g++", "gcc", "clang", "cc", "cl"]
    if not any(shutil.which(one) for one in compilers if one):
        raise Skip("torch.compile needs a C compiler, and none is on PATH")
    torch = context.torch
    x = context.random(64, 64)

    def formula(one: Any) -> Any:
        return (one.sin() * 2.0 + one.relu()).sum(dim=1)

    actual = torch.compile(formula)(x.to(context.device))
    return context.same("compiled code", actual, formula(x.double()).float(), 1e-4)


def nms(context: Context) -> tuple[str, str]:
    """torchvision's own operator: missing where it was built for another torch."""
    torchvision = context.package("torchvision")
    torch = context.torch
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept = torchvision.ops.nms(boxes.to(context.device), scores.to(context.device), 0.5)
    return context.equal("torchvision nms", kept, torch.tensor([0, 2]))


def audio(context: Context) -> tuple[str, str]:
    """A resampling with torchaudio: the length doubles."""
    torchaudio = context.package("torchaudio")
    wave = context.random(1, 800).to(context.device)
    length = int(torchaudio.functional.resample(wave, 8000, 16000).shape[-1])
    if length != 1600:
        raise Wrong("1600 samples", f"{length} samples")
    return "resampling with torchaudio", str(torchaudio.__version__)


def codec(context: Context) -> tuple[str, str]:
    """torchcodec loads its FFmpeg libraries when it is imported."""
    torchcodec = context.package("torchcodec")
    return "import of torchcodec", str(getattr(torchcodec, "__version__", "imported"))


def numpy_bridge(context: Context) -> tuple[str, str]:
    """Tensor to array and back: broken where torch was compiled for the other numpy."""
    numpy = context.package("numpy")
    context.need("from_numpy")
    array = context.torch.arange(6).reshape(2, 3).to(context.device).cpu().numpy()
    return context.equal(
        f"numpy {numpy.__version__}", context.torch.from_numpy(array + 1), context.torch.arange(1, 7).reshape(2, 3)
    )


def bitsandbytes(context: Context) -> tuple[str, str]:
    """Quantize to 4 bits and back: within half of the coarsest NF4 step of the largest value of each block."""
    package = context.package("bitsandbytes")
    functional = importlib.import_module("bitsandbytes.functional")
    torch = context.torch
    wanted = context.random(64, 64)
    packed, state = functional.quantize_4bit(wanted.to(context.device).to(torch.float16), quant_type="nf4")
    back = functional.dequantize_4bit(packed, state).float()
    context.same("4-bit there and back", back, wanted, 0.16)
    layer = package.nn.Linear4bit(64, 32, bias=False, compute_dtype=torch.float16, quant_type="nf4").to(context.device)
    result = layer(wanted.to(context.device).to(torch.float16))
    if not bool(torch.isfinite(result).all().item()):
        raise Wrong("a finite 4-bit matmul", "NaN or infinity")
    return "a 4-bit matmul", f"bitsandbytes {package.__version__}"


def attend_with(context: Context, attend: Callable[[Any, Any, Any], Any], what: str) -> tuple[str, str]:
    """An attention in the layout (batch, sequence, heads, dimension) against plain float64."""
    torch = context.torch
    shape = (2, 128, 4, 64)
    q, k, v = (one.to(torch.float16) for one in (context.random(*shape), torch.randn(*shape), torch.randn(*shape)))
    rows = [one.double().transpose(1, 2) for one in (q, k, v)]
    wanted = ((rows[0] @ rows[1].transpose(-2, -1)) / 8.0).softmax(-1) @ rows[2]
    actual = attend(q.to(context.device), k.to(context.device), v.to(context.device))
    return context.same(what, actual.cpu().float(), wanted.transpose(1, 2).float(), FP16)


def xformers(context: Context) -> tuple[str, str]:
    context.package("xformers")
    return attend_with(
        context, importlib.import_module("xformers.ops").memory_efficient_attention, "xformers attention"
    )


def flash_attn(context: Context) -> tuple[str, str]:
    context.nvidia((8, 0), "flash-attn")
    return attend_with(context, context.package("flash_attn").flash_attn_func, "flash-attn")


def nccl(context: Context) -> tuple[str, str]:
    """An all-reduce over every GPU, once (from the first)."""
    torch = context.torch
    count = torch.cuda.device_count() if context.kind == "cuda" else 0
    if count < 2:
        raise Skip("needs more than one GPU")
    if context.index != 0:
        raise Skip("runs once, from the first GPU")
    context.need("cuda.nccl.all_reduce", "ones")
    shares = [torch.ones(1024, device=f"cuda:{number}") * (number + 1) for number in range(count)]
    torch.cuda.nccl.all_reduce(shares)
    wanted = torch.ones(1024) * (count * (count + 1) // 2)
    for share in shares:
        context.equal("all-reduce", share, wanted)
    return f"all-reduce over {count} GPUs", "equal on all"


CHECKS: dict[str, Callable[[Context], tuple[str, str]]] = {
    "matmul-fp32": matmul_fp32,
    "memory": memory,
    "matmul-tf32": matmul_tf32,
    "matmul-fp16": matmul_fp16,
    "matmul-bf16": matmul_bf16,
    "matmul-fp8": matmul_fp8,
    "conv2d": conv2d,
    "lstm": lstm,
    "gru": gru,
    "attention": attention,
    "fft": fft,
    "sort": sort,
    "index": index,
    "embedding": embedding,
    "autograd": autograd,
    "linalg": linalg,
    "numpy": numpy_bridge,
    "torchvision-nms": nms,
    "torchaudio": audio,
    "torchcodec": codec,
    "compile": compiled,
    "nccl": nccl,
    "bitsandbytes-4bit": bitsandbytes,
    "xformers-attention": xformers,
    "flash-attn": flash_attn,
}


def devices_of(torch: Any) -> list[dict[str, Any]]:
    """Every GPU that torch can use, else the CPU."""
    found: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties: Any = None
            if hasattr(torch.cuda, "get_device_properties"):
                properties = torch.cuda.get_device_properties(number)
            found.append(
                {
                    "device": f"cuda:{number}",
                    "name": str(torch.cuda.get_device_name(number)),
                    "capability": ".".join(str(part) for part in torch.cuda.get_device_capability(number)),
                    "arch": getattr(properties, "gcnArchName", None) if torch.version.hip else None,
                    "uuid": str(properties.uuid) if hasattr(properties, "uuid") else None,
                }
            )
    elif hasattr(torch, "xpu") and torch.xpu.is_available():
        found = [
            {"device": f"xpu:{number}", "name": str(torch.xpu.get_device_name(number))}
            for number in range(torch.xpu.device_count())
        ]
    elif hasattr(torch, "backends") and hasattr(torch.backends, "mps") and torch.backends.mps.is_available():
        found = [{"device": "mps:0", "name": "Apple GPU"}]
    return found or [{"device": "cpu", "name": "CPU"}]


def torch_facts(torch: Any) -> dict[str, Any]:
    """What this torch says of itself."""
    version = getattr(torch, "version", None)
    archs = list(torch.cuda.get_arch_list())
    if not archs and hasattr(getattr(torch, "_C", None), "_cuda_getArchFlags"):
        archs = (torch._C._cuda_getArchFlags() or "").split()  # get_arch_list() is empty where no GPU answers
    facts: dict[str, Any] = {
        "version": str(torch.__version__),
        "cuda": getattr(version, "cuda", None),
        "hip": getattr(version, "hip", None),
        "xpu": getattr(version, "xpu", None),
        "arch_list": archs,
        "available": bool(torch.cuda.is_available()),
        "unavailable_because": None,
    }
    if not facts["available"] and (facts["cuda"] or facts["hip"]) and hasattr(torch.cuda, "init"):
        try:
            torch.cuda.init()
        except Exception as error:  # noqa: BLE001 - whatever torch raises here is the reason that we want
            facts["unavailable_because"] = first_line(error)
    return facts


def first_line(error: BaseException) -> str:
    """`RuntimeError: CUDA error: no kernel image is available…`, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def last_place(error: BaseException) -> str | None:
    """The innermost file and line of a traceback, for the detail."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def step(name: str, device: str, limit: float, action: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Run something under its watchdog: its result, and what it returned (None unless it passed)."""
    os.write(2, f"{MARK}{name}@{device}\n".encode())
    result: dict[str, Any] = {"name": name, "device": device, "status": "passed"}
    value = None
    start = time.perf_counter()
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        value = action()
    except Skip as skip:
        result.update(status="skipped", detail=str(skip))
    except Wrong as wrong:
        result.update(status="failed", expected=wrong.args[0], actual=wrong.args[1])
    except Exception as error:  # noqa: BLE001 - whatever torch raises is the answer
        unsupported = not device.startswith("cuda") and "implemented for" in str(error)
        result.update(status="skipped" if unsupported else "failed", actual=first_line(error), detail=last_place(error))
        if unsupported:
            result["detail"] = "this torch cannot do that on this device"
    finally:
        faulthandler.cancel_dump_traceback_later()
    result["seconds"] = round(time.perf_counter() - start, 3)
    return result, value


def clean_environment(scratch: str | None) -> None:
    """Drop what would change torch, put its caches aside, and number GPUs as NVML does."""
    for name in list(os.environ):
        if name.startswith(DROPPED) and name not in KEPT:
            del os.environ[name]
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if scratch:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(scratch, "inductor")
        os.environ["TRITON_CACHE_DIR"] = os.path.join(scratch, "triton")
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of processes for one small function


def probe(order: dict[str, Any]) -> dict[str, Any]:
    """The whole answer to an order."""
    clean_environment(order.get("scratch"))
    answer: dict[str, Any] = {
        "torch": None,
        "torch_dir": None,
        "packages": [name for name in PACKAGES if importlib.util.find_spec(name) is not None],
        "devices": [],
        "results": [],
        "warnings": [],
        "complete": True,
    }
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        answer["torch_dir"] = next(iter(spec.submodule_search_locations))
    checks = order.get("checks", {})
    if not checks:
        return answer
    patience = float(order.get("patience", 1))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        imported, torch = step("import", "cpu", 300 * patience, lambda: importlib.import_module("torch"))
        answer["results"].append(imported)
        if torch is None:
            return answer
        imported["actual"] = str(getattr(torch, "__version__", None))
        asked, found = step("devices", "cpu", 120 * patience, lambda: (torch_facts(torch), devices_of(torch)))
        if found is None:
            answer["results"].append(asked)
            return answer
        answer["torch"], answer["devices"] = found
    answer["warnings"] = sorted({str(warning.message) for warning in heard})
    done = set(order.get("done", ()))
    for device in (one["device"] for one in answer["devices"]):
        for name, limit in checks.items():
            if f"{name}@{device}" in done or (device == "cpu" and name in order.get("not_on_cpu", ())):
                continue
            context = Context(torch, device)
            result, value = step(name, device, float(limit), lambda: CHECKS[name](context))  # noqa: B023 - called now
            if value is not None:
                result["expected"], result["actual"] = value
            answer["results"].append(result)
            if result["status"] == "failed":
                answer["complete"] = False
                return answer
    return answer


def main() -> None:
    order = json.loads(sys.argv[1])
    out = os.dup(1)
    os.dup2(2, 1)  # whatever torch prints goes to stderr; stdout is ours
    with os.fdopen(out, "w", encoding="utf-8") as answer:
        answer.write(json.dumps(probe(order)) + "\n")
    os._exit(0)  # a crash while CUDA libraries unload is no failure of a check


if __name__ == "__main__":
    main()
