"""Keep `installer/provision/data/catalog.toml` true: one command and a review for a new torch release.

    update_catalog.py seed BUILDS.json     rows for the builds of a collected JSON table; other rows are kept
    update_catalog.py format               writes the table in its usual order and layout

The table is written by `render`, one row a line, so that a diff shows which builds changed. A row never loses its
source: `render` refuses one without.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from packaging.version import Version

TABLE = Path(__file__).parents[1] / "installer" / "provision" / "data" / "catalog.toml"

HEADER = """\
# Which builds of torch exist, and what does each hold? One row a line.
#
# release    day, and the Python tags of its wheels (a build that differs names its own)
# plain      the backend of the wheel without a local version on the default package index
# build      `code` = cubins or gfx targets in the bulk of the library, `ptx` = embedded PTX ("unknown" counts as none),
#            `unsure` = cubins that may be there too and are not relied on, `local` = local version if not the backend,
#            `advertised` = false where the wheels lie on the index and the project does not name them
# nightly    a series of daily builds: `since` the first day with this content, `until` the last, `seen` the last seen
# companion  what goes with a torch: version specifiers of other packages
# bounds     the same for packages that follow a range of torch versions
# family     GPUs of AMD and Intel known by their names (regular expressions that exclude each other); "none" = no build
#
# exists / contents: primary (read from the wheel, its metadata or the build scripts), reported (seen by others),
# inferred (by rule from neighbouring rows). Sources are ids of the table [sources].
"""

ORDER = {
    "release": ("torch", "day", "pythons", "source"),
    "plain": ("torch", "on", "backend", "source"),
    "build": (
        "torch", "backend", "on", "channel", "code", "ptx", "unsure", "pythons", "local", "advertised",
        "exists", "exists_source", "contents", "contents_source", "note",
    ),
    "nightly": (
        "torch", "backend", "on", "channel", "since", "until", "seen", "code", "ptx", "pythons", "local",
        "exists", "exists_source", "contents", "contents_source", "note",
    ),
    "companion": (
        "torch", "torchvision", "torchaudio", "triton", "triton-windows", "xformers", "confidence", "source", "note",
    ),
    "bounds": ("package", "torch", "backend", "version", "confidence", "source", "note"),
    "family": ("vendor", "arch", "name", "source"),
}  # fmt: skip


def render(table: Mapping[str, Any]) -> str:
    """The TOML text of a table: the same rows always give the same text."""
    lines = [HEADER, "schema = 1", f"read = {table['read']}", "", "[sources]"]
    used = {name for kind in ORDER for row in table.get(kind, ()) for name in _sources(kind, row)}
    lines += [
        f"{json.dumps(name)} = {json.dumps(text)}" for name, text in sorted(table["sources"].items()) if name in used
    ]
    body = []
    for kind, fields in ORDER.items():
        body += ["", f"{kind} = ["]
        heading = None
        for row in sorted(table.get(kind, ()), key=lambda row: _place(kind, row)):
            if kind in {"build", "nightly"} and heading != row["on"]:
                heading = row["on"]
                body.append(f"  # {heading}")
            body.append(f"  {{{', '.join(f'{name} = {_value(row[name])}' for name in fields if name in row)}}},")
        body.append("]")
    # TOML wants the arrays of the root table before the first [table].
    return "\n".join([*lines[:3], *body, "", *lines[4:], ""])


def _sources(kind: str, row: Mapping[str, Any]) -> list[str]:
    names = [name for key in ("source", "exists_source", "contents_source") for name in row.get(key, "").split()]
    if not names:
        raise SystemExit(f"{kind} row without a source: {row}")
    return names


def _place(kind: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    platforms = ["linux x86_64", "linux aarch64", "windows x86_64", "windows aarch64", "macos aarch64", "macos x86_64"]
    first = row.get("torch", "0").split()[0] if kind not in {"bounds", "family"} else "0"
    return (
        platforms.index(row["on"]) if "on" in row else -1,
        row.get("package", ""),
        row.get("vendor", ""),
        row.get("arch", ""),
        *natural(row.get("backend", "")),
        Version(first),
        str(row.get("since", "")),
    )


def natural(text: str) -> tuple[tuple[str, tuple[int, ...]]]:
    """A key that sorts cu126 before cu130 and rocm6.4 before rocm7.14."""
    return ((re.sub(r"[\d.]+", "", text), tuple(int(part) for part in re.findall(r"\d+", text))),)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, date) else json.dumps(value, ensure_ascii=False)


# ── seed: the collected JSON → rows ──────────────────────────────────────────────────────────────────────────────


class Sources:
    """Texts of sources → short ids; the same text always gets the same id."""

    RULES = (
        (r"PyPI wheel of torch .* read directly|PyPI wheel has version|PyPI wheel of the same platform", "pypi-wheel"),
        (r"generate_binary_build_matrix.py@(\w+)(?:\.\.(\w+))?", r"matrix-\1-\2"),
        (r"Comfy-Forge/cuda-wheels defaults", "scrape-2026-08-20"),
        (r"Comfy-Forge/cuda-wheels scripts.*at tag v([\d.]+)", r"build-cuda-\1"),
        (r"pytorch/builder release/([\d.]+)\S* (manywheel|windows|aarch64)", r"builder-\1-\2"),
        (r"build_env_setup.py@00505f29", "build-env-linux"),
        (r"build_env_setup.py@5666f546", "build-env-windows"),
        (r"(cuda1\d\d)\.bat(?: history)?\s*\(?@?([\w.]+)", r"\1.bat-\2"),
        (r"previous-versions page", "previous-versions"),
        (r"PYTORCH_RELEASES_CODE_CC", "releases-code-cc"),
        (r"RELEASE.md", "release-md"),
        (r"pytorch/pytorch#(\d+)", r"pytorch-\1"),
        (r"exclude-newer bisection", "uploads"),
        (r"every release publishes /whl/cpu", "cpu-always"),
    )
    TEXTS: ClassVar[Mapping[str, str]] = {
        "uploads": "the first day (UTC) on which `uv pip compile --exclude-newer` finds the version on the Python "
        "package index",
        "pypi-wheel": "the wheel of this version on the Python package index, read directly (torch/version.py, the "
        "arch flags in libtorch_python.so, file name)",
    }

    def __init__(self, known: Mapping[str, str]) -> None:
        self.texts = dict(known)

    def ids(self, text: str) -> str:
        """`a; b` → `id-a id-b`."""
        text = re.sub(r"stored (?:file|blob) id", "public file", text).replace("stored test fixture", "public fixture")
        parts = re.split(r"; (?![^(]*\))", text)
        return " ".join(dict.fromkeys(self._id(part.strip()) for part in parts))

    def _id(self, text: str) -> str:
        text = re.sub(r" of the stored copy", " of the copy", text)
        for pattern, template in self.RULES:
            if match := re.search(pattern, text):
                name = match.expand(template).strip("-")
                self.texts.setdefault(name, self.TEXTS.get(name, text))
                return name
        for name, known in self.texts.items():
            if known == text:
                return name
        words = re.findall(r"[a-z0-9.]+", text.lower())
        name = "-".join(words)[:32].strip("-.")
        self.texts[name] = text
        return name


def seed(table: dict[str, Any], collected: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the rows that the collected JSON knows; rows of other builds stay."""
    sources = Sources(table.get("sources", {}))
    builds = [_build(row, sources) for row in collected["builds"] if row["channel"] == "stable"]
    nightly = [_nightly(row, sources) for row in collected["builds"] if row["channel"] == "nightly"]
    releases = _releases(collected, sources)
    common = {row["torch"]: row["pythons"] for row in releases}
    for row in builds:
        if row["pythons"] == common[row["torch"]]:
            del row["pythons"]
    builds += _macos(collected, sources, common)
    known = {(row["backend"], row["on"]) for row in builds}
    kept = [row for row in table.get("build", ()) if (row["backend"], row["on"]) not in known]
    nights = {(row["torch"], row["backend"], row["on"]) for row in nightly}
    kept_nights = [r for r in table.get("nightly", ()) if (r["torch"], r["backend"], r["on"]) not in nights]
    days = {row["torch"]: row for row in table.get("release", ())}
    return {
        **table,
        "read": date.fromisoformat(collected["meta"]["generated"]),
        "release": [row if "day" in row else {**row, **days.get(row["torch"], {})} for row in releases],
        "plain": _grouped(_plain(collected, sources)),
        "build": _grouped(builds) + kept,
        "nightly": nightly + kept_nights,
        "companion": _companions(collected, sources),
        "sources": sources.texts,
    }


