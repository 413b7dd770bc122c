"""May this driver run this toolkit, and does it serve this GPU? What the rows of data/drivers.toml mean."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest
from provision import drivers
from provision.errors import BadData
from provision.gpus import capabilities
from provision.machine import Platform, System
from provision.tables import check_drivers


@pytest.mark.parametrize(
    ("toolkit", "linux", "windows"),
    [
        ("11.8", "450.80.02", "452.39"),
        ("12.0", "525.60.13", "528.33"),
        ("12.8", "525.60.13", "528.33"),
        ("13.0", "580", "580"),
        ("13.4", "580", "580"),
        ("14.0", None, None),
    ],
)
def test_the_floor_of_a_toolkit(toolkit: str, linux: str | None, windows: str | None) -> None:
    assert drivers.floor(toolkit, windows=False) == linux
    assert drivers.floor(toolkit, windows=True) == windows


@pytest.mark.parametrize(
    ("version", "windows", "cuda"),
    [
        ("470.256.02", False, "11.4"),
        ("525.147.05", False, "12.0"),
        ("535.261.03", False, "12.2"),
        ("540.4.0", False, "12.2"),
        ("550.163.01", False, "12.4"),
        ("555.58.02", False, "12.5"),
        ("565.57.01", False, "12.7"),
        ("570.124.06", False, "12.8"),
        ("580.95.05", False, "13.0"),
        ("595.45.04", False, "13.2"),
        ("610.43.02", False, "13.3"),
        ("615.71.09", False, "13.4"),
        ("700.10", False, "13.4"),
        ("440.33", False, None),
        ("572.61", True, "12.8"),
        ("576.88", True, "12.9"),
        ("582.28", True, "13.0"),
        ("596.21", True, "13.2"),
        ("537.13", True, "12.2"),
        ("546.12", True, "12.3"),
        ("512.15", True, "11.6"),
        ("446.14", True, None),
    ],
)
def test_the_cuda_that_a_driver_serves(version: str, windows: bool, cuda: str | None) -> None:
    assert drivers.served_cuda(version, windows=windows) == cuda


@pytest.mark.parametrize(
    ("cuda", "linux", "windows"),
    [
        ("12.8", "570", "570"),
        ("11.6", "510", "511"),
        ("11.0", "450", "451"),
        ("12.7", "565", "565"),
        ("14.0", None, None),
    ],
)
def test_the_oldest_branch_that_serves_a_cuda(cuda: str, linux: str | None, windows: str | None) -> None:
    assert drivers.oldest_version(cuda, windows=False) == linux
    assert drivers.oldest_version(cuda, windows=True) == windows


@pytest.mark.parametrize(
    ("capability", "version", "windows", "answer"),
    [
        ("12.0", "570.86.16", False, (True, ">=570.86.16")),
        ("12.0", "570.86.15", False, (False, ">=570.86.16")),
        ("12.0", "570", False, (True, ">=570.86.16")),
        ("12.0", "572.16", True, (True, ">=572.16")),
        ("12.0", "571.96", True, (False, ">=572.16")),
        ("6.1", "580.95.05", False, (True, "<=580.x")),
        ("6.1", "590.48.01", False, (False, "<=580.x")),
        ("6.1", "582.28", True, (True, "<=589.x")),
        ("6.1", "591.44", True, (False, "<=589.x")),
        ("3.7", "470.256.02", False, (True, "<=470.x")),
        ("3.7", "510.47.03", False, (False, "<=470.x")),
        ("10.1", "580.95.05", False, (True, ">=580")),
        ("8.9", "520.56.06", False, (True, ">=520.56.06")),
    ],
)
def test_whether_a_driver_serves_a_gpu(capability: str, version: str, windows: bool, answer: tuple[bool, str]) -> None:
    assert drivers.serves(capability, version, windows=windows) == answer


@pytest.mark.parametrize("capability", ["10.7", "13.0", "2.0"])
def test_a_capability_that_is_not_in_the_table_is_served_by_none(capability: str) -> None:
    served, wanted = drivers.serves(capability, "615.71.09", windows=False)
    assert (served, "none is known" in wanted) == (False, True)


@pytest.mark.parametrize(
    ("version", "wanted", "enough"),
    [
        ("570.86.16", "570.86.16", True),
        ("570.86.15", "570.86.16", False),
        ("580.65.06", "580", True),
        ("579.1", "580", False),
        ("525", "525.60.13", True),
        ("520", "525.60.13", False),
    ],
)
def test_a_bare_branch_stands_for_all_of_it(version: str, wanted: str, enough: bool) -> None:
    assert drivers.at_least(version, wanted, windows=False) is enough


def test_on_windows_a_branch_spans_several_numbers() -> None:
    assert drivers.at_least("525", "528.33", windows=True)
    assert not drivers.at_least("525", "530.30", windows=True)


def test_under_wsl_the_windows_columns_apply() -> None:
    assert drivers.is_windows(Platform(system=System.LINUX, machine="x86_64", wsl=True))
    assert drivers.is_windows(Platform(system=System.WINDOWS, machine="x86_64"))
    assert not drivers.is_windows(Platform(system=System.LINUX, machine="x86_64"))


def test_landmarks_are_where_something_changes() -> None:
    assert drivers.landmarks(["6.1"], ["12.6", "13.2"], windows=False) == (
        "450.80.02",
        "525.60.13",
        "560",
        "580",
        "595",
    )


class TestRefusals:
    @pytest.fixture
    def table(self) -> dict[str, Any]:
        return copy.deepcopy(tomllib.loads(drivers.TABLE.read_text("utf-8")))

    def complaint(self, table: dict[str, Any]) -> str:
        with pytest.raises(BadData, match=r"drivers\.toml") as caught:
            check_drivers(table, capabilities=capabilities() | {"10.1"})
        return caught.value.text

    def test_the_table_itself_makes_sense(self, table: dict[str, Any]) -> None:
        check_drivers(table, capabilities=capabilities() | {"10.1"})

    def test_a_row_without_a_source(self, table: dict[str, Any]) -> None:
        del table["branch"][4]["source"]
        assert "row of `branch` (cuda 11.4, linux 470): `source` is missing" in self.complaint(table)

    def test_an_unknown_key(self, table: dict[str, Any]) -> None:
        table["floor"][0]["macos"] = "1"
        assert "unknown key `macos`" in self.complaint(table)

    def test_a_capability_that_no_gpu_has(self, table: dict[str, Any]) -> None:
        table["support"][2]["capability"] = "7.6"
        assert "no GPU has compute capability 7.6" in self.complaint(table)

    def test_a_capability_that_is_told_of_twice(self, table: dict[str, Any]) -> None:
        table["support"][2]["capability"] = "8.0"
        assert "told of twice" in self.complaint(table)

    def test_branches_out_of_order(self, table: dict[str, Any]) -> None:
        table["branch"].reverse()
        assert "do not ascend" in self.complaint(table)

    def test_what_is_no_version(self, table: dict[str, Any]) -> None:
        table["support"][2]["first_linux"] = "R410"
        assert "'R410' is no driver version" in self.complaint(table)

    def test_loading_names_the_row_too(self, table: dict[str, Any]) -> None:
        del table["branch"][1]["windows"]
        with pytest.raises(BadData, match=r"drivers\.toml: KeyError\('windows'\) in row \{'linux': 455"):
            drivers.parse_drivers(table, windows=True)
