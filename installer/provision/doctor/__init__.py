"""What is wrong with this environment on this machine? A case goes in, findings come out, the likeliest cause first.

When a finding holds is decided by a rule, a function of the case; what it means and what to do about it is a row: of
`data/failures.toml` where an error text can say the same (the code with `-` for `_`), else of `data/findings.toml`.
Situations of the machine alone are in `situations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from ..checks import Finding, Severity
from ..errors import BadData
from ..symptoms import Meaning, explain_log, meanings, parse_meaning
from ..values import frozen, replace
from . import around_rules as around
from . import package_rules as packages
from . import torch_rules as torch
from .case import Case, Shadow, Surroundings

__all__ = ["RULES", "Case", "Mending", "Shadow", "Surroundings", "diagnose", "explain_log", "meaning", "mending"]

TABLE = Path(__file__).parent.parent / "data" / "findings.toml"

RULES: Mapping[str, Callable[[Case], str | None]] = {
    "unfinished-change": around.unfinished,
    "half-removed": packages.half_removed,
    "duplicate-install": packages.duplicate,
    "missing-files": packages.missing_files,
    "broken-metadata": packages.broken_metadata,
    "python-abi-mismatch": packages.python_abi,
    "mixed-managers": packages.mixed_managers,
    "torch-missing": torch.missing,
    "cpu-torch": torch.cpu_build,
    "no-kernel-image-new-gpu": torch.no_code_new,
    "no-kernel-image-old-gpu": torch.no_code_old,
    "driver-too-old": torch.driver_too_old,
    "fatbin-compression": torch.compressed,
    "ptx-toolchain": torch.needs_newer_driver,
    "windows-dll": around.missing_runtime,
    "torchvision-mismatch": packages.torchvision,
    "torchaudio-mismatch": packages.torchaudio,
    "xformers-mismatch": packages.xformers,
    "flash-attn-abi": packages.flash_attn,
    "vllm-abi": packages.vllm,
    "bitsandbytes": packages.bitsandbytes,
    "numpy2-abi": packages.numpy2,
    "requirement-broken": packages.requirement,
    "two-cuda-majors": packages.two_cuda_majors,
    "cuda-stub-library": around.stub_library,
    "library-path-shadows": around.shadowed_libraries,
    "pythonpath-shadows": around.python_path,
    "user-site-shadows": around.user_site,
    "wrong-index": around.wrong_index,
    "hold-broken": around.hold_broken,
    "lock-drift": around.drift,
    "no-space": around.little_space,
    "shm": around.shared_memory,
    "false-arch-warning": torch.false_warning,
    "gpu-unseen": torch.unseen,
    "torch-import-fails": torch.failed_import,
    "check-failed": torch.failed_check,
}
"""When each finding holds, causes before what follows from them."""

MILDER = {"no-space": Severity.WARNING, "shm": Severity.WARNING}
"""Where what may happen is less than what has happened: a small /dev/shm breaks nothing by itself."""

HARMLESS_WHEN_PROVEN = ("library-path-shadows", "two-cuda-majors")
"""What may break torch and has not, as a proof on the GPU shows."""

CONSEQUENCES = ("gpu-unseen", "torch-import-fails", "check-failed")
"""Told only where no error explains them."""


def diagnose(case: Case) -> tuple[Finding, ...]:
    """Every finding that holds, errors first, in the order of `RULES`. Pure."""
    found: dict[str, Finding] = {}
    proven = torch.proven(case)
    for code, rule in RULES.items():
        explained = any(one.severity is Severity.ERROR for one in found.values())
        if code in CONSEQUENCES and explained:
            continue
        if code.startswith("no-kernel") and proven:
            continue
        evidence = rule(case)
        if evidence is None:
            continue
        if code in CONSEQUENCES:
            from_words = _from_words(case)
            if from_words:
                found |= from_words
                continue
        finding = _finding(code, evidence)
        milder = proven and code in HARMLESS_WHEN_PROVEN
        found[code] = replace(finding, severity=Severity.HINT) if milder else finding
    order = list(Severity)
    return tuple(sorted(found.values(), key=lambda one: order.index(one.severity)))


@frozen
class Mending:
    """What a fix has to do besides choosing a build: distributions to put in `again`, and those that `go`."""

    again: frozenset[str] = frozenset()
    go: frozenset[str] = frozenset()


def mending(case: Case) -> Mending:
    """What has to be mended of a case."""
    return Mending(again=packages.to_put_in_again(case), go=packages.to_remove(case))


def _from_words(case: Case) -> dict[str, Finding]:
    """What the words of the failed checks mean."""
    words = "\n".join(f"{check.actual or ''}\n{check.detail or ''}" for check in case.failed())
    return {one.code.replace("_", "-"): replace(one, code=one.code.replace("_", "-")) for one in explain_log(words)}


def _finding(code: str, evidence: str) -> Finding:
    found = replace(meaning(code).finding(evidence), code=code)
    return replace(found, severity=MILDER.get(code, found.severity))


def meaning(code: str) -> Meaning:
    """The row of a code, in either spelling. Raises KeyError."""
    own = _own()
    return own[code] if code in own else meanings()[code.replace("-", "_")]


@cache
def _own() -> Mapping[str, Meaning]:
    import tomllib

    try:
        data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
        return {code: parse_meaning(code, row) for code, row in data.items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise BadData(f"{TABLE.name} cannot be read: {error!r}", hint="install torch-provision again") from error
