"""How is one address asked over the network: as the user's settings say, and in bounded time?

Proxy, certificates, logins (settings, netrc, keyring) and trusted hosts are those that pip and uv were told. A login is
sent to the place that it is for and nowhere else, wherever an answer redirects to. Whatever a server does (nothing, a
byte every few seconds, half a body), an answer or an OSError comes after `Web.seconds` at the latest.
"""

from __future__ import annotations

import base64
import hashlib
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from .carry import machine_has_roots, patience, proxies
from .pages import Page
from .settings import Login, Settings
from .values import fields

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

PAGE_BYTES = 64 * 1024 * 1024
"""More than this is no index page."""

WORKERS = 8
"""How many addresses are asked at the same time."""

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


class NotProperHttp(OSError):
    """What answers is something else than a web server, or its answer ended too early."""


class Web:
    """The network as the user's settings open it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        total = patience(os.environ)
        self.quiet = min(settings.timeout or total / 10, total)
        """Seconds that a server may stay silent in the middle of an answer."""
        self.seconds = max(total / 2, self.quiet)
        """Seconds that an answer may take in all."""
        self._redirects = _Redirects(self)
        self._trusting = {host.partition(":")[0].lower() for host in settings.trusted_hosts}
        self._openers: dict[bool, urllib.request.OpenerDirector] = {}
        self._lock = threading.Lock()

    def page(self, url: str, known: Page | None = None) -> Page:
        """What the address answers, be it that there is nothing; `known` again where it has not changed.

        Raises OSError where there is no answer.
        """
        headers = {"Accept": ACCEPT}
        if known and known.etag:
            headers["If-None-Match"] = known.etag
        if known and known.modified:
            headers["If-Modified-Since"] = known.modified
        deadline = time.monotonic() + self.seconds

        def ask() -> Page:
            with self._open(url, "GET", headers) as response:
                text = _read(response, deadline).decode("utf-8", errors="replace")
                return Page(
                    url=response.geturl(),
                    status=response.status,
                    text=text,
                    kind=response.headers.get_content_type(),
                    etag=response.headers.get("ETag"),
                    modified=response.headers.get("Last-Modified"),
                    fetched=time.time(),
                )

        try:
            return in_time(ask, self.seconds)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304 and known:
                    return Page(**(fields(known) | {"fetched": time.time()}))
                return Page(url=url, status=error.code, text="")

    def size(self, url: str) -> int | None:
        """How many bytes the file at an address has, None where it does not say. Raises OSError: it is not there."""

        def ask() -> int | None:
            with self._open(url, "HEAD", {}) as response:
                length = response.headers.get("Content-Length") or ""
                return int(length) if length.isdecimal() and int(length) else None

        try:
            return in_time(ask, self.seconds)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (405, 501):  # it answers, but not to HEAD
                    return None
                raise OSError(status_problem(error.code)) from None

    def download(self, url: str, target: Path) -> str:
        """Write the file at an address to `target`; its sha256. Raises OSError where it does not come whole.

        It may take as long as it keeps coming: `quiet` seconds without a byte end it.
        """
        digest = hashlib.sha256()
        try:
            with self._open(url, "GET", {}) as response, target.open("wb") as file:
                while chunk := response.read1(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
                if response.length:
                    raise NotProperHttp("its answer ended too early")
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(status_problem(error.code)) from None
        except (HTTPException, ValueError) as error:
            raise NotProperHttp("its answer ended too early") from error
        return digest.hexdigest()

    def _open(self, url: str, method: str, headers: dict[str, str]) -> Any:
        try:
            request = urllib.request.Request(url, method=method, headers={"User-Agent": "torch-provision", **headers})
            self.authorize(request)
            trusting = (urlsplit(url).hostname or "").lower() in self._trusting
            with self._lock:
                if trusting not in self._openers:
                    self._openers[trusting] = self._opener(trusting)
            return self._openers[trusting].open(request, timeout=self.quiet)
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
        except ConnectionError:  # among them http.client's RemoteDisconnected
            raise
        except (HTTPException, ValueError, EOFError) as error:
            raise NotProperHttp(f"spoke no proper HTTP ({type(error).__name__})") from error

    def through(self, url: str) -> str:
        """` through the proxy HOST`, or nothing where the address is asked directly."""
        parts = urlsplit(url)
        proxy = proxies(self.settings, os.environ).get(parts.scheme)
        if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
            return ""
        return f" through the proxy {urlsplit(proxy).netloc.rpartition('@')[2]}"

    def _opener(self, trusting: bool) -> urllib.request.OpenerDirector:
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(proxies(self.settings, os.environ)),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=_context(self.settings, trusting)),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
            self._redirects,
        ):
            opener.add_handler(handler)
        return opener

    def authorize(self, request: urllib.request.Request, *, netrc: bool = True) -> None:
        """Add the login for the request's own address, in a header that no redirect takes along."""
        found = self.settings.login(request.full_url)
        if found is not None and found.password is None and self.settings.keyring == "subprocess":
            found = _from_keyring(found)
        if found is None and netrc:
            found = _from_netrc(request.full_url)
        if found is not None:
            token = base64.b64encode(f"{found.user}:{found.password or ''}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {token}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, to web addresses only, with the login of where they lead (none that fell from https)."""

    def __init__(self, web: Web) -> None:
        self.web = web

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        new = super().redirect_request(req, fp, code, msg, headers, urljoin(req.full_url, newurl))
        if new is not None:
            if urlsplit(new.full_url).scheme not in ("http", "https"):
                raise OSError("redirects to something that is no web address")
            new.method = req.get_method()
            self.web.authorize(new, netrc=not (req.type == "https" and new.type == "http"))
        return new


def _context(settings: Settings, trusting: bool) -> ssl.SSLContext:
    """Whom to believe: the certificate file that was configured, else the machine's store, else pip's."""
    import ssl

    cafile = settings.cert if settings.cert and Path(settings.cert).is_file() else None
    context = ssl.create_default_context(cafile=cafile)
    if cafile is None and not machine_has_roots() and (bundle := _pips_certificates()):
        context.load_verify_locations(bundle)
    if trusting:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert)
    return context


