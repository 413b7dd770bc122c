"""Which builds exist, and what do they hold? What the rows of data/catalog.toml mean, and that nonsense is refused."""

from __future__ import annotations

import copy
import tomllib
from datetime import date
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from provision.catalog import TABLE, Build, Catalog, Channel, load_catalog, parse_catalog, pytorch_index, toolkit_of
from provision.errors import BadData
from provision.gpus import capabilities
from provision.machine import System, Vendor
from provision.rules import code_for, vendor_of
from provision.tables import check_catalog

LINUX, ARM, WINDOWS = "linux x86_64", "linux aarch64", "windows x86_64"


@pytest.fixture
def catalog() -> Catalog:
    return load_catalog()


def build(name: str, on: str = LINUX) -> Build:
    return next(one for one in load_catalog().builds if (one.name, one.platform) == (name, on))


def newest(capability: str, on: str, *, advertised: bool = True) -> set[str]:
    """The newest stable builds with code for a GPU, whatever the driver."""
    able = [
        one
        for one in load_catalog().builds
        if one.platform == on
        and one.channel is Channel.STABLE
        and one.advertised >= advertised
        and vendor_of(one.backend) is (Vendor.AMD if capability.startswith("gfx") else Vendor.NVIDIA)
        and code_for(one.arches, one.ptx, one.toolkit, capability, None)
    ]
    last = max((one.torch for one in able), default=None)
    return {one.name for one in able if one.torch == last}


class TestWhatTheRowsMean:
    @pytest.mark.parametrize(
        ("capability", "on", "builds"),
        [
            ("3.7", LINUX, {"2.7.1+cu118"}),
            ("5.0", LINUX, {"2.14.1+cu126"}),
            ("6.1", LINUX, {"2.14.1+cu126"}),
            ("6.1", WINDOWS, {"2.14.1+cu126"}),
            ("7.0", LINUX, {"2.14.1+cu126"}),
            ("7.5", LINUX, {"2.15.0+cu130", "2.15.0+cu132"}),
            ("7.5", ARM, set()),
            ("8.7", ARM, {"2.15.0+cu132"}),
            ("11.0", ARM, {"2.15.0+cu130", "2.15.0+cu132"}),
            ("12.0", WINDOWS, {"2.15.0+cu130", "2.15.0+cu132"}),
            ("gfx906", LINUX, {"2.9.1+rocm6.3"}),
            ("gfx1100", LINUX, {"2.14.1+rocm7.14", "2.14.1+rocm7.2"}),
            ("gfx1036", LINUX, set()),
            ("gfx1100", WINDOWS, set()),
        ],
    )
    def test_the_newest_with_code_for_a_gpu(self, capability: str, on: str, builds: set[str]) -> None:
        assert newest(capability, on) == builds

    @pytest.mark.parametrize(
        ("backend", "last"),
        [
            *[("cu117", "2.0.1"), ("cu118", "2.7.1"), ("cu121", "2.5.1"), ("cu124", "2.6.0"), ("cu128", "2.11.0")],
            *[("cu129", "2.13.0"), ("cu126", "2.14.1")],
        ],
    )
    def test_where_a_backend_ended(self, catalog: Catalog, backend: str, last: str) -> None:
        torches = {one.torch for one in catalog.builds if one.backend == backend and one.channel is Channel.STABLE}
        assert max(torches) == Version(last)

    def test_volta_came_and_went_in_cu128(self) -> None:
        held = {one: "sm_70" in build(f"{one}+cu128").arches for one in ("2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0")}
        assert held == {"2.7.1": False, "2.8.0": True, "2.9.1": True, "2.10.0": True, "2.11.0": False}

    def test_windows_is_not_linux(self) -> None:
        assert "sm_61" in build("2.8.0+cu128", WINDOWS).arches
        assert "sm_61" not in build("2.8.0+cu128").arches
        assert "sm_50" in build("2.7.1+cu128", WINDOWS).arches
        assert "sm_50" not in build("2.8.0+cu126", WINDOWS).arches

    def test_arm_had_code_for_hopper_alone(self) -> None:
        assert build("2.6.0+cu126", ARM).arches == ("sm_90",)
        assert build("2.4.1+cu124", ARM).requirement == "2.4.1"

    def test_ptx_that_nobody_saw_counts_as_none(self) -> None:
        assert build("2.9.1+cu129", ARM).ptx == ()
        assert build("2.9.1+cu130").ptx == ("compute_120",)
        assert build("2.11.0+cu130").ptx == ()

    def test_only_cu129_after_2_8_is_unadvertised_among_cuda_builds(self, catalog: Catalog) -> None:
        silent = {(one.backend, str(one.torch)) for one in catalog.builds if not one.advertised and one.toolkit}
        assert silent == {("cu129", torch) for torch in ("2.9.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0")}

    def test_every_release_has_a_cpu_build_and_a_plain_wheel_that_exists(self, catalog: Catalog) -> None:
        for torch in catalog.releases:
            here = {one.backend for one in catalog.builds if one.torch == torch and one.platform == LINUX}
            assert "cpu" in here
            assert catalog.plain_wheel(torch, System.LINUX, "x86_64") in here

    @pytest.mark.parametrize(
        ("torch", "linux", "arm", "windows"),
        [
            ("2.6.0", "cu124", "cpu", "cpu"),
            ("2.10.0", "cu128", "cpu", "cpu"),
            ("2.11.0", "cu130", "cu130", "cpu"),
            ("2.15.0", "cu132", "cu132", "cpu"),
            ("2.99.0", None, None, None),
        ],
    )
    def test_what_the_plain_wheel_is(
        self, catalog: Catalog, torch: str, linux: str | None, arm: str | None, windows: str | None
    ) -> None:
        version = Version(torch)
        assert catalog.plain_wheel(version, System.LINUX, "x86_64") == linux
        assert catalog.plain_wheel(version, System.LINUX, "aarch64") == arm
        assert catalog.plain_wheel(version, System.WINDOWS, "x86_64") == windows

    @pytest.mark.parametrize(
        ("name", "on", "has", "lacks"),
        [
            ("2.8.0+cu128", LINUX, "cp39", "cp314"),
            ("2.14.1+cu130", LINUX, "cp310", "cp313t"),
            ("2.15.0+cu130", LINUX, "cp315t", "cp310"),
            ("2.12.0+cu130", LINUX, "cp313t", "cp315"),
            ("2.13.0+cu130", LINUX, "cp315", "cp39"),
            ("2.13.0+cu130", WINDOWS, "cp314", "cp315"),
            ("2.5.1+cu124", LINUX, "cp313", "cp314"),
            ("2.5.1+cu124", WINDOWS, "cp312", "cp313"),
        ],
    )
    def test_pythons(self, name: str, on: str, has: str, lacks: str) -> None:
        pythons = build(name, on).pythons or frozenset()
        assert (has in pythons, lacks in pythons) == (True, False)

    def test_macs(self, catalog: Catalog) -> None:
        assert max(one.torch for one in catalog.on(System.MACOS, "x86_64")) == Version("2.2.2")
        assert build("2.15.0+cpu", "macos aarch64").requirement == "2.15.0"

    def test_release_days(self, catalog: Catalog) -> None:
        assert catalog.release_day(Version("2.7.0")) == date(2025, 4, 23)
        assert catalog.release_day(Version("2.9.1")) == date(2025, 11, 12)
        assert catalog.release_day(Version("2.16.0")) is None
        days = [catalog.releases[torch] for torch in sorted(catalog.releases)]
        assert days == sorted(days)

    def test_every_build_has_a_source_in_words(self, catalog: Catalog) -> None:
        for one in (*catalog.builds, *catalog.history):
            texts = catalog.sources_of(one)
            assert texts
            assert not set(texts) & set(one.provenance)


