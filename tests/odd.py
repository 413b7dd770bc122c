"""What else can stand between a client and an index? A server in front of a good one, that spoils what it is told to.

    with front(index, {"/whl/cpu/torch/": odd.silent}) as base:
        provision --index-base {base}/whl

Every spoiler is a function of the connection and of what the good server answered. The front also speaks TLS, and is a
proxy (CONNECT, or whole addresses): then it stands for every host, as a firm's proxy with its own certificates does.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from index import Server

STEP = 0.3
"""Seconds between the bytes of a drip."""


@dataclass(frozen=True)
class Good:
    """What the good server answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, '')}"]
        kept = [(name, value) for name, value in self.headers if name.lower() not in ("connection", "content-length")]
        lines += [f"{name}: {value}" for name, value in [*kept, ("Content-Length", str(len(self.body)))]]
        return ("\r\n".join([*lines, "Connection: close", "", ""])).encode()


Spoiler = Callable[["Line", Good], None]


@dataclass
class Line:
    """One connection to a client; `over` is set when the front closes."""

    socket: socket.socket
    over: threading.Event

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drip(self, data: bytes) -> None:
        for at in range(len(data)):
            if self.over.wait(STEP):
                return
            self.send(data[at : at + 1])

    def reset(self) -> None:
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        )


# Spoilers


def silent(line: Line, good: Good) -> None:
    line.over.wait(600)


def drips(line: Line, good: Good) -> None:
    line.send(good.head)
    line.drip(good.body)


def drips_its_headers(line: Line, good: Good) -> None:
    line.drip(good.head)


