"""Which build is right, why not each other one, and what would gain a newer one? Cases are rows of tests/choices/."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import referee
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from provision.catalog import Build, Catalog, Channel, Source, SourceKind, load_catalog
from provision.environment import Python
from provision.errors import UsageProblem
from provision.machine import Driver, Gpu, Machine, Platform, System, Vendor
from provision.resolve import Reason, Request, Resolution, resolve
from provision.values import frozen, replace

CHOICES = Path(__file__).parent / "choices"


@frozen
class Case:
    """One row. What is not told is a Linux x86_64 machine with glibc 2.35 and Python 3.12, and no wish."""

    name: str
    on: str = "linux x86_64"
    gpus: str | Sequence[str] = ()
    driver: str | None = None
    cuda: str | None = None
    python: str = "3.12"
    libc: str = "glibc 2.35"
    wsl: bool = False
    as_of: str | None = None
    torch: str | None = None
    backend: str | None = None
    channel: str | None = None
    gpu: Sequence[str] = ()
    choice: str | None = None
    usage: str | None = None
    reasons: Mapping[str, str] = MappingProxyType({})
    notes: Sequence[str] | None = None
    advice: Mapping[str, str] | None = None

    def machine(self) -> Machine:
        system, architecture = self.on.split()
        libc = tuple(self.libc.split()) if system == "linux" and self.libc else None
        gpus = self.gpus.split() if isinstance(self.gpus, str) else self.gpus
        return machine(
            gpus=gpus,
            driver=self.driver,
            cuda=self.cuda,
            platform=Platform(
                system=System(system), machine=architecture, libc=(libc[0], libc[1]) if libc else None, wsl=self.wsl
            ),
        )

    def request(self) -> Request:
        return Request(
            torch=SpecifierSet(self.torch) if self.torch else None,
            backend=self.backend,
            channel=Channel(self.channel) if self.channel else None,
            gpus=tuple(self.gpu),
            python=Python(version=self.python.rstrip("t"), free_threaded=self.python.endswith("t")),
        )

    def catalog(self) -> Catalog:
        return load_catalog().as_of(date.fromisoformat(self.as_of)) if self.as_of else load_catalog()


LINUX = Platform(system=System.LINUX, machine="x86_64", libc=("glibc", "2.35"))


def machine(
    *, gpus: Sequence[str] = (), driver: str | None = None, cuda: str | None = None, platform: Platform = LINUX
) -> Machine:
    """A machine; a GPU is a compute capability, a gfx target or a name. Each vendor's are counted from 0."""
    seen: Counter[Vendor] = Counter()
    found = []
    for place, text in enumerate(gpus):
        one = gpu(text)
        found.append(replace(one, index=seen[one.vendor], uuid=f"GPU-{place:08}-0000"))
        seen[one.vendor] += 1
    drivers = (Driver(vendor=Vendor.NVIDIA, version=driver, cuda=cuda),) if driver or cuda else ()
    return Machine(platform=platform, gpus=tuple(found), drivers=drivers)


def gpu(text: str) -> Gpu:
    if re.fullmatch(r"\d+\.\d", text):
        return Gpu(vendor=Vendor.NVIDIA, arch=text)
    if text.startswith("gfx"):
        return Gpu(vendor=Vendor.AMD, arch=text)
    return Gpu(vendor=Vendor(re.split(r"\W", text.lower())[0]), name=text)


def cases() -> list[Any]:
    return [
        pytest.param(Case(**row), id=f"{file.stem}: {row['name']}")
        for file in sorted(CHOICES.glob("*.toml"))
        for row in tomllib.loads(file.read_text("utf-8"))["case"]
    ]


def names(builds: Sequence[Build]) -> list[str]:
    return [build.name for build in builds]


def reasons(answer: Resolution) -> dict[str, str]:
    return {one.build.name: one.reason.value for one in answer.rejected}


@pytest.mark.parametrize("case", cases())
def test_the_right_build(case: Case) -> None:
    if case.usage:
        with pytest.raises(UsageProblem) as caught:
            resolve(case.machine(), case.request(), case.catalog())
        assert (caught.value.code, bool(caught.value.hint)) == (case.usage, True)
        return
    answer = resolve(case.machine(), case.request(), case.catalog())
    assert (answer.choice.name if answer.choice else "") == case.choice
    told = reasons(answer)
    assert {name: told.get(name) for name in case.reasons} == dict(case.reasons)
    if case.notes is not None:
        assert [note.code for note in answer.notes] == list(case.notes)
    if case.advice is not None:
        assert {one.do: one.gains for one in answer.advice} == dict(case.advice)


