"""How is uv asked? Argument lists, the project that pins a choice, and what uv's answers mean.

uv is the engine and never the judge: it gets exact versions, one explicit index for torch and its companions, and an
environment of variables that nothing else can redirect. Measured with uv 0.13.8 (2026-11-20): an `explicit` index in
the compiled pyproject wins over find-links and over every index of the environment; a pylock that is already at the
output path serves as preferences, so that what is installed stays where it may.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import watch
from .catalog import Source, SourceKind
from .errors import InstallFailed, ProvisionError
from .host import Completed, Host
from .settings import redact
from .values import frozen, replace

RESOLVE_SECONDS = 600.0
"""A resolution downloads at most metadata, except for local or nightly wheels, which are hashed whole."""


@frozen
class Pin:
    """One package at one version, with the sha256 of the files that may be it."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    size: int | None = None
    url: str | None = None


@frozen
class Pins:
    """A resolution: the pins, and the pylock text that carries them."""

    packages: tuple[Pin, ...]
    text: str

    @property
    def versions(self) -> Mapping[str, str]:
        """Normalized name → version."""
        return {pin.name: pin.version for pin in self.packages}


@frozen
class Wanted:
    """What is to be pinned: `family` comes from `source` alone, `others` from the user's indexes.

    `constraints` hold for what comes along, and ask for nothing by themselves. `needs` are what the family requires of
    its own source (`needs.needs_of`).
    """

    family: Mapping[str, str]
    others: tuple[str, ...]
    source: Source
    index_url: str
    constraints: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def find_uv(host: Host) -> str:
    """The uv that came with this tool, else the one on PATH. Raises InstallFailed."""
    import uv

    try:
        return uv.find_uv_bin()
    except FileNotFoundError:
        found = host.which("uv")
    if found is None:
        raise InstallFailed(
            "uv was not found beside this tool nor on PATH",
            code="uv-missing",
            hint="install torch-provision again; it brings uv with it",
        )
    return found


def project_text(wanted: Wanted) -> str:
    """The pyproject.toml that asks for exactly this build from exactly this index."""
    import tomli_w

    own = {**wanted.family, **{_name(need): need for need in wanted.needs}}
    project: dict[str, Any] = {
        "project": {
            "name": "provision-target",
            "version": "0",
            "requires-python": ">=3.8",
            "dependencies": [
                *(f"{name}{spec}" for name, spec in wanted.family.items()),
                *(need for need in wanted.needs if _name(need) not in wanted.family),
                *wanted.others,
            ],
        },
        "tool": {
            "uv": {
                "package": False,
                "index": [_index(wanted)],
                "sources": {name: {"index": "chosen"} for name in own},
            }
        },
    }
    return tomli_w.dumps(project)


def own_names(wanted: Wanted) -> tuple[str, ...]:
    """The packages that come from the chosen source alone."""
    return tuple(dict.fromkeys([*wanted.family, *map(_name, wanted.needs)]))


def _index(wanted: Wanted) -> dict[str, Any]:
    index: dict[str, Any] = {"name": "chosen", "url": wanted.index_url, "explicit": True}
    if wanted.source.flat:  # a page of links, and uv takes no slash away from it
        index["url"] = wanted.index_url.rstrip("/") + "/"
    if wanted.source.flat or wanted.source.kind is SourceKind.FIND_LINKS:
        index["format"] = "flat"
    return index


