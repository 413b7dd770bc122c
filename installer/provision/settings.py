"""Which package indexes, certificates and proxies has this person already set up?

uv ignores pip's configuration, so a firm's `pip install` works where uv fails; what pip and uv were told is read here
and carried over to the uv that we run. Precedence, per setting: UV_* variables, the user's and the system's uv.toml,
PIP_* variables, pip's configuration files (the environment's own, the user's, the system's). A configuration file in
the current directory is never read: it could redirect the choice. Keys and their meaning: pip 26.3 `docs/html/topics/
configuration.md` and uv 0.13.8 `docs/pip/compatibility.md`, read 2026-11-20.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path
from typing import Any

from .errors import BadData
from .host import Host
from .values import frozen


@frozen
class Settings:
    """What the user configured. `origins` says where each non-empty field came from."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    keyring: str | None = None
    best_match: bool = False
    origins: tuple[tuple[str, str], ...] = ()

    def origin(self, name: str) -> str:
        """Where a field came from, in words."""
        return dict(self.origins).get(name, "default")


_LISTS = {"extra_index_urls", "find_links", "trusted_hosts"}
_FLAGS = {"no_index"}

_PIP = {
    "index-url": "index_url",
    "extra-index-url": "extra_index_urls",
    "find-links": "find_links",
    "no-index": "no_index",
    "cert": "cert",
    "client-cert": "client_cert",
    "proxy": "proxy",
    "trusted-host": "trusted_hosts",
    "keyring-provider": "keyring",
}
_UV_VARIABLES = {
    "UV_DEFAULT_INDEX": "index_url",
    "UV_INDEX_URL": "index_url",
    "UV_INDEX": "extra_index_urls",
    "UV_EXTRA_INDEX_URL": "extra_index_urls",
    "UV_FIND_LINKS": "find_links",
    "UV_NO_INDEX": "no_index",
    "SSL_CLIENT_CERT": "client_cert",
    "UV_INSECURE_HOST": "trusted_hosts",
    "UV_KEYRING_PROVIDER": "keyring",
}


def ask_settings(host: Host, *, prefix: Path | None = None) -> Settings:
    """The settings that apply to installs into the environment at `prefix`. Raises BadData for an unreadable file."""
    layers = [_uv_variables(host)]
    layers += [(path, parse_uv_toml(text, path)) for path, text in _texts(host, _uv_files(host))]
    layers.append(_pip_variables(host))
    config = host.getenv("PIP_CONFIG_FILE")
    if config != os.devnull:
        paths = [*([config] if config else []), *_pip_files(host, prefix)]
        layers += [(path, parse_pip_conf(text, path)) for path, text in _texts(host, paths)]
    return merge(layers)


def merge(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Settings:
    """Settings from (origin, values) layers, the most binding first; each field is taken from the first that has it."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for name, value in layer.items():
            if name not in values and value not in (None, (), ""):
                values[name] = value
                origins[name] = origin
    extra = origins.get("extra_index_urls", "")
    # pip takes the best version of all its indexes; uv stops at the first index that knows the name.
    values["best_match"] = extra.endswith(("pip.conf", "pip.ini")) or extra.startswith("PIP_")
    return Settings(**values, origins=tuple(sorted(origins.items())))


def parse_pip_conf(text: str, where: str) -> dict[str, Any]:
    """`[global]` and `[install]` of a pip.conf as fields of Settings. Raises BadData."""
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except ConfigError as error:
        raise BadData(
            f"pip's configuration {where} cannot be read: {' '.join(str(error).split())}",
            code="bad-settings",
            hint="correct the file, or set PIP_CONFIG_FILE to another one",
        ) from None
    found: dict[str, Any] = {}
    for section in ("global", "install"):
        for key, value in parser[section].items() if parser.has_section(section) else ():
            name = _PIP.get(key.replace("_", "-"))
            if name:
                found[name] = _typed(name, value)
    return found


def parse_uv_toml(text: str, where: str) -> dict[str, Any]:
    """The index settings of a user's uv.toml (top level and `[pip]`) as fields of Settings. Raises BadData."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadData(
            f"uv's configuration {where} cannot be read: {error}", code="bad-settings", hint="correct the file"
        ) from None
    found: dict[str, Any] = {}
    for table in (data, data.get("pip", {})):
        indexes = [entry for entry in table.get("index", []) if isinstance(entry, dict) and not entry.get("explicit")]
        default = [str(entry["url"]) for entry in indexes if entry.get("default") and "url" in entry]
        extra = [str(entry["url"]) for entry in indexes if not entry.get("default") and "url" in entry]
        found |= {
            "index_url": next(iter(default), table.get("index-url") or found.get("index_url")),
            "extra_index_urls": tuple(extra)
            or tuple(table.get("extra-index-url", ()))
            or found.get("extra_index_urls"),
            "find_links": tuple(table.get("find-links", ())) or found.get("find_links"),
            "trusted_hosts": tuple(table.get("allow-insecure-host", ())) or found.get("trusted_hosts"),
            "no_index": bool(table.get("no-index")) or found.get("no_index"),
            "keyring": table.get("keyring-provider") or found.get("keyring"),
        }
    return {name: value for name, value in found.items() if value}


