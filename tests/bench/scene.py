"""Where do the tools of a comparison run? On simulated machines (machines.toml), before a model of the PyTorch index.

The index holds what the product's table says is published, as tiny wheels on loopback. Tools that can only ask
https://download.pytorch.org do so: `Front` answers for that name, through a proxy and a certificate of its own, so
that no tool is changed and nothing needs root. Whatever other host a tool asks for is refused.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import referee
from index import Server, Tree, Wheel, serve, wheel
from index.torchwheel import wheel_tag

HERE = Path(__file__).parent
NVIDIA_SMI = HERE.parent / "nvml" / "nvidia_smi.py"
PYTHON = "3.12"
"""The Python for which every tool chooses."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    capability: str
    device: str
    """PCI device id, `2b85`."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One row of machines.toml."""

    group: str
    name: str
    on: str = "linux x86_64"
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None

    @property
    def system(self) -> str:
        return self.on.split()[0]

    @property
    def architecture(self) -> str:
        return self.on.split()[1]

    def right_answers(self) -> list[str]:
        """Every build that runs here, the best first: ["2.11.0+cu128", …]."""
        capabilities = [gpu.capability for gpu in self.gpus]
        return referee.right_answers(
            gpus=capabilities, driver=self.driver, on=self.on, python="cp" + PYTHON.replace(".", "")
        )

    @property
    def right(self) -> str | None:
        """The best of them; None = no build runs here."""
        return next(iter(self.right_answers()), None)

    def to_json(self) -> dict[str, Any]:
        """What `provision plan --machine FILE` reads."""
        libc = ["glibc", "2.35"] if self.system == "linux" else None
        gpus = [
            {"vendor": "nvidia", "arch": gpu.capability, "index": place, "pci_device_id": f"0x{gpu.device}"}
            for place, gpu in enumerate(self.gpus)
        ]
        drivers = [{"vendor": "nvidia", "version": self.driver}] if self.driver else []
        platform = {"system": self.system, "machine": self.architecture, "libc": libc}
        return {"schema": 1, "platform": platform, "gpus": gpus, "drivers": drivers, "skipped": []}

    def lspci(self) -> str:
        """The PCI bus as `lspci -nn` prints it."""
        bridge = "00:00.0 Host bridge [0600]: Intel Corporation Device [8086:29c0] (rev 02)\n"
        return bridge + "".join(
            f"{place + 1:02x}:00.0 VGA compatible controller [0300]: NVIDIA Corporation Device [10de:{gpu.device}]\n"
            for place, gpu in enumerate(self.gpus)
        )

    def display_adapters(self) -> str:
        """The same as Windows' device ids."""
        return "".join(f"PCI\\VEN_10DE&DEV_{gpu.device.upper()}&SUBSYS_00000000\n" for gpu in self.gpus)


@cache
def machines() -> tuple[Machine, ...]:
    """Every machine, in the order of the file."""
    table = tomllib.loads((HERE / "machines.toml").read_text("utf-8"))
    return tuple(
        Machine(**{**row, "gpus": _gpus(row.get("gpus", "")), "group": group["name"]})
        for group in table["group"]
        for row in group["machine"]
    )


def _gpus(text: str) -> tuple[Gpu, ...]:
    pairs = [word.split(":") for word in text.split()]
    return tuple(Gpu(capability=capability, device=device) for capability, device in pairs)


@cache
def plain_backends() -> dict[tuple[str, str], str]:
    """(torch, platform) → the backend of the wheel without a local version."""
    table = tomllib.loads((referee.DATA / "catalog.toml").read_text("utf-8"))
    return {(torch, row["on"]): row["backend"] for row in table["plain"] for torch in row["torch"].split()}