class TestBuild:
    def test_names_and_places(self) -> None:
        one = build("2.11.0+cu128")
        assert (one.requirement, one.toolkit, one.index_url) == (
            "2.11.0+cu128",
            "12.8",
            "https://download.pytorch.org/whl/cu128",
        )
        nightly = next(
            one for one in load_catalog().builds if one.channel is Channel.NIGHTLY and one.backend == "cu130"
        )
        assert nightly.index_url == "https://download.pytorch.org/whl/nightly/cu130"

    def test_a_mirror_is_the_place_of_all(self) -> None:
        mirror = load_catalog("https://user:secret@mirror.test/whl/")
        assert {one.index_url for one in mirror.builds if one.name == "2.15.0+cu130"} == {
            "https://user:secret@mirror.test/whl/cu130"
        }
        assert mirror.source.label == "mirror.test/whl"

    @pytest.mark.parametrize(
        ("backend", "toolkit"), [("cu117", "11.7"), ("cu130", "13.0"), ("cpu", None), ("rocm7.14", None), ("xpu", None)]
    )
    def test_toolkit(self, backend: str, toolkit: str | None) -> None:
        assert toolkit_of(backend) == toolkit


class TestCompanions:
    def test_of_the_newest(self, catalog: Catalog) -> None:
        found = dict(catalog.companions_of(Version("2.15.0"), "cu132", System.LINUX))
        assert (found["torchvision"], found["torchaudio"], found["triton"]) == ("==0.29.2", "==2.11.0", "==3.9.0")
        assert found["bitsandbytes"] == ">=0.50.0"
        assert found["torchcodec"] == ">=0.12"
        assert "triton-windows" not in found

    def test_on_windows(self, catalog: Catalog) -> None:
        found = catalog.companions_of(Version("2.11.0"), "cu128", System.WINDOWS)
        assert (found["triton-windows"], found["torchcodec"]) == ("==3.6.*", ">=0.11")
        assert "triton" not in found
        assert "triton-windows" not in catalog.companions_of(Version("2.15.0"), "cu132", System.WINDOWS)

    def test_of_the_cpu_build(self, catalog: Catalog) -> None:
        assert set(catalog.companions_of(Version("2.7.1"), "cpu", System.LINUX)) == {
            "torchvision",
            "torchaudio",
            "torchcodec",
        }

    def test_of_a_torch_that_is_not_known(self, catalog: Catalog) -> None:
        assert catalog.companions_of(Version("2.99.0"), "cpu", System.LINUX) == {"torchcodec": ">=0.12"}

    def test_torchaudio_ended_and_torchvision_went_on(self, catalog: Catalog) -> None:
        for torch in catalog.releases:
            found = catalog.companions_of(torch, "cu126", System.LINUX)
            assert SpecifierSet(found["torchaudio"]).contains(min(torch, Version("2.11.0"))) or torch < Version("2.0.2")


