"""Are error texts understood, and is a healthy log left in peace?

`doctor/reports.toml`: public reports, from which the rules were written. `doctor/later.toml`: messages gathered after
them. `doctor/healthy/`: logs of runs in which nothing was wrong (those about GPUs as the programs print them, the
others from real runs, paths and addresses replaced).
"""

from __future__ import annotations

import datetime as dt
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from provision.checks import Severity
from provision.symptoms import TABLE, explain_log, meanings

HERE = Path(__file__).parent / "doctor"
NO_CODE = {"no_kernel_image_new_gpu", "no_kernel_image_old_gpu"}


def reports(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tomllib.loads((HERE / name).read_text(encoding="utf-8"))["report"]
    return rows


def understood(report: dict[str, Any]) -> bool:
    """The meaning stands first; a text that names no GPU gets both answers about missing code."""
    codes = [finding.code for finding in explain_log("\n".join(report["lines"]))]
    return codes[:1] == [report["meaning"]] or (report["meaning"] in NO_CODE and set(codes[:2]) == NO_CODE)


def test_of_the_public_reports_all_but_those_whose_lines_say_something_else_are_understood() -> None:
    rows = reports("reports.toml")
    missed = {row["id"] for row in rows if not understood(row)}
    assert missed == {
        "drv-020",  # the very words of a driver that is too old for triton
        "jet-003",  # a missing kernel, of a machine that is not named
        "mig-003",  # device_count() == 0, and no more
        "wsl-002",  # no device, of a machine that is not said to be WSL
        "wsl-006",  # the linker's words for any machine without libcuda.so
    }
    assert 1 - len(missed) / len(rows) >= 0.95


@pytest.mark.parametrize("report", reports("later.toml"), ids=lambda report: str(report["meaning"]))
def test_messages_gathered_later_are_understood(report: dict[str, Any]) -> None:
    assert understood(report), [finding.code for finding in explain_log("\n".join(report["lines"]))]


@pytest.mark.parametrize("path", sorted((HERE / "healthy").glob("*.txt")), ids=lambda path: path.stem)
def test_a_healthy_log_gives_no_finding(path: Path) -> None:
    assert explain_log(path.read_text(encoding="utf-8")) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "KeyError: 'weights'",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 16x2)",
        "RuntimeError: CUDA error: device-side assert triggered",
    ],
)
def test_what_is_not_known_gets_no_answer(text: str) -> None:
    assert explain_log(text) == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("with CUDA capability sm_120 is not compatible\nsupports CUDA capabilities sm_80 sm_86 sm_90.", "new_gpu"),
        ("with CUDA capability sm_61 is not compatible\nsupports CUDA capabilities sm_75 sm_80 sm_90.", "old_gpu"),
        (
            "GPU0 X is of cuda capability 5.0.\nMinimum and Maximum cuda capability supported\n(7.0) - (12.0)",
            "old_gpu",
        ),
        ("RTX 5080: CUDA error: no kernel image is available for execution on the device", "new_gpu"),
        ("Tesla P100: CUDA error: no kernel image is available for execution on the device", "old_gpu"),
        ("compute capability (CC) 7.0.\n- 7.5 which supports hardware CC >=7.5,<8.0", "old_gpu"),
    ],
)
def test_missing_code_is_told_apart_by_the_gpu_and_the_list(text: str, code: str) -> None:
    assert [finding.code for finding in explain_log(text)] == [f"no_kernel_image_{code}"]


@pytest.mark.parametrize(
    ("gpu", "codes"), [("sm_89", "sm_80 sm_86 sm_90"), ("sm_103", "sm_90 sm_100"), ("sm_121", "sm_90 sm_120")]
)
def test_a_warning_about_a_gpu_that_the_list_serves_is_said_to_be_wrong(gpu: str, codes: str) -> None:
    text = (
        f"GPU with CUDA capability {gpu} is not compatible with the current PyTorch installation.\n"
        f"The current PyTorch install supports CUDA capabilities {codes}."
    )
    (finding,) = explain_log(text)
    assert (finding.code, finding.severity) == ("false_arch_warning", Severity.HINT)


def test_several_causes_are_ranked_and_each_brings_its_evidence_and_remedy() -> None:
    text = (
        "OSError: [Errno 28] No space left on device\n"
        "WARNING: Ignoring invalid distribution ~orch\n"
        "torchvision 0.26.0 requires torch==2.11.0, but you have torch 2.6.0 which is incompatible.\n"
    )
    first, second = explain_log(text)
    assert (first.code, second.code) == ("xformers_conflict", "no_space")
    assert second.evidence == "OSError: [Errno 28] No space left on device"
    assert first.fix == (("provision",),)
    assert all(finding.cause and finding.remedy for finding in (first, second))


def test_colours_line_ends_and_typographic_quotes_do_not_matter() -> None:
    text = "\x1b[31mGLIBC\x1b[0m: version \u2018GLIBC_2.28\u2019 not found\r\n"
    assert [finding.code for finding in explain_log(text)] == ["cpu_or_libc_too_old"]


def test_a_long_log_is_read_in_seconds() -> None:
    noise = "".join(
        f"step {step} loss 0.12 lr 1e-4 GPU memory 12.3 GB torch Tesla module loaded in /usr/lib/x.so 100%\n"
        for step in range(40_000)
    )
    started = time.process_time()
    findings = explain_log(noise + "RuntimeError: No CUDA GPUs are available\n")
    assert [finding.code for finding in findings] == ["no_devices"]
    assert time.process_time() - started < 10


def test_the_table_says_why_from_where_and_since_when() -> None:
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    assert {row["meaning"] for row in reports("reports.toml")} <= set(rows)
    for code, row in rows.items():
        assert row["source"] and isinstance(row["read"], dt.date), code
        assert row["title"] and not row["title"].endswith("."), code
        assert row["cause"].endswith(".") and row["remedy"].endswith("."), code
    assert set(meanings()) == set(rows)
