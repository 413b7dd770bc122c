"""Which Python is in this environment, and which distributions does it hold?

Read from the files alone: running the environment's interpreter would run its `.pth` files, and an environment that is
half broken must still be readable. Formats: `pyvenv.cfg` (PEP 405, and what virtualenv and uv add), `*.dist-info`
(PEP 376, core metadata), conda's `conda-meta`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ..environment import Environment, Installed, Manager, Python
from ..errors import TargetUnusable

WINDOWS = os.name == "nt"


def target_prefix(option: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """The environment that a command is about: `--env`, else the active virtual environment, else `.venv` here."""
    if option is not None:
        return Path(os.path.abspath(cwd / option.expanduser()))
    active = environ.get("VIRTUAL_ENV")
    return Path(active) if active else cwd / ".venv"


def interpreter(prefix: Path) -> Path:
    """Where an environment keeps its interpreter."""
    if WINDOWS:
        scripts = prefix / "Scripts" / "python.exe"
        return scripts if scripts.exists() or not (prefix / "python.exe").exists() else prefix / "python.exe"
    return prefix / "bin" / "python"


def this_python() -> Python:
    """The Python that runs this tool, with which a new environment is made unless `--python` says otherwise."""
    return Python(
        version=".".join(map(str, sys.version_info[:3])),
        implementation=sys.implementation.name,
        free_threaded=bool(getattr(sys, "abiflags", "").count("t")),
    )


def inspect_environment(prefix: Path, *, python: str | None = None) -> Environment:
    """What is at `prefix`; where nothing is, the environment that would be made there (with `python`, "3.12").

    Raises TargetUnusable where something is there that is no Python environment.
    """
    if not os.path.lexists(prefix) or (prefix.is_dir() and not any(prefix.iterdir())):
        made_with = this_python() if python is None else Python(version=python)
        return Environment(prefix=prefix, python=made_with, exists=False)
    config = _text(prefix / "pyvenv.cfg")
    if config is not None:
        manager, version, implementation = parse_pyvenv(config)
    elif (prefix / "conda-meta").is_dir():
        manager, implementation = Manager.CONDA, "cpython"
        version = parse_conda_meta(entry.name for entry in (prefix / "conda-meta").iterdir())
    elif interpreter(prefix).exists() and site_packages(prefix) is not None:
        manager, version, implementation = Manager.SYSTEM, None, "cpython"
    else:
        raise TargetUnusable(
            f"{prefix} is there, but it is not a Python environment (no pyvenv.cfg)",
            code="not-an-environment",
            hint="give another path with --env, or move this one away",
        )
    site = site_packages(prefix)
    folder = site.parent.name if site else ""
    if version is None:
        match = re.fullmatch(r"python(\d+\.\d+)t?", folder)
        version = match[1] if match else this_python().version
    return Environment(
        prefix=prefix,
        python=Python(version=version, implementation=implementation, free_threaded=folder.endswith("t")),
        manager=manager,
        installed=installed_in(site) if site else MappingProxyType({}),
    )


def parse_pyvenv(text: str) -> tuple[Manager, str | None, str]:
    """Who made it, which version, which implementation, from `pyvenv.cfg`."""
    values = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip().lower()] = value.strip()
    version = values.get("version_info") or values.get("version")
    match = re.match(r"\d+\.\d+(\.\d+)?", version or "")
    manager = Manager.UV if "uv" in values else Manager.VENV
    return manager, match[0] if match else None, values.get("implementation", "cpython").lower()


def parse_conda_meta(names: Iterable[str]) -> str | None:
    """The Python version of a conda environment from the names in its `conda-meta`."""
    for name in names:
        match = re.fullmatch(r"python-(\d+\.\d+\.\d+)-.*\.json", name)
        if match:
            return match[1]
    return None


def site_packages(prefix: Path) -> Path | None:
    """Where the environment keeps its distributions, or None."""
    if WINDOWS:
        site = prefix / "Lib" / "site-packages"
        return site if site.is_dir() else None
    found = sorted(prefix.glob("lib/python3.*/site-packages"), key=lambda path: len(path.parent.name))
    return found[-1] if found else None


def installed_in(site: Path) -> Mapping[str, Installed]:
    """Every distribution with a readable `METADATA`, by normalized name (the first found of two with one name)."""
    found: dict[str, Installed] = {}
    for info in _dist_infos(site):
        text = _text(info / "METADATA")
        if text is None:
            continue
        distribution = parse_metadata(text)
        if distribution is None:
            continue
        origin = _text(info / "direct_url.json") or ""
        name, version, requires = distribution
        found.setdefault(
            name,
            Installed(
                name=name,
                version=version,
                requires=requires,
                installer=(_text(info / "INSTALLER") or "").strip() or None,
                editable='"editable"' in origin and "true" in origin,
                record=(info / "RECORD").is_file(),
                requested=(info / "REQUESTED").is_file(),
            ),
        )
    return MappingProxyType(found)


def parse_metadata(text: str) -> tuple[str, str, tuple[str, ...]] | None:
    """(normalized name, version, requirements) of a core metadata file's headers, or None where it has no name."""
    name = version = None
    requires = []
    for line in text.splitlines():
        if not line:
            break
        key, colon, value = line.partition(":")
        if not colon:
            continue
        match key.lower():
            case "name":
                name = normalize(value.strip())
            case "version":
                version = value.strip()
            case "requires-dist":
                requires.append(value.strip())
    return (name, version, tuple(requires)) if name and version else None


def normalize(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _dist_infos(site: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(site))
    except OSError:
        return
    yield from (site / name for name in names if name.endswith(".dist-info") and not name.startswith("~"))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
