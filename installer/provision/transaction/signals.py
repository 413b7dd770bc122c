"""What happens on Ctrl-C, and on the polite signals that mean the same?

Before the commit they interrupt; during it and while things are put away they wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def interrupting() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    with _handling(lambda number, frame: _raise()):
        yield


@contextmanager
def waiting() -> Iterator[list[int]]:
    """Signals are only noted, in the list that is given."""
    noted: list[int] = []
    with _handling(lambda number, frame: noted.append(number)):
        yield noted


def _raise() -> None:
    raise KeyboardInterrupt


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number, frame)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    previous = {number: signal.getsignal(number) for number in numbers}
    for number, was in previous.items():
        if was is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, was in previous.items():
            signal.signal(number, was if was is not None else signal.SIG_DFL)
