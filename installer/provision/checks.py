"""What was proven, and what was found wrong. Values only."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from .values import frozen


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Depth(StrEnum):
    """How much is proven: one matmul, the whole battery, or the battery with what takes minutes."""

    QUICK = "quick"
    DEFAULT = "default"
    FULL = "full"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@frozen
class Check:
    """One thing that was tried. A skipped check says in `detail` what could not be checked and why."""

    name: str
    status: Status
    gpu: int | None = None
    expected: str | None = None
    actual: str | None = None
    detail: str | None = None
    seconds: float | None = None


@frozen
class Torch:
    """What torch says of itself in the target interpreter."""

    version: str | None = None
    backend: str | None = None
    cuda: str | None = None
    arch_list: tuple[str, ...] = ()


@frozen
class Verification:
    """The proof: every check, in the order in which they ran."""

    torch: Torch
    checks: tuple[Check, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """No check failed, and at least one passed (a proof of nothing is no proof)."""
        return not self.failed and any(check.status is Status.PASSED for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status is Status.FAILED)

    def to_json(self) -> dict[str, Any]:
        """The `data` of `verify --json`."""
        return {
            "torch": {
                "version": self.torch.version,
                "backend": self.torch.backend,
                "cuda": self.torch.cuda,
                "arch_list": list(self.torch.arch_list),
            },
            "checks": [
                {
                    "name": check.name,
                    "gpu": check.gpu,
                    "status": check.status.value,
                    "expected": check.expected,
                    "actual": check.actual,
                    "detail": check.detail,
                    "seconds": check.seconds,
                }
                for check in self.checks
            ],
            "seconds": round(self.seconds, 3),
        }


@frozen
class Finding:
    """Something that is wrong: its evidence, its cause, the remedy in words, and as argument lists to run (or None)."""

    code: str
    severity: Severity
    title: str
    evidence: str
    cause: str
    fix: tuple[tuple[str, ...], ...] | None = None
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        """`findings[]` of `doctor --json`."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "title": self.title,
            "evidence": self.evidence,
            "cause": self.cause,
            "remedy": self.remedy,
            "fix": [list(argv) for argv in self.fix] if self.fix is not None else None,
        }
