"""What did the machine answer? Records every answer that detection got, without names and serials, and replays it.

A capture is a folder with one `capture.json`; a bug report is a capture, and a capture is a test. Left out: user,
host name and home folder, serials, UUIDs (numbered instead, so that equal ones stay equal), container ids, process
lists. Texts of several lines are lists of lines, for people to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import __version__
from .errors import BadData
from .host import Completed, Host, Uname

SCHEMA = 1
FILE = "capture.json"

T = TypeVar("T")


def record(host: Host, folder: Path) -> Path:
    """Detect, and write what every source answered into `folder` (made if absent). Returns the file."""
    from .detect import detect

    recorder = Recorder(host)
    detect(recorder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    path.write_text(render(anonymous(recorder.answers(), host.private_words())), encoding="utf-8")
    return path


class Recorder:
    """A host that asks another one and remembers each answer, silence included."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kept: dict[str, dict[str, Any]] = {}

    def answers(self) -> dict[str, Any]:
        """Everything that was asked, by kind and question."""
        kinds = {kind: dict(sorted(answers.items())) for kind, answers in sorted(self._kept.items())}
        return {"schema": SCHEMA, "tool": __version__, **kinds}

    def _ask(
        self, kind: str, question: str, ask: Callable[[], T], keep: Callable[[Any], Any] = lambda answer: answer
    ) -> T:
        answers = self._kept.setdefault(kind, {})
        try:
            answer = ask()
        except OSError as error:
            answers[question] = {"error": [error.errno or 0, error.strerror or str(error)]}
            raise
        answers[question] = keep(answer)
        return answer

    def uname(self) -> Uname:
        return self._ask("uname", "uname", self._host.uname, _fields)

    def read_text(self, path: str) -> str:
        return self._ask("files", path, lambda: self._host.read_text(path))

    def list_dir(self, path: str, *, prefix: str = "") -> list[str]:
        return self._ask("folders", _listing(path, prefix), lambda: self._host.list_dir(path, prefix=prefix))

    def read_link(self, path: str) -> str:
        return self._ask("links", path, lambda: self._host.read_link(path))

    def real_path(self, path: str) -> str:
        return self._ask("real-paths", path, lambda: self._host.real_path(path))

    def getenv(self, name: str) -> str | None:
        return self._ask("variables", name, lambda: self._host.getenv(name))

    def which(self, name: str) -> str | None:
        return self._ask("tools", name, lambda: self._host.which(name))

    def find_library(self, name: str) -> str | None:
        return self._ask("libraries", name, lambda: self._host.find_library(name))

    def private_words(self) -> tuple[str, ...]:
        return self._host.private_words()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        cwd: str | None = None,
    ) -> Completed:
        def ask() -> Completed:
            return self._host.run(argv, timeout=timeout, env=env, input=input, cwd=cwd)

        return self._ask("commands", " ".join(argv), ask, _fields)

    def run_script(self, name: str, *, timeout: float, module: str | None = None) -> Completed:
        return self._ask("scripts", name, lambda: self._host.run_script(name, timeout=timeout, module=module), _fields)


class ReplayHost:
    """The machine of a capture. What the capture does not hold was not there, or was never asked."""

    def __init__(self, folder: Path) -> None:
        self._where = Path(folder) / FILE
        self._data = read(self._where)

    def _answer(self, kind: str, question: str) -> Any:
        answers = self._data.get(kind, {})
        if question not in answers:
            raise FileNotFoundError(2, f"not in the capture: {question}")
        answer = answers[question]
        if isinstance(answer, dict) and "error" in answer:
            raise OSError(*answer["error"])
        return answer

    def uname(self) -> Uname:
        try:
            return Uname(**self._answer("uname", "uname"))
        except (OSError, TypeError) as error:
            raise BadData(f"{self._where}: `uname` is missing or damaged", hint="record the machine again") from error

    def read_text(self, path: str) -> str:
        return _text(self._answer("files", path))

    def list_dir(self, path: str, *, prefix: str = "") -> list[str]:
        return [str(name) for name in self._answer("folders", _listing(path, prefix))]

    def read_link(self, path: str) -> str:
        return str(self._answer("links", path))

    def real_path(self, path: str) -> str:
        return str(self._answer("real-paths", path))

    def getenv(self, name: str) -> str | None:
        return self._or_none("variables", name)

    def which(self, name: str) -> str | None:
        return self._or_none("tools", name)

    def find_library(self, name: str) -> str | None:
        return self._or_none("libraries", name)

    def _or_none(self, kind: str, question: str) -> str | None:
        value = self._data.get(kind, {}).get(question)
        return None if value is None else str(value)

    def private_words(self) -> tuple[str, ...]:
        return ()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        cwd: str | None = None,
    ) -> Completed:
        return self._completed(argv, self._answer("commands", " ".join(argv)))

    def run_script(self, name: str, *, timeout: float, module: str | None = None) -> Completed:
        return self._completed((name,), self._answer("scripts", name))

    def _completed(self, argv: Sequence[str], answer: Mapping[str, Any]) -> Completed:
        return Completed(
            argv=tuple(argv),
            returncode=int(answer.get("returncode", 0)),
            stdout=_text(answer.get("stdout", "")),
            stderr=_text(answer.get("stderr", "")),
            timed_out=bool(answer.get("timed_out", False)),
        )


