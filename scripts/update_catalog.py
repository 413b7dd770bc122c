"""What has changed on the PyTorch index since `installer/provision/data/catalog.toml` was written?

    update_catalog.py                 prints the differences; exit code 1 if there are any
    update_catalog.py --write         writes them into the table, for review
    update_catalog.py --offline       asks nothing: checks the table and, with --write, only puts it in order

A row never loses its sources: what the index says is one source more. What a new build holds, the index does not say:
it is taken over from a neighbour (`listings.neighbour`) and stays `inferred` until somebody reads the wheel.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version
from provision.catalog import PYTORCH_INDEX, TABLE, Build, Catalog, Channel, parse_catalog, pytorch_index
from provision.errors import ProvisionError
from provision.fetch import Web
from provision.gpus import capabilities
from provision.index import pytorch_questions, survey
from provision.listings import backend_number, with_listings
from provision.pages import parse_page
from provision.settings import Settings
from provision.tables import check_catalog

Row = dict[str, Any]

HEADER = """\
# Which builds of torch exist, and what does each hold? One row a line. Written by scripts/update_catalog.py.
#
# release    day, and the Python tags of its wheels (a build that differs names its own)
# plain      the backend of the wheel without a local version on the default package index
# build      `code` = cubins or gfx targets in the bulk of the library, `ptx` = embedded PTX ("unknown" counts as none),
#            `unsure` = code that may be there too and is not relied on, `local` = "" where the wheel's version has
#            none, `advertised` = false where wheels lie on the index and the project does not name them,
#            `until` = the day on which the index was seen without it
# nightly    a series of daily builds: `since` the first day with this content, `until` the last, `seen` the last seen
# companion  what goes with a torch: version specifiers of other packages
# bounds     the same for packages that follow a range of torch versions
# family     GPUs of AMD and Intel known by their names (regular expressions that exclude each other); "none" = no build
#
# exists / contents: primary (read from the wheel, its metadata, the index or the build scripts), reported (seen by
# others), inferred (by rule from neighbouring rows). Sources are ids of the table at the end.
"""

ORDER = {
    "release": ("torch", "day", "pythons", "source"),
    "plain": ("torch", "on", "backend", "source"),
    "build": (
        "torch", "backend", "on", "channel", "until", "code", "ptx", "unsure", "pythons", "local", "advertised",
        "exists", "exists_source", "contents", "contents_source", "note",
    ),
    "nightly": (
        "torch", "backend", "on", "channel", "since", "until", "seen", "code", "ptx", "unsure", "pythons", "local",
        "exists", "exists_source", "contents", "contents_source", "note",
    ),
    "companion": (
        "torch", "torchvision", "torchaudio", "triton", "triton-windows", "xformers", "confidence", "source", "note",
    ),
    "bounds": ("package", "torch", "backend", "version", "confidence", "source", "note"),
    "family": ("vendor", "arch", "name", "source"),
}  # fmt: skip
"""The order of the tables, and of the fields in a row."""

PLATFORMS = ("linux x86_64", "linux aarch64", "windows x86_64", "windows aarch64", "macos aarch64", "macos x86_64")


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def render(table: Mapping[str, Any]) -> str:
    """The TOML text of a table: the same rows always give the same text, and rows that can be one are one."""
    lines = [HEADER, f"schema = {table['schema']}", f"read = {table['read']}"]
    used = set()
    for kind, fields in ORDER.items():
        lines += ["", f"{kind} = ["]
        heading = None
        rows = grouped(table[kind]) if kind in {"plain", "build"} else table[kind]
        for row in sorted(rows, key=lambda row: _place(kind, row)):
            used |= {name for key in row if key.endswith("source") for name in row[key].split()}
            if kind in {"build", "nightly"} and heading != row["on"]:
                heading = row["on"]
                lines.append(f"  # {heading}")
            lines.append(f"  {{{', '.join(f'{name} = {_value(row[name])}' for name in fields if name in row)}}},")
        lines.append("]")
    lines += ["", "[sources]"]
    lines += [f"{_value(name)} = {_value(text)}" for name, text in sorted(table["sources"].items()) if name in used]
    return "\n".join([*lines, ""])


def grouped(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows that differ in nothing but the torch version become one."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        key = tuple(sorted((name, value) for name, value in row.items() if name != "torch"))
        groups.setdefault(key, []).extend(row["torch"].split())
    return [{"torch": " ".join(sorted(torch, key=Version)), **dict(key)} for key, torch in groups.items()]


def _place(kind: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    numbered = kind not in {"bounds", "family"}
    backend = row.get("backend", "") if numbered else ""
    return (
        PLATFORMS.index(row["on"]) if "on" in row else -1,
        *(row.get(name, "") for name in ("package", "vendor", "arch")),
        re.sub(r"[\d.]+", "", backend),
        backend_number(backend),
        Version(row["torch"].split()[0]) if numbered else row.get("torch", ""),
        str(row.get("since", "")),
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, date | int) else json.dumps(value, ensure_ascii=False)


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────────────────


def updated(table: Mapping[str, Any], live: Catalog, *, place: str, day: date) -> tuple[dict[str, Any], list[str]]:
    """The table as the index has it now, and the differences in words. `live` is `with_listings` over the table."""
    said: list[str] = []
    read = f"index-{day}"
    sources = {
        **table["sources"],
        read: f"the pages of torch on {place}, {day}",
        "neighbour": "taken over from the row that the note names (installer/provision/listings.py, neighbour)",
    }
    rows = {_key(row): row for row in _single(table["build"])}
    common = {row["torch"]: row["pythons"] for row in table["release"]}
    releases = list(table["release"])
    stable = [build for build in live.builds if build.channel is not Channel.NIGHTLY]
    for build in stable:
        torch, name = str(build.torch), f"{build.name} {build.platform}"
        key = (torch, build.backend, build.platform, build.channel.value)
        pythons = " ".join(sorted(build.pythons or (), key=_python))
        if torch not in common:
            common[torch] = pythons
            releases.append({"torch": torch, "day": day, "pythons": pythons, "source": read})
            said.append(f"+ release {torch}: first seen {day}")
        if key not in rows:
            rows[key] = _new_row(build, pythons, common[torch], read)
            said.append(f"+ {name}: {build.note}")
            continue
        row = rows[key]
        if build.published and row.pop("until", None):
            said.append(f"+ {name}: the index lists it again")
        known = row.get("pythons", common[torch])
        if not build.published:
            rows[key] = _seen({**row, "until": day}, read)
            said.append(f"- {name}: the index lists it no longer")
        elif build.exists != row["exists"] or (pythons and pythons != known):
            row = _seen({**row, "exists": build.exists}, read)
            if pythons and pythons != known:
                row["pythons"] = pythons
                said.append(f"~ {name}: Pythons {known} → {pythons}")
            else:
                said.append(f"~ {name}: {rows[key]['exists']} → seen on the index")
            if row.get("pythons") == common[torch]:
                del row["pythons"]
            rows[key] = row
    nightly = _nightlies(table["nightly"], live, read, said)
    changed = {
        **table,
        "release": releases,
        "build": list(rows.values()),
        "nightly": nightly,
        "sources": sources,
        **({"read": day} if said else {}),
    }
    return changed, said


def _single(rows: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    for row in rows:
        for torch in row["torch"].split():
            yield {**row, "torch": torch}


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["torch"], row["backend"], row["on"], row.get("channel", "stable")


def _python(tag: str) -> tuple[int, str]:
    return int(re.sub(r"\D", "", tag)[1:]), tag


def _seen(row: Row, read: str) -> Row:
    sources = dict.fromkeys([*row["exists_source"].split(), read])
    return {**row, "exists_source": " ".join(sources)}


def _new_row(build: Build, pythons: str, common: str, read: str) -> Row:
    row: Row = {"torch": str(build.torch), "backend": build.backend, "on": build.platform}
    if build.channel is not Channel.STABLE:
        row["channel"] = build.channel.value
    row |= {"code": " ".join(build.arches)} if build.arches else {}
    row |= {"pythons": pythons} if pythons != common else {}
    row |= {"local": ""} if build.local is None else {}
    row |= {} if build.advertised else {"advertised": False}
    row |= {"exists": "primary", "exists_source": read, "contents": "inferred", "contents_source": "neighbour"}
    return {**row, "note": build.note}


def _nightlies(rows: Iterable[Mapping[str, Any]], live: Catalog, read: str, said: list[str]) -> list[Row]:
    """The series with the last day seen; a new series ends the one before it."""
    kept = [dict(row) for row in rows]
    listed: dict[tuple[str, str], list[Build]] = {}
    for build in live.builds:
        if build.channel is Channel.NIGHTLY and not build.floating and build.torch.dev:
            listed.setdefault((build.backend, build.platform), []).append(build)
    for (backend, on), builds in listed.items():
        newest = max(builds, key=lambda build: build.torch)
        series = newest.torch.base_version
        days = sorted(_day(build.torch) for build in builds if build.torch.base_version == series)
        here = [row for row in kept if row["backend"] == backend and row["on"] == on and "until" not in row]
        running = next((row for row in here if row["torch"] == series), None)
        if running is None:
            for row in here:
                row["until"] = max(row["since"], days[0] - timedelta(days=1))
                row.pop("seen", None)
            row = {**_new_row(newest, "", "", read), "torch": series, "channel": "nightly", "since": days[0]}
            kept.append({**row, "seen": days[-1], **({"ptx": " ".join(newest.ptx)} if newest.ptx else {})})
            said.append(f"+ nightly {series}+{backend} {on}: since {days[0]}")
        elif running["seen"] < days[-1]:
            said.append(f"~ nightly {series}+{backend} {on}: last seen {running['seen']} → {days[-1]}")
            running.update(_seen({**running, "seen": days[-1]}, read))
    return kept


def _day(torch: Version) -> date:
    return date.fromisoformat(str(torch.dev))


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────


def pages(catalog: Catalog) -> list[tuple[str, Channel]]:
    """The pages worth asking for: of every backend that is known, and of those that may come next."""
    known = {build.backend for build in catalog.builds}
    newest = max(backend_number(backend)[0] for backend in known if backend.startswith("cu"))
    known |= {f"cu{major}{minor}" for major in (newest, newest + 1) for minor in range(10)}
    major, minor = max(backend_number(backend)[:2] for backend in known if backend.startswith("rocm"))
    known |= {f"rocm{major}.{minor + step}" for step in range(1, 4)} | {f"rocm{major + step}.0" for step in (1, 2, 3)}
    return [(backend, channel) for backend in sorted(known) for channel in Channel]


def ask(catalog: Catalog, base: str) -> tuple[Catalog, Web]:
    """The catalog as the index has it. Raises SystemExit where a page could not be read: half an answer is none."""
    settings = Settings()
    answers = survey(pytorch_questions(base, pages(catalog)), settings, None)
    if troubles := [f"{one.question.url}: {one.problem}" for one in answers.answers if one.problem]:
        raise SystemExit("the index could not be read\n" + "\n".join(troubles[:5]))
    return with_listings(catalog, answers.listings, reached=answers.reached), Web(settings)


def companions(table: Mapping[str, Any], base: str, backend: str, web: Web, day: date) -> tuple[list[Row], list[str]]:
    """Rows for releases that have none: torchvision by what its metadata wants, triton by what torch's wants.

    torchaudio's last release goes with every torch since 2.11 (pytorch/audio#4212).
    """
    known = {row["torch"] for row in table["companion"]}
    lacking = {row["torch"] for row in table["release"]} - known
    rows = list(table["companion"])
    said: list[str] = []
    if not lacking:
        return rows, said
    before = max(rows, key=lambda row: Version(row["torch"]))
    vision = _requirements("torchvision", base, backend, web, Version(before["torchvision"].lstrip("=")))
    torches = _requirements("torch", base, backend, web, Version(before["torch"]))
    for torch in sorted(lacking, key=Version):
        fits = [version for version, needs in vision.items() if needs.get("torch") == f"=={torch}"]
        triton = torches.get(Version(torch), {}).get("triton")
        row: Row = {"torch": torch, "torchvision": f"=={max(fits)}" if fits else before["torchvision"]}
        row |= {"torchaudio": before["torchaudio"]} | ({"triton": triton} if triton else {})
        row |= {"confidence": "primary" if fits else "inferred", "source": f"index-{day}"}
        rows.append(row)
        said.append(f"+ companions of {torch}: torchvision {row['torchvision']}, triton {triton or 'unknown'}")
    return rows, said


def _requirements(name: str, base: str, backend: str, web: Web, after: Version) -> dict[Version, dict[str, str]]:
    """Public version → what it requires, for the versions of a package that are newer than `after`."""
    page = web.page(f"{pytorch_index(base).url}/{backend}/{name}/")
    found: dict[Version, dict[str, str]] = {}
    for wheel in parse_page(page) if page.status == 200 else ():
        version = Version(wheel.version.public)
        if wheel.name != name or version <= after or version in found:
            continue
        metadata = web.page(f"{wheel.url}.metadata")
        if metadata.status != 200:
            continue
        lines = re.findall(r"^Requires-Dist: (.+)$", metadata.text, re.MULTILINE)
        found[version] = {one.name: _public(str(one.specifier)) for one in map(Requirement, lines)}
    return found


def _public(specifier: str) -> str:
    """`==2.16.0+cu134` is about the public version."""
    return re.sub(r"\+[\w.]+", "", specifier)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index-base", default=PYTORCH_INDEX, help="the PyTorch index or a mirror of it")
    parser.add_argument("--table", type=Path, default=TABLE, help="the table to compare and to write")
    parser.add_argument("--day", type=date.fromisoformat, default=date.today(), help="the day of the reading")
    parser.add_argument("--offline", action="store_true", help="ask nothing")
    parser.add_argument("--write", action="store_true", help="write the table")
    args = parser.parse_args(argv)
    text = args.table.read_text("utf-8")
    table = tomllib.loads(text)
    said: list[str] = []
    if not args.offline:
        live, web = ask(parse_catalog(table, pytorch_index(args.index_base)), args.index_base)
        table, said = updated(table, live, place=live.source.label, day=args.day)
        table["companion"], more = companions(table, args.index_base, _newest_page(live), web, args.day)
        said += more
    new = render(table)
    check_catalog(tomllib.loads(new), capabilities=capabilities(), name=args.table.name)
    print("\n".join(said) or "nothing has changed")
    if args.write:
        args.table.write_text(new, "utf-8")
    return 0 if args.write or not said else 1


def _newest_page(live: Catalog) -> str:
    """The backend to read companions from: the newest CUDA that the newest torch has."""
    builds = [b for b in live.builds if b.published and b.channel is Channel.STABLE and b.toolkit]
    return max(builds, key=lambda build: (build.torch, backend_number(build.backend))).backend


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProvisionError as error:
        sys.exit(f"{error.text}\n{error.hint or ''}")
