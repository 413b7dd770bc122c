"""Is the changed copy right, and is it nobody's but its own?

First what can be put right is put right: the staging path that leaked into scripts, files of untouched packages that an
uninstall took along. Then it is checked: the exact set of distributions, complete RECORDs, the sha256 of every file
that was written. uv may leave an empty RECORD on a full disk and still say success (measured): nothing is believed.
"""

from __future__ import annotations

import json
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from ..errors import InstallFailed
from . import clone, disk, records
from .records import Record
from .snapshot import Entry, take, walk
from .steps import step

_MUST_LIST = ("METADATA", "WHEEL", "RECORD")
_TEXT_LIMIT = 4 << 20
"""A script or text file that names the environment is far smaller than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The copy and where it came from: `original` is the live tree (None for a fresh one), `before` the copy's first
    snapshot, `final` where the copy will live."""

    tree: Path
    final: Path
    original: Path | None
    before: Mapping[str, Entry]


def settle(staged: Staged, expected: Mapping[str, str]) -> dict[str, Entry]:
    """Repair and check the copy; its snapshot afterwards.

    `expected` is the whole set, normalized name → version. Raises InstallFailed(code="integrity") for what cannot
    stand, and OSError.
    """
    step("settle")
    now = take(staged.tree)
    if _restore_shared(staged, now):
        now = take(staged.tree)
    if repair_paths(staged, _may_name_places(changed(staged.before, now))):
        now = take(staged.tree)
    step("audit")
    audit(staged, now, expected)
    step("audited")
    return now


def _may_name_places(paths: Iterable[str]) -> list[str]:
    """The paths in which an installer writes where the environment is: what lies inside a package comes from its wheel
    as it is, and its sha256 proves so."""
    return [path for path in paths if "/site-packages/" not in path or ".dist-info/" in path or path.endswith(".pth")]


def changed(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[str]:
    """The files and links that are new or other than they were."""
    return [path for path, entry in now.items() if not stat.S_ISDIR(entry.mode) and before.get(path) != entry]


def _restore_shared(staged: Staged, now: Mapping[str, Entry]) -> bool:
    """Files that an untouched distribution owns too, but that went with a changed one (`nvidia/__init__.py`)."""
    if staged.original is None:
        return False
    gone = {path for path, entry in staged.before.items() if path not in now and not stat.S_ISDIR(entry.mode)}
    if not gone:
        return False
    owned = {
        row.path
        for info in records.infos(staged.tree)
        if staged.before.get(f"{info}/RECORD") == now.get(f"{info}/RECORD")
        for row in (records.read(staged.tree, info) or Record(info=info, rows=())).rows
    }
    clone.restore(staged.original, staged.tree, sorted(gone & owned))
    return bool(gone & owned)


def repair_paths(staged: Staged, paths: Iterable[str]) -> bool:
    """Write the final path where scripts, activation files and the like name the staging folder; whether any did."""
    names = list(_spellings(staged))
    repaired = set()
    for path in paths:
        file = staged.tree / path
        if file.is_symlink():
            link = os.readlink(file)
            final = _replaced(os.fsencode(link), names)
            if final != os.fsencode(link):
                file.unlink()
                os.symlink(os.fsdecode(final), file)
                repaired.add(path)
            continue
        if not stat.S_ISREG(os.lstat(file).st_mode) or os.lstat(file).st_size > _TEXT_LIMIT:
            continue
        content = file.read_bytes()
        final = _replaced(content, names)
        if final == content:
            continue
        step("settle-script")
        _rewrite(file, final)
        repaired.add(path)
    if repaired:
        _refresh_records(staged.tree, repaired)
    return bool(repaired)


def _spellings(staged: Staged) -> Iterator[tuple[bytes, bytes]]:
    """How the staging folder may be written in a file, longest first, with its final spelling.

    Only the part from the state folder's name on is looked for: what stands before it is the same in both.
    """
    tail = staged.tree.relative_to(staged.final.parent).as_posix() if _beside(staged) else str(staged.tree)
    final = staged.final.name if _beside(staged) else str(staged.final)
    for spell in (str, quote, _in_json, _in_shell):
        yield os.fsencode(spell(tail)), os.fsencode(spell(final))
    yield os.fsencode(tail.replace("/", "\\")), os.fsencode(final.replace("/", "\\"))
    yield os.fsencode(tail.replace("/", "\\\\")), os.fsencode(final.replace("/", "\\\\"))
    yield os.fsencode(staged.tree.name), os.fsencode(staged.final.name)  # the prompt that a fresh venv was given


def _beside(staged: Staged) -> bool:
    return staged.tree.is_relative_to(staged.final.parent) and not staged.tree.is_relative_to(staged.final)


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _in_shell(text: str) -> str:
    return text.replace("'", "'\"'\"'")


def _replaced(content: bytes, names: Iterable[tuple[bytes, bytes]]) -> bytes:
    for old, new in names:
        content = content.replace(old, new)
    return content


def _rewrite(file: Path, content: bytes) -> None:
    """As a new inode with the same mode: the old one may be shared with uv's cache."""
    new = file.with_name(f"{file.name}.provision-new")
    with open(new, "xb") as out:
        out.write(content)
    os.chmod(new, stat.S_IMODE(os.lstat(file).st_mode))
    os.replace(new, file)


def _refresh_records(tree: Path, repaired: set[str]) -> None:
    """Give rewritten files their new hash and size in the RECORDs that own them."""
    for info in records.infos(tree):
        record = records.read(tree, info)
        if record is None or repaired.isdisjoint(row.path for row in record.rows):
            continue
        step("settle-record")
        rows = tuple(
            replace(row, hash=records.digest(tree / row.path), size=str(os.lstat(tree / row.path).st_size))
            if row.path in repaired and row.hash
            else row
            for row in record.rows
        )
        _rewrite(tree / record.file, records.render(replace(record, rows=rows)).encode())


def audit(staged: Staged, now: Mapping[str, Entry], expected: Mapping[str, str]) -> None:
    """Refuse a copy that is not exactly what it should be. Raises InstallFailed(code="integrity")."""
    problems = [
        *wrong_set(staged.tree, expected),
        *litter(staged.tree),
        *wrong_records(staged, now),
        *leaks(staged, _may_name_places(changed(staged.before, now))),
    ]
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:8])
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise InstallFailed(
            f"the new environment is not what was asked for:\n{shown}{more}",
            code="integrity",
            hint="run it again; if it stays, the package cache may be damaged: uv cache clean PACKAGE",
        )


