"""Does torch really work here? Runs `probe.py` in the target interpreter, reads the binaries, and judges.

`verify` asks (through the host), `parse_answer` reads, `judge` (next room) decides. The proof is isolated from what
surrounds it: `-I`, an empty working directory, an environment without what would change torch (`probe.DROPPED`). Each
check has its own time limit; one that crashes, hangs or fails ends its process, and the rest goes on in a fresh one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import Depth, Verification
from .errors import BadData, UsageProblem
from .judge import BATTERY, Answer, Expected, Promise, chosen, judge, merge, on_cpu, torch_of
from .machine import Machine
from .values import replace

if TYPE_CHECKING:
    from .fatbin import Library
    from .host import Completed, Host

__all__ = ["Expected", "deciding_libraries", "parse_answer", "verify"]

SELECTORS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

MARK = "\x1eprovision-check "
_STEP_LIMITS = 300 + 120
"""The probe's own limits for import and for asking the devices."""


def verify(
    host: Host,
    *,
    python: Path,
    machine: Machine,
    expected: Expected | None = None,
    depth: Depth = Depth.DEFAULT,
    extra_checks: Sequence[str] = (),
) -> Verification:
    """Prove the torch of the interpreter `python` on the GPUs of `machine` (those that count).

    `expected` is what plan or lock promised; `extra_checks` are names of `BATTERY` that run whatever the depth, and
    fail where their package is missing. `PROVISION_PATIENCE=3` in the environment makes every time limit three times as
    long. Never raises for what torch does: that is what the checks say. Raises BadData for the name of a check that
    does not exist.
    """
    start = time.monotonic()
    unknown = sorted(set(extra_checks) - set(BATTERY))
    if unknown:
        raise BadData(
            f"there is no check called {', '.join(unknown)}",
            code="unknown-check",
            hint=f"the checks are {', '.join(BATTERY)}",
        )
    trials = chosen(depth, extra_checks)
    answer = _ask(host, python, trials, depth)
    promise = Promise(
        machine=machine,
        expected=expected or Expected(),
        trials=trials,
        required=frozenset(extra_checks),
        libraries=deciding_libraries(answer.torch_dir) if machine.gpus else {},
        hidden_by=next((name for name in SELECTORS if host.getenv(name) in ("", "-1")), None),
    )
    return Verification(torch=torch_of(answer), checks=judge(answer, promise), seconds=time.monotonic() - start)


class _Process:
    """The way to the target interpreter: its program, its empty working directory, the folder for torch's caches."""

    def __init__(self, host: Host, python: Path, scratch: Path) -> None:
        self.host = host
        self.python = python
        self.program = (Path(__file__).parent / "probe.py").read_text(encoding="utf-8")
        self.patience = _patience(host.getenv("PROVISION_PATIENCE"))
        self.scratch = scratch
        self.empty = scratch / "empty"
        self.empty.mkdir()

    def answer(self, order: Mapping[str, Any], timeout: float) -> Answer:
        """One process: an order, an answer."""
        order = {**order, "scratch": str(self.scratch), "patience": self.patience}
        argv = [str(self.python), "-I", "-B", "-", json.dumps(order)]
        try:
            return parse_answer(self.host.run(argv, input=self.program, cwd=str(self.empty), timeout=timeout))
        except OSError as error:
            actual = f"{self.python}: {error.strerror}"
            return Answer(results=({"name": "import", "device": "cpu", "status": "failed", "actual": actual},))

    def until_done(self, whole: Answer, names: Sequence[str], not_on_cpu: Sequence[str]) -> Answer:
        """Run these checks, with a fresh process after each failure."""
        checks = {name: BATTERY[name].limit * self.patience for name in names}
        while True:
            order = {"checks": checks, "done": sorted(_done(whole, checks)), "not_on_cpu": not_on_cpu}
            timeout = _STEP_LIMITS * self.patience + sum(checks.values()) * max(1, len(whole.devices)) + 30
            part = self.answer(order, timeout)
            before = len(whole.results)
            whole = merge(whole, part)
            if part.complete or whole.stopped or len(whole.results) == before:
                return whole


