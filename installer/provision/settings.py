"""Which package indexes, certificates and proxies has this person already set up?

uv ignores pip's configuration, so a firm's `pip install` works where uv fails; what pip and uv were told is read here
and carried over to the uv that we run. Precedence, per setting: UV_* variables, the user's and the system's uv.toml,
PIP_* variables, pip's configuration files in pip's own order. A configuration file in the current directory is never
read: it could redirect the choice. Keys and their meaning: pip 26.3 `docs/html/topics/configuration.md` and
`_internal/configuration.py`, uv 0.13.8 `docs/pip/compatibility.md`, read 2026-11-20.

User names and passwords are taken out of every address as it is read, so that an address can be shown and written;
they travel in `Settings.logins` alone; `carry` hands them on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadData
from .values import fields, frozen

if TYPE_CHECKING:
    from .host import Host


@frozen
class Login:
    """A user name and password (None: the keyring's, if anybody's) for the addresses below `url`."""

    url: str
    user: str
    password: str | None

    def __repr__(self) -> str:
        return f"Login(url={self.url!r})"


@frozen
class Settings:
    """What the user configured, without credentials. `origins` says where each non-empty field came from."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    keyring: str | None = None
    timeout: float | None = None
    retries: int | None = None
    exclude_newer: str | None = None
    best_match: bool = False
    logins: tuple[Login, ...] = ()
    origins: tuple[tuple[str, str], ...] = ()

    def origin(self, name: str) -> str:
        """Where a field came from, in words."""
        return dict(self.origins).get(name, "default")

    def login(self, url: str) -> Login | None:
        """The login that was configured for an address: of the nearest address above it, else of the same host."""
        same = [one for one in self.logins if _origin(one.url) == _origin(url)]
        return max(same, key=lambda one: _alike(one.url, url), default=None)

    def with_login(self, url: str) -> str:
        """The address with its login put back: for uv's environment, and for nothing that is shown or written."""
        from urllib.parse import quote

        found = self.login(url)
        if found is None:
            return url
        password = f":{quote(found.password, safe='')}" if found.password is not None else ""
        return url.replace("://", f"://{quote(found.user, safe='')}{password}@", 1)


Layer = tuple[str, Mapping[str, Any]]
"""Where settings come from, in words, and some fields of Settings as they are written there."""

_LISTS = {"extra_index_urls", "find_links", "trusted_hosts"}
_FLAGS = {"no_index"}
_PATHS = {"cert", "client_cert"}
_ADDRESSES = ("index_url", "proxy")
_ADDRESS_LISTS = ("extra_index_urls", "find_links")

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
    "timeout": "timeout",
    "default-timeout": "timeout",
    "retries": "retries",
    "uploaded-prior-to": "exclude_newer",
}
_UV_VARIABLES = {
    "UV_DEFAULT_INDEX": "index_url",
    "UV_INDEX_URL": "index_url",
    "UV_INDEX": "extra_index_urls",
    "UV_EXTRA_INDEX_URL": "extra_index_urls",
    "UV_FIND_LINKS": "find_links",
    "UV_NO_INDEX": "no_index",
    "SSL_CERT_FILE": "cert",
    "SSL_CLIENT_CERT": "client_cert",
    "UV_INSECURE_HOST": "trusted_hosts",
    "UV_KEYRING_PROVIDER": "keyring",
    "UV_HTTP_TIMEOUT": "timeout",
    "UV_HTTP_RETRIES": "retries",
    "UV_EXCLUDE_NEWER": "exclude_newer",
}
_REQUESTS_VARIABLES = {"REQUESTS_CA_BUNDLE": "cert", "CURL_CA_BUNDLE": "cert"}
"""What pip's own HTTP library reads (requests 2.32, `sessions.py`): the weakest word about certificates."""


def ask_settings(host: Host, *, prefix: Path | None = None, base: str | None = None) -> Settings:
    """The settings that apply to installs into the environment at `prefix`.

    `base` is the address of the PyTorch index or its mirror as the user gave it: a login in it is kept too. Raises
    BadData for an unreadable file.
    """
    layers = _variables(host, _UV_VARIABLES)
    layers += [(path, parse_uv_toml(text, path)) for path, text in _texts(host, _uv_files(host))]
    layers += _variables(host, {"PIP_" + key.upper().replace("-", "_"): name for key, name in _PIP.items()})
    config = host.getenv("PIP_CONFIG_FILE")
    if config != os.devnull:
        files = _texts(host, _pip_files(host, prefix, config))
        for section in ("install", "global"):  # a section stands over a file: pip's _get_ordered_configuration_items
            layers += [(path, parse_pip_conf(text, path)[section]) for path, text in files]
    layers += _variables(host, _REQUESTS_VARIABLES)
    if base is not None:
        layers.append(("--index-base", {"base": base}))
    return merge(layers, host.getenv)


