"""What may be written after a command? Parameters as data, and the quick reading of a line that has nothing unusual.

One declaration serves both readers: this one, which knows exact names and nothing else and costs nothing, and click
(`face`), which is loaded for everything else: help, abbreviations, mistakes, completion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .values import frozen


@frozen
class Param:
    """One option (`names` begin with a dash) or argument (one plain name, in capitals in the help).

    `kind` is text, path, flag or one of `choices`; `to` is the function's parameter; `sets` is what a flag sets.
    """

    names: tuple[str, ...]
    to: str
    help: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    many: bool = False
    metavar: str | None = None
    default: Any = None
    sets: Any = True
    required: bool = False
    hidden: bool = False

    @property
    def is_argument(self) -> bool:
        return not self.names[0].startswith("-")


def option(*names: str, to: str | None = None, **more: Any) -> Param:
    """An option; without `to` it goes by its long name."""
    return Param(names=names, to=to or names[-1].lstrip("-").replace("-", "_"), **more)


def flag(*names: str, to: str | None = None, default: Any = False, **more: Any) -> Param:
    """An option without a value."""
    return option(*names, to=to, kind="flag", default=default, **more)


def argument(name: str, **more: Any) -> Param:
    """A positional argument."""
    return Param(names=(name,), to=name, **more)


def read(params: Iterable[Param], tokens: Sequence[str]) -> dict[str, Any] | None:
    """The function's keyword arguments, or None where anything is not plainly right."""
    params = tuple(params)
    by_name = {name: param for param in params for name in param.names if not param.is_argument}
    places = [param for param in params if param.is_argument]
    found: dict[str, Any] = {param.to: () if param.many else param.default for param in params}
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("-") or token == "-":
            if not places:
                return None
            param, text = places[0], token
            if not param.many:
                places.pop(0)
        else:
            name, equals, text = token.partition("=")
            if name not in by_name:
                return None
            param = by_name[name]
            if param.kind == "flag":
                if equals:
                    return None
                found[param.to] = param.sets
                continue
            if not equals:
                if not rest or (rest[0].startswith("-") and rest[0] != "-"):
                    return None
                text = rest.pop(0)
        if param.choices and text not in param.choices:
            return None
        given = Path(text) if param.kind == "path" else text
        found[param.to] = (*found[param.to], given) if param.many else given
    return None if any(param.required and not found[param.to] for param in params) else found