def stalls(line: Line, good: Good) -> None:
    line.send(good.head + good.body[: len(good.body) // 2])
    line.over.wait(600)


def ends_early(line: Line, good: Good) -> None:
    line.send(good.head + good.body[: len(good.body) // 2])


def resets_halfway(line: Line, good: Good) -> None:
    line.send(good.head + good.body[: len(good.body) // 2])
    line.reset()


def resets(line: Line, good: Good) -> None:
    line.reset()


def hangs_up(line: Line, good: Good) -> None:
    pass


def is_no_web_server(line: Line, good: Good) -> None:
    line.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")


def page(text: str, *, status: int = 200, kind: str = "text/html", **headers: str) -> Spoiler:
    """Another answer, whole and in time."""
    more = tuple((name.replace("_", "-"), value) for name, value in headers.items())

    def answer(line: Line, good: Good) -> None:
        other = Good(status=status, headers=(("Content-Type", kind), *more), body=text.encode())
        line.send(other.head + other.body)

    return answer


def status(number: int, **headers: str) -> Spoiler:
    return page("a fault that the test asked for", status=number, **headers)


def redirect(url: str) -> Spoiler:
    return page("", status=302, Location=url)


def garbage(line: Line, good: Good) -> None:
    other = Good(status=200, headers=good.headers, body=bytes(range(256)) * 4)
    line.send(other.head + other.body)


def broken_chunks(line: Line, good: Good) -> None:
    line.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")


def huge_header(line: Line, good: Good) -> None:
    line.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n")


def one_bit_off(line: Line, good: Good) -> None:
    at = len(good.body) // 2
    body = good.body[:at] + bytes([good.body[at] ^ 1]) + good.body[at + 1 :]
    line.send(good.head + body)


def cut_short(line: Line, good: Good) -> None:
    """A file that is shorter than it was published, and says so."""
    other = Good(status=200, headers=good.headers, body=good.body[: len(good.body) // 2])
    line.send(other.head + other.body)


def empty(line: Line, good: Good) -> None:
    other = Good(status=200, headers=good.headers, body=b"")
    line.send(other.head)


# The front


@dataclass
class Front:
    """Where it listens, and what came in: (method, host or "", path, authorization, proxy authorization)."""

    port: int
    seen: list[tuple[str, str, str, str | None, str | None]] = field(default_factory=list)
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def front(
    server: Server,
    spoil: Mapping[str, Spoiler] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    inside: ssl.SSLContext | None = None,
    login: str | None = None,
) -> Iterator[Front]:
    """Serve `server`'s answers, those for matching paths spoiled.

    `tls`: it speaks TLS at once. `inside`: what it speaks within a CONNECT. `login`: what a proxy's client must give.
    """
    over = threading.Event()
    wanted = "Basic " + base64.b64encode(login.encode()).decode() if login else None

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                connection = tls.wrap_socket(self.request, server_side=True) if tls else self.request
                connection.settimeout(60)
                self.serve(connection)
                if connection is not self.request:
                    connection.close()

        def serve(self, connection: socket.socket, host: str = "") -> None:
            request = _request(connection)
            if request is None:
                return
            method, target, headers = request
            parts = urlsplit(target)
            path = unquote(parts.path)
            given = headers.get("proxy-authorization")
            made.seen.append(
                (
                    method,
                    host or (target if method == "CONNECT" else parts.netloc),
                    path,
                    headers.get("authorization"),
                    given,
                )
            )
            if (method == "CONNECT" or parts.netloc) and wanted and given != wanted:
                connection.sendall(_NO_LOGIN)
                return
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if inside is None:
                    return
                with inside.wrap_socket(connection, server_side=True) as within:
                    self.serve(within, target)
                return
            good = _ask(server, method, parts, headers)
            spoiler = next((made for pattern, made in (spoil or {}).items() if fnmatchcase(path, pattern)), None)
            if spoiler is None:
                connection.sendall(good.head + (b"" if method == "HEAD" else good.body))
            else:
                spoiler(Line(connection, over), good)

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def shutdown_request(self, request: Any) -> None:
            self.close_request(request)  # a reset stays one: no FIN goes before it

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that leave early are part of the tests."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        made = Front(port=listener.server_address[1], tls=tls is not None)
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            over.set()
            listener.shutdown()
            thread.join()


_NO_LOGIN = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=proxy\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


def _request(connection: socket.socket) -> tuple[str, str, dict[str, str]] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(1)  # no byte of what may follow inside TLS is taken
        if not chunk:
            return None
        data += chunk
    first, *lines = data.decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return method, target, headers


def _ask(server: Server, method: str, parts: Any, headers: Mapping[str, str]) -> Good:
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=20)
    try:
        kept = {name: value for name, value in headers.items() if name in ("accept", "authorization", "if-none-match")}
        connection.request(method, parts.path, headers=kept)
        answer = connection.getresponse()
        found = tuple((name, value) for name, value in answer.getheaders() if name.lower() != "accept-ranges")
        return Good(status=answer.status, headers=found, body=answer.read())
    finally:
        connection.close()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address that never even accepts a connection: its queue is full."""
    with socket.socket() as deaf, contextlib.ExitStack() as queue:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            filler = queue.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"


# Certificates


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a firm's own, and what its servers and proxies speak."""

    certificate: Path
    context: ssl.SSLContext


def authority(folder: Path, *names: str) -> Authority:
    """A new one, whose server certificate is for 127.0.0.1 and these names. Skips the test where openssl is missing."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is missing (Debian package: openssl)")
    folder.mkdir(parents=True, exist_ok=True)

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    also = ["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", "basicConstraints=critical,CA:TRUE"]
    run("req", "-x509", *key, *also, "-subj", "/CN=Example Corp CA", "-keyout", "ca.key", "-out", "ca.pem")
    run("req", *key[:-2], "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    alternative = ",".join(["IP:127.0.0.1", *(f"DNS:{name}" for name in names)])
    lines = [f"subjectAltName={alternative}", "basicConstraints=CA:FALSE", "authorityKeyIdentifier=keyid"]
    (folder / "server.ext").write_text("\n".join([*lines, "extendedKeyUsage=serverAuth", ""]))
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "server.ext"]
    run("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Authority(certificate=folder / "ca.pem", context=context)
