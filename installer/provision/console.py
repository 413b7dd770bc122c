"""Where words go: results to stdout, talk to stderr, with or without colour. The only file that prints.

Colour: --color, then a non-empty NO_COLOR, then FORCE_COLOR, then whether the stream is a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from .errors import ExitCode, ProvisionError
from .report import Message, Result, envelope, error_lines

ASCII = str.maketrans({"✓": "+", "✗": "X", "…": ".", "─": "-", "→": ">", "·": "|", "×": "x", "—": "-", "≤": "<"})
"""What a stream that is not UTF-8 gets instead."""

STYLES = {
    "error": "1;31",
    "fix:": "36",
    "or:": "36",
    "    fix:": "36",
    "next:": "36",
    "! ": "33",
    " ! ": "33",
    " + ": "32",
    " - ": "31",
    " ~ ": "33",
    "  [✓]": "32",
    "  [✗]": "31",
    "  [!]": "33",
    "    cause:": "2",
    "    seen:": "2",
    "[✓]": "32",
    "[✗]": "31",
    "[!]": "33",
}
"""How a line begins → the SGR code in which that beginning is shown."""


class Console:
    """The person at the terminal, or the program behind the pipe."""

    def __init__(
        self, *, json: bool = False, verbose: bool = False, quiet: bool = False, color: str = "auto", yes: bool = False
    ) -> None:
        self.json = json
        self.verbose = verbose
        self.quiet = quiet
        self.color = color
        self.yes = yes
        self.messages: list[Message] = []

    def line(self, text: str) -> None:
        """A part of the result: to stdout, unless JSON is asked for."""
        if not self.json and not self.quiet:
            self._write(sys.stdout, text)

    def lines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.line(text)

    def progress(self, text: str) -> None:
        """What is being done now: to stderr."""
        if not self.quiet and not self.json:
            self._write(sys.stderr, text)

    def message(self, level: str, code: str, text: str) -> None:
        """Something worth knowing: told at once, and kept for the JSON object."""
        self.messages.append(Message(level=level, code=code, text=text))
        if not self.json and not self.quiet:
            self._write(sys.stderr, f"! {text}" if level == "warning" else text)

    def confirm(self, question: str) -> bool | None:
        """Yes or no; None where nobody can be asked."""
        if self.yes:
            return True
        if self.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        import click

        try:
            return click.confirm(question, default=False, err=True)
        except click.Abort:  # Ctrl-C, or the end of what can be read
            raise KeyboardInterrupt from None

    @property
    def interactive(self) -> bool:
        """Whether uv may draw its bars."""
        return not self.json and not self.quiet and sys.stderr.isatty()

    def finish(self, result: Result) -> int:
        """Tell the result and hand back its exit code."""
        if self.json:
            from .values import replace

            result = replace(result, messages=(*self.messages, *result.messages))
            self._write(sys.stdout, envelope(result, indent=2 if sys.stdout.isatty() else None), plain=True)
            return int(result.exit_code)
        self.lines(result.lines)
        for message in result.messages:
            self.message(message.level, message.code, message.text)
        for error in result.errors:
            for text in error_lines(error):
                self._write(sys.stderr, text)
        return int(result.exit_code)

    def fail(self, command: str, error: ProvisionError) -> int:
        """Tell an error and hand back its exit code."""
        return self.finish(
            Result(command=command, data=error.data or {}, exit_code=ExitCode(error.exit_code), errors=(error,))
        )

    def _write(self, stream: TextIO, text: str, *, plain: bool = False) -> None:
        if not plain and stream.isatty():
            text = _folded(text, stream)
        if not plain and self._coloured(stream):
            text = _coloured(text)
        encoding = (stream.encoding or "ascii").lower().replace("-", "")
        if encoding != "utf8":
            text = text.translate(ASCII).encode(encoding, "replace").decode(encoding)
        try:
            stream.write(text + "\n")
            stream.flush()
        except BrokenPipeError:
            # The reader has gone (`provision plan | head`); nothing more can be told.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _coloured(self, stream: TextIO) -> bool:
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return stream.isatty() and os.environ.get("TERM") != "dumb"


def _folded(text: str, stream: TextIO) -> str:
    """The text within the terminal's width, if it has a sensible one, and never wider than is good to read."""
    from .screens import fold

    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return text
    return fold(text, min(width, 100)) if width >= 40 else text


def _coloured(text: str) -> str:
    for beginning, code in STYLES.items():
        if text.startswith(beginning):
            head = text if beginning in (" + ", " - ") else beginning
            return f"\x1b[{code}m{head}\x1b[0m{text[len(head) :]}"
    return text
