"""Is what a source prints read rightly? A case is a file under tests/parse: the text, beside what it means.

`parse/<probe>/<case>.txt` is what was printed; `<case>.json` holds `expected` and, for commands, what was `given`
beside the text (exit code, standard error). Texts are as the tools print them (NVIDIA's, AMD's, Apple's, Windows').
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from provision.detect import amd, apple, kernel, nvidia, pci, system
from provision.detect.answer import Answer, Seen
from provision.host import Completed
from provision.values import fields

CASES = sorted((Path(__file__).parent / "parse").glob("*/*.txt"))


def seen(gpu: Seen | None) -> dict[str, Any] | None:
    """A GPU's known fields."""
    if gpu is None:
        return None
    return {name: value for name, value in fields(gpu).items() if value is not None and value is not False}


def told(answer: Answer) -> dict[str, Any]:
    """An answer, without what is empty."""
    parts = {
        "gpus": [seen(gpu) for gpu in answer.gpus],
        "drivers": {driver.vendor.value: driver.version for driver in answer.drivers},
        "skipped": [skipped.reason for skipped in answer.skipped],
        "silent": answer.silent,
    }
    return {name: value for name, value in parts.items() if value}


def command(parse: Callable[[Completed], Answer]) -> Callable[..., dict[str, Any]]:
    def read(text: str, *, returncode: int = 0, stderr: str = "", timed_out: bool = False) -> dict[str, Any]:
        return told(parse(Completed(argv=(), returncode=returncode, stdout=text, stderr=stderr, timed_out=timed_out)))

    return read


PARSERS: dict[str, Callable[..., Any]] = {
    "cgroup": system.parse_cgroup,
    "device-tree-compatible": kernel.parse_compatible,
    "glibc": system.parse_glibc,
    "ldd": system.parse_ldd,
    "kfd-node": lambda text: seen(amd.parse_node(amd.parse_properties(text), index=0, memory=None)),
    "libcuda": command(nvidia.parse_cuda),
    "library-path": kernel.parse_library,
    "musl": system.parse_musl,
    "nv-tegra-release": kernel.parse_tegra_release,
    "nvidia-smi": command(nvidia.parse_smi),
    "nvidia-smi-header": nvidia.parse_smi_header,
    "nvml": command(nvidia.parse_nvml),
    "proc-nvidia-version": kernel.parse_proc,
    "registry": lambda text: told(pci.parse_registry(text)),
    "rocminfo": lambda text: [seen(gpu) for gpu in amd.parse_rocminfo(text)],
    "sys-module-version": kernel.parse_module,
    "sysctl": lambda text: told(apple.parse_sysctl(text)),
    "uevent": lambda text: seen(pci.parse_device("0000:01:00.0", pci.parse_uevent(text))),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_parse(case: Path) -> None:
    data = json.loads(case.with_suffix(".json").read_text(encoding="utf-8"))
    with case.open(encoding="utf-8", newline="") as file:
        text = file.read()
    got = PARSERS[case.parent.name](text, **data.get("given", {}))
    assert json.loads(json.dumps(got)) == data["expected"]


def test_every_parser_has_cases() -> None:
    assert {case.parent.name for case in CASES} == set(PARSERS)


@pytest.mark.parametrize(
    "probe", ["nvml", "libcuda", "nvidia-smi", "registry", "sysctl", "rocminfo", "uevent", "kfd-node"]
)
@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_a_text_cut_anywhere_is_read_without_an_error(probe: str, cut: float) -> None:
    """A child that was ended in the middle of a line."""
    for case in CASES:
        if case.parent.name == probe:
            text = case.read_text(encoding="utf-8")
            PARSERS[probe](text[: int(len(text) * cut)])