def read(path: Path) -> Mapping[str, Any]:
    """A capture's answers. Raises BadData for what is none, or is of a newer schema."""
    hint = "a capture is a folder written by `provision detect --capture DIR`"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadData(f"{path}: {error.strerror or error}", code="bad-capture", hint=hint) from error
    except ValueError as error:
        raise BadData(f"{path}: not JSON: {error}", code="bad-capture", hint=hint) from error
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise BadData(f"{path}: no capture: it has no `schema`", code="bad-capture", hint=hint)
    if data["schema"] > SCHEMA:
        raise BadData(
            f"{path}: schema {data['schema']} was written by a newer provision; this one reads up to {SCHEMA}",
            code="schema-too-new",
            hint="update torch-provision, or record the capture again with this version",
        )
    return data


def render(data: Any) -> str:
    """The capture's JSON."""
    return json.dumps(_lines(data), indent=1, ensure_ascii=False) + "\n"


def _lines(value: Any) -> Any:
    """Texts of several lines as lists, so that a capture can be read; `folders` hold lists already."""
    if isinstance(value, dict):
        return {key: _lines(each) for key, each in value.items()}
    if isinstance(value, str) and "\n" in value:
        return value.split("\n")
    return value


def _text(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _listing(path: str, prefix: str) -> str:
    return f"{path}/{prefix}*"


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass's fields, without the argument list that is the question."""
    return {name: getattr(value, name) for name in value.__slots__ if name != "argv"}


_PRESENCE = ("KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
"""Variables whose being there is the answer; their values are addresses and paths."""

_UUID = re.compile(r"(?:GPU-|MIG-)?(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})|GPU-[0-9a-fA-F]{8,32}")
_LONG_ID = re.compile(r"\b[0-9a-f]{32,64}\b")
_COMMON = frozenset(
    {"amd", "apple", "cuda", "docker", "gpu", "intel", "linux", "local", "nvidia", "root", "ubuntu", "user"}
)
"""Names of people and hosts that are also words of a capture: they are taken out of paths only."""


def anonymous(data: Mapping[str, Any], private: Sequence[str]) -> dict[str, Any]:
    """The capture without `private` words (user, host name, home folder) and without what names a single device."""
    numbered: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        kind = match[0][:4] if match[0][:4] in {"GPU-", "MIG-"} else ""
        return numbered.setdefault(match[0], f"{kind}00000000-0000-0000-0000-{len(numbered):012d}")

    def clean(text: str) -> str:
        text = re.split(r"^\| Processes:", text, maxsplit=1, flags=re.M)[0]
        text = _LONG_ID.sub("0" * 32, _UUID.sub(number, text))
        for word in sorted(private, key=len, reverse=True):
            if "/" in word or "\\" in word:
                text = re.sub(rf"{re.escape(word)}(?![\w.-])", "/home/user", text)
            elif word.lower() in _COMMON or len(word) < 3:
                text = re.sub(rf"(?<=[/\\]){re.escape(word)}(?=[/\\])", "user", text)
            else:
                text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", "user", text)
        return text

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {clean(key): walk(each) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each) for each in value]
        return clean(value) if isinstance(value, str) else value

    result: dict[str, Any] = walk(dict(data))
    for name in _PRESENCE:
        if result.get("variables", {}).get(name):
            result["variables"][name] = "1"
    for command, answer in result.get("commands", {}).items():
        if command.startswith("reg query") and "stdout" in answer:
            answer["stdout"] = "\n".join(re.findall(_REGISTRY, answer["stdout"], re.M))
    return result


_REGISTRY = r"^(?:HKEY_.*|    (?:DriverDesc|DriverVersion|MatchingDeviceId)    .*)$"
"""The lines of the registry that detection reads; the rest of a display adapter's key is left out."""
