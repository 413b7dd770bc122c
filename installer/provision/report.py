"""What did a command come to? One value for a person and for a program; here as the JSON envelope. Nothing prints."""

from __future__ import annotations

import json
from typing import Any

from .errors import ExitCode, ProvisionError
from .values import frozen

SCHEMA = 1


@frozen
class Message:
    """Something worth saying beside the result. `level` is info, hint or warning."""

    level: str
    code: str
    text: str

    def to_json(self) -> dict[str, str]:
        return {"level": self.level, "code": self.code, "text": self.text}


@frozen
class Result:
    """What a command came to. `lines` are for a person and stand on stdout; `data` is for a program."""

    command: str
    data: dict[str, Any]
    lines: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK
    messages: tuple[Message, ...] = ()
    errors: tuple[ProvisionError, ...] = ()

    @property
    def status(self) -> str:
        """`ok`, `findings` or `error`."""
        if self.exit_code is ExitCode.OK or self.exit_code is ExitCode.CHANGES_PENDING:
            return "ok"
        return "findings" if self.exit_code is ExitCode.FINDINGS and not self.errors else "error"


def envelope(result: Result, *, indent: int | None = 2) -> str:
    """The one JSON object that every command prints with `--json`; without `indent` in one line, which is quicker."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "command": result.command,
            "status": result.status,
            "exit_code": int(result.exit_code),
            "data": result.data,
            "messages": [message.to_json() for message in result.messages],
            "errors": [error.to_json() for error in result.errors],
        },
        indent=indent,
        ensure_ascii=False,
    )


def error_lines(error: ProvisionError) -> list[str]:
    """An error as a person reads it: what happened, and the one thing to do next."""
    lines = [f"error[{error.code}]: {error.text}"]
    if error.hint:
        first, *others = error.hint.split("; or ")
        lines += [f"fix:   {first}", *(f"or:    {other}" for other in others)]
    return lines
