"""How is a wheel made by hand? METADATA, WHEEL, RECORD and a zip: nothing else is needed."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

_NOTHING: Mapping[str, bytes] = MappingProxyType({})


def normalize(name: str) -> str:
    """`Jinja2` → `jinja2`, `typing_extensions` → `typing-extensions` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, kw_only=True, eq=False)
class Wheel:
    """One wheel. Its bytes are made when they are first asked for, and are the same on every machine and day."""

    name: str
    version: str
    tag: str = "py3-none-any"
    requires: tuple[str, ...] = ()
    extras: Mapping[str, Sequence[str]] = field(default_factory=dict)
    requires_python: str | None = None
    files: Mapping[str, bytes] = field(default_factory=lambda: _NOTHING)
    console_scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        return f"{self._stem}-{self.tag}.whl"

    @property
    def _stem(self) -> str:
        return f"{normalize(self.name).replace('-', '_')}-{self.version}"

    @cached_property
    def metadata(self) -> bytes:
        """The METADATA file, which an index also serves by itself (PEP 658)."""
        lines = ["Metadata-Version: 2.1", f"Name: {self.name}", f"Version: {self.version}"]
        if self.requires_python:
            lines.append(f"Requires-Python: {self.requires_python}")
        lines += [f"Requires-Dist: {requirement}" for requirement in self.requires]
        for extra, requirements in self.extras.items():
            lines.append(f"Provides-Extra: {extra}")
            lines += [f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements]
        return ("\n".join(lines) + "\n").encode()

    @cached_property
    def content(self) -> bytes:
        """The zip."""
        info = f"{self._stem}.dist-info"
        files = dict(self.files) or {f"{normalize(self.name).replace('-', '_')}/__init__.py": b""}
        files[f"{info}/METADATA"] = self.metadata
        files[f"{info}/WHEEL"] = _wheel_file(self.tag)
        if self.console_scripts:
            rows = "".join(f"{script} = {target}\n" for script, target in self.console_scripts.items())
            files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{rows}".encode()
        record = "".join(f"{path},{_record_hash(content)},{len(content)}\n" for path, content in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for path, content in files.items():
                entry = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, content)
        return out.getvalue()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def write(self, folder: Path) -> Path:
        """Put the wheel into `folder` (created if absent), under its own name."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        path.write_bytes(self.content)
        return path


def wheel(
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
    requires_python: str | None = None,
    files: Mapping[str, bytes | str] | None = None,
    console_scripts: Mapping[str, str] | None = None,
) -> Wheel:
    """A wheel. Without `files` it holds one empty package of its own name.

    `requires` and the lists in `extras` are PEP 508 texts; `console_scripts` maps a command to `module:function`.
    """
    return Wheel(
        name=name,
        version=version,
        tag=tag,
        requires=tuple(requires),
        extras=dict(extras or {}),
        requires_python=requires_python,
        files={path: text.encode() if isinstance(text, str) else text for path, text in (files or {}).items()},
        console_scripts=dict(console_scripts or {}),
    )


def _wheel_file(tag: str) -> bytes:
    python, abi, platform = tag.split("-")
    tags = [f"{p}-{a}-{f}" for p in python.split(".") for a in abi.split(".") for f in platform.split(".")]
    lines = ["Wheel-Version: 1.0", "Generator: tests", f"Root-Is-Purelib: {str(platform == 'any').lower()}"]
    return ("\n".join([*lines, *(f"Tag: {tag}" for tag in tags)]) + "\n").encode()


@lru_cache(maxsize=4096)
def _record_hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