class TestWhatIsTold:
    def test_two_values_that_disagree(self) -> None:
        answer = resolve(machine(gpus=["12.0"], driver="570.124.06"), Request(), load_catalog())
        told = {one.build.name: (one.reason, one.wanted, one.found) for one in answer.rejected}
        assert told["2.15.0+cu132"] == (Reason.DRIVER_TOO_OLD, ">=580", "570.124.06")
        assert told["2.14.1+cu126"] == (Reason.ARCH_MISSING, "sm_120", "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90")
        assert told["2.10.0+cu128"] == (Reason.OLDER, "2.11.0", "2.10.0")

    def test_coverage_names_the_code_that_runs(self) -> None:
        answer = resolve(machine(gpus=["8.9", "12.0"], driver="580.95.05"), Request(), load_catalog())
        assert [(one.gpu, one.arch, one.by, one.kind) for one in answer.coverage] == [
            (0, "8.9", "sm_86", "cubin"),
            (1, "12.0", "sm_120", "cubin"),
        ]

    def test_code_that_must_be_compiled_is_said(self) -> None:
        catalog = only("2.9.1+cu130", arches=("sm_75", "sm_80"))
        answer = resolve(machine(gpus=["12.0"], driver="580.95.05"), Request(), catalog)
        assert [(one.by, one.kind) for one in answer.coverage] == [("compute_120", "ptx")]
        assert [note.code for note in answer.notes] == ["compiled-at-first-use"]

    def test_ptx_wants_the_driver_of_its_toolkit(self) -> None:
        catalog = only("2.15.0+cu132", arches=("sm_75",), ptx=("compute_120",))
        answer = resolve(machine(gpus=["12.0"], driver="580.95.05"), Request(), catalog)
        assert reasons(answer) == {"2.15.0+cu132": "ptx-needs-newer-driver"}
        assert [(one.do, one.gains) for one in answer.advice] == [("driver >= 595", "2.15.0+cu132")]

    def test_a_build_that_needs_no_ptx_goes_first_at_equal_torch(self) -> None:
        catalog = replace(
            only("2.15.0+cu132", arches=("sm_75",), ptx=("compute_120",)),
            builds=(
                *only("2.15.0+cu132", arches=("sm_75",), ptx=("compute_120",)).builds,
                *only("2.15.0+cu130").builds,
            ),
        )
        answer = resolve(machine(gpus=["12.0"], driver="595.45.04"), Request(), catalog)
        assert names(answer.candidates) == ["2.15.0+cu130", "2.15.0+cu132"]

    def test_json_is_that_of_the_contract(self) -> None:
        answer = resolve(machine(gpus=["12.0"], driver="570.124.06"), Request(), load_catalog()).to_json()
        assert answer["choice"] == {
            "torch": "2.11.0",
            "backend": "cu128",
            "channel": "stable",
            "index_url": "https://download.pytorch.org/whl/cu128",
            "packages": {"torch": "2.11.0+cu128"},
            "confidence": "primary",
        }
        assert answer["candidates"][0] == answer["choice"]
        assert answer["coverage"] == [{"gpu": 0, "arch": "12.0", "by": "sm_120", "kind": "cubin"}]
        assert answer["advice"] == [{"do": "driver >= 580", "gains": "2.15.0+cu130"}]
        assert {
            "torch": "2.15.0",
            "backend": "cu132",
            "reason": "driver-too-old",
            "wanted": ">=580",
            "found": "570.124.06",
        } in answer["rejected"]

    def test_nobodys_password_is_in_it(self) -> None:
        catalog = load_catalog("https://user:secret@mirror.test/whl")
        answer = resolve(machine(), Request(), catalog)
        assert answer.to_json()["choice"]["index_url"] == "https://mirror.test/whl/cpu"
        assert "secret" not in str(answer.to_json())

    def test_no_choice_is_null_and_the_rest_is_there(self) -> None:
        answer = resolve(machine(gpus=["13.0"], driver="615.71.09"), Request(), load_catalog()).to_json()
        assert answer["choice"] is None
        assert answer["rejected"]
        assert answer["advice"]

    def test_a_complaint_names_the_nearest(self) -> None:
        with pytest.raises(UsageProblem, match="cu131") as caught:
            resolve(machine(), Request(backend="cu131"), load_catalog())
        assert "cu130" in (caught.value.hint or "")

    def test_a_complaint_about_a_gpu_names_those_that_are_there(self) -> None:
        with pytest.raises(UsageProblem, match=r"0: a GPU of nvidia \(sm_89\)"):
            resolve(machine(gpus=["8.9"]), Request(gpus=("5090",)), load_catalog())


