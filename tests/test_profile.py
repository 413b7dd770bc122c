"""What a profile may say, what it leaves of the choice, and what it asks for on which machine.

`profiles/bad/*.toml`: the first line of each says the line and the beginning of the complaint that it earns.
`profiles/choices.toml`: machines, and the build that each profile gets there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from provision.catalog import Build, load_catalog
from provision.errors import BadData, UsageProblem
from provision.job import Job
from provision.judge import BATTERY
from provision.machine import Machine, System, machine_from_json
from provision.narrow import limit_in
from provision.profile import Limit, Package, Profile, find_profiles, load_profile, parse_profile, profile_folders
from provision.resolve import Resolution, resolve
from provision.wants import checks_for, left_out, packages_for, wanted_for

BAD = sorted((Path(__file__).parent / "profiles" / "bad").glob("*.toml"))
BUNDLED = ("comfyui", "diffusion", "inference", "qlora", "torch", "vision-audio", "vllm", "whisperx")
FOLDER = (Path(__file__).parents[1] / "profiles",)


def build_of(torch: str, backend: str, system: str = "linux", machine: str = "x86_64") -> Build:
    """A row of the shipped table."""
    return next(
        one
        for one in load_catalog().on(System(system), machine)
        if one.torch == Version(torch) and one.backend == backend
    )


def companions(build: Build) -> dict[str, str]:
    return dict(load_catalog().companions_of(build.torch, build.backend, build.system))


class TestReading:
    @pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
    def test_a_fault_is_told_with_file_line_and_key(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        line, _, expected = text.splitlines()[0].removeprefix("# ").partition(" ")
        with pytest.raises(BadData) as caught:
            parse_profile(text, path)
        where, _, said = caught.value.text.partition(".toml")
        assert where.endswith(path.stem)
        assert said.startswith(f":{line}: {expected}" if line else f": {expected.strip()}"), caught.value.text
        assert caught.value.hint

    def test_everything_that_can_be_said_is_read(self) -> None:
        profile = parse_profile(
            """
            schema = 1
            summary = "all of it"
            torch = ">=2.8"
            companions = ["torchvision"]
            packages = ["peft"]
            checks = ["lstm"]
            notes = ["mind the gap"]
            [[package]]
            requires = "xformers>=0.0.30"
            platforms = ["linux-*"]
            backends = ["cu12*"]
            arches = ["sm_120"]
            torch = "<2.12"
            fits = true
            checks = ["xformers-attention"]
            why = "because"
            [[limit]]
            by = "peft 1"
            torch = "2.9.1"
            backends = ["cu130"]
            platforms = ["windows-x86_64"]
            why = "so it is"
            read = 2026-11-20
            [environment]
            A = "1"
            B = { value = "2", why = "for a reason" }
            """,
            Path("all.toml"),
        )
        assert profile.packages[0] == Package(requires="peft")
        assert profile.packages[1].arches == ("sm_120",)
        assert profile.packages[1].name == "xformers"
        assert profile.limits[0].torch == "==2.9.1"
        assert {name: (one.value, one.why) for name, one in profile.environment.items()} == {
            "A": ("1", ""),
            "B": ("2", "for a reason"),
        }
        assert not profile.plain

    def test_a_name_that_cannot_name_a_lock_is_refused(self) -> None:
        with pytest.raises(BadData, match="cannot name a profile"):
            parse_profile('summary = "a dot"', Path("my.profile.toml"))

    def test_the_users_own_goes_before_the_bundled_but_torch_alone_is_never_theirs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(tmp_path))
        own = profile_folders()[0]
        own.mkdir(parents=True)
        for name in ("qlora", "torch", "mine"):
            (own / f"{name}.toml").write_text('summary = "my own"\n')
        assert load_profile("qlora").summary == load_profile("mine").summary == "my own"
        assert load_profile("torch").summary != "my own"

    def test_an_unknown_name_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(UsageProblem) as caught:
            load_profile("qlorra", FOLDER)
        assert caught.value.hint == "did you mean 'qlora'?"


class TestBundled:
    def test_there_are_eight(self) -> None:
        assert tuple(sorted(find_profiles(FOLDER))) == BUNDLED

    @pytest.mark.parametrize("name", BUNDLED)
    def test_each_names_checks_that_exist_and_gives_reasons(self, name: str) -> None:
        profile = load_profile(name, FOLDER)
        assert {*profile.checks, *(check for one in profile.packages for check in one.checks)} <= set(BATTERY)
        assert all(limit.why and limit.read for limit in profile.limits)
        assert all(setting.why for setting in profile.environment.values())
        conditional = [one for one in profile.packages if one != Package(requires=one.requires)]
        assert all(one.why for one in conditional)


MACHINES = tomllib.loads((Path(__file__).parent / "profiles" / "choices.toml").read_text(encoding="utf-8"))["machine"]


def machine_of(row: Mapping[str, Any]) -> Machine:
    system, processor = row["on"].split()
    gpus = [{"vendor": row["vendor"], "arch": row.get("gpu"), "index": 0}] if "vendor" in row else []
    drivers = [{"vendor": "nvidia", "version": row["driver"]}] if "driver" in row else []
    libc = ["glibc", "2.35"] if system == "linux" else None
    platform = {"system": system, "machine": processor, "libc": libc}
    return machine_from_json({"platform": platform, "gpus": gpus, "drivers": drivers})


def chosen(row: Mapping[str, Any], profile: str, **wishes: Any) -> Resolution:
    request = Job(profile=profile, **wishes).request(None, load_profile(profile, FOLDER))
    return resolve(machine_of(row), request, load_catalog())


class TestChoice:
    @pytest.mark.parametrize("row", MACHINES, ids=lambda row: row["name"])
    @pytest.mark.parametrize("name", BUNDLED)
    def test_a_profile_gets_its_build_or_none_with_the_right_reason(self, name: str, row: Mapping[str, Any]) -> None:
        resolution = chosen(row, name)
        expected = row.get(name, row["torch"])
        assert (resolution.choice.name if resolution.choice else "") == expected
        if not expected and name == "vllm" and row["why"] != "excluded-by-request":
            reasons = {one.reason.value for one in resolution.rejected if one.build.name == "2.13.0+cu130"}
            assert reasons == {row["why"]}
        elif not expected:
            stable = [one for one in resolution.rejected if one.reason.value != "channel"]
            assert {one.reason.value for one in stable} == {"excluded-by-request"}
            assert all(name in one.wanted for one in stable)

    def test_who_narrowed_the_choice_is_told_with_the_reason(self) -> None:
        row = next(one for one in MACHINES if one["name"] == "RTX 5090 on 580")
        notes = [note.text for note in chosen(row, "vllm").notes if note.code == "narrowed"]
        assert len(notes) == 1
        assert notes[0].startswith("vllm 0.32.0 is for") or notes[0].startswith("vllm 0.32.0 wants torch ==2.13.0")
        assert "2.15.0+cu130 is passed over" in notes[0]
        assert [note for note in chosen(row, "qlora").notes if note.code == "narrowed"] == []

    def test_a_driver_that_would_do_is_advised(self) -> None:
        row = next(one for one in MACHINES if one["name"] == "A100 on 535")
        assert [(one.do, one.gains) for one in chosen(row, "vllm").advice] == [("driver >= 580", "2.13.0+cu130")]

    def test_what_the_user_asks_for_and_what_the_profile_leaves_both_hold(self) -> None:
        row = next(one for one in MACHINES if one["name"] == "A100 on 595")
        assert chosen(row, "whisperx", torch=">=2.9").choice is None
        assert chosen(row, "qlora", torch="<2.9").choice == chosen(row, "torch", torch="<2.9").choice


class TestPackages:
    def test_bitsandbytes_has_its_blackwell_floor_where_the_gpu_is_one(self) -> None:
        build, qlora = build_of("2.11.0", "cu128"), load_profile("qlora", FOLDER)
        names = [one.requires for one in packages_for(build, qlora, companions(build), ["sm_120"])]
        assert "bitsandbytes>=0.45.3" in names
        names = [one.requires for one in packages_for(build, qlora, companions(build), ["sm_80"])]
        assert [name for name in names if name.startswith("bitsandbytes")] == ["bitsandbytes"]

    def test_xformers_comes_only_where_one_fits_the_chosen_torch(self) -> None:
        diffusion = load_profile("diffusion", FOLDER)
        for build, there in [
            (build_of("2.9.1", "cu128"), True),
            (build_of("2.15.0", "cpu"), False),
            (build_of("2.15.0", "cu130"), False),
            (build_of("2.11.0", "cu128", "linux", "aarch64"), False),
            (build_of("2.8.0", "rocm6.4"), False),
        ]:
            wanted = wanted_for(build, diffusion, companions(build), arches=["sm_90"])
            assert ("xformers" in wanted.others) is there
            checks = checks_for(build, diffusion, companions(build), ["sm_90"])
            assert ("xformers-attention" in checks) is there
            told = [message.text for message in left_out(build, diffusion, companions(build), ["sm_90"])]
            assert any("xformers of profile diffusion is left out" in text for text in told) is not there

    def test_its_version_is_the_one_that_was_built_for_this_torch(self) -> None:
        build = build_of("2.9.1", "cu128")
        wanted = wanted_for(build, load_profile("diffusion", FOLDER), companions(build))
        assert "xformers==0.0.33.post2" in wanted.constraints
        assert not any(one.startswith(("triton", "torch=", "torchvision")) for one in wanted.constraints)

    def test_companions_that_are_installed_go_along_and_others_only_if_named(self) -> None:
        build, alone = build_of("2.11.0", "cu128"), load_profile("torch", FOLDER)
        assert wanted_for(build, alone, companions(build)).family == {"torch": "==2.11.0+cu128"}
        family = wanted_for(build, alone, companions(build), installed=["torchaudio", "numpy"]).family
        assert family == {"torch": "==2.11.0+cu128", "torchaudio": "==2.11.0"}

    def test_a_package_of_several_rows_is_left_out_only_where_all_are(self) -> None:
        build = build_of("2.11.0", "cu128")
        profile = Profile(
            name="own",
            summary="",
            path=Path(),
            packages=(
                Package(requires="a", platforms=("windows-*",)),
                Package(requires="a>1", platforms=("linux-*",)),
                Package(requires="b", backends=("rocm*",)),
            ),
        )
        told = [message.text for message in left_out(build, profile, {}, [])]
        assert told == ["b of profile own is left out: it is only with rocm*"]


class TestNarrowing:
    """uv's own words (0.13.8), from resolutions against the loopback index."""

    CANDIDATES = tuple(build_of(torch, "cpu") for torch in ("2.15.0", "2.12.0", "2.9.1", "2.8.0"))

    @pytest.mark.parametrize(
        ("words", "limit"),
        [
            (
                """Because only needs-old==1.0 is available and needs-old==1.0 depends on torch==2.9.1, we can conclude
                that all versions of needs-old depend on torch==2.9.1. And because provision-target depends on
                needs-old and torch==2.15.0+cpu, we can conclude that your requirements are unsatisfiable.""",
                Limit(by="needs-old 1.0", torch="==2.9.1"),
            ),
            (
                "Because needs-old==2.0 depends on torch>=2.8,<2.9 and needs-old==3.0 depends on torch>=2.9,<2.13",
                Limit(by="needs-old 3.0", torch=">=2.9,<2.13"),
            ),
            ("Because torchvision==0.27.0+cpu depends on torch==2.12.0 and ...", None),
            ("Because numpy==3 was not found in the package registry", None),
            ("Because wants-new==1 depends on torch>=9, ...", None),
        ],
    )
    def test_the_package_that_wants_another_torch_is_found(self, words: str, limit: Limit | None) -> None:
        assert limit_in(words, self.CANDIDATES[0], self.CANDIDATES) == limit

    def test_a_companion_that_the_index_lacks_leaves_the_other_backends(self) -> None:
        builds = [build_of("2.15.0", "cu132"), build_of("2.15.0", "cu130")]
        words = "Because there is no version of torchaudio==2.11.0 and provision-target depends on torchaudio==2.11.0"
        limit = limit_in(words, builds[0], builds)
        assert limit == Limit(by="torchaudio", backends=("cu130",))
        assert limit.refuses(builds[0]) == ("torchaudio is for cu130", "cu132")