def _name(requirement: str) -> str:
    """`triton` of `triton==3.9.0+git1b0b; platform_system == "Linux"`."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def preferences_text(installed: Mapping[str, str]) -> str:
    """A pylock with nothing but versions: uv keeps to them wherever the new requirements allow."""
    import tomli_w

    packages = [{"name": name, "version": version} for name, version in sorted(installed.items())]
    return tomli_w.dumps({"lock-version": "1.0", "created-by": "torch-provision", "packages": packages})


def compile_command(uv: str, folder: Path, *, python: str, cross: tuple[str, str] | None = None) -> list[str]:
    """Pin what `folder/pyproject.toml` asks for, within `folder/constraints.txt`, into `folder/pylock.toml`.

    With `--no-config`, which keeps foreign settings out, uv 0.13.8 passes over `constraint-dependencies` in silence;
    so constraints come as a file.
    For the interpreter `python`; `cross` is (version, uv's word for a platform) of another one than that.
    """
    target = ["--python", python]
    if cross is not None:
        target += ["--python-version", cross[0], "--python-platform", cross[1]]
    return [
        uv,
        "pip",
        "compile",
        str(folder / "pyproject.toml"),
        "--constraints",
        str(folder / "constraints.txt"),
        "--no-config",
        "--no-header",
        "--quiet",
        *target,
        "--format",
        "pylock.toml",
        "--output-file",
        str(folder / "pylock.toml"),
    ]


def install_command(
    uv: str, *, python: Path, lock: Path, reinstall: Sequence[str] = (), wheelhouse: Path | None = None
) -> list[str]:
    """Put the packages of a pylock into the environment of `python`; hashes are checked on the way.

    From a `wheelhouse`, where `lock` is the text of requirements with hashes.
    """
    again = [part for name in reinstall for part in ("--reinstall-package", name)]
    source = ["--no-index", "--find-links", str(wheelhouse), "--require-hashes", "--no-deps"] if wheelhouse else []
    source = source or ["--preview-features", "pylock"]  # a lock is what uv still warns of
    return [uv, "pip", "install", "--no-config", "--python", str(python), "--requirements", str(lock), *again, *source]


def venv_command(uv: str, *, path: Path, python: str) -> list[str]:
    """Make a new environment."""
    return [uv, "venv", "--no-config", "--quiet", "--python", python, str(path)]


def default_index(host: Host, uv: str, env: Mapping[str, str]) -> str | None:
    """The address of the default package index, as the installer itself tells it (no request is made), or None."""
    answer = host.run(
        [uv, "pip", "compile", "-", "--no-config", "--quiet", "--emit-index-url"], timeout=20, env=env, input=""
    )
    return parse_default_index(answer.stdout)


def parse_default_index(text: str) -> str | None:
    """`--index-url ADDRESS` of a compiled requirements header, without the login that uv writes there too."""
    match = re.search(r"^--index-url (\S+)$", text, re.M)
    return redact(match[1]) if match else None


def compile_pins(
    host: Host,
    uv: str,
    wanted: Wanted,
    *,
    folder: Path,
    python: str,
    env: Mapping[str, str],
    installed: Mapping[str, str],
    cross: tuple[str, str] | None = None,
) -> Pins:
    """Ask uv for the whole set of pins with hashes; `python` and `cross` as in `compile_command`.

    torch's own triton (of nightlies, ROCm, XPU) is on the chosen index alone: where uv misses it, it is asked for
    there. Raises InstallFailed with the class of what went wrong.
    """
    (folder / "pyproject.toml").write_text(project_text(wanted), encoding="utf-8")
    (folder / "constraints.txt").write_text("".join(f"{one}\n" for one in wanted.constraints), encoding="utf-8")
    output = folder / "pylock.toml"
    output.write_text(preferences_text(installed), encoding="utf-8")
    command = compile_command(uv, folder, python=python, cross=cross)
    if "UV_EXCLUDE_NEWER" in env:  # the PyTorch index tells no day of upload for some files: uv would miss them
        names = [*wanted.family, *map(_name, wanted.needs)]
        command += [part for name in names for part in ("--exclude-newer-package", f"{name}=false")]
    answer = watch.run(command, timeout=RESOLVE_SECONDS, env=env, cwd=folder)
    if answer.returncode != 0:
        missed = missed_triton(answer.stderr)
        if missed is not None and missed not in wanted.family:
            wider = replace(wanted, family={**wanted.family, missed: ""})
            return compile_pins(
                host, uv, wider, folder=folder, python=python, env=env, installed=installed, cross=cross
            )
        raise failure(answer, f"pinning {', '.join(name + spec for name, spec in wanted.family.items())}")
    return parse_pins(output.read_text(encoding="utf-8"))


def missed_triton(text: str) -> str | None:
    """The name of torch's own triton in uv's complaint that it cannot be had (it asks the default index for it).

    >>> missed_triton("there is no version of triton==3.9.0+git1 and torch==2.16 depends on triton==3.9.0+git1")
    'triton'
    """
    match = re.search(r"\btorch\S* depends on ((?:pytorch-)?triton(?:-(?:rocm|xpu))?)\b", " ".join(text.split()))
    return match[1] if match else None


def parse_pins(text: str) -> Pins:
    """The pins of a pylock (PEP 751) text as uv writes it."""
    packages = []
    for package in tomllib.loads(text).get("packages", []):
        files = package.get("wheels", []) or [
            entry for entry in [package.get("sdist"), package.get("archive")] if entry
        ]
        packages.append(
            Pin(
                name=package["name"],
                version=str(package.get("version", "")),
                hashes=tuple(
                    sorted({entry["hashes"]["sha256"] for entry in files if "sha256" in entry.get("hashes", {})})
                ),
                size=files[0].get("size") if files else None,
                url=redact(files[0].get("url") or files[0].get("path") or "") or None if files else None,
            )
        )
    return Pins(packages=tuple(packages), text=text)


_CAUSES = (
    ("integrity", r"hash mismatch|bad crc|invalid (zip|wheel|local file header)|failed to (extract|unpack|parse meta)"),
    (
        "integrity",
        r"unexpected end of file|could not find eocd|not a zip|no \.dist-info|dist-info directory not found",
    ),
    ("no-space", r"no space left|disk quota|os error 28\b|os error 122\b|os error 112\b"),
    ("certificate", r"invalid peer certificate|unknownissuer|certificate verify failed"),
    ("credentials", r"\b401\b.*unauthorized|unauthorized.*\b401\b|\b407\b|proxy auth|missing credentials"),
    ("read-only", r"read-only file system|os error 30\b"),
    ("permission", r"permission denied|os error 13\b|access (is )?denied|operation not permitted|os error 1\b"),
    ("in-use", r"os error 32\b|os error 26\b|text file busy|being used by another process"),
    (
        "network",
        r"dns error|failed to (lookup|fetch|download)|connection (refused|reset)|timed? ?out|error sending req",
    ),
    ("network", r"error decoding response|network connectivity is disabled|http status (client|server) error"),
    ("network", r"too many redirects|error following redirect|tunnel error|proxy connect|received corrupt message"),
    ("network", r"\b(403 forbidden|429 too many requests|50[0-9] (internal|bad|service|gateway))"),
    (
        "resolution",
        r"no solution found|unsatisfiable|there is no version of|no wheels? with a matching|was not found in",
    ),
)
"""What uv prints (0.13.8, lower case) → the class of cause. The first that matches stands."""

HINTS = {
    "integrity": "run it again; if it stays, the index or a proxy hands out a file that is not the published one",
    "no-space": "free some space (uv cache prune frees the package cache), or set TMPDIR and UV_CACHE_DIR elsewhere",
    "certificate": "name your network's certificate: pip config set global.cert FILE, or SSL_CERT_FILE=FILE",
    "credentials": "put the login for the index or proxy into ~/.netrc or the proxy variables",
    "network": "check the connection and the proxy variables, or name a mirror with --index-base",
    "resolution": "see which packages disagree above; --torch SPEC asks for another version",
    "permission": "make the environment your own, or give another one with --env",
    "read-only": "give another environment with --env",
    "in-use": "close the programs that use this environment, then run it again",
}


def classify(text: str) -> str:
    """The class of cause of uv's error output: `network`, `integrity`, `no-space`, … or `install-failed`."""
    lowered = text.lower()
    return next((code for code, pattern in _CAUSES if re.search(pattern, lowered)), "install-failed")


def failure(answer: Completed, doing: str) -> ProvisionError:
    """What a failed uv run means: the cause in the first line, and uv's own words below it."""
    words = redact(answer.stderr.strip() or answer.stdout.strip() or f"exit code {answer.returncode}")
    code = classify(cause_of(words))
    if code in ("install-failed", "resolution"):  # the hints below may know more
        code = classify(words)
    if answer.timed_out:
        code = "network"
    hint = HINTS.get(code, "uv's message above says more")
    if answer.timed_out:
        last = words.splitlines()[-1]
        why = last if last.endswith((" s", " s)")) else "it gave no result in time"
        return InstallFailed(f"{doing} was ended: {why}\n{words}", code=code, hint=hint)
    return InstallFailed(f"{doing} failed: {cause_of(words)}\n{words}", code=code, hint=hint)


def cause_of(words: str) -> str:
    """The one line of uv's error output that says the most: its innermost cause.

    >>> cause_of("error: Failed to fetch: `http://…`\\n  cause: error sending request\\n  cause: Connection refused")
    'Connection refused'
    """
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    causes = [line.removeprefix("cause: ") for line in lines if line.startswith("cause: ")]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (causes[-1:] or errors[:1] or lines[:1] or ["it said nothing"])[0]
