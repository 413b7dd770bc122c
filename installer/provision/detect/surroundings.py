"""What lies in and around an environment that could break torch? Files, folders, variables, disks; nothing is imported.

Each question is a function that asks the host; what an answer means is read by a pure `parse_*`. A question that the
host does not answer leaves its field empty.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..doctor.case import Shadow, Surroundings
from ..environment import Environment
from ..errors import BadData
from ..host import Host
from ..machine import Machine, System
from ..settings import Settings, ask_settings
from .environment import normalize

VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONNOUSERSITE", "TMPDIR", "UV_TORCH_BACKEND")

TOPS = {"torch": "torch", "torchvision": "torchvision", "torchaudio": "torchaudio", "triton": "triton"}
"""Top folders of the torch family and the distributions to which they belong."""

_RUNTIME = ("vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll")
_LIBRARY = re.compile(r"(lib(?:cu|nv|nccl|torch|c10)[\w-]*\.so(?:\.\d+)?)|((?:cu|nv|torch|c10)\w*\.dll)", re.I)
_STUB = re.compile(r"libcuda\.so(\.1)?")


def ask_surroundings(host: Host, machine: Machine, environment: Environment, site: Path | None) -> Surroundings:
    """Everything that can be said of an environment without running it. `site` is its site-packages."""
    windows = machine.platform.system is System.WINDOWS
    variables = {name: value for name in VARIABLES if (value := host.getenv(name)) is not None}
    folders = tuple(_library_folders(variables, host, windows=windows))
    inside = _Site(host, site)
    return Surroundings(
        **inside.torch(),
        leftovers=tuple(name for name in inside.names if name.startswith("~")),
        metadata_of=tuple(inside.metadata()),
        broken_metadata=tuple(inside.broken_metadata()),
        unowned=tuple(inside.unowned()),
        built_for=dict(inside.built_for()),
        library_cudas=tuple(parse_library_cudas(inside.listed("bitsandbytes"))),
        variables=variables,
        shadows=tuple(_shadows(host, folders, inside)),
        stubs=tuple(folder for folder, _ in folders if _is_stub(host, folder)),
        pythonpath=tuple(_with_torch(host, variables.get("PYTHONPATH", ""))),
        user_site=_user_site(host, environment, variables),
        conda_torch=parse_conda_torch(_names(host, str(environment.prefix / "conda-meta"))),
        temporary_free=_disk(host, variables.get("TMPDIR") or "/tmp", total=False) if not windows else None,
        shared_memory=_disk(host, "/dev/shm", total=True) if machine.platform.system is System.LINUX else None,
        missing_dlls=tuple(_missing_dlls(host)) if windows else (),
        settings=_settings(host, environment.prefix),
    )


def _names(host: Host, folder: str, prefix: str = "") -> list[str]:
    try:
        return host.list_dir(folder, prefix=prefix)
    except OSError:
        return []


def _settings(host: Host, prefix: Path) -> Settings:
    try:
        return ask_settings(host, prefix=prefix)
    except (BadData, OSError):
        return Settings()


# Inside


class _Site:
    """A site-packages folder, asked through the host."""

    def __init__(self, host: Host, site: Path | None) -> None:
        self.host = host
        self.site = site
        self.names = _names(host, str(site)) if site else []
        self.infos = [name for name in self.names if name.endswith(".dist-info") and not name.startswith("~")]

    def listed(self, *below: str) -> list[str]:
        """The names in a folder of the site."""
        return _names(self.host, str(self.site.joinpath(*below))) if self.site else []

    def text(self, *below: str) -> str | None:
        """A file of the site, or None."""
        if self.site is None:
            return None
        try:
            return self.host.read_text(str(self.site.joinpath(*below)))
        except OSError:
            return None

    def torch(self) -> dict[str, Any]:
        """What torch's own files say."""
        said = parse_torch_version(self.text("torch", "version.py") or "")
        return {
            "torch_version": said.get("__version__"),
            "torch_cuda": said.get("cuda"),
            "torch_hip": said.get("hip"),
            "torch_libraries": tuple(self.listed("torch", "lib")),
            "torch_python": parse_extension_python(self.listed("torch")),
        }

    def metadata(self) -> Iterator[tuple[str, str]]:
        """(distribution, version) of every metadata folder."""
        for info in self.infos:
            name, _, version = info.removesuffix(".dist-info").partition("-")
            yield normalize(name), version

    def broken_metadata(self) -> Iterator[tuple[str, str]]:
        """Metadata folders without what makes them so."""
        for info in self.infos:
            inside = self.listed(info)
            if "METADATA" not in inside:
                yield info, "no METADATA"
            elif "RECORD" not in inside and "conda" not in (self.text(info, "INSTALLER") or "").lower():
                yield info, "no RECORD"
            elif not re.search(r"^Name: *\S", self.text(info, "METADATA") or "", re.M | re.I):
                yield info, "its METADATA names no package"

    def unowned(self) -> Iterator[str]:
        """Top folders of the torch family that belong to no distribution."""
        known = {name for name, _ in self.metadata()}
        eggs = {normalize(name.partition("-")[0]) for name in self.names if name.endswith((".egg-info", ".egg-link"))}
        for top, name in TOPS.items():
            if top in self.names and name not in known | eggs and self.listed(top):
                yield top

    def built_for(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """What compiled packages say they were built for."""
        xformers = parse_xformers(self.text("xformers", "cpp_lib.json") or "")
        if xformers:
            yield "xformers", xformers
        for info in self.infos:
            if info.startswith("flash_attn-"):
                built = parse_wheel_name((self.text(info, "direct_url.json") or "") + " " + info)
                if built:
                    yield "flash-attn", built

    def libraries(self) -> Iterator[tuple[str, str]]:
        """(name, path) of the libraries that torch loads from here."""
        folders: list[tuple[str, ...]] = [("torch", "lib")]
        folders += [("nvidia", part, below) for part in self.listed("nvidia") for below in ("lib", "bin")]
        for folder in folders:
            for name in self.listed(*folder):
                if _LIBRARY.fullmatch(name) and self.site is not None:
                    yield name, str(self.site.joinpath(*folder, name))


def parse_torch_version(text: str) -> dict[str, str]:
    """`torch/version.py`: the assignments of text to a name ("cuda" → "12.8"); None is left out."""
    return dict(re.findall(r"^(\w+)\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.M))


def parse_extension_python(names: Iterable[str]) -> str | None:
    """`_C.cpython-312-x86_64-linux-gnu.so` or `_C.cp312-win_amd64.pyd` among torch's files → "3.12"."""
    for name in names:
        match = re.fullmatch(r"_C\.(?:cpython-|cp)(\d)(\d+)t?[-\w]*\.(?:so|pyd)", name)
        if match:
            return f"{match[1]}.{match[2]}"
    return None


def parse_library_cudas(names: Iterable[str]) -> list[str]:
    """`libbitsandbytes_cuda128.so` → "12.8"."""
    found = (re.fullmatch(r"libbitsandbytes_cuda(\d\d)(\d+)(?:_nocublaslt\d*)?\.(?:so|dll)", name) for name in names)
    return sorted({f"{match[1]}.{match[2]}" for match in found if match})


def parse_xformers(text: str) -> dict[str, str]:
    """`xformers/cpp_lib.json` → {"torch": "2.7.0", "cuda": "12.8", "python": "3.11"}, as far as it says."""
    try:
        said = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError):
        return {}
    cuda = said.get("cuda")
    numbers = {
        "torch": str(said.get("torch") or "").partition("+")[0],
        "cuda": f"{int(cuda) // 100}.{int(cuda) % 100}" if str(cuda or "").isdigit() else "",
        "python": str(said.get("python") or ""),
    }
    return {name: value for name, value in numbers.items() if value}


def parse_wheel_name(text: str) -> dict[str, str]:
    """`flash_attn-2.8.3+cu12torch2.7cxx11abiTRUE-…` → {"cuda": "12", "torch": "2.7"}."""
    match = re.search(r"cu(\d{2})(\d?)torch(\d+\.\d+)", text)
    if match is None:
        return {}
    return {"cuda": match[1] + (f".{match[2]}" if match[2] else ""), "torch": match[3]}


def parse_conda_torch(names: Iterable[str]) -> str | None:
    """The torch among conda's records: `pytorch-2.5.1-py3.12_cuda….json` → "pytorch-2.5.1"."""
    for name in names:
        match = re.match(r"((?:pytorch|libtorch)-\d[\d.]*)-", name)
        if match:
            return match[1]
    return None


# Around


def _library_folders(variables: Mapping[str, str], host: Host, *, windows: bool) -> Iterator[tuple[str, str]]:
    """The folders that are searched before the environment's own, and the variable that says so."""
    names = ["PATH"] if windows else ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"]
    for name in names:
        value = host.getenv(name) if name == "PATH" else variables.get(name)
        for folder in (value or "").split(";" if windows else ":"):
            if folder:
                yield folder, name


def _shadows(host: Host, folders: Iterable[tuple[str, str]], inside: _Site) -> Iterator[Shadow]:
    """Libraries of the environment of which a searched folder has one of the same name."""
    own = dict(inside.libraries())
    if not own:
        return
    taken: set[str] = set()
    for folder, variable in folders:
        for name in _names(host, folder):
            path = os.path.join(folder, name)
            if name in own and name not in taken and path != own[name] and not _same(host, path, own[name]):
                taken.add(name)
                yield Shadow(name=name, wins=path, loses=own[name], by=variable)


def _same(host: Host, one: str, other: str) -> bool:
    try:
        return host.real_path(one) == host.real_path(other)
    except OSError:
        return False


def _is_stub(host: Host, folder: str) -> bool:
    return "stubs" in re.split(r"[\\/]", folder) and any(
        _STUB.fullmatch(name) for name in _names(host, folder, "libcuda")
    )


def _with_torch(host: Host, path: str) -> Iterator[str]:
    """The folders of a search path that hold a torch."""
    for folder in path.split(os.pathsep):
        if folder and any(name in ("torch", "torch.py") for name in _names(host, folder, "torch")):
            yield folder


def _user_site(host: Host, environment: Environment, variables: Mapping[str, str]) -> str | None:
    """The user's own site-packages, where it holds a torch and this interpreter looks into it."""
    home = host.getenv("HOME")
    if home is None or variables.get("PYTHONNOUSERSITE") or environment.manager not in ("conda", "system"):
        return None
    site = os.path.join(home, ".local", "lib", f"python{environment.python.minor}", "site-packages")
    return next(iter(_with_torch(host, site)), None)


def _disk(host: Host, path: str, *, total: bool) -> int | None:
    """The bytes of a file system, in all or free, by `df`."""
    with suppress(OSError):
        completed = host.run(["df", "-Pk", path], timeout=5)
        return parse_df(completed.stdout, total=total)
    return None


def parse_df(text: str, *, total: bool) -> int | None:
    """`df -Pk`: the second column (size) or the fourth (available) of the last line, in bytes."""
    lines = text.strip().splitlines()
    columns = lines[-1].split() if len(lines) > 1 else []
    number = columns[1 if total else 3] if len(columns) >= 6 else ""
    return int(number) * 1024 if number.isdigit() else None


def _missing_dlls(host: Host) -> Iterator[str]:
    """Which parts of the Visual C++ runtime Windows does not have."""
    folder = os.path.join(host.getenv("WINDIR") or "C:\\Windows", "System32")
    names = {
        name.lower()
        for prefix in ("vcruntime140", "VCRUNTIME140", "msvcp140", "MSVCP140")
        for name in _names(host, folder, prefix)
    }
    if names:  # nothing at all means that the folder could not be read
        yield from (name for name in _RUNTIME if name not in names)