def merge(layers: Iterable[Layer], getenv: Callable[[str], str | None] = lambda _: None) -> Settings:
    """Settings from (origin, values) layers, the most binding first; each field is taken from the first that has it.

    An index may be written `name=https://…`; then `getenv` is asked for UV_INDEX_NAME_USERNAME and its _PASSWORD.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for name, value in layer.items():
            if name not in values and value not in (None, (), "", False):
                values[name] = value
                origins[name] = origin
    if "://" not in values.get("proxy", "://"):
        values["proxy"] = f"http://{values['proxy']}"
    logins: list[Login] = []
    addresses = ["base", *_ADDRESSES]
    values |= {name: _clean(values[name], logins, getenv) for name in addresses if name in values}
    for name in _ADDRESS_LISTS:
        if name in values:
            values[name] = tuple(_clean(url, logins, getenv) for url in values[name])
    # pip takes the best version of all its indexes; uv stops at the first index that knows the name.
    values["best_match"] = origins.get("extra_index_urls", "").startswith("PIP_") or origins.get(
        "extra_index_urls", ""
    ).endswith(("pip.conf", "pip.ini"))
    values.pop("base", None)
    origins.pop("base", None)
    return Settings(**values, logins=tuple(logins), origins=tuple(sorted(origins.items())))


def _clean(written: str, logins: list[Login], getenv: Callable[[str], str | None]) -> str:
    """The address alone; its login goes into `logins`."""
    from urllib.parse import unquote

    named = re.fullmatch(r"([\w.-]+)=(\S+://.*)", written)
    name, address = (named[1], named[2]) if named else (None, written)
    url = redact(address)
    if url != address:
        user, colon, password = address.partition("://")[2][: len(address) - len(url) - 1].partition(":")
        logins.append(Login(url=url, user=unquote(user), password=unquote(password) if colon else None))
    elif name:
        word = f"UV_INDEX_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"
        given = getenv(f"{word}_USERNAME")
        secret = getenv(f"{word}_PASSWORD")
        if given or secret:
            logins.append(Login(url=url, user=given or "", password=secret))
    return url


def parse_pip_conf(text: str, where: str) -> dict[str, dict[str, Any]]:
    """The sections `global` and `install` of a pip.conf, each as fields of Settings. Raises BadData."""
    from configparser import Error as ConfigError
    from configparser import RawConfigParser

    parser = RawConfigParser(strict=False)
    try:
        parser.read_string(text.removeprefix("\ufeff"))
    except ConfigError as error:
        raise BadData(
            f"pip's configuration {where} cannot be read: {redact(' '.join(str(error).split()))}",
            code="bad-settings",
            hint="correct the file, or set PIP_CONFIG_FILE to another one",
        ) from None
    found: dict[str, dict[str, Any]] = {"global": {}, "install": {}}
    for section, values in found.items():
        for key, value in parser[section].items() if parser.has_section(section) else ():
            name = _PIP.get(key.replace("_", "-").removeprefix("--"))
            if name and value:
                values[name] = _typed(name, value)
    return found


def parse_uv_toml(text: str, where: str) -> dict[str, Any]:
    """The settings of a user's uv.toml (top level and `[pip]`) as fields of Settings. Raises BadData.

    Relative folders are meant from the file's own folder.
    """
    import tomllib

    try:
        data = tomllib.loads(text.removeprefix("\ufeff"))
        tables = [data, data.get("pip", {})]
        return {name: value for table in tables for name, value in _uv_table(table, where).items()}
    except tomllib.TOMLDecodeError as error:
        problem = str(error)
    except (AttributeError, TypeError, ValueError, KeyError):
        problem = "a setting in it has a value of the wrong kind"
    raise BadData(f"uv's configuration {where} cannot be read: {problem}", code="bad-settings", hint="correct the file")


def _uv_table(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    indexes = [entry for entry in table.get("index", []) if not entry.get("explicit")]
    named = [(f"{entry['name']}={entry['url']}" if "name" in entry else str(entry["url"]), entry) for entry in indexes]
    default = [url for url, entry in named if entry.get("default")]
    folder = os.path.dirname(where)
    links = [link if "://" in link else os.path.join(folder, link) for link in table.get("find-links", ())]
    found = {
        "index_url": default[0] if default else table.get("index-url"),
        "extra_index_urls": tuple(url for url, entry in named if not entry.get("default"))
        or tuple(map(str, table.get("extra-index-url", ()))),
        "find_links": tuple(links),
        "trusted_hosts": tuple(map(str, table.get("allow-insecure-host", ()))),
        "no_index": bool(table.get("no-index")),
        "keyring": table.get("keyring-provider"),
        "proxy": table.get("https-proxy") or table.get("http-proxy"),
        "exclude_newer": table.get("exclude-newer"),
    }
    return {name: value for name, value in found.items() if value not in (None, (), "", False)}


# What a person is told ----------------------------------------------------------------------------------------------


def settings_lines(settings: Settings) -> list[str]:
    """Every setting that is not a default, with where it comes from; no login is shown."""
    shown = fields(settings)
    lines = []
    for name, origin in settings.origins:
        value = shown[name]
        text = " ".join(value) if isinstance(value, tuple) else str(value).lower() if value is True else str(value)
        lines.append(f"  {name.replace('_', '-')} = {text}   [{origin}]")
    places = dict.fromkeys(_origin(one.url) for one in settings.logins)
    lines += [f"  login for {place} = (not shown)" for place in places]
    return ["Settings", *lines] if lines else ["Settings  none: neither pip nor uv is configured"]


def redact(text: str) -> str:
    """`text` without the user names and passwords of its URLs."""
    return re.sub(r"(?<=://)[^/?#\s\"'<>]*@", "", text)


def _alike(one: str, other: str) -> int:
    """How many parts the paths of two addresses have in common from the left."""
    parts = zip(one.split("/")[3:], other.split("/")[3:], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], parts))


def _origin(url: str) -> str:
    """`https://host:8443` of an address below it."""
    return "/".join(url.split("/", 3)[:3]).lower()


# Where it is written ------------------------------------------------------------------------------------------------


def _typed(name: str, value: str) -> Any:
    """A setting as pip or uv write it, as a field of Settings; None where it makes no sense."""
    if name in _LISTS:
        parts = value.split()
        return tuple(map(_local, parts) if name == "find_links" else parts)
    if name in _FLAGS:
        return value.strip().lower() in {"1", "true", "yes", "on", "t", "y"}
    if name in _PATHS:
        return os.path.abspath(os.path.expanduser(value.strip())) if value.strip() else None
    if name in ("timeout", "retries"):
        try:
            return float(value) if name == "timeout" else int(value)
        except ValueError:
            return None
    return value.strip() or None


def _local(link: str) -> str:
    """A folder by its whole path: uv works in a folder of its own."""
    return link if "://" in link or link.startswith("file:") else os.path.abspath(os.path.expanduser(link))


def _variables(host: Host, names: Mapping[str, str]) -> list[Layer]:
    """A layer for each variable that is set."""
    layers: list[Layer] = []
    for variable, name in names.items():
        value = host.getenv(variable)
        if value:
            parts = value.replace(",", " ") if variable == "UV_FIND_LINKS" else value
            layers.append((variable, {name: _typed(name, parts)}))
    return layers


def _uv_files(host: Host) -> list[str]:
    """uv's configuration files, the most binding first; UV_CONFIG_FILE stands for all of them."""
    if host.getenv("UV_NO_CONFIG"):
        return []
    if named := host.getenv("UV_CONFIG_FILE"):
        return [named]
    if os.name == "nt":
        bases = [host.getenv("APPDATA"), host.getenv("PROGRAMDATA")]
        return [str(Path(base) / "uv" / "uv.toml") for base in bases if base]
    home = host.getenv("HOME") or "/"
    user = host.getenv("XDG_CONFIG_HOME") or f"{home}/.config"
    return [f"{user}/uv/uv.toml", *(f"{part}/uv/uv.toml" for part in _system_folders(host)), "/etc/uv/uv.toml"]