def uv_environment(settings: Settings, environ: Mapping[str, str], *, offline: bool = False) -> dict[str, str]:
    """The variables with which uv runs: the user's rights, caches and network, and nothing that redirects the choice.

    Every UV_*, PIP_*, PYTHON*, VIRTUAL_ENV and CONDA_* variable goes (environment beats flags in uv: measured with
    0.13.8), except where uv keeps its cache; then the settings come back in uv's own words. Index addresses travel
    here and not as arguments, because arguments are visible to every user of the machine.
    """
    env = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(("UV_", "PIP_", "PYTHON", "CONDA_", "VIRTUAL_ENV", "PROVISION_", "LD_PRELOAD"))
    }
    for name in ("UV_CACHE_DIR", "UV_LINK_MODE", "UV_CONCURRENT_DOWNLOADS", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"):
        if name in environ and environ[name] != "symlink":
            env[name] = environ[name]
    env |= {name: value for name, value in environ.items() if re.fullmatch(r"UV_INDEX_\w+_(USERNAME|PASSWORD)", name)}
    words = {
        "UV_DEFAULT_INDEX": settings.index_url,
        "UV_INDEX": " ".join(settings.extra_index_urls),
        "UV_FIND_LINKS": ",".join(settings.find_links),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "UV_KEYRING_PROVIDER": settings.keyring if settings.keyring == "subprocess" else None,
        "UV_INDEX_STRATEGY": "unsafe-best-match" if settings.best_match else None,
        "UV_NO_INDEX": "1" if settings.no_index else None,
        "UV_OFFLINE": "1" if offline else None,
        "SSL_CERT_FILE": settings.cert or env.get("SSL_CERT_FILE"),
        "SSL_CLIENT_CERT": settings.client_cert or env.get("SSL_CLIENT_CERT"),
    }
    if settings.proxy and not any(name.upper() in ("ALL_PROXY", "HTTPS_PROXY") for name in env):
        words["ALL_PROXY"] = settings.proxy
    return env | {name: value for name, value in words.items() if value} | {"UV_NO_PROGRESS": "0"}


def redact(text: str) -> str:
    """`text` without the user names and passwords of its URLs."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


def _typed(name: str, value: str) -> Any:
    if name in _LISTS:
        return tuple(value.split())
    if name in _FLAGS:
        return value.strip().lower() in {"1", "true", "yes", "on"}
    return value.strip() or None


def _uv_variables(host: Host) -> tuple[str, dict[str, Any]]:
    found: dict[str, Any] = {}
    for variable, name in _UV_VARIABLES.items():
        value = host.getenv(variable)
        if value and name not in found:
            # UV_INDEX entries may be named: `corp=https://…`; UV_FIND_LINKS is separated by commas.
            parts = value.replace(",", " ") if variable == "UV_FIND_LINKS" else re.sub(r"(^|\s)[\w-]+=", r"\1", value)
            found[name] = _typed(name, parts)
    return "UV_* variables", found


def _pip_variables(host: Host) -> tuple[str, dict[str, Any]]:
    found: dict[str, Any] = {}
    for key, name in _PIP.items():
        value = host.getenv("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[name] = _typed(name, value)
    return "PIP_* variables", found


def _uv_files(host: Host) -> list[str]:
    if os.name == "nt":
        bases = [host.getenv("APPDATA"), host.getenv("PROGRAMDATA")]
        return [str(Path(base) / "uv" / "uv.toml") for base in bases if base]
    home = host.getenv("HOME") or "/"
    user = host.getenv("XDG_CONFIG_HOME") or f"{home}/.config"
    system = [part for part in (host.getenv("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if part]
    return [f"{user}/uv/uv.toml", *(f"{part}/uv/uv.toml" for part in system), "/etc/uv/uv.toml"]


def _pip_files(host: Host, prefix: Path | None) -> list[str]:
    """pip's configuration files, the most binding first."""
    name = "pip.ini" if os.name == "nt" else "pip.conf"
    site = [str(prefix / name)] if prefix else []
    if os.name == "nt":
        bases = [
            (host.getenv("APPDATA"), "pip"),
            (host.getenv("USERPROFILE"), "pip"),
            (host.getenv("PROGRAMDATA"), "pip"),
        ]
        return site + [str(Path(base) / folder / name) for base, folder in bases if base]
    home = host.getenv("HOME") or "/"
    user = host.getenv("XDG_CONFIG_HOME") or f"{home}/.config"
    system = [part for part in (host.getenv("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if part]
    mac = [f"{home}/Library/Application Support/pip/{name}", f"/Library/Application Support/pip/{name}"]
    return [
        *site,
        f"{user}/pip/{name}",
        f"{home}/.pip/{name}",
        *mac[:1],
        f"/etc/{name}",
        *(f"{part}/pip/{name}" for part in system),
        *mac[1:],
    ]


def _texts(host: Host, paths: Iterable[str]) -> list[tuple[str, str]]:
    texts = []
    for path in paths:
        try:
            texts.append((path, host.read_text(path)))
        except OSError:
            continue
    return texts
