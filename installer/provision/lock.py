"""What was chosen and proven, as a file that pip and uv read without us (PEP 751, with a `[tool.provision]` table).

Pure: text in, text out. The same pins give the same bytes: nothing here knows the time of day. A lock is for one target
(system, processor, Python, backend, GPU architectures) and says so in the words of PEP 751 too (`environments`,
`requires-python`), so that pip and uv refuse it elsewhere by themselves; several targets are several files. One file
for several would need a marker on every package (backends differ, so versions do), could not be written as
requirements (pip has no index per package), and would make nightlies hash every platform's wheels.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .errors import BadData, UsageProblem
from .values import frozen

if TYPE_CHECKING:
    from .checks import Verification
    from .machine import Machine

SCHEMA = 1
FILE_NAME = "pylock.provision.toml"
"""Beside the environment, after the one-shot job."""

REQUIREMENTS_HEAD = "# The pins of "
"""How the requirements text that we write begins."""

MARKERS = {"linux": "linux", "windows": "win32", "macos": "darwin"}
PROCESSORS = {
    ("windows", "x86_64"): "AMD64",
    ("windows", "aarch64"): "ARM64",
    ("macos", "aarch64"): "arm64",
}
"""What `platform_machine` is where it is not spelled as we spell it."""


@frozen
class Target:
    """Which machines a lock is for. `arches` are GPU architectures in torch's spelling."""

    system: str
    machine: str
    python: str
    arches: tuple[str, ...] = ()

    @property
    def platform(self) -> str:
        """`linux-x86_64`, the word of `--for`."""
        return f"{self.system}-{self.machine}"

    @property
    def marker(self) -> str:
        """The environments of this target, as PEP 508 has it."""
        machine = PROCESSORS.get((self.system, self.machine), self.machine)
        return f"sys_platform == '{MARKERS[self.system]}' and platform_machine == '{machine}'"

    def __str__(self) -> str:
        gpus = " ".join(self.arches) or "no GPU"
        return f"{self.system} {self.machine}, Python {self.python}, {gpus}"


@frozen
class File:
    """One file that may be a package: its name, where it lies, its sha256."""

    name: str
    url: str
    sha256: str
    size: int | None = None


@frozen
class Locked:
    """One package at one version. `files` are the wheels for the target; where there are none, the source."""

    name: str
    version: str
    files: tuple[File, ...] = ()


@frozen
class Lock:
    """Our table of a lock file, and its packages.

    `from_index` are the packages that only the chosen index (`index_url`) has, on one page where it is `flat`;
    `machine` and `request` are what the choice was made for, as the file has them.
    """

    profile: str
    backend: str
    channel: str
    index_url: str
    target: Target
    packages: tuple[Locked, ...]
    from_index: tuple[str, ...] = ()
    flat: bool = False
    machine: Mapping[str, Any] | None = None
    request: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None
    verification: Mapping[str, Any] | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Normalized name → version."""
        return {package.name: package.version for package in self.packages}

    @property
    def torch(self) -> str:
        """The exact version of torch, `2.11.0+cu128`."""
        return self.versions["torch"]

    @property
    def pins(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Name → version and hashes: what a lock says, wherever the files lie."""
        return {
            package.name: (package.version, tuple(sorted(file.sha256 for file in package.files)))
            for package in self.packages
        }


# Writing ------------------------------------------------------------------------------------------------------------


def lock_text(
    pylock: str,
    *,
    backend: str,
    channel: str,
    profile: str,
    target: Target,
    index_url: str,
    from_index: Iterable[str] = (),
    flat: bool = False,
    machine: Machine | None = None,
    request: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    verification: Verification | None = None,
) -> str:
    """uv's pylock text with our table. Raises BadData where the text is no pylock."""
    import tomli_w

    data = _parsed(pylock, "pylock")
    ordered: dict[str, Any] = {
        "lock-version": data["lock-version"],
        "environments": [target.marker],
        "requires-python": f"=={target.python.rstrip('t')}.*",
        "created-by": "torch-provision",
        "packages": [_package(package) for package in sorted(data.get("packages", []), key=lambda one: one["name"])],
    }
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "profile": profile,
        "backend": backend,
        "channel": channel,
        "index-url": without_login(index_url),
        "from-index": sorted(from_index),
        "target": {
            "system": target.system,
            "machine": target.machine,
            "python": target.python,
            "arches": list(target.arches),
        },
    }
    if flat:
        table["index-flat"] = True
    if machine is not None:
        table["machine"] = machine_summary(machine)
    if request is not None:
        table["request"] = dict(request)
    if environment:
        table["environment"] = dict(environment)
    if verification is not None:
        table["verification"] = summary(verification)
    ordered["tool"] = {**data.get("tool", {}), "provision": table}
    return tomli_w.dumps(ordered)