def _system_folders(host: Host) -> list[str]:
    return [part for part in (host.getenv("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if part]


def _pip_files(host: Host, prefix: Path | None, config: str | None) -> list[str]:
    """pip's configuration files, the most binding first. PIP_CONFIG_FILE (`config`) stands for the user's own."""
    name = "pip.ini" if os.name == "nt" else "pip.conf"
    site = [*([config] if config else []), *([str(prefix / name)] if prefix else [])]
    if os.name == "nt":
        bases = [(host.getenv("APPDATA"), "pip"), (host.getenv("USERPROFILE"), "pip")]
        bases = [] if config else bases
        bases.append((host.getenv("PROGRAMDATA"), "pip"))
        return site + [str(Path(base) / folder / name) for base, folder in bases if base]
    home = host.getenv("HOME") or "/"
    user = host.getenv("XDG_CONFIG_HOME") or f"{home}/.config"
    own = [f"{home}/Library/Application Support/pip/{name}", f"{user}/pip/{name}", f"{home}/.pip/{name}"]
    shared = [f"/etc/{name}", *(f"{part}/pip/{name}" for part in reversed(_system_folders(host)))]
    return [*site, *([] if config else own), *shared, f"/Library/Application Support/pip/{name}"]


def _texts(host: Host, paths: Iterable[str]) -> list[tuple[str, str]]:
    texts = []
    for path in paths:
        try:
            texts.append((path, host.read_text(path)))
        except OSError:
            continue
    return texts
