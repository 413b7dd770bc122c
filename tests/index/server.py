"""How do the indexes answer? Over HTTP on loopback, in the layouts of download.pytorch.org and of a package index.

/whl/<backend>/<name>/      PEP 503, as the PyTorch index: %2B in links, 403 for what is absent, also below
                            /whl/nightly/ (without hashes) and /whl/test/
/simple/<name>/             the default package index: PEP 503 or PEP 691 JSON, 404 for what is absent
/flat/<backend>/            one page of links to every wheel of a backend, as --find-links reads it
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .tree import Tree, by_project
from .wheel import Wheel


class Fault(StrEnum):
    """What can go wrong between a client and an index."""

    SERVER_ERROR = "500"
    TOO_MANY_REQUESTS = "429"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    UNAUTHORIZED = "401"
    GARBAGE = "200 with bytes that are no page and no wheel"
    REDIRECT_LOOP = "302 to itself"
    TRUNCATED = "half of the body, then the connection ends"
    STALLED = "half of the body, then silence"
    SLOW = "the body in small pieces over two seconds"
    WRONG_HASH = "one bit changed; a wheel can still be unpacked"
    DROPPED = "the connection is reset without an answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of the log. `path` is unquoted."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class _Rule:
    pattern: str
    fault: Fault
    left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes = b""
    type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()


class Server:
    """A tree being served. Made by `serve`; a context manager."""

    def __init__(self, tree: Tree, *, links: str, auth: str | None) -> None:
        self.tree = tree
        self.requests: list[Request] = []
        self.distance = 0.0
        """Seconds after which an answer sets out, as over a long line."""
        self._links = links
        self._auth = "Basic " + base64.b64encode(auth.encode()).decode() if auth else None
        self._rules: list[_Rule] = []
        self._pages: dict[tuple[str, bool], _Answer] = {}
        self._lock = threading.Lock()
        self._pytorch = {path: by_project(wheels) for path, wheels in tree.pytorch.items()}
        self._packages = by_project(tree.packages)
        self._files = {f"/files/{one.filename}": one for one in tree.packages}
        for path, wheels in tree.pytorch.items():
            for top in ("whl", "flat"):
                self._files.update({f"/{top}/{path}/{one.filename}": one for one in wheels})
        self._cache = tempfile.TemporaryDirectory(prefix="provision-index-", ignore_cleanup_errors=True)
        self.closing = threading.Event()
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`"""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def pytorch(self) -> str:
        """What stands for https://download.pytorch.org/whl: the value of `--index-base`."""
        return f"{self.url}/whl"

    @property
    def packages(self) -> str:
        """What stands for the default package index: the value of `--index-url`."""
        return f"{self.url}/simple"

    def flat(self, backend: str) -> str:
        """The page for `--find-links`."""
        return f"{self.url}/flat/{backend}/"

    def environ(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment variables (`base`: this process's) under which tools see these indexes and no others.

        Their caches are this server's own: the next one may get the same port and have other wheels there.
        """
        own = ("PIP_", "UV_", "PROVISION_")
        kept = {k: v for k, v in (os.environ if base is None else base).items() if not k.upper().startswith(own)}
        without_proxy = {k: v for k, v in kept.items() if not k.upper().endswith("_PROXY")}
        return {
            **without_proxy,
            "PROVISION_INDEX_BASE": self.pytorch,
            "PIP_CACHE_DIR": str(Path(self._cache.name) / "pip"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.packages,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "UV_CACHE_DIR": str(Path(self._cache.name) / "uv"),
            "UV_DEFAULT_INDEX": self.packages,
            "UV_NO_CONFIG": "1",
        }

    def fail(self, pattern: str, fault: Fault, *, times: float = float("inf")) -> None:
        """From now on (or `times` times) requests whose path matches (`/whl/cu130/*`) meet this fault."""
        with self._lock:
            self._rules.append(_Rule(pattern=pattern, fault=fault, left=times))

    @contextlib.contextmanager
    def failing(self, pattern: str, fault: Fault, *, times: float = float("inf")) -> Iterator[None]:
        """`fail` for the length of a block: what a test does to a server that others share."""
        before = list(self._rules)
        self.fail(pattern, fault, times=times)
        try:
            yield
        finally:
            with self._lock:
                self._rules[:] = before

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Request]]:
        """The requests that arrive during a block; complete when it ends."""
        start, seen = len(self.requests), list[Request]()
        try:
            yield seen
        finally:
            seen.extend(self.requests[start:])

    def answer(self, connection: socket.socket, address: Any) -> None:
        """Serve a connection that came in by another door (TLS, a proxy) until it ends."""
        _Handler(connection, address, self._http)

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._cache.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if rule.left > 0 and fnmatchcase(path, rule.pattern):
                    rule.left -= 1
                    return rule.fault
        return None

    def _answer(self, path: str, accept: str) -> _Answer:
        """The right answer; pages are made once."""
        as_json = "application/vnd.pypi.simple.v1+json" in accept and path.startswith("/simple/")
        with self._lock:
            if (path, as_json) not in self._pages:
                self._pages[path, as_json] = self._make(path, as_json)
            return self._pages[path, as_json]

    def _make(self, path: str, as_json: bool) -> _Answer:
        file = self._files.get(path.removesuffix(".metadata"))
        if file is not None:
            body = file.metadata if path.endswith(".metadata") else file.content
            return _Answer(status=200, body=body, type="application/octet-stream")
        match path.strip("/").split("/"):
            case ["whl", *backend, name] if path.endswith("/") and name in self._pytorch.get("/".join(backend), {}):
                where = "/".join(backend)
                links = [self._pytorch_link(where, one) for one in self._pytorch[where][name]]
                return _page(f"Links for {name}", links)
            case ["whl", *backend] if path.endswith("/") and "/".join(backend) in self._pytorch:
                names = sorted(self._pytorch["/".join(backend)])
                return _page("Simple index", [f'<a href="{name}/">{name}</a>' for name in names])
            case ["flat", *backend] if path.endswith("/") and "/".join(backend) in self._pytorch:
                wheels = self.tree.pytorch["/".join(backend)]
                return _page("Index of wheels", [f'<a href="{quote(w.filename)}">{w.filename}</a>' for w in wheels])
            case ["simple"]:
                return _page("Simple index", [f'<a href="/simple/{n}/">{n}</a>' for n in sorted(self._packages)])
            case ["simple", name] if name in self._packages:
                return _json(name, self._packages[name]) if as_json else _simple(name, self._packages[name])
            case ["whl", *_]:
                return _Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>", type="application/xml")
        return _Answer(status=404, body=b"not found")

    def _pytorch_link(self, backend: str, one: Wheel) -> str:
        """A link as the PyTorch index writes it: `+` quoted, a hash unless nightly, the metadata's hash twice."""
        base = {"relative": "..", "root": f"/whl/{backend}", "absolute": f"{self.url}/whl/{backend}"}.get(
            self._links, f"{self._links}/whl/{backend}"
        )
        digest = "" if backend.startswith("nightly/") else f"#sha256={one.sha256}"
        metadata = f"sha256={hashlib.sha256(one.metadata).hexdigest()}"
        return (
            f'<a href="{base}/{quote(one.filename)}{digest}" data-dist-info-metadata="{metadata}" '
            f'data-core-metadata="{metadata}">{one.filename}</a>'
        )


def serve(tree: Tree, *, links: str = "root", auth: str | None = None) -> Server:
    """Serve a tree on a free port of 127.0.0.1 until `close`.

    `links` is how pages of the PyTorch index point at wheels: "relative", "root" (`/whl/…`), "absolute", or the URL of
    another server of the same tree (the real index points at another host). `auth` ("user:password") is then needed
    for everything.
    """
    return Server(tree, links=links, auth=auth)


def _page(title: str, links: list[str]) -> _Answer:
    rows = "".join(f"    {link}<br/>\n" for link in links)
    text = f"<!DOCTYPE html>\n<html>\n  <body>\n    <h1>{title}</h1>\n{rows}  </body>\n</html>\n"
    return _Answer(status=200, body=text.encode(), headers=(("Cache-Control", "max-age=600"),))


def _simple(name: str, wheels: list[Wheel]) -> _Answer:
    return _page(f"Links for {name}", [_simple_link(one) for one in wheels])


def _simple_link(one: Wheel) -> str:
    python = f' data-requires-python="{one.requires_python.replace(">", "&gt;")}"' if one.requires_python else ""
    metadata = f"sha256={hashlib.sha256(one.metadata).hexdigest()}"
    href = f"../../files/{quote(one.filename)}#sha256={one.sha256}"
    return f'<a href="{href}" data-core-metadata="{metadata}"{python}>{one.filename}</a>'


def _json(name: str, wheels: list[Wheel]) -> _Answer:
    files = [
        {
            "filename": one.filename,
            "url": f"../../files/{quote(one.filename)}",
            "hashes": {"sha256": one.sha256},
            "size": len(one.content),
            "core-metadata": {"sha256": hashlib.sha256(one.metadata).hexdigest()},
            "requires-python": one.requires_python,
            "upload-time": "2026-11-01T00:00:00Z",
        }
        for one in wheels
    ]
    versions = sorted({one.version for one in wheels})
    body = {"meta": {"api-version": "1.1"}, "name": name, "versions": versions, "files": files}
    return _Answer(status=200, body=json.dumps(body).encode(), type="application/vnd.pypi.simple.v1+json")


def _spoil(body: bytes) -> bytes:
    """One bit changed: of a zip in the permissions of its last file, which no checksum but the whole file's covers."""
    at = body.rfind(b"PK\x01\x02") + 40 if body.startswith(b"PK") else len(body) - 1
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, owner: Server) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """The log is `Server.requests`."""

    def do_GET(self) -> None:
        owner, path = self.server.owner, unquote(urlsplit(self.path).path)
        if owner.distance:
            time.sleep(owner.distance)
        fault = owner._fault(path)
        answer = self._faulty(fault, path) if fault else None
        if answer is None:
            if owner._auth and self.headers.get("Authorization") != owner._auth:
                answer = _Answer(status=401, headers=(("WWW-Authenticate", 'Basic realm="index"'),))
            else:
                answer = self._fresh(owner._answer(path, self.headers.get("Accept", "")))
        owner.requests.append(
            Request(method=self.command, path=path, status=answer.status, headers=dict(self.headers.items()))
        )
        if fault is Fault.DROPPED:
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        self._send(answer, fault)

    do_HEAD = do_GET  # noqa: N815 - http.server's own name

    def _faulty(self, fault: Fault, path: str) -> _Answer | None:
        """The answer of a fault that is one; None for those that spoil the right answer on its way."""
        if fault.value.isdigit():
            retry = (("Retry-After", "1"),) if fault is Fault.TOO_MANY_REQUESTS else ()
            return _Answer(status=int(fault.value), body=b"a fault that the test asked for", headers=retry)
        if fault is Fault.GARBAGE:
            return _Answer(status=200, body=bytes(range(256)) * 4)
        if fault is Fault.REDIRECT_LOOP:
            return _Answer(status=302, headers=(("Location", quote(path)),))
        if fault is Fault.DROPPED:
            return _Answer(status=0)
        return None

    def _fresh(self, answer: _Answer) -> _Answer:
        """An ETag, 304 to who has it already, and the bytes of a Range."""
        if answer.status != 200:
            return answer
        etag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"'
        headers = (*answer.headers, ("ETag", etag), ("Accept-Ranges", "bytes"))
        if self.headers.get("If-None-Match") == etag:
            return _Answer(status=304, type=answer.type, headers=headers)
        unit, _, span = self.headers.get("Range", "").partition("=")
        if unit == "bytes" and "," not in span:
            first, _, last = span.partition("-")
            size = len(answer.body)
            start = int(first) if first else max(0, size - int(last))
            end = min(int(last), size - 1) if first and last else size - 1
            part = (("Content-Range", f"bytes {start}-{end}/{size}"),)
            return _Answer(status=206, body=answer.body[start : end + 1], type=answer.type, headers=headers + part)
        return _Answer(status=200, body=answer.body, type=answer.type, headers=headers)

    def _send(self, answer: _Answer, fault: Fault | None) -> None:
        body = answer.body
        if fault is Fault.WRONG_HASH and body:
            body = _spoil(body)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.type)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        if fault is Fault.TRUNCATED:
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in (Fault.TRUNCATED, Fault.STALLED):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault is Fault.STALLED:
                self.server.owner.closing.wait(600)
                self.close_connection = True
            return
        if fault is Fault.SLOW:
            step = max(1, len(body) // 20)
            for at in range(0, len(body), step):
                self.wfile.write(body[at : at + step])
                self.wfile.flush()
                time.sleep(0.1)
            return
        self.wfile.write(body)