_KEYS = ("name", "version", "marker", "requires-python", "wheels", "sdist", "archive", "vcs", "directory")


def _package(package: Mapping[str, Any]) -> dict[str, Any]:
    """A package with what an installer needs: each file once, in the order of their names, without logins.

    Where there are wheels the source is left out: an installer that may build would not be held to one file.
    """
    made = {key: package[key] for key in _KEYS if key in package}
    if package.get("wheels"):
        files = {_file_name(wheel): _file(wheel) for wheel in package["wheels"]}
        made["wheels"] = [files[name] for name in sorted(files)]
        made.pop("sdist", None)
    for kind in ("sdist", "archive"):
        if kind in made:
            made[kind] = _file(made[kind])
    return made


def _file(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: entry[key] for key in ("name", "path", "size", "hashes") if key in entry}
    url = {"url": without_login(entry["url"])} if "url" in entry else {}
    return {"name": _file_name(entry)} | url | {key: value for key, value in kept.items() if key != "name"}


def _file_name(entry: Mapping[str, Any]) -> str:
    if "name" in entry:
        return str(entry["name"])
    return unquote(PurePosixPath(urlsplit(str(entry.get("url") or entry.get("path", ""))).path).name)


def machine_summary(machine: Machine) -> dict[str, Any]:
    """What the choice rests on: platform, GPUs and drivers; no serials, no sources. `machine_from_json` reads it."""
    platform = machine.platform
    rows: dict[str, Any] = {
        "platform": {
            "system": platform.system.value,
            "machine": platform.machine,
            "wsl": platform.wsl or None,
            "libc": list(platform.libc) if platform.libc else None,
        },
        "gpus": [
            {"vendor": gpu.vendor.value, "name": gpu.name, "arch": gpu.arch, "index": gpu.index} for gpu in machine.gpus
        ],
        "drivers": [
            {"vendor": driver.vendor.value, "version": driver.version, "cuda": driver.cuda}
            for driver in machine.drivers
        ],
    }
    return {
        key: [_known(row) for row in value] if isinstance(value, list) else _known(value) for key, value in rows.items()
    }


def _known(row: Any) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def summary(verification: Verification) -> dict[str, Any]:
    """The verification as the lock keeps it: what passed, and what could not be checked."""
    from .checks import Status

    return {
        "torch": verification.torch.version or "",
        "ok": verification.ok,
        "passed": [check.name for check in verification.checks if check.status is Status.PASSED],
        "skipped": [check.name for check in verification.checks if check.status is Status.SKIPPED],
    }


def requirements_text(lock: Lock, *, beside: str, folder: bool = False) -> str:
    """The same pins for pip and uv of any age: exact versions, every hash, and where torch's own packages lie.

    `--find-links` and not `--extra-index-url`: uv would take whatever else the index carries from there (old copies
    of common packages), pip the newest of both; a page of links adds one name's files and nothing else. `beside` is
    the lock's name. In a `folder` that holds all the files nothing else is asked.
    """
    lines = [
        f"{REQUIREMENTS_HEAD}{beside}: torch {lock.torch} for {lock.target}",
        "# pip install --require-hashes -r THIS, or uv pip install --require-hashes -r THIS",
    ]
    if folder:
        lines += ["# pip install --no-index --find-links FOLDER --require-hashes -r THIS", ""]
    else:
        lines += ["", *(f"--find-links {page}" for page in pages(lock)), ""]
    for package in lock.packages:
        hashes = sorted({file.sha256 for file in package.files})
        lines.append(
            " \\\n".join([f"{package.name}=={package.version}", *(f"    --hash=sha256:{one}" for one in hashes)])
        )
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def pages(lock: Lock) -> list[str]:
    """The pages of the chosen index that hold the packages which no other index has."""
    if not lock.from_index or "://" not in lock.index_url:
        return []
    base = lock.index_url.rstrip("/")
    held = lock.versions
    if lock.flat:
        return [f"{base}/"]
    return [f"{base}/{name}/" for name in lock.from_index if name in held]


# Reading ------------------------------------------------------------------------------------------------------------