def published() -> Tree:
    """Every stable build of the table as an empty wheel, and the plain ones on the default package index."""
    index: dict[str, list[Wheel]] = {}
    plain = []
    for row in referee.rows():
        platform = row["on"].replace(" ", "-")
        if platform.startswith("macos"):
            continue
        local = f"+{row.get('local', row['backend'])}".rstrip("+")
        for python in row["pythons"]:
            tag = wheel_tag(platform, python)
            index.setdefault(row["backend"], []).append(wheel("torch", row["torch"] + local, tag=tag))
            if plain_backends().get((row["torch"], row["on"])) == row["backend"]:
                plain.append(wheel("torch", row["torch"], tag=tag))
    return Tree(pytorch=index, packages=plain)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The index and a folder of scratch files. `environ` is what every tool runs in, but for the machine's own."""

    index: Server
    front: Front
    folder: Path
    environ: dict[str, str]

    def file(self, machine: Machine) -> Path:
        """The machine file of `provision plan --machine`."""
        path = self.folder / "machine.json"
        path.write_text(json.dumps(machine.to_json()))
        return path

    def on(self, machine: Machine) -> dict[str, str]:
        """The variables under which a process sees this machine: its nvidia-smi and lspci and no other program's."""
        bin_folder = self.folder / "bin"
        shutil.rmtree(bin_folder, ignore_errors=True)
        bin_folder.mkdir()
        (self.folder / "lspci.txt").write_text(machine.lspci())
        _script(bin_folder / "lspci", f"exec /bin/cat {self.folder}/lspci.txt")
        gpus = "\n".join(f"name=NVIDIA {gpu.device}|cc={gpu.capability}" for gpu in machine.gpus)
        if machine.driver:
            _script(bin_folder / "nvidia-smi", f'exec {sys.executable} -IS {NVIDIA_SMI} "$@"')
        simulated = {"STAND_IN_DRIVER": machine.driver or "", "STAND_IN_GPUS": gpus}
        return {**self.environ, **simulated, "PATH": str(bin_folder)}


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@contextlib.contextmanager
def scene(tree: Tree) -> Iterator[Scene]:
    """A scene for the length of a block. SystemExit where openssl is missing."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as name, serve(tree) as index:
        folder = Path(name)
        with Front(index, folder) as front:
            home = folder / "home"
            home.mkdir()
            environ = index.environ() | front.environ()
            environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home)}
            environ.pop("VIRTUAL_ENV", None)
            yield Scene(index=index, front=front, folder=folder, environ=environ)


class Front(socketserver.ThreadingTCPServer):
    """A proxy behind which https://download.pytorch.org is the loopback index.

    `troubles`: what a tool asked for in vain, which is not its fault.
    """

    HOST = "download.pytorch.org"
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, index: Server, folder: Path) -> None:
        self.index = index
        self.certificate, key = make_certificate(self.HOST, folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.certificate, key)
        self.troubles: list[str] = []
        super().__init__(("127.0.0.1", 0), _Tunnel)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def environ(self) -> dict[str, str]:
        """The variables with which pip and uv go through this proxy and trust it."""
        url = f"http://127.0.0.1:{self.server_address[1]}"
        trust = str(self.certificate)
        return {
            "HTTPS_PROXY": url,
            "https_proxy": url,
            "NO_PROXY": "127.0.0.1",
            "PIP_CERT": trust,
            "REQUESTS_CA_BUNDLE": trust,
            "SSL_CERT_FILE": trust,
        }

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave early."""


class _Tunnel(socketserver.StreamRequestHandler):
    server: Front
    rbufsize = 0  # what follows CONNECT belongs to TLS

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.rfile.read(1)
            if not byte:
                return
            head += byte
        method, where, _ = head.decode("latin-1").split(maxsplit=2)
        if (method, where) != ("CONNECT", f"{Front.HOST}:443"):
            self.server.troubles.append(f"{where} was asked for")
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        except OSError as problem:
            self.server.troubles.append(f"no TLS with {Front.HOST}: {problem}")
            return
        with connection:
            self.server.index.answer(connection, self.client_address)


def make_certificate(host: str, folder: Path) -> tuple[Path, Path]:
    """(certificate, key) for one host, made in a folder; it vouches for itself, for two days."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise SystemExit("no openssl on PATH (Debian package `openssl`)")
    certificate, key = folder / "host.pem", folder / "host.key"
    request = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={host}"]
    extensions = ["-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", str(key), "-out", str(certificate), "-days", "2"]
    subprocess.run([openssl, "req", "-x509", *request, *extensions, *files], check=True, capture_output=True)
    return certificate, key
