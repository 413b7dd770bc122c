"""What does this error text mean? Rules over the words of messages, without the machine that wrote them.

The rules are rows of `data/failures.toml`: each says what a message states, suggests or hints at. What needs reckoning
stands here: whether a GPU that torch complains about is too new or too old for the build, or neither.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from .checks import Finding, Severity
from .coverage import parse_code, serve
from .errors import BadData
from .values import frozen

TABLE = Path(__file__).parent / "data" / "failures.toml"

MOST = 1 << 18
"""How many characters of a text are read: its end, where the error is, and a quarter of that from its beginning."""


class Weight(IntEnum):
    """How much a sign proves."""

    HINTS = 1
    SUGGESTS = 2
    SAYS = 3


@frozen
class Sign:
    """A message: its pattern, how much it proves, what else must (not) be in the text."""

    pattern: re.Pattern[str]
    weight: Weight
    also: tuple[re.Pattern[str], ...] = ()
    unless: tuple[re.Pattern[str], ...] = ()


@frozen
class Meaning:
    """One row: what is wrong, why, and what to do."""

    code: str
    severity: Severity
    title: str
    cause: str
    remedy: str
    fix: tuple[tuple[str, ...], ...] | None
    signs: tuple[Sign, ...]

    def finding(self, evidence: str) -> Finding:
        """This meaning, seen in these words."""
        return Finding(
            code=self.code,
            severity=self.severity,
            title=self.title,
            evidence=evidence,
            cause=self.cause,
            fix=self.fix,
            remedy=self.remedy,
        )


@frozen
class Seen:
    """A sign that was found, and where."""

    code: str
    weight: Weight
    at: int
    words: str
    in_context: bool = False


def explain_log(text: str) -> tuple[Finding, ...]:
    """What an error text or a log means, the likeliest first; nothing where it says nothing that is known here.

    Hints are left out where something better was found.
    """
    text = _plain(text)
    seen = [*_by_signs(text), *_by_capability(text)]
    if not seen:
        return ()
    strongest = max(one.weight for one in seen)
    kept = [one for one in seen if one.weight is not Weight.HINTS or strongest is Weight.HINTS]
    by_code: dict[str, list[Seen]] = {}
    for one in kept:
        by_code.setdefault(one.code, []).append(one)
    ranked = sorted(by_code, key=lambda code: _rank(by_code[code]))
    return tuple(meanings()[code].finding(_evidence(by_code[code])) for code in ranked)


def _rank(seen: list[Seen]) -> tuple[int, bool, int, int]:
    """The strongest sign first, then one that its context confirms, then the most signs, then the earliest.

    What came first causes what came after.
    """
    strongest = max(one.weight for one in seen)
    confirmed = any(one.in_context for one in seen if one.weight is strongest)
    return (-strongest, not confirmed, -len(seen), min(one.at for one in seen))


def _evidence(seen: list[Seen]) -> str:
    best = max(seen, key=lambda one: (one.weight, -one.at))
    return best.words if len(best.words) <= 300 else best.words[:297] + "…"


def _plain(text: str) -> str:
    """Without colour codes and with one kind of quotes and line ends, as the patterns are written; each line once."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace("\r\n", "\n").replace("\r", "\n")
    text = "\n".join(dict.fromkeys(text.translate(str.maketrans("‘’`“”", "'''\"\"")).split("\n")))
    return text if len(text) <= MOST else text[: MOST // 4] + "\n" + text[-MOST * 3 // 4 :]


def _by_signs(text: str) -> Iterator[Seen]:
    for meaning in meanings().values():
        for sign in meaning.signs:
            found = sign.pattern.search(text)
            if (
                found
                and all(other.search(text) for other in sign.also)
                and not any(other.search(text) for other in sign.unless)
            ):
                yield Seen(
                    code=meaning.code,
                    weight=sign.weight,
                    at=found.start(),
                    words=_line(text, found.start()),
                    in_context=bool(sign.also),
                )


def _line(text: str, at: int) -> str:
    """The line around a place."""
    end = text.find("\n", at)
    return text[text.rfind("\n", 0, at) + 1 : end if end >= 0 else len(text)].strip()


# A build without code for the GPU


_NO_CODE = re.compile(
    r"no kernel image|NoKernelImageForDevice|NO_BINARY_FOR_GPU|NoBinaryForGpu|error ?[=:] ?209\b|STATUS_ARCH_MISMATCH"
    r"|invalid device function",
    re.I,
)
"""A kernel was started, and there was no code for it."""

_WARNED = re.compile(
    r"not compatible with the current PyTorch|no longer supports this GPU|does not include kernels for this GPU"
    r"|Minimum and Maximum cuda capability supported|which supports hardware CC"
    r"|CUDA capability (sm_\d+[af]?|[\d.]+) is not (compatible|supported)|minimum cuda capability"
    r"|(current|this|installed) PyTorch install(ation)? supports CUDA capabilities",
    re.I,
)
"""torch compared the GPU with its own list."""

_PROSE = re.compile(
    r"(GPU|card|sm_\d+|RTX|GTX|Tesla|Quadro|Blackwell|Pascal|Maxwell|Volta|-series|compute capabilit\w+)[^\n]{0,60}"
    r"(not (yet )?(work|support|compatible)|doesn't (work|support)|unsupported|incompatible|missing|no longer|too old)"
    r"|(no|without|lacks?|missing) (support|kernels|code|cubins?|sass) for (sm_|compute capability|RTX|GTX|Blackwell)",
    re.I,
)
"""A person says so in their own words."""

_CAPABILITY = re.compile(
    r"\bsm_?(?P<sm>\d{2,3})[af]? is not compatible"
    r"|CUDA capability sm_?(?P<of>\d{2,3})"
    r"|capability(?: \(CC\))?(?: of| is|:)? ?\(?(?P<dotted>\d{1,2}[.,] ?\d)(?!\d| or\b|\+)"
    r"|only supports (?P<only>\d\d)\b"
    r"|\b(?:sm|compute)_?(?P<missing>\d{2,3})[af]?\)? (?:is )?(?:missing|not (?:yet )?(?:supported|in\b|included))",
    re.I,
)
_RANGE = re.compile(r"\(?(\d+\.\d)\)? ?- ?\(?(\d+\.\d)\)?")
_SUPPORTED = re.compile(r"^\W*(\d+)\.(\d) which supports hardware CC", re.M)
_CODE = re.compile(r"\b(?:sm|compute)_\d{2,3}[af]?\b")
_NEW = re.compile(
    r"\bRTX ?(PRO )?[56]\d{3}\b|\b5\d{2}0 ?Ti\b|\b(GB10|DGX Spark|GB[23]00|B[123]00|GH200|H[12]00|H20)\b"
    r"|Blackwell|sm_1[0-2]\d",
    re.I,
)
_OLD = re.compile(
    r"\bGTX ?([4-9]\d\d|10\d\d)|10[- ]series|\b(Tesla )?[KMP](4|40|60|80|100)\b|\bQuadro [KMP]\d+"
    r"|\bGT ?[67]\d\d\b|\bTitan (X|Xp|V|Black|Z)\b|\bMX1\d0\b|Pascal|Maxwell|Kepler|Volta|\bV100\b|sm_[3-6]\d\b"
    r"|older (GPU|card)",
    re.I,
)
_TURING, _HOPPER = (7, 5), (9, 0)
"""No build has dropped what lies between, and every build for CUDA 11.1 and later has it."""


def _by_capability(text: str) -> Iterator[Seen]:
    """Too new, too old, or warned about without reason."""
    failed, warned = _NO_CODE.search(text), _WARNED.search(text)
    where = failed or warned or _PROSE.search(text)
    if where is None:
        return
    gpu, codes = _gpu_in(text), _codes_in(text)
    if failed or warned:
        which, weight = _which(text, gpu, codes, failed=bool(failed)), Weight.SAYS
    else:
        which, weight = _which(text, gpu, codes, failed=True), Weight.SUGGESTS
        if len(which) > 1:  # only words, and none that names a GPU
            return
    for code in which:
        yield Seen(code=code, weight=weight, at=where.start(), words=_line(text, where.start()))


def _which(text: str, gpu: str | None, codes: list[str], *, failed: bool) -> list[str]:
    """The meanings that fit: one where the text names the GPU or its architecture, both where it does not."""
    if gpu and codes and not failed and serve(codes, gpu) is not None:
        return ["false_arch_warning"]
    if gpu == "12.1" and not failed and not codes:  # GB10: every build for CUDA 12.8 and later runs on it
        return ["false_arch_warning"]
    old, new = "no_kernel_image_old_gpu", "no_kernel_image_new_gpu"
    if re.search(r"(because it is|is) too old", text, re.I):
        return [old]
    if gpu and codes:
        newest = max((parsed.major, parsed.minor) for parsed in map(parse_code, codes))
        return [new if _number(gpu) > newest else old]
    if gpu and (_number(gpu) < _TURING or _number(gpu) >= _HOPPER):
        return [new if _number(gpu) >= _HOPPER else old]
    named_new, named_old = _NEW.search(text), _OLD.search(text)
    if bool(named_new) != bool(named_old):
        return [new if named_new else old]
    return [new, old]


def _gpu_in(text: str) -> str | None:
    """The capability of the GPU that the text complains about: "12.0"."""
    found = _CAPABILITY.search(text)
    if found is None:
        return None
    if found["dotted"]:
        return found["dotted"].replace(",", ".").replace(" ", "")
    digits = found["sm"] or found["of"] or found["only"] or found["missing"]
    return f"{digits[:-1]}.{digits[-1]}"


def _number(capability: str) -> tuple[int, int]:
    major, _, minor = capability.partition(".")
    return int(major), int(minor)


def _codes_in(text: str) -> list[str]:
    """The architectures that the build holds, as the text lists them or gives their range."""
    listed = re.search(r"supports CUDA capabilities([^\n]*(?:\n[^\n]*sm_[^\n]*)?)", text)
    if listed:
        return _CODE.findall(listed[1])
    supported = _SUPPORTED.findall(text)
    if supported:
        return [f"sm_{major}{minor}" for major, minor in supported]
    between = _RANGE.search(text) if _WARNED.search(text) else None
    if between:
        return [f"sm_{edge.replace('.', '')}" for edge in between.groups()]
    several = _CODE.findall(text)
    return several if len(set(several)) > 2 else []


# The table


@cache
def meanings() -> Mapping[str, Meaning]:
    """Every row of the table by its code. Raises BadData."""
    try:
        data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
        return {code: parse_meaning(code, row) for code, row in data.items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, ValueError, re.error) as error:
        raise BadData(f"{TABLE.name} cannot be read: {error!r}", hint="install torch-provision again") from error


def parse_meaning(code: str, row: Mapping[str, Any]) -> Meaning:
    """One table of the TOML."""
    return Meaning(
        code=code,
        severity=Severity(row["severity"]),
        title=row["title"],
        cause=row["cause"],
        remedy=row["remedy"],
        fix=tuple(tuple(argv) for argv in row["fix"]) if "fix" in row else None,
        signs=tuple(_sign(sign) for sign in row.get("signs", ())),
    )


def _sign(row: Mapping[str, Any]) -> Sign:
    (word,) = [word for word in ("says", "suggests", "hints") if word in row]
    return Sign(
        pattern=_pattern(row[word]),
        weight=Weight[word.upper()],
        also=tuple(map(_pattern, row.get("also", ()))),
        unless=tuple(map(_pattern, row.get("unless", ()))),
    )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.MULTILINE)
