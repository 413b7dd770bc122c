"""`provision.coverage`: which code runs on which GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from provision.coverage import (
    Judgement,
    Verdict,
    cubin_loads,
    cubin_runs,
    judge,
    parse_code,
    ptx_compiles,
    ptx_isa_cuda,
    ptx_runs,
    serve,
    weakest,
)

CASES = [
    line.split()
    for line in (Path(__file__).parent / "fatbin" / "loading.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:4]))
def test_what_a_gpu_loads(case: list[str]) -> None:
    text, capability, answer, *more = case
    toolkit = more[0] if more and more[0][0].isdigit() else None
    code = parse_code(text)
    expected = {"yes": True, "no": False, "?": None}[answer]
    if code.ptx:
        assert ptx_compiles(code, capability) is expected
    else:
        assert cubin_loads(code, capability, toolkit=toolkit) is expected


@pytest.mark.parametrize("case", [case for case in CASES if case[0].startswith("sm_")], ids=" ".join)
def test_torch_counts_on_a_cubin_only_where_it_is_known_to_load(case: list[str]) -> None:
    text, capability, answer, *more = case
    toolkit = more[0] if more and more[0][0].isdigit() else None
    thor = {"10.1", "11.0"} >= {capability, parse_code(text).capability}
    assert cubin_runs(parse_code(text), capability, toolkit=toolkit) is (answer == "yes" or thor)


@pytest.mark.parametrize("text", ["sm", "90", "sm_9", "sm_90b", "compute_", "gfx1100", "SM_90", "sm_90 "])
def test_what_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a GPU architecture"):
        parse_code(text)


ISA = {"5.0": "11.0", "7.8": "11.8", "8.0": "12.0", "8.5": "12.5", "8.6": "12.7", "8.7": "12.8", "8.8": "12.9"}
ISA_13 = {"9.0": "13.0", "9.4": "13.4", "9.5": None, "10.0": None}


@pytest.mark.parametrize(("isa", "cuda"), (ISA | ISA_13).items())
def test_each_ptx_isa_came_with_a_cuda_release(isa: str, cuda: str | None) -> None:
    assert ptx_isa_cuda(isa) == cuda


def test_torch_counts_on_ptx_of_hopper_or_later_whose_toolkit_the_driver_serves() -> None:
    new, old = parse_code("compute_120"), parse_code("compute_80")
    assert ptx_runs(new, "12.1", toolkit="13.0", driver_cuda="13.0")
    assert not ptx_runs(new, "12.1", toolkit="13.2", driver_cuda="13.0")
    assert not ptx_runs(new, "10.0", toolkit="13.0", driver_cuda="13.0")
    assert not ptx_runs(old, "12.0", toolkit="12.8", driver_cuda="13.0")


def test_the_nearest_cubin_serves_before_ptx() -> None:
    codes = ["sm_75", "sm_80", "sm_86", "compute_90"]
    served = {at: served and served.by for at in ("8.9", "8.0", "9.0", "7.0") for served in [serve(codes, at)]}
    assert served == {"8.9": "sm_86", "8.0": "sm_80", "9.0": "compute_90", "7.0": None}
    assert serve(["sm_120", "sm_120a"], "12.0") == serve(["sm_120"], "12.0"), "the plain one is named"


YES, NO, UNSURE = [True], [False], [None]


@pytest.mark.parametrize(
    ("containers", "verdict"),
    [
        ([], Verdict.NONE),
        ([(YES, NO, 3)], Verdict.COVERED),
        ([(YES, [], 3), (NO, YES, 1)], Verdict.COVERED_JIT),
        ([(YES, [], 3), ([], [], 1)], Verdict.PARTIAL),
        ([(NO, NO, 3), ([], [], 1)], Verdict.NOT_COVERED),
        ([(YES, [], 3), (UNSURE, [], 1)], Verdict.UNKNOWN),
        ([(NO, [], 3), (UNSURE, [], 1)], Verdict.UNKNOWN),
        ([(YES, [], 3), (UNSURE, [], 1), (NO, [], 1)], Verdict.PARTIAL),
        ([(UNSURE, YES, 1)], Verdict.COVERED_JIT),
        ([([False, None], [], 1)], Verdict.UNKNOWN),
    ],
)
def test_a_verdict_counts_containers(
    containers: list[tuple[list[bool | None], list[bool | None], int]], verdict: Verdict
) -> None:
    assert judge(containers).verdict is verdict


def test_a_partial_verdict_says_its_numbers() -> None:
    assert str(judge([(YES, [], 2), (NO, YES, 1), (NO, NO, 30)])) == "partial 3 of 33"
    assert judge([(YES, [], 2), (NO, YES, 1)]) == Judgement(verdict=Verdict.COVERED_JIT, cubin=2, ptx=1, containers=3)


def test_the_weakest_library_decides_and_those_without_code_do_not_count() -> None:
    assert weakest([Verdict.COVERED, Verdict.PARTIAL, Verdict.NONE]) is Verdict.PARTIAL
    assert weakest([Verdict.COVERED, Verdict.NOT_COVERED]) is Verdict.NOT_COVERED
    assert weakest([Verdict.COVERED, Verdict.NONE]) is Verdict.COVERED
    assert weakest([]) is weakest([Verdict.NONE]) is Verdict.NONE