def only(name: str, **changes: Any) -> Catalog:
    """A catalog of one build for Linux x86_64."""
    build = next(one for one in load_catalog().builds if (one.name, one.platform) == (name, "linux x86_64"))
    return replace(load_catalog(), builds=(replace(build, **changes),), history=())


class TestSources:
    PACKAGES = Source(
        kind=SourceKind.PACKAGE_INDEX, url="https://packages.test/simple", label="the default package index"
    )

    def plain(self, **changes: Any) -> Catalog:
        """Nothing can be reached but the default package index, with its plain wheel."""
        builds = [replace(build, published=False) for build in load_catalog().builds if build.channel is Channel.STABLE]
        held = only("2.15.0+cu132", source=self.PACKAGES, local=None).builds[0]
        return replace(load_catalog(), builds=(*builds, held))

    def test_what_no_source_holds_is_no_candidate(self) -> None:
        answer = resolve(machine(gpus=["12.0"], driver="580.95.05"), Request(), self.plain())
        assert names(answer.candidates) == ["2.15.0+cu132"]
        assert answer.choice is not None
        assert (answer.choice.requirement, answer.choice.index_url) == ("2.15.0", self.PACKAGES.url)
        assert reasons(answer)["2.15.0+cu130"] == "not-published"

    def test_without_a_cpu_build_the_plain_wheel_runs_on_the_cpu(self) -> None:
        answer = resolve(machine(), Request(), self.plain())
        assert answer.choice is not None
        assert (answer.choice.backend, answer.choice.requirement) == ("cu132", "2.15.0")
        assert [note.code for note in answer.notes] == ["plain-wheel-on-cpu"]
        assert answer.coverage == ()

    def test_also_where_the_cpu_was_asked_for(self) -> None:
        answer = resolve(machine(gpus=["12.0"], driver="470.82.01"), Request(backend="cpu"), self.plain())
        assert answer.choice is not None
        assert [note.code for note in answer.notes] == ["plain-wheel-on-cpu"]

    def test_never_silently_for_a_gpu(self) -> None:
        answer = resolve(machine(gpus=["12.0"]), Request(), self.plain())
        assert answer.choice is None
        assert reasons(answer)["2.15.0+cu132"] == "driver-missing"


# ── over the whole space of machines ────────────────────────────────────────────────────────────────────────────

CAPABILITIES = ["3.0", "3.7", "5.0", "5.2", "6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0"]
CAPABILITIES += ["10.3", "10.7", "11.0", "12.0", "12.1", "13.0"]
DRIVERS = {
    "linux": (
        *("440.100", "450.80.02", "470.256.02", "515.65.01", "525.60.13", "535.183.01", "550.54.15", "565.57.01"),
        *("570.86.15", "570.86.16", "570.124.06", "575.64.03", "580.65.06", "580.95.05", "590.48.01", "595.45.04"),
        *("610.43.02", "615.71.09"),
    ),
    "windows": (
        *("446.14", "452.39", "475.14", "516.94", "527.41", "528.33", "537.13", "552.44", "566.36", "572.16"),
        *("576.88", "580.88", "581.80", "582.28", "591.44", "596.21", "610.74", "617.14"),
    ),
}
PLATFORMS = ["linux x86_64", "linux aarch64", "windows x86_64"]
PYTHONS = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15", "3.16"]


@frozen
class Nvidia:
    """A machine with GPUs of NVIDIA, as the referee sees it. GPUs for which no build ever was do not count."""

    on: str
    gpus: tuple[str, ...]
    driver: str
    python: str
    glibc: str

    def answer(self, catalog: Catalog | None = None) -> Resolution:
        case = Case(
            name="", on=self.on, gpus=self.gpus, driver=self.driver, python=self.python, libc=f"glibc {self.glibc}"
        )
        return resolve(case.machine(), replace(case.request(), channel=Channel.STABLE), catalog or load_catalog())

    def right(self) -> list[str]:
        return referee.right_answers(
            gpus=[one for one in self.gpus if one != "3.0"],
            driver=self.driver,
            on=self.on,
            python="cp" + self.python.replace(".", ""),
            glibc=self.glibc,
        )