def wrong_set(tree: Path, expected: Mapping[str, str]) -> Iterator[str]:
    """Distributions that are missing, too many, at another version or there twice."""
    from packaging.version import InvalidVersion, Version

    def same(one: str, other: str) -> bool:
        try:
            return Version(one) == Version(other)
        except InvalidVersion:
            return one == other

    found: dict[str, str] = {}
    for info in records.infos(tree):
        named = records.name_and_version(tree, info)
        if named is None:
            yield f"{info} has no readable METADATA"
            continue
        name, version = named
        if name in found:
            yield f"{name} is there twice ({found[name]} and {version})"
        found[name] = version
    for name, version in expected.items():
        if name not in found:
            yield f"{name} {version} is missing"
        elif not same(found[name], version):
            yield f"{name} is {found[name]}, not {version}"
    for name in found.keys() - expected.keys():
        yield f"{name} {found[name]} is there, but nobody asked for it"


def litter(tree: Path) -> Iterator[str]:
    """What an installer left half done: `~orch`, `.tmp…`."""
    for site in records.sites(tree):
        for name in sorted(os.listdir(tree / site)):
            if name.startswith(("~", ".tmp")):
                yield f"{site}/{name} is the rest of a broken install"


def wrong_records(staged: Staged, now: Mapping[str, Entry]) -> Iterator[str]:
    """Of every distribution that was changed: RECORD complete, nothing missing, every hash true, no file unowned."""
    tree, before = staged.tree, staged.before
    hashes: dict[str, str] = {}
    owned: set[str] = set()
    for info in records.infos(tree):
        record = records.read(tree, info)
        is_changed = before.get(f"{info}/RECORD") != now.get(f"{info}/RECORD")
        if record is None:
            if is_changed or f"{info}/METADATA" not in before:
                yield f"{info} has no readable RECORD"
            continue
        listed = {row.path for row in record.rows}
        owned |= listed
        if not is_changed:
            continue
        for name in _MUST_LIST:
            if f"{info}/{name}" not in listed:
                yield f"{record.file} does not list {name}"
        for row in record.rows:
            entry = now.get(row.path)
            if entry is None:
                if not row.path.endswith(".pyc") and not os.path.lexists(tree / row.path):
                    yield f"{row.path} is missing, {record.file} lists it"
            elif row.size and int(row.size) != entry.size and not row.path.endswith(".pyc"):
                yield f"{row.path} has {entry.size} bytes, {record.file} says {row.size}"
            elif row.hash and not row.path.endswith(".pyc"):
                hashes[row.path] = row.hash
    fresh = changed(before, now)
    places = tuple(f"{site}/" for site in records.sites(tree))
    for path in fresh:
        if path.startswith(places) and path not in owned and not path.endswith(".pyc"):
            yield f"{path} was written, but no RECORD lists it"
    yield from _wrong_hashes(tree, {path: hashes[path] for path in fresh if path in hashes})


def _wrong_hashes(tree: Path, hashes: Mapping[str, str]) -> Iterator[str]:
    def check(item: tuple[str, str]) -> str | None:
        path, wanted = item
        if not wanted.startswith("sha256="):
            return None
        return None if records.digest(tree / path) == wanted.rstrip("=") else f"{path} does not match its sha256"

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        yield from (problem for problem in pool.map(check, hashes.items(), chunksize=64) if problem)


def leaks(staged: Staged, paths: Iterable[str]) -> Iterator[str]:
    """Files that still name the staging folder."""
    name = os.fsencode(staged.tree.name)
    for path in paths:
        file = staged.tree / path
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _TEXT_LIMIT:
            continue
        if name in file.read_bytes():
            yield f"{path} names the staging folder {posixpath.basename(str(staged.tree))}"


def drop_leaky_bytecode(tree: Path, since_ns: int) -> None:
    """Delete bytecode that was compiled in the staging folder and names it; the next import writes it again."""
    name = os.fsencode(tree.name)
    for path, entry, found in walk(tree, caches=True):
        if path.endswith(".pyc") and found.st_mtime_ns >= since_ns and name in Path(entry.path).read_bytes():
            disk.remove(Path(entry.path))