def _patience(text: str | None) -> float:
    """The factor for every time limit, 1 unless the environment says otherwise. Raises UsageProblem for no number."""
    try:
        factor = float(text or 1)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise UsageProblem(f"PROVISION_PATIENCE is {text!r}, not a number above 0", hint="PROVISION_PATIENCE=3, say")
    return factor


def _ask(host: Host, python: Path, trials: Sequence[str], depth: Depth) -> Answer:
    """Everything that the probe has to say: the common process first, then one for each package that is there."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="provision-verify-", ignore_cleanup_errors=True) as scratch:
        not_on_cpu = [name for name in trials if not on_cpu(name, depth)]
        process = _Process(host, python, Path(scratch))
        whole = process.until_done(Answer(), [name for name in trials if BATTERY[name].package is None], not_on_cpu)
        if whole.torch_dir is None:  # after a crash: where torch lies, asked without importing it
            where = process.answer({}, timeout=60)
            whole = replace(whole, torch_dir=where.torch_dir, packages=where.packages)
        for name in trials:
            if BATTERY[name].package in whole.packages and not whole.stopped:
                whole = process.until_done(whole, [name], not_on_cpu)
    return whole


def _done(whole: Answer, checks: Iterable[str]) -> set[str]:
    """What is not to run again: what has a result, and everything on a device whose first matmul failed."""
    done = {f"{result['name']}@{result['device']}" for result in whole.results}
    for device in whole.broken_devices:
        done |= {f"{name}@{device}" for name in checks}
    return done


def parse_answer(completed: Completed) -> Answer:
    """The probe's JSON; where the process ended without one, the check during which it did, as failed."""
    try:
        data = json.loads(completed.stdout)
    except ValueError:
        return Answer(results=(_ended_in(completed),), complete=False)
    return Answer(
        torch=data["torch"],
        torch_dir=data["torch_dir"],
        packages=frozenset(data["packages"]),
        devices=tuple(data["devices"]),
        results=tuple(data["results"]),
        warnings=tuple(data["warnings"]),
        complete=data["complete"],
    )


def _ended_in(completed: Completed) -> dict[str, Any]:
    """Name the check during which a process died, and how."""
    said, _, _ = completed.stderr.rpartition(MARK)
    name, _, device = completed.stderr[len(said) + len(MARK) :].partition("\n")[0].partition("@")
    if MARK not in completed.stderr:
        name, device = "import", "cpu"
    limit = re.search(r"^Timeout \((\d+:\d+:\d+)[^)]*\)!", completed.stderr, re.M)
    if completed.timed_out or limit:
        actual = f"no answer within {limit[1] if limit else 'the time limit'}"
    elif completed.returncode < 0:
        actual = f"the process was ended by {_signal(-completed.returncode)}"
    else:
        code = completed.returncode
        actual = f"the process ended with code {code if code < 256 else hex(code)}"
    tail = [line for line in completed.stderr.splitlines() if line.strip() and not line.startswith(MARK)]
    detail = "\n".join(tail[-4:]) or None
    return {"name": name, "device": device, "status": "failed", "actual": actual, "detail": detail}


def _signal(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def deciding_libraries(torch_dir: str | None) -> dict[str, Library]:
    """What the deciding libraries of a torch hold: `libtorch_cuda.so`, `torch_cuda.dll` (and older parts of it)."""
    if torch_dir is None:
        return {}
    from .fatbin import scan_file

    found = {}
    for path in sorted((Path(torch_dir) / "lib").glob("*torch_cuda*")):
        if re.fullmatch(r"(lib)?torch_cuda(_cu|_cpp)?\.(so|dll)", path.name):
            try:
                found[path.name] = scan_file(path)
            except OSError:
                continue
    return found