class TestAsOf:
    def test_nothing_is_there_before_its_day(self, catalog: Catalog) -> None:
        day = date(2025, 5, 1)
        then = catalog.as_of(day)
        assert max(one.torch for one in then.builds if one.channel is Channel.STABLE) == Version("2.7.0")
        assert max(then.releases) == Version("2.7.0")
        assert all(str(one.torch).endswith("dev20250501") for one in then.builds if one.channel is Channel.NIGHTLY)

    def test_today_is_the_table_itself(self, catalog: Catalog) -> None:
        today = catalog.as_of(catalog.read)
        stable = [one for one in today.builds if one.channel is not Channel.NIGHTLY]
        assert stable == [one for one in catalog.builds if one.channel is not Channel.NIGHTLY]


class TestRefusals:
    """Every complaint names the file and the row."""

    @pytest.fixture
    def table(self) -> dict[str, Any]:
        return copy.deepcopy(tomllib.loads(TABLE.read_text("utf-8")))

    def complaint(self, table: dict[str, Any]) -> str:
        with pytest.raises(BadData, match=r"catalog\.toml") as caught:
            check_catalog(table, capabilities=capabilities())
        return caught.value.text

    def test_the_table_itself_makes_sense(self, table: dict[str, Any]) -> None:
        check_catalog(table, capabilities=capabilities())

    @pytest.mark.parametrize(
        ("field", "value", "problem"),
        [
            ("archs", "sm_90", "unknown key `archs`"),
            ("code", "sm_33", "`code` has sm_33, which no GPU has"),
            ("code", "90", "`code` has 90, which no GPU has"),
            ("code", "compute_90", "`code` has compute_90"),
            ("code", "gfx1100", "`code` has gfx1100"),
            ("ptx", "sm_90", "`ptx` has sm_90"),
            ("unsure", "sm_50", "sm_50 is both sure and unsure"),
            ("torch", "2.x", "`torch` Invalid version"),
            ("torch", "2.99.0", "torch 2.99.0 has no row of `release`"),
            ("backend", "cuda118", "`backend` has 'cuda118'"),
            ("on", "linux arm64", "`on` is 'linux arm64'"),
            ("pythons", "py3", "`pythons` has 'py3'"),
            ("exists", "maybe", "`exists` is 'maybe'"),
            ("contents_source", "", "`contents_source` is empty"),
            ("exists_source", "hearsay", "hearsay is not in [sources]"),
            ("channel", "beta", "`channel` is 'beta'"),
            ("advertised", "no", "`advertised` is 'no'"),
        ],
    )
    def test_a_build_that_makes_no_sense(self, table: dict[str, Any], field: str, value: str, problem: str) -> None:
        row = next(one for one in table["build"] if one["backend"] == "cu118" and one["on"] == LINUX)
        row[field] = value
        text = self.complaint(table)
        assert problem in text
        assert "row of `build`" in text

    @pytest.mark.parametrize("field", ["contents_source", "exists", "on"])
    def test_a_build_that_lacks_something(self, table: dict[str, Any], field: str) -> None:
        del table["build"][3][field]
        assert f"`{field}` is missing" in self.complaint(table)

    def test_rows_that_overlap(self, table: dict[str, Any]) -> None:
        table["build"].append({**table["build"][5], "torch": table["build"][5]["torch"].split()[0]})
        assert "is told of twice" in self.complaint(table)

    def test_series_of_nightlies_that_overlap(self, table: dict[str, Any]) -> None:
        ended = next(row for row in table["nightly"] if "until" in row)
        table["nightly"].append({**ended, "since": ended["until"], "until": date(2027, 1, 1)})
        assert "overlaps with the series since" in self.complaint(table)

    def test_a_plain_wheel_that_is_no_build(self, table: dict[str, Any]) -> None:
        table["plain"][0]["backend"] = "cu132"
        assert "there is no build of torch" in self.complaint(table)

    def test_a_source_that_no_row_names(self, table: dict[str, Any]) -> None:
        table["sources"]["idle"] = "nobody reads me"
        assert "no row names the source idle" in self.complaint(table)

    def test_a_kind_of_rows_that_is_not_known(self, table: dict[str, Any]) -> None:
        table["builds"] = []
        assert "unknown key builds" in self.complaint(table)

    def test_a_schema_of_the_future(self, table: dict[str, Any]) -> None:
        table["schema"] = 2
        assert "`schema` is not 1" in self.complaint(table)

    def test_loading_names_the_row_too(self, table: dict[str, Any]) -> None:
        del table["build"][7]["backend"]
        with pytest.raises(BadData, match=r"catalog\.toml: KeyError\('backend'\) in row \{'torch'"):
            parse_catalog(table, pytorch_index())