def _pips_certificates() -> str | None:
    """The certificates that pip brings along (it comes with pip-tools)."""
    import importlib.util

    found = importlib.util.find_spec("pip")
    places = found.submodule_search_locations if found else None
    path = Path(next(iter(places))) / "_vendor" / "certifi" / "cacert.pem" if places else None
    return str(path) if path and path.is_file() else None


def _from_netrc(url: str) -> Login | None:
    import netrc

    host = urlsplit(url).hostname
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host) if host else None
    except (OSError, netrc.NetrcParseError, ValueError):
        return None
    return Login(url=url, user=found[0], password=found[2]) if found else None


def _from_keyring(login: Login) -> Login | None:
    """What `keyring get URL USER` says, as pip and uv ask it with keyring-provider=subprocess."""
    import shutil
    import subprocess

    command = shutil.which("keyring")
    if command is None:
        return None
    for service in (login.url, urlsplit(login.url).hostname or ""):
        try:
            answer = subprocess.run(
                [command, "get", service, login.user], capture_output=True, text=True, timeout=15, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if answer.returncode == 0 and answer.stdout.strip():
            return Login(url=login.url, user=login.user, password=answer.stdout.strip())
    return None


def _read(response: Any, deadline: float) -> bytes:
    """The whole body. Raises OSError for one that ends too early, takes too long or is too large."""
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := response.read1(1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if time.monotonic() > deadline:
                raise TimeoutError(f"sent only {size} bytes in time")
            if size > PAGE_BYTES:
                raise OSError("answered with more than an index page can be")
    except (HTTPException, ValueError) as error:
        raise NotProperHttp("its answer ended too early") from error
    if response.length:  # http.client's read1 takes an early end for the end
        raise NotProperHttp("its answer ended too early")
    return b"".join(chunks)


# Time ---------------------------------------------------------------------------------------------------------------


def in_time(call: Callable[[], T], seconds: float) -> T:
    """The call's result, or TimeoutError: names, handshakes and headers have no deadline of their own in Python."""
    answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put((call(), None))
        except BaseException as error:  # noqa: BLE001  (handed over to who waits)
            answer.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, problem = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no whole answer in {seconds:.0f} s") from None
    if problem is not None:
        raise problem
    return value  # type: ignore[return-value]


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The calls' results in their order, some calls at the same time. What a call raises is raised.

    Ctrl-C is not kept waiting for a server that says nothing: what is still being asked is left to itself.
    """
    from concurrent.futures import ThreadPoolExecutor

    if len(calls) < 2:
        return [call() for call in calls]
    pool = ThreadPoolExecutor(max_workers=min(WORKERS, len(calls)))
    try:
        return list(pool.map(lambda call: call(), calls))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# What went wrong ----------------------------------------------------------------------------------------------------


def status_problem(status: int) -> str:
    """What a status that is no answer means, in words."""
    words = {401: "wants a login", 407: "the proxy wants a login", 403: "refuses access", 429: "is asked too often"}
    if status in words:
        return f"{words[status]} (HTTP status {status})"
    return (
        "redirects without end, or to what is no web address"
        if 300 <= status < 400
        else f"answered with HTTP status {status}"
    )


def reason(error: OSError) -> tuple[str, str]:
    """The class of cause (`network`, `certificate`, `credentials`) and why a source is out of reach, in one line."""
    import socket
    import ssl

    text = " ".join(str(error).split())
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate", f"its certificate was not accepted ({error.verify_message})"
    if "Tunnel connection failed: 407" in text:
        return "credentials", status_problem(407)
    if isinstance(error, ssl.SSLError):
        return "network", "speaks no proper TLS"
    if isinstance(error, socket.gaierror):
        return "network", "its name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "network", text if " in " in text else "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "network", "connection refused"
    if isinstance(error, ConnectionError):
        return "network", "connection dropped"
    return "network", (error.strerror or text or type(error).__name__)