@st.composite
def machines(draw: st.DrawFn) -> Nvidia:
    on = draw(st.sampled_from(PLATFORMS))
    return Nvidia(
        on=on,
        gpus=tuple(draw(st.lists(st.sampled_from(CAPABILITIES), max_size=3))),
        driver=draw(st.sampled_from(DRIVERS[on.split()[0]])),
        python=draw(st.sampled_from(PYTHONS)),
        glibc=draw(st.sampled_from(["2.17", "2.27", "2.28", "2.39"])),
    )


def rank(build: Build | None) -> tuple[bool, Version]:
    """How new a choice is in the eyes of its user; nothing is older than everything."""
    return (build.advertised, build.torch) if build else (False, Version("0"))


class TestEveryMachine:
    @settings(max_examples=400, deadline=None)
    @given(machines())
    def test_candidates_are_those_of_the_referee_in_its_order(self, one: Nvidia) -> None:
        assert names(one.answer().candidates) == one.right()

    @settings(max_examples=150, deadline=None)
    @given(machines())
    def test_every_build_is_the_choice_or_has_a_reason(self, one: Nvidia) -> None:
        answer = one.answer()
        system, architecture = one.on.split()
        builds = load_catalog().on(System(system), architecture)
        told = [rejection.build for rejection in answer.rejected]
        assert Counter(told) + Counter([answer.choice] if answer.choice else []) == Counter(builds)
        assert all(rejection.wanted and rejection.found for rejection in answer.rejected)
        fits = {
            rejection.build
            for rejection in answer.rejected
            if rejection.reason in (Reason.OLDER, Reason.NOT_ADVERTISED)
        }
        assert fits == set(answer.candidates[1:])

    @settings(max_examples=200, deadline=None)
    @given(machines())
    def test_without_the_choice_the_next_candidate_is_it(self, one: Nvidia) -> None:
        answer = one.answer()
        if answer.choice is not None:
            assert one.answer(load_catalog().without(answer.choice)).candidates == answer.candidates[1:]

    @settings(max_examples=200, deadline=None)
    @given(machines(), st.data())
    def test_a_newer_driver_never_gives_an_older_torch_while_it_serves_the_gpus(
        self, one: Nvidia, data: st.DataObject
    ) -> None:
        system = one.on.split(maxsplit=1)[0]
        known = DRIVERS[system]
        newer = data.draw(st.sampled_from(known[known.index(one.driver) :]))
        one = replace(one, gpus=tuple(each for each in one.gpus if referee.served(each, newer, system)))
        assert rank(replace(one, driver=newer).answer().choice) >= rank(one.answer().choice)

    @settings(max_examples=200, deadline=None)
    @given(machines(), st.sampled_from(CAPABILITIES))
    def test_another_gpu_never_gives_a_newer_torch(self, one: Nvidia, capability: str) -> None:
        assert rank(replace(one, gpus=(*one.gpus, capability)).answer().choice) <= rank(one.answer().choice)

    @settings(max_examples=200, deadline=None)
    @given(machines())
    def test_advice_keeps_its_word(self, one: Nvidia) -> None:
        answer = one.answer()
        for advice in answer.advice:
            if advice.do.startswith("wait "):
                continue
            assert followed(one, advice.do).choice is not None, advice
            assert advice.gains == names(followed(one, advice.do).candidates)[0], advice
            if not advice.do.startswith("--backend cpu"):
                assert rank(followed(one, advice.do).choice) > rank(answer.choice)


def followed(one: Nvidia, advice: str) -> Resolution:
    """What comes of doing as advised."""
    case = Case(name="", on=one.on, gpus=one.gpus, driver=one.driver, python=one.python, libc=f"glibc {one.glibc}")
    if driver := re.search(r"driver (?:>= ([\d.]+))?(?:, )?(?:<= (\d+)\.x)?", advice):
        case = replace(case, driver=driver[1] or driver[2])
    if python := re.search(r"Python (\S+)", advice):
        case = replace(case, python=python[1])
    request = replace(case.request(), channel=Channel.STABLE, gpus=tuple(re.findall(r"--gpu (\S+)", advice)))
    if "--channel nightly" in advice:
        request = replace(request, channel=Channel.NIGHTLY)
    if "--backend cpu" in advice:
        request = replace(request, backend="cpu")
    return resolve(case.machine(), request, load_catalog())
