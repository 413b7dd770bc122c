"""How do all the files of a lock come into one folder, and out of it again? For machines without a network.

A wheelhouse holds every file of its locks under its own name, the locks, and requirements that pip and uv install from
with `--no-index --find-links FOLDER`. A file is put there only with the hash that the lock tells.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import InstallFailed, Mismatch
from .lock import File, Lock, requirements_text
from .values import frozen

if TYPE_CHECKING:
    from .host import Host


@frozen
class Filled:
    """What a wheelhouse holds of some locks."""

    files: int
    bytes: int


def fill(folder: Path, locks: Sequence[tuple[str, str, Lock]], host: Host, console: Console) -> Filled:
    """Bring every file of the locks (file name, text, value) into the folder. Raises InstallFailed."""
    from .fetch import Web, at_once
    from .settings import ask_settings

    folder.mkdir(parents=True, exist_ok=True)
    wanted = {file.name: file for _, _, lock in locks for package in lock.packages for file in package.files}
    missing = [file for file in wanted.values() if not holds(folder, file)]
    web = Web(ask_settings(host))

    def bring(file: File) -> None:
        console.progress(f"Downloading {file.name}")
        temporary = folder / f".{file.name}.{os.getpid()}"
        try:
            found = web.download(file.url, temporary)
            if found != file.sha256:
                raise InstallFailed(
                    f"{file.name} has the sha256 {found}, the lock says {file.sha256}",
                    code="integrity",
                    hint="the index or a proxy hands out a file that is not the published one",
                )
            temporary.replace(folder / file.name)
        except OSError as error:
            raise InstallFailed(
                f"{file.name} could not be downloaded: {error.strerror or error}",
                code="network",
                hint="run it again: what has come already stays",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    at_once([lambda file=file: bring(file) for file in missing])  # type: ignore[misc]
    for name, text, lock in locks:
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
        plain = f"requirements.{name.removeprefix('pylock.').removesuffix('.toml')}.txt"
        (folder / plain).write_text(requirements_text(lock, beside=name, folder=True), encoding="utf-8", newline="\n")
    return Filled(files=len(wanted), bytes=sum((folder / name).stat().st_size for name in wanted))


def holds(folder: Path, file: File) -> bool:
    """Whether the folder has this very file."""
    try:
        with (folder / file.name).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def check_complete(folder: Path, lock: Lock) -> None:
    """Every package of the lock is there, with a hash that the lock tells. Raises Mismatch naming what is not."""
    absent: list[str] = []
    for package in lock.packages:
        if not any(holds(folder, file) for file in package.files):
            lying = [file.name for file in package.files if (folder / file.name).exists()]
            absent.append(f"{lying[0]} is another file than the locked one" if lying else _absent(package.files))
    if absent:
        raise Mismatch(
            f"{folder} does not hold what the lock names: {'; '.join(absent[:5])}"
            + (f" and {len(absent) - 5} more" if len(absent) > 5 else ""),
            code="wheelhouse-incomplete",
            hint="fill it where there is a network: provision lock --wheelhouse DIR",
        )


def _absent(files: Iterable[File]) -> str:
    return f"{next(iter(files)).name} is not there"
