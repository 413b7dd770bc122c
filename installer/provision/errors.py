"""What can go wrong, and which exit code says so.

One small tree. Every error carries a kebab-case `code` (the same word in JSON, in `provision explain` and on the
screen), a `text` (what was tried, what was found) and a `hint` (what to do next). Exit codes: contracts, section 3.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """The process exit codes that scripts rely on."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    NO_BUILD = 3
    TARGET = 4
    INSTALL = 5
    VERIFICATION = 6
    AFTER_COMMIT = 7
    MISMATCH = 8
    BAD_DATA = 9
    CHANGES_PENDING = 10
    INTERRUPTED = 130


class ProvisionError(Exception):
    """An error that the person at the terminal can act on. `data` is the `data` of the JSON result, if any."""

    exit_code: ClassVar[ExitCode] = ExitCode.FINDINGS
    default_code: ClassVar[str] = "error"

    def __init__(
        self, text: str, *, code: str | None = None, hint: str | None = None, data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        self.code = code or self.default_code
        self.hint = hint
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """`errors[]` of the JSON envelope."""
        return {"code": self.code, "text": self.text, "hint": self.hint}


class UsageProblem(ProvisionError):
    """The command line asks for something that makes no sense."""

    exit_code = ExitCode.USAGE
    default_code = "usage"


class NoBuildFits(ProvisionError):
    """No published build can run on this machine; `data` is the whole plan with every reason."""

    exit_code = ExitCode.NO_BUILD
    default_code = "no-build-fits"


class TargetUnusable(ProvisionError):
    """The environment cannot be used (not ours, read-only, in use, locked, changed meanwhile); it is as it was."""

    exit_code = ExitCode.TARGET
    default_code = "target-unusable"


class InstallFailed(ProvisionError):
    """A step of the installation failed (`network`, `integrity`, `no-space`, `permission`, …); nothing changed."""

    exit_code = ExitCode.INSTALL
    default_code = "install-failed"


class VerificationFailed(ProvisionError):
    """The new environment did not pass its proof; the old one is as it was."""

    exit_code = ExitCode.VERIFICATION
    default_code = "verification-failed"


class AfterCommitFailed(ProvisionError):
    """The new environment is in place, but a step after the commit failed."""

    exit_code = ExitCode.AFTER_COMMIT
    default_code = "after-commit"


class Mismatch(ProvisionError):
    """Environment or machine differs from its lock."""

    exit_code = ExitCode.MISMATCH
    default_code = "lock-mismatch"


class BadData(ProvisionError):
    """A data table, profile, machine file, plan or lock cannot be read as what it claims to be."""

    exit_code = ExitCode.BAD_DATA
    default_code = "bad-data"


class Interrupted(ProvisionError):
    """Ctrl-C, answered with the old environment intact."""

    exit_code = ExitCode.INTERRUPTED
    default_code = "interrupted"
