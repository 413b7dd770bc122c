"""What must be put right in a copy after an installer has worked in it?

The path of the staging folder, which installers write into scripts and activation files, and files of untouched
packages that went with a changed one. `audit` then checks the result.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from . import audit, clone, records
from .records import Record
from .snapshot import Entry, entry_of, take, walk
from .steps import step

_TEXT_LIMIT = 4 << 20
"""A script or text file that names the environment is far smaller than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A copy that is being changed: `original` is the live tree (None for a fresh environment), `before` the copy's
    snapshot before the change, `final` where it will live."""

    tree: Path
    final: Path
    original: Path | None
    before: Mapping[str, Entry]


def settle(staged: Staged, expected: Mapping[str, str]) -> dict[str, Entry]:
    """Put right and check; the copy's snapshot afterwards. `expected`: the whole set, normalized name → version.

    Raises InstallFailed(code="integrity") for what cannot stand, and OSError.
    """
    step("settle")
    now = take(staged.tree)
    if _restore_shared(staged, now):
        now = take(staged.tree)
    written = list(now) if staged.original is None else audit.changed(staged.before, now)
    suspects = [path for path in written if _may_name_places(path)]
    for path in _repair_paths(staged, suspects):
        now[path] = entry_of(os.lstat(staged.tree / path))
    step("audit")
    audit.check(staged.tree, staged.before, now, expected, suspects)
    step("audited")
    return now


def _may_name_places(path: str) -> bool:
    """Whether an installer writes into such a file where the environment is. What lies inside a package comes from its
    wheel as it is, and its sha256 proves so."""
    return "/site-packages/" not in path or ".dist-info/" in path or path.endswith(".pth")


def _restore_shared(staged: Staged, now: Mapping[str, Entry]) -> bool:
    """Files that an untouched distribution owns too, but that went with a changed one (`nvidia/__init__.py`)."""
    gone = {path for path, entry in staged.before.items() if path not in now and not stat.S_ISDIR(entry.mode)}
    if staged.original is None or not gone:
        return False
    owned = {
        row.path
        for info in records.infos(staged.tree)
        if staged.before.get(f"{info}/RECORD") == now.get(f"{info}/RECORD")
        for row in (records.read(staged.tree, info) or Record(info=info, rows=())).rows
    }
    clone.restore(staged.original, staged.tree, sorted(gone & owned))
    return bool(gone & owned)


def _repair_paths(staged: Staged, paths: Iterable[str]) -> set[str]:
    """Write the final path where scripts, activation files and the like name the staging folder; what was written."""
    names = list(_spellings(staged))
    repaired = set()
    for path in paths:
        file = staged.tree / path
        found = os.lstat(file)
        if stat.S_ISLNK(found.st_mode):
            link = os.fsencode(os.readlink(file))
            if _replaced(link, names) != link:
                file.unlink()
                os.symlink(os.fsdecode(_replaced(link, names)), file)
                repaired.add(path)
        elif stat.S_ISREG(found.st_mode) and found.st_size <= _TEXT_LIMIT:
            content = file.read_bytes()
            if _replaced(content, names) != content:
                step("settle-script")
                _rewrite(file, _replaced(content, names))
                repaired.add(path)
    return repaired | _refresh_records(staged.tree, repaired)


def _spellings(staged: Staged) -> Iterator[tuple[bytes, bytes]]:
    """How the staging folder may be written in a file, with what belongs there.

    Only the part that differs is looked for: the folders above are the same, however they are quoted.
    """
    if staged.tree.is_relative_to(staged.final):
        staging, final = f"/{staged.tree.relative_to(staged.final).as_posix()}", ""
    else:
        staging, final = staged.tree.relative_to(staged.final.parent).as_posix(), staged.final.name
    for spell in (str, quote, _in_json, _in_shell):
        yield os.fsencode(spell(staging)), os.fsencode(spell(final))
    for separator in ("\\", "\\\\"):
        yield os.fsencode(staging.replace("/", separator)), os.fsencode(final)
    yield os.fsencode(staged.tree.name), os.fsencode(staged.final.name)  # the prompt that a fresh environment was given


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _in_shell(text: str) -> str:
    return text.replace("'", "'\"'\"'")


def _replaced(content: bytes, names: Iterable[tuple[bytes, bytes]]) -> bytes:
    for old, new in names:
        content = content.replace(old, new)
    return content


def unrequest(tree: Path, names: Collection[str]) -> None:
    """Take the mark of PEP 376 that somebody asked for a distribution by name from those that nobody did."""
    for info in records.infos(tree):
        mark = tree / info / "REQUESTED"
        record = records.read(tree, info)
        if records.name_of(info) not in names or record is None or not mark.exists():
            continue
        rows = tuple(row for row in record.rows if row.path != f"{info}/REQUESTED")
        _rewrite(tree / record.file, records.render(replace(record, rows=rows)).encode())
        mark.unlink()


def _rewrite(file: Path, content: bytes) -> None:
    """As a new inode with the same mode: the old one may be shared with uv's cache."""
    new = file.with_name(f"{file.name}.provision-new")
    with open(new, "xb") as out:
        out.write(content)
    os.chmod(new, stat.S_IMODE(os.lstat(file).st_mode))
    os.replace(new, file)


def _refresh_records(tree: Path, repaired: set[str]) -> set[str]:
    """Give rewritten files their new hash and size in the RECORDs that own them; which RECORDs."""
    refreshed = set()
    for info in records.infos(tree):
        record = records.read(tree, info)
        if record is None or repaired.isdisjoint(row.path for row in record.rows):
            continue
        step("settle-record")
        rows = tuple(
            row._replace(hash=records.digest(tree / row.path), size=str(os.lstat(tree / row.path).st_size))
            if row.path in repaired and row.hash
            else row
            for row in record.rows
        )
        _rewrite(tree / record.file, records.render(replace(record, rows=rows)).encode())
        refreshed.add(record.file)
    return refreshed


def seal(tree: Path, since_ns: int) -> dict[str, Entry]:
    """The snapshot of a copy, after bytecode that was compiled in it since then and names it has been deleted.

    The next import writes such bytecode again.
    """
    name = os.fsencode(tree.name)
    found = {}
    for path, entry, status in walk(tree, caches=True):
        if "__pycache__" not in path:
            found[path] = entry_of(status)
        elif path.endswith(".pyc") and status.st_mtime_ns >= since_ns and name in Path(entry.path).read_bytes():
            os.unlink(entry.path)
    return found
