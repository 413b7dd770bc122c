"""What do the live sources hold, and where is each build taken from?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from packaging.version import Version
from provision.catalog import Build, Catalog, Channel, Listing, Source, SourceKind, Wheel, load_catalog
from provision.environment import Python
from provision.listings import platform_of, with_listings
from provision.machine import Driver, Gpu, Machine, Platform, System, Vendor
from provision.pages import parse_filename
from provision.resolve import Request, resolve

PYTORCH = load_catalog().source
OWN = Source(kind=SourceKind.USER_INDEX, url="https://packages.example/simple", label="packages.example")
FOLDER = Source(kind=SourceKind.FIND_LINKS, url="wheels", label="wheels")
PACKAGES = Source(
    kind=SourceKind.PACKAGE_INDEX, url="https://default.example/simple", label="the default package index"
)

MANYLINUX = "manylinux_2_28_x86_64"


def wheel(filename: str, *, yanked: bool = False) -> Wheel:
    parsed = parse_filename(filename)
    assert parsed, filename
    name, version, tags = parsed
    return Wheel(name=name, version=version, tags=tags, filename=filename, url=f"https://x/{filename}", yanked=yanked)


def torch(version: str, *, pythons: str = "cp311 cp312", platform: str = MANYLINUX) -> list[Wheel]:
    return [wheel(f"torch-{version}-{tag}-{tag}-{platform}.whl") for tag in pythons.split()]


def page(backend: str, *wheels: Wheel, channel: Channel = Channel.STABLE, source: Source = PYTORCH) -> Listing:
    return Listing(source=source, backend=backend, channel=channel, wheels=wheels)


def at(source: Source, *wheels: Wheel) -> Listing:
    return Listing(source=source, channel=Channel.STABLE, wheels=wheels)


def live(*listings: Listing, reached: Sequence[Source] | None = None) -> Catalog:
    found = {listing.source: None for listing in listings}
    return with_listings(load_catalog(), listings, reached=tuple(found) if reached is None else reached)


def find(catalog: Catalog, name: str, on: str = "linux x86_64") -> Build:
    found = [build for build in catalog.builds if (build.name, build.platform) == (name, on)]
    assert len(found) == 1, f"{name}: {len(found)}"
    return found[0]


def names(catalog: Catalog) -> set[str]:
    return {build.name for build in catalog.builds}


class TestTheIndexWins:
    def test_what_it_lists_is_seen_with_its_own_pythons(self) -> None:
        build = find(live(page("cu130", *torch("2.15.0+cu130", pythons="cp312 cp313"))), "2.15.0+cu130")
        assert build.pythons == frozenset({"cp312", "cp313"})
        assert (build.published, build.exists, build.confidence, build.source) == (True, "primary", "inferred", PYTORCH)

    def test_free_threaded_wheels(self) -> None:
        listed = page("cu130", wheel(f"torch-2.15.0+cu130-cp314-cp314t-{MANYLINUX}.whl"))
        assert find(live(listed), "2.15.0+cu130").pythons == frozenset({"cp314t"})

    def test_what_it_does_not_list_is_not_published(self) -> None:
        catalog = live(page("cu130", *torch("2.15.0+cu130")))
        assert find(catalog, "2.15.0+cu130").published
        assert not find(catalog, "2.14.1+cu130").published
        assert not find(catalog, "2.15.0+cu130", "windows x86_64").published

    def test_a_page_that_is_not_there(self) -> None:
        assert not find(live(page("cu130")), "2.15.0+cu130").published

    def test_of_pages_that_nobody_asked_for_the_table_stays_true(self) -> None:
        catalog = live(page("cu130", *torch("2.15.0+cu130")))
        assert find(catalog, "2.15.0+cu132") == find(load_catalog(), "2.15.0+cu132")

    def test_yanked_wheels_and_other_packages_do_not_count(self) -> None:
        listed = page(
            "cu130",
            wheel(f"torch-2.15.0+cu130-cp312-cp312-{MANYLINUX}.whl", yanked=True),
            wheel(f"torchvision-0.29.2+cu130-cp312-cp312-{MANYLINUX}.whl"),
        )
        assert not find(live(listed), "2.15.0+cu130").published

    def test_variants_that_are_no_backend_are_passed_over(self) -> None:
        listed = page("cpu", *torch("2.16.0+cpu.cxx11.abi"), *torch("2.15.0+cpu"))
        catalog = live(listed)
        assert find(catalog, "2.15.0+cpu").local == "cpu"
        assert not [build for build in catalog.builds if build.torch == Version("2.16.0")]

    def test_a_wheel_without_a_local_version_on_a_backends_page_is_of_that_backend(self) -> None:
        catalog = live(page("cpu", *torch("2.15.0", platform="macosx_11_0_arm64")))
        assert find(catalog, "2.15.0+cpu", "macos aarch64").requirement == "2.15.0"


class TestWhatTheTableLacks:
    def test_a_new_torch_holds_what_the_one_before_held(self) -> None:
        build = find(live(page("cu132", *torch("2.16.0+cu132"))), "2.16.0+cu132")
        assert build.arches == find(load_catalog(), "2.15.0+cu132").arches
        assert (build.confidence, build.exists, build.note) == ("inferred", "primary", "contents as 2.15.0+cu132")
        assert build.provenance == (f"listed by {PYTORCH.label}",)

    def test_a_new_backend_holds_what_the_nearest_older_one_holds(self) -> None:
        build = find(live(page("cu133", *torch("2.16.0+cu133"))), "2.16.0+cu133")
        assert (build.note, build.toolkit, build.advertised) == ("contents as 2.15.0+cu132", "13.3", True)

    def test_a_release_of_a_backend_known_from_nightlies_holds_what_they_hold_but_ptx(self) -> None:
        build = find(live(page("cu134", *torch("2.16.0+cu134"))), "2.16.0+cu134")
        assert build.note == "contents as 2.16.0.dev20261009+cu134"
        assert (build.arches[-1], build.ptx) == ("sm_120", ())

    def test_of_another_major_nothing_is_taken_over(self) -> None:
        build = find(live(page("cu140", *torch("2.16.0+cu140"))), "2.16.0+cu140")
        assert (build.arches, build.note) == ((), "contents unknown")

    def test_a_new_rocm(self) -> None:
        build = find(live(page("rocm7.15", *torch("2.15.0+rocm7.15"))), "2.15.0+rocm7.15")
        assert build.note == "contents as 2.14.1+rocm7.14"

    def test_an_old_torch_on_a_backend_that_the_table_knows(self) -> None:
        build = find(live(page("cu129", *torch("2.12.0+cu129"))), "2.12.0+cu129")
        assert (build.note, build.advertised) == ("contents as 2.11.0+cu129", False)

    def test_ptx_is_not_taken_over_to_a_release(self) -> None:
        assert find(live(page("cu129", *torch("2.12.0+cu129"))), "2.12.0+cu129").ptx == ()

    def test_a_new_platform_has_no_neighbour(self) -> None:
        build = find(live(page("cpu", *torch("2.15.0+cpu", platform="win_arm64"))), "2.15.0+cpu", "windows aarch64")
        assert build.arches == ()

    def test_it_can_be_chosen(self) -> None:
        catalog = live(page("cu134", *torch("2.16.0+cu134")))
        answer = resolve(rtx5090("615.71.09"), Request(python=Python(version="3.12")), catalog)
        assert answer.choice is not None
        assert (answer.choice.name, answer.choice.confidence) == ("2.16.0+cu134", "inferred")


class TestNightlies:
    def test_a_series_becomes_the_days_that_are_listed(self) -> None:
        days = [*torch("2.16.0.dev20261118+cu130"), *torch("2.16.0.dev20261119+cu130")]
        catalog = live(page("cu130", *days, channel=Channel.NIGHTLY))
        here = [
            build
            for build in catalog.builds
            if (build.channel, build.backend, build.platform) == (Channel.NIGHTLY, "cu130", "linux x86_64")
        ]
        assert {build.requirement for build in here} == {"2.16.0.dev20261118+cu130", "2.16.0.dev20261119+cu130"}
        assert not any(build.floating for build in here)
        assert {build.ptx for build in here} == {("compute_120",)}

    def test_a_page_without_nightlies_for_us_has_none(self) -> None:
        catalog = live(page("cu130", channel=Channel.NIGHTLY))
        assert not [b for b in catalog.builds if b.channel is Channel.NIGHTLY and b.backend == "cu130"]

    def test_a_series_that_nobody_asked_for_stays_one(self) -> None:
        assert find(live(page("cu130", *torch("2.15.0+cu130"))), "2.16.0.dev20261009+cu132").floating


class TestSources:
    def test_the_pytorch_index_goes_first(self) -> None:
        wheels = torch("2.15.0+cu130")
        assert find(live(at(OWN, *wheels), page("cu130", *wheels)), "2.15.0+cu130").source == PYTORCH

    def test_then_the_users_own_then_the_default_index(self) -> None:
        nothing = page("cu132")
        catalog = live(at(PACKAGES, *torch("2.15.0")), at(FOLDER, *torch("2.15.0+cu132")), nothing)
        assert (find(catalog, "2.15.0+cu132").source, find(catalog, "2.15.0+cu132").local) == (FOLDER, "cu132")
        catalog = live(at(PACKAGES, *torch("2.15.0")), nothing)
        assert (find(catalog, "2.15.0+cu132").source, find(catalog, "2.15.0+cu132").local) == (PACKAGES, None)

    def test_the_plain_wheel_is_the_build_that_the_table_names(self) -> None:
        wheels = [*torch("2.15.0"), *torch("2.10.0"), *torch("2.15.0", platform="win_amd64")]
        catalog = live(at(PACKAGES, *wheels))
        held = {(build.name, build.platform) for build in catalog.builds if build.published}
        assert held == {
            ("2.15.0+cu132", "linux x86_64"),
            ("2.10.0+cu128", "linux x86_64"),
            ("2.15.0+cpu", "windows x86_64"),
        }

    def test_a_plain_wheel_of_the_future_is_what_the_newest_one_is(self) -> None:
        assert find(live(at(PACKAGES, *torch("2.16.0"))), "2.16.0+cu132").confidence == "inferred"

    def test_without_the_pytorch_index_only_what_others_hold_is_published(self) -> None:
        catalog = live(at(FOLDER, *torch("2.11.0+cu128")))
        assert [build.name for build in catalog.builds if build.published] == ["2.11.0+cu128"]
        answer = resolve(rtx5090("580.95.05"), Request(python=Python(version="3.12")), catalog)
        assert answer.choice is not None
        assert (answer.choice.name, answer.choice.source, answer.choice.index_url) == ("2.11.0+cu128", FOLDER, "wheels")
        told = {one.build.name: one.reason.value for one in answer.rejected}
        assert told["2.15.0+cu130"] == "not-published"

    def test_builds_of_other_makers_are_none_of_ours(self) -> None:
        catalog = live(at(FOLDER, *torch("2.6.0a0+ecf3bae40a.nv25.1"), *torch("2.15.0+cu130.mine")))
        assert not [build for build in catalog.builds if build.published]

    def test_the_channel_of_a_wheel_in_a_folder_is_told_by_its_version(self) -> None:
        catalog = live(at(FOLDER, *torch("2.16.0.dev20261119+cu130"), *torch("2.16.0rc1+cu130")))
        channels = {build.requirement: build.channel for build in catalog.builds if build.published}
        assert channels == {
            "2.16.0.dev20261119+cu130": Channel.NIGHTLY,
            "2.16.0rc1+cu130": Channel.TEST,
        }

    def test_nothing_reached_nothing_published(self) -> None:
        assert not [build for build in live(reached=()).builds if build.published]

    def test_only_cpu_wheels_do_not_make_a_gpu_machine_a_cpu_machine(self) -> None:
        answer = resolve(rtx5090("580.95.05"), Request(), live(at(FOLDER, *torch("2.15.0+cpu"))))
        assert answer.choice is None


@pytest.mark.parametrize(
    ("tag", "platform"),
    [
        ("manylinux_2_28_x86_64", (System.LINUX, "x86_64")),
        ("manylinux2014_aarch64", (System.LINUX, "aarch64")),
        ("linux_x86_64", (System.LINUX, "x86_64")),
        ("win_amd64", (System.WINDOWS, "x86_64")),
        ("win_arm64", (System.WINDOWS, "aarch64")),
        ("macosx_11_0_arm64", (System.MACOS, "aarch64")),
        ("macosx_10_9_x86_64", (System.MACOS, "x86_64")),
        ("manylinux_2_28_s390x", None),
        ("musllinux_1_2_x86_64", None),
        ("any", None),
    ],
)
def test_platforms(tag: str, platform: tuple[System, str] | None) -> None:
    assert platform_of(tag) == platform


def rtx5090(driver: str) -> Machine:
    return Machine(
        platform=Platform(system=System.LINUX, machine="x86_64", libc=("glibc", "2.35")),
        gpus=(Gpu(vendor=Vendor.NVIDIA, arch="12.0", index=0),),
        drivers=(Driver(vendor=Vendor.NVIDIA, version=driver),),
    )