def read_lock(text: str, *, where: str) -> Lock:
    """A lock of ours. Raises BadData where it is no pylock, not ours, of a newer schema, or without hashes."""
    data = _parsed(text, where)
    table = data.get("tool", {}).get("provision") if isinstance(data.get("tool", {}), dict) else None
    if not isinstance(table, dict):
        raise BadData(
            f"{where} has no [tool.provision] table",
            code="foreign-lock",
            hint="pip and uv can install from it; provision only changes and checks its own locks",
        )
    schema = table.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema > SCHEMA:
        raise BadData(
            f"{where}: schema {schema!r} was written by a newer provision; this one reads up to {SCHEMA}",
            code="schema-too-new",
            hint="update torch-provision, or lock again with this version",
        )
    try:
        target = table["target"]
        lock = Lock(
            profile=_text(table["profile"]),
            backend=_text(table["backend"]),
            channel=_text(table["channel"]),
            index_url=_text(table.get("index-url", "")),
            from_index=tuple(map(_text, table.get("from-index", ()))),
            flat=table.get("index-flat") is True,
            target=Target(
                system=_text(target["system"]),
                machine=_text(target["machine"]),
                python=_text(target["python"]),
                arches=tuple(map(_text, target["arches"])),
            ),
            packages=tuple(_locked(package, where) for package in data.get("packages", [])),
            machine=table.get("machine"),
            request=table.get("request"),
            environment=table.get("environment", {}),
            verification=table.get("verification", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{where}: [tool.provision] lacks {error}", code="bad-lock", hint="lock again") from None
    if lock.target.system not in MARKERS:
        raise BadData(f"{where}: there is no system {lock.target.system!r}", code="bad-lock", hint="lock again")
    if "torch" not in lock.versions:
        raise BadData(f"{where} does not pin torch", code="bad-lock", hint="lock again")
    return lock


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text where {value!r} is")
    return value


def _locked(package: Mapping[str, Any], where: str) -> Locked:
    entries = package.get("wheels") or [package[kind] for kind in ("sdist", "archive") if kind in package]
    files = []
    for entry in entries:
        sha256 = entry.get("hashes", {}).get("sha256")
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise BadData(
                f"{where}: {package.get('name')} has a file without a sha256", code="bad-lock", hint="lock again"
            )
        url = _text(entry.get("url") or entry.get("path"))
        files.append(File(name=_file_name(entry), url=url, sha256=sha256, size=entry.get("size")))
    if not files:
        raise BadData(
            f"{where}: {package.get('name')} is not pinned to files with hashes",
            code="bad-lock",
            hint="lock again; what comes from a folder or a repository cannot be locked",
        )
    return Locked(name=_text(package["name"]), version=_text(package.get("version", "")), files=tuple(files))


def is_ours(text: str) -> bool:
    """Whether a file at the lock's place was written by us and may be replaced."""
    try:
        return isinstance(tomllib.loads(text).get("tool", {}).get("provision"), dict)
    except (tomllib.TOMLDecodeError, AttributeError):
        return False


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadData(f"{where} is not TOML: {error}", code="bad-lock", hint="lock again") from None
    if "lock-version" not in data:
        raise BadData(f"{where} is not a pylock: it has no lock-version", code="bad-lock", hint="lock again")
    return data


# Comparing ----------------------------------------------------------------------------------------------------------


def differences(old: Lock, new: Lock) -> tuple[str, ...]:
    """What the new lock says otherwise: versions, hashes, the target. Where the files lie does not matter."""
    said = []
    if old.backend != new.backend:
        said.append(f"backend {old.backend} → {new.backend}")
    if old.target != new.target:
        said.append(f"target {old.target} → {new.target}")
    before, after = old.pins, new.pins
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            said.append(f"- {name}=={before[name][0]}")
        elif name not in before:
            said.append(f"+ {name}=={after[name][0]}")
        elif before[name][0] != after[name][0]:
            said.append(f"{name} {before[name][0]} → {after[name][0]}")
        elif before[name][1] != after[name][1]:
            said.append(f"{name}=={after[name][0]}: other files")
    return tuple(said)


def check_portable(lock: Lock, *, where: str) -> None:
    """A lock that others shall use names no file of this machine and no login. Raises UsageProblem."""
    here = [package.name for package in lock.packages if any(_local(file.url) for file in package.files)]
    if here:
        raise UsageProblem(
            f"{where} would name files of this machine: {', '.join(here)} come from a local folder",
            code="local-source",
            hint="lock from an index that others reach too: --index-base, or an index in pip's or uv's settings",
        )


def _local(url: str) -> bool:
    return "://" not in url or url.startswith("file:")


def without_login(url: str) -> str:
    """An address without user and password."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", url)
