"""What did an address say when it was last asked, and is that good enough?

Pages are kept under the user's cache directory. One younger than ten minutes is as good as asked (the `max-age` that
download.pytorch.org sends), an older one is asked for again (and not sent again where it has not changed), and where
the network fails, or is not wanted, the kept one stands, whatever its age, and says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from .pages import Page
from .settings import Settings, redact
from .values import fields, frozen, replace

if TYPE_CHECKING:
    from .fetch import Web

T = TypeVar("T")

FRESH_SECONDS = 600
"""How long a page is good for without asking again."""

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that say nothing about the page: a kept one stands for it."""


@frozen
class Got:
    """A page; its `age` in seconds where it was not asked for, and why (`stale`) where it should have been."""

    page: Page
    age: float | None = None
    stale: str | None = None


class Kept:
    """Pages as the settings reach them, through the folder `cache`."""

    def __init__(self, settings: Settings, cache: Path | None, *, offline: bool = False) -> None:
        self._settings = settings
        self._cache = cache
        self._offline = offline
        self._made: Web | None = None
        self._lock = threading.Lock()

    @property
    def _web(self) -> Web:
        with self._lock:
            if self._made is None:
                from .fetch import Web

                self._made = Web(self._settings)
            return self._made

    def at_once(self, urls: Sequence[str], calls: Sequence[Callable[[], T]]) -> list[T]:
        """The calls' results, several at the same time where one of the addresses has to be asked."""
        if self._offline or all("://" not in url or self._fresh(url) for url in urls):
            return [call() for call in calls]
        from .fetch import at_once

        return at_once(calls)

    def page(self, url: str) -> Got:
        """What the address says. Raises OSError where it cannot be asked and nothing is kept."""
        known = self._load(url)
        age = max(0.0, time.time() - known.fetched) if known else 0.0
        if known and (self._offline or age < FRESH_SECONDS):
            return Got(page=known, age=age)
        if self._offline:
            raise OSError("offline, and no page of it was kept")
        try:
            page = self._web.page(url, known)
        except OSError as error:
            if known is None or known.status != 200:
                raise
            from .fetch import reason

            return Got(page=known, age=age, stale=reason(error)[1])
        if known and known.status == 200 and page.status in BUSY:
            return Got(page=known, age=age, stale=f"HTTP status {page.status}")
        if page.status == 200:
            self._keep(url, page)
        return Got(page=page)

    def forever(self, url: str) -> str | None:
        """The text of a file that never changes (a wheel's metadata); None where there is none or no way to it."""
        known = self._load(url)
        if known is None and not self._offline:
            try:
                known = self._web.page(url)
            except OSError:
                return None
            if known.status == 200:
                self._keep(url, known)
        return known.text if known and known.status == 200 else None

    def keep_absent(self, urls: Iterable[str]) -> None:
        """Note that a source which did answer has nothing at these addresses."""
        for url in urls:
            if "://" in url and not self._offline and self._load(url) is None:
                self._keep(url, Page(url=url, status=404, text=""))

    def out_of_reach(self, url: str) -> str | None:
        """Why the file at an address cannot be had; None where it can. One answer stands for all files of a host."""
        host = urlsplit(url)._replace(path="", query="", fragment="").geturl()
        if self._offline or self._fresh(host):
            return None
        from .fetch import reason

        try:
            self._web.size(url)
        except OSError as error:
            return reason(error)[1]
        self._keep(host, Page(url=host, status=204, text=""))
        return None

    def through(self, url: str) -> str:
        """` through the proxy HOST`, where the address would be asked through one."""
        return "" if self._offline or "://" not in url else self._web.through(url)

    def _fresh(self, url: str) -> bool:
        known = self._load(url)
        return known is not None and 0 <= time.time() - known.fetched < FRESH_SECONDS

    # On disk

    def _place(self, url: str) -> Path | None:
        return self._cache / f"{hashlib.sha256(redact(url).encode()).hexdigest()[:32]}.json" if self._cache else None

    def _load(self, url: str) -> Page | None:
        place = self._place(url)
        if place is None:
            return None
        try:
            return Page(**json.loads(place.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _keep(self, url: str, page: Page) -> None:
        """A cache that cannot be written is only a slower one."""
        place = self._place(url)
        if place is None:
            return
        values = fields(replace(page, url=redact(page.url), text=redact(page.text), fetched=time.time()))
        temporary = place.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(values), encoding="utf-8")
            temporary.replace(place)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