def _on(row: Mapping[str, Any]) -> str:
    return f"{row['os']} {row['machine'].replace('amd64', 'x86_64').replace('arm64', 'aarch64')}"


def _code(row: Mapping[str, Any], name: str, prefix: str) -> str:
    return " ".join(prefix + arch.replace(".", "") for arch in row[name] or ())


def _build(row: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    built: dict[str, Any] = {"torch": row["torch"], "backend": row["variant"], "on": _on(row)}
    if code := _code(row, "archs", "sm_"):
        built["code"] = code
    if row["ptx"] is None:
        built["ptx"] = "unknown"
    elif row["ptx"]:
        built["ptx"] = _code(row, "ptx", "compute_")
    if row["archs_unconfirmed"]:
        built["unsure"] = _code(row, "archs_unconfirmed", "sm_")
    built["pythons"] = " ".join(row["pythons"])
    local = (row["wheel_local_tag"] or "").lstrip("+")
    if local != row["variant"]:
        built["local"] = local
    if row["variant"] == "cu129" and Version(row["torch"]) > Version("2.8.0"):
        built["advertised"] = False
    built |= {
        "exists": row["exists_confidence"],
        "exists_source": sources.ids(row["exists_source"]),
        "contents": row["confidence"],
        "contents_source": sources.ids(row["source"]),
    }
    if row["note"]:
        built["note"] = re.sub(r"stored (?:file|blob) id", "public file", row["note"])
    return built


def _macos(collected: Mapping[str, Any], sources: Sources, common: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """The wheels for macOS: one a release, without a local version, on the page of the cpu backend."""
    for torch, by_platform in collected["pythons"]["pypi"].items():
        for platform, on in (("macos_arm64", "macos aarch64"), ("macos_x86_64", "macos x86_64")):
            if pythons := " ".join(by_platform.get(platform, ())):
                row = {"torch": torch, "backend": "cpu", "on": on, "pythons": pythons, "local": ""}
                if pythons == common[torch]:
                    del row["pythons"]
                source = sources.ids("PyPI wheel of torch read directly")
                always = sources.ids("every release publishes /whl/cpu (test-infra matrix)")
                yield row | {
                    "exists": "primary",
                    "exists_source": always,
                    "contents": "primary",
                    "contents_source": source,
                }


def _nightly(row: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    series, seen = re.match(r"(\S+)\.dev .*\.\.(\d{8})", row["torch"]).groups()  # type: ignore[union-attr]
    built = _build({**row, "torch": "2.0", "pythons": []}, sources)
    del built["pythons"]
    return {
        **built,
        "torch": series,
        "channel": "nightly",
        "since": date(2026, 9, 8),
        "seen": date.fromisoformat(seen),
    }


def _releases(collected: Mapping[str, Any], sources: Sources) -> list[dict[str, Any]]:
    releases = []
    for torch, pythons in collected["pythons"]["pypi"].items():
        row: dict[str, Any] = {"torch": torch, "pythons": " ".join(pythons["linux_x86_64"])}
        if known := collected["release_dates"].get(torch):
            row["day"] = date.fromisoformat(known["pypi_upload_day_utc"])
            row["source"] = sources.ids(known["source"])
        releases.append(row)
    return releases


def _plain(collected: Mapping[str, Any], sources: Sources) -> Iterable[dict[str, Any]]:
    for row in collected["pypi_default"]:
        yield {
            "torch": row["torch"],
            "on": _on(row),
            "backend": row["variant"].removesuffix("/mps"),
            "source": sources.ids("PyPI wheel of torch read directly"),
        }


def _companions(collected: Mapping[str, Any], sources: Sources) -> list[dict[str, Any]]:
    rows = []
    for row in collected["pairings"]["by_torch"]:
        built = {"torch": row["torch"]}
        for name, key in (("torchvision", "torchvision"), ("torchaudio", "torchaudio")):
            if row[key]:
                built[name] = f"=={row[key]}"
        if row["triton_resolved"]:
            built["triton"] = row["triton_resolved"].removeprefix("triton")
        if row["triton_windows"]:
            built["triton-windows"] = row["triton_windows"].removeprefix("triton-windows")
        if row["xformers"]:
            built["xformers"] = f"=={row['xformers'][-1]}"
        built |= {"confidence": row["confidence"], "source": sources.ids(row["source"])}
        if row["note"]:
            built["note"] = row["note"]
        rows.append(built)
    return rows


def _grouped(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that differ in nothing but the torch version become one."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        groups.setdefault(tuple((k, v) for k, v in row.items() if k != "torch"), []).append(row["torch"])
    return [{"torch": " ".join(torch), **dict(key)} for key, torch in groups.items()]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("seed").add_argument("builds", type=Path)
    commands.add_parser("format")
    args = parser.parse_args(argv)
    table = tomllib.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    if args.command == "seed":
        table = seed(table, json.loads(args.builds.read_text("utf-8")))
    TABLE.write_text(render(table), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
