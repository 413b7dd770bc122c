"""What is uv, and what is our own asking, told of a person's settings?

uv gets them as environment variables, in its own words: its arguments are everybody's to read, and variables are the
strongest word there is to it. Whatever else could redirect the choice is taken away.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .settings import Settings

SILENCE_SECONDS = 60.0
"""What one source may cost in silence, all in all (reliability P11); PROVISION_NETWORK_SECONDS is another number."""

_KEPT = (
    "UV_CACHE_DIR",
    "UV_CONCURRENT_BUILDS",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_CONCURRENT_INSTALLS",
    "UV_LINK_MODE",
    "UV_NATIVE_TLS",
    "UV_NO_BUILD",
    "UV_OFFLINE",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_SYSTEM_CERTS",
)
"""Variables of uv that say how it works, and not what it installs."""

_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Linux distributions keep the certificates that the machine trusts: golang `crypto/x509/root_linux.go`."""


def uv_environment(settings: Settings, environ: Mapping[str, str], *, offline: bool = False) -> dict[str, str]:
    """The variables with which uv runs: the user's rights, caches and network, and nothing that redirects the choice.

    Every UV_*, PIP_*, PYTHON*, VIRTUAL_ENV and CONDA_* variable goes (environment beats flags in uv: measured with
    0.13.8), except how uv is to work; then the settings come back in uv's own words. uv trusts the certificates that
    the machine trusts, as pip does, where the machine has any.
    """
    env = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(("UV_", "PIP_", "PYTHON", "CONDA_", "VIRTUAL_ENV", "PROVISION_", "LD_PRELOAD"))
    }
    env |= {name: environ[name] for name in _KEPT if name in environ and environ[name] != "symlink"}
    silence = patience(environ)
    words = {
        "UV_DEFAULT_INDEX": _default_index(settings),
        "UV_INDEX": " ".join(map(settings.with_login, () if settings.no_index else settings.extra_index_urls)),
        "UV_FIND_LINKS": ",".join(map(settings.with_login, settings.find_links)),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "UV_KEYRING_PROVIDER": settings.keyring if settings.keyring == "subprocess" else None,
        "UV_INDEX_STRATEGY": "unsafe-best-match" if settings.best_match else None,
        "UV_OFFLINE": "1" if offline else None,
        "UV_EXCLUDE_NEWER": settings.exclude_newer,
        "UV_HTTP_TIMEOUT": str(max(1, round(settings.timeout or silence / 5))),
        "UV_HTTP_RETRIES": str(settings.retries) if settings.retries is not None else None,
        "SSL_CERT_FILE": settings.cert,
        "SSL_CLIENT_CERT": settings.client_cert,
    }
    if not settings.cert and "SSL_CERT_DIR" not in env and machine_has_roots():
        env.setdefault("UV_SYSTEM_CERTS", "true")
    env |= {f"{scheme}_proxy": address for scheme, address in proxies(settings, environ).items()}
    return env | {name: value for name, value in words.items() if value} | {"UV_NO_PROGRESS": "0"}


def login_variables(settings: Settings, url: str, *, installing: Mapping[str, str] | None = None) -> dict[str, str]:
    """The login for the index that a project calls `chosen`, in uv's variables; empty where it needs none.

    Installing from a lock, uv knows no index by that name (and looks nothing up in any): then it is named here too,
    before those of the variables `installing`.
    """
    found = settings.login(url)
    if found is None:
        return {}
    words = {"UV_INDEX_CHOSEN_USERNAME": found.user}
    if found.password is not None:
        words["UV_INDEX_CHOSEN_PASSWORD"] = found.password
    if installing is not None:
        words["UV_INDEX"] = f"chosen={url} {installing.get('UV_INDEX', '')}".strip()
    return words


def _default_index(settings: Settings) -> str | None:
    """uv's `--no-index` would close the index of torch too (0.13.8); an index without packages does what is meant."""
    if settings.no_index:
        return (Path(__file__).parent / "no-index").as_uri()
    return settings.with_login(settings.index_url) if settings.index_url else None


def machine_has_roots() -> bool:
    """Whether this machine has certificates of its own to trust; a bare container has none."""
    return os.name == "nt" or any(map(os.path.exists, _ROOTS))


def proxies(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Scheme → proxy, with its login: the proxy variables first, then pip's or uv's own setting."""

    def named(name: str) -> str | None:
        # HTTP_PROXY in capitals is what a web server's client can set (httpoxy): nobody reads it where one is at work.
        upper = None if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper())
        return environ.get(name) or upper

    own = settings.with_login(settings.proxy) if settings.proxy else None
    found = {scheme: named(f"{scheme}_proxy") or named("all_proxy") or own for scheme in ("http", "https")}
    return {scheme: address for scheme, address in found.items() if address}


def patience(environ: Mapping[str, str]) -> float:
    """How many seconds of silence one source may cost in all."""
    try:
        asked = float(environ.get("PROVISION_NETWORK_SECONDS", ""))
    except ValueError:
        return SILENCE_SECONDS
    return asked if asked > 0 else SILENCE_SECONDS
