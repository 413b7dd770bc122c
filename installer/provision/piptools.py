"""What would pip-tools pin? Its argument list, and its answer as versions.

pip-tools is the second opinion: it resolves with pip's own resolver, for the Python and the platform that it runs on
and for no other. Hashes are not asked of it: it would download every wheel of every pin to take them (ecosystem notes,
pip-tools 7.6.2, 2026-11-20); uv takes them from the index.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import InstallFailed
from .host import Host
from .settings import Settings, redact

SECONDS = 1800.0
"""pip-tools downloads whole wheels where an index serves no metadata by itself."""


def compile_command(folder: Path) -> list[str]:
    """Pin `folder/requirements.in` into `folder/requirements.txt`, without addresses in it."""
    quiet = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
    return [
        sys.executable,
        "-m",
        "piptools",
        "compile",
        "--no-config",
        "--quiet",
        "--allow-unsafe",
        "--strip-extras",
        "--resolver=backtracking",
        *quiet,
        "--output-file",
        str(folder / "requirements.txt"),
        "--constraint",
        str(folder / "constraints.txt"),
        str(folder / "requirements.in"),
    ]


def pip_environment(settings: Settings, environ: Mapping[str, str], pages: Sequence[str]) -> dict[str, str]:
    """The variables with which pip runs: the user's indexes, and the `pages` of the chosen one as links.

    Links add the files of these packages and nothing else: everything else stays with the user's own indexes.
    """
    env = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_"))
    }
    if "PIP_CACHE_DIR" in environ:
        env["PIP_CACHE_DIR"] = environ["PIP_CACHE_DIR"]
    links = [*settings.find_links, *pages]
    words = {
        "PIP_CONFIG_FILE": "/dev/null" if sys.platform != "win32" else "nul",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_INDEX_URL": settings.with_login(settings.index_url) if settings.index_url else None,
        "PIP_EXTRA_INDEX_URL": " ".join(map(settings.with_login, settings.extra_index_urls)),
        "PIP_FIND_LINKS": " ".join(map(settings.with_login, links)),
        "PIP_NO_INDEX": "1" if settings.no_index else None,
        "PIP_CERT": settings.cert,
        "PIP_CLIENT_CERT": settings.client_cert,
        "PIP_PROXY": settings.proxy,
        "PIP_TRUSTED_HOST": " ".join(settings.trusted_hosts),
    }
    return env | {name: value for name, value in words.items() if value}


def pin(
    host: Host,
    requirements: Sequence[str],
    constraints: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    keep: Mapping[str, str],
) -> dict[str, str]:
    """Normalized name → version of the whole set; versions to `keep` stay where they may.

    Raises InstallFailed with pip's own words.
    """
    (folder / "requirements.in").write_text("".join(f"{one}\n" for one in requirements), encoding="utf-8")
    (folder / "constraints.txt").write_text("".join(f"{one}\n" for one in constraints), encoding="utf-8")
    known = "".join(f"{name}=={version}\n" for name, version in keep.items())
    (folder / "requirements.txt").write_text(known, encoding="utf-8")
    answer = host.run(compile_command(folder), timeout=SECONDS, env=dict(env), cwd=str(folder))
    if answer.returncode != 0:
        from .uv import classify

        words = redact(answer.stderr.strip() or answer.stdout.strip() or f"exit code {answer.returncode}")
        code = (
            "resolution" if "ResolutionImpossible" in words or "No matching distribution" in words else classify(words)
        )
        raise InstallFailed(
            f"pip-tools could not pin:\n{words[-4000:]}", code=code, hint="lock with uv: leave out --engine pip-tools"
        )
    return parse_requirements((folder / "requirements.txt").read_text(encoding="utf-8"))


def parse_requirements(text: str) -> dict[str, str]:
    """The pins of a compiled requirements text: `Jinja2==3.1.6 ; marker \\` → {"jinja2": "3.1.6"}."""
    pins = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}
