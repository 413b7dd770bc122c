"""What was asked for on the command line? One value that every command passes on."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageProblem
from .values import frozen

if TYPE_CHECKING:
    from .environment import Python
    from .profile import Profile
    from .resolve import Request


@frozen
class Job:
    """The options common to all that decide, and to those that change (contracts, section 2)."""

    profile: str = "torch"
    machine: Path | None = None
    capture: Path | None = None
    gpus: tuple[str, ...] = ()
    backend: str = "auto"
    channel: str = "auto"
    torch: str | None = None
    python: str | None = None
    index_base: str | None = None
    offline: bool = False
    env: Path | None = None
    retry: bool = True
    depth: str = "default"
    as_of: str | None = None
    for_others: bool = False

    @property
    def foreign(self) -> bool:
        """The facts are another machine's."""
        return self.machine is not None or self.capture is not None

    @property
    def base(self) -> str:
        """The PyTorch index or its mirror, without a login: it is shown and written."""
        return re.sub(r"(?<=://)[^/?#]*@", "", self.base_as_given)

    @property
    def base_as_given(self) -> str:
        """The same with the login that it may have, for who asks it."""
        from .catalog import PYTORCH_INDEX

        base = self.index_base or os.environ.get("PROVISION_INDEX_BASE") or PYTORCH_INDEX
        if "://" not in base:
            raise UsageProblem(
                f"--index-base {base!r} is not an address", hint="for example: --index-base https://mirror.example/whl"
            )
        return base.rstrip("/")

    @property
    def python_version(self) -> str | None:
        """`--python` as major.minor (a patch level is read and ignored)."""
        if self.python is None:
            return None
        match = re.fullmatch(r"(\d+\.\d+)(\.\d+)?(t?)", self.python)
        if match is None:
            raise UsageProblem(f"--python {self.python!r} is not a version", hint="for example: --python 3.12")
        return match[1] + match[3]

    def request(self, python: Python | None, profile: Profile) -> Request:
        """What `resolve` is asked. Raises UsageProblem for a wish that cannot be read."""
        from .catalog import Channel
        from .resolve import Request

        specifier = specifier_of(self.torch)
        if profile.torch:
            limited = specifier_of(profile.torch)
            specifier = limited if specifier is None else specifier & limited if limited else specifier
        return Request(
            limits=profile.limits,
            torch=specifier,
            backend=None if self.backend == "auto" else self.backend,
            channel=None if self.channel == "auto" else Channel(self.channel),
            gpus=self.gpus,
            python=python,
        )

    def grounds(self) -> Mapping[str, Any]:
        """What a proof rests on besides machine and environment."""
        return {
            "profile": self.profile,
            "gpus": list(self.gpus),
            "backend": self.backend,
            "channel": self.channel,
            "torch": self.torch,
            "python": self.python_version,
            "index": self.base,
        }


def specifier_of(text: str | None) -> Any:
    """`2.11.0` → `==2.11.0`; `<2.12` as it is. Raises UsageProblem."""
    if text is None:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    words = text.strip()
    try:
        return SpecifierSet(f"=={words}" if re.match(r"\d", words) else words)
    except InvalidSpecifier:
        raise UsageProblem(
            f"--torch {text!r} is neither a version nor a version specifier",
            hint='for example: --torch 2.11.0, or --torch "<2.12"',
        ) from None
