"""The lock as text and value: read by others, the same bytes from the same pins, and what differs said.

`formats/lock/`: a lock of every schema that was ever written, as it was written; all of them are still read.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from packaging.pylock import Pylock
from packaging.version import Version
from provision.catalog import load_catalog
from provision.errors import BadData, UsageProblem
from provision.lock import (
    FILE_NAME,
    Lock,
    Target,
    check_portable,
    differences,
    is_ours,
    lock_text,
    pages,
    read_lock,
    requirements_text,
)
from provision.machine import Driver, Gpu, Machine, Platform, System, Vendor
from provision.piptools import parse_requirements
from provision.targets import is_arch, machine_on, parse_platform, uv_platform

FORMATS = sorted((Path(__file__).parent / "formats" / "lock").glob("*.toml"))
LINUX = Target(system="linux", machine="x86_64", python="3.12", arches=("sm_120",))
INDEX = "https://download.pytorch.org/whl/cu128"


def wheel(name: str, version: str, sha: str, *, base: str = "https://files.example", tag: str = "py3-none-any") -> Any:
    file = f"{name.replace('-', '_')}-{version}-{tag}.whl"
    return {"url": f"{base}/{file.replace('+', '%2B')}", "hashes": {"sha256": sha * 64}, "size": 1000}


def pylock(**changes: Any) -> str:
    """A text as uv writes it; a change of a package is {} for "not there"."""
    packages: dict[str, Any] = {
        "torch": {
            "version": "2.11.0+cu128",
            "wheels": [wheel("torch", "2.11.0+cu128", "a", base=INDEX, tag="cp312-cp312-manylinux_2_28_x86_64")],
        },
        "filelock": {"version": "4.2.11", "wheels": [wheel("filelock", "4.2.11", "b")]},
        "sympy": {"version": "1.14.0", "wheels": [wheel("sympy", "1.14.0", "c")]},
    } | changes
    rows = [{"name": name, **row} for name, row in packages.items() if row]
    return tomli_w.dumps({"lock-version": "1.0", "created-by": "uv", "requires-python": ">=3.12", "packages": rows})


def text_of(pylock_text: str, **more: Any) -> str:
    settings: dict[str, Any] = {
        "backend": "cu128",
        "channel": "stable",
        "profile": "qlora",
        "target": LINUX,
        "index_url": INDEX,
        "from_index": ("torch",),
    }
    return lock_text(pylock_text, **(settings | more))


def lock_of(pylock_text: str, **more: Any) -> Lock:
    return read_lock(text_of(pylock_text, **more), where="here")


class TestText:
    def test_the_same_pins_give_the_same_bytes_in_whatever_order_they_came(self) -> None:
        one = tomllib.loads(pylock())
        other = one | {"packages": one["packages"][::-1]}
        assert text_of(tomli_w.dumps(one)) == text_of(tomli_w.dumps(other))

    def test_a_file_that_an_index_lists_twice_is_there_once(self) -> None:
        twice = {"version": "4.2.11", "wheels": [wheel("filelock", "4.2.11", "b")] * 2}
        assert text_of(pylock(filelock=twice)) == text_of(pylock())

    def test_where_there_are_wheels_the_source_is_no_choice(self) -> None:
        both = {
            "version": "4.2.11",
            "wheels": [wheel("filelock", "4.2.11", "b")],
            "sdist": {"url": "https://files.example/filelock-4.2.11.tar.gz", "hashes": {"sha256": "d" * 64}},
        }
        assert text_of(pylock(filelock=both)) == text_of(pylock())
        del both["wheels"]
        locked = lock_of(pylock(filelock=both))
        assert locked.pins["filelock"] == ("4.2.11", ("d" * 64,))

    def test_no_login_gets_in(self) -> None:
        with_login = {
            "version": "4.2.11",
            "wheels": [wheel("filelock", "4.2.11", "b", base="https://me:pw@files.example")],
        }
        text = text_of(pylock(filelock=with_login), index_url="https://me:pw@mirror.example/whl/cu128")
        assert "pw" not in text
        assert "@" not in text
        assert "https://mirror.example/whl/cu128" in text
        assert "pw" not in requirements_text(read_lock(text, where="here"), beside="x")

    def test_packaging_reads_it_and_selects_everything_on_its_target_alone(self) -> None:
        lock = Pylock.from_dict(tomllib.loads(text_of(pylock())))
        lock.validate()
        assert str(lock.requires_python) == "==3.12.*"
        marker = lock.environments[0] if lock.environments else None
        assert marker is not None
        here = {"sys_platform": "linux", "platform_machine": "x86_64"}
        assert marker.evaluate(here)
        assert not marker.evaluate(here | {"platform_machine": "aarch64"})
        assert not marker.evaluate({"sys_platform": "win32", "platform_machine": "AMD64"})

    @pytest.mark.parametrize(
        ("system", "machine", "expected"),
        [
            ("windows", "x86_64", "sys_platform == 'win32' and platform_machine == 'AMD64'"),
            ("windows", "aarch64", "sys_platform == 'win32' and platform_machine == 'ARM64'"),
            ("macos", "aarch64", "sys_platform == 'darwin' and platform_machine == 'arm64'"),
            ("macos", "x86_64", "sys_platform == 'darwin' and platform_machine == 'x86_64'"),
            ("linux", "aarch64", "sys_platform == 'linux' and platform_machine == 'aarch64'"),
        ],
    )
    def test_each_platform_is_named_as_its_python_names_it(self, system: str, machine: str, expected: str) -> None:
        assert Target(system=system, machine=machine, python="3.12").marker == expected

    def test_what_the_choice_rests_on_is_kept_without_what_tells_the_machine(self) -> None:
        gpu = Gpu(vendor=Vendor.NVIDIA, name="RTX", arch="12.0", index=0, uuid="GPU-1234", memory_mib=5, source="nvml")
        machine = Machine(
            platform=Platform(system=System.LINUX, machine="x86_64", libc=("glibc", "2.36")),
            gpus=(gpu,),
            drivers=(Driver(vendor=Vendor.NVIDIA, version="570.1", cuda="12.8", source="nvml"),),
        )
        text = text_of(pylock(), machine=machine)
        assert "GPU-1234" not in text
        lock = read_lock(text, where="here")
        assert lock.machine is not None
        assert lock.machine["gpus"] == [{"vendor": "nvidia", "name": "RTX", "arch": "12.0", "index": 0}]


class TestRequirements:
    def test_they_hold_every_pin_with_its_hashes_and_the_pages_of_torch(self) -> None:
        assert requirements_text(lock_of(pylock()), beside="pylock.qlora.toml") == (
            "# The pins of pylock.qlora.toml: torch 2.11.0+cu128 for linux x86_64, Python 3.12, sm_120\n"
            "# pip install --require-hashes -r THIS, or uv pip install --require-hashes -r THIS\n"
            "\n"
            f"--find-links {INDEX}/torch/\n"
            "\n"
            f"filelock==4.2.11 \\\n    --hash=sha256:{'b' * 64}\n"
            f"sympy==1.14.0 \\\n    --hash=sha256:{'c' * 64}\n"
            f"torch==2.11.0+cu128 \\\n    --hash=sha256:{'a' * 64}\n"
        )

    def test_torch_from_the_default_index_needs_no_page(self) -> None:
        assert pages(lock_of(pylock(), from_index=())) == []

    def test_a_flat_mirror_is_one_page(self) -> None:
        assert pages(lock_of(pylock(), index_url="https://mirror.example/cu128/", flat=True)) == [
            "https://mirror.example/cu128/"
        ]

    def test_in_a_wheelhouse_no_address_is_left(self) -> None:
        assert "://" not in requirements_text(lock_of(pylock()), beside="x", folder=True)

    def test_what_pip_tools_writes_is_read(self) -> None:
        text = (
            "Jinja2==3.1.6\ntorch==2.15.0+cpu ; sys_platform == 'linux'\n# via\nuvicorn[standard]==0.30 \\\n --hash=x"
        )
        assert parse_requirements(text) == {"jinja2": "3.1.6", "torch": "2.15.0+cpu", "uvicorn": "0.30"}


class TestReading:
    @pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
    def test_a_lock_of_every_schema_is_still_read(self, path: Path) -> None:
        lock = read_lock(path.read_text(encoding="utf-8"), where=path.name)
        assert lock.torch.startswith("2.")
        assert lock.target.python
        assert all(file.sha256 for package in lock.packages for file in package.files)

    def test_there_are_such_files(self) -> None:
        assert {path.stem for path in FORMATS} == {"schema-1-first", "schema-1"}

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "bad-lock"),
            ("[", "bad-lock"),
            ("a = 1", "bad-lock"),
            (pylock(), "foreign-lock"),
            (text_of(pylock()).replace("schema = 1", "schema = 2"), "schema-too-new"),
            (text_of(pylock()).replace("schema = 1", "schema = true"), "schema-too-new"),
            (text_of(pylock()).replace('python = "3.12"', "python = 3.12"), "bad-lock"),
            (text_of(pylock()).replace("[tool.provision.target]", "[tool.provision.aim]"), "bad-lock"),
            (text_of(pylock()).replace('system = "linux"', 'system = "beos"'), "bad-lock"),
            (text_of(pylock(torch={})), "bad-lock"),
            (text_of(pylock()).replace("sha256", "md5"), "bad-lock"),
            (text_of(pylock(filelock={"version": "4", "directory": {"path": "../mine"}})), "bad-lock"),
        ],
    )
    def test_what_is_no_lock_of_ours_is_refused_with_what_to_do(self, text: str, code: str) -> None:
        with pytest.raises(BadData) as caught:
            read_lock(text, where="some.toml")
        assert caught.value.code == code
        assert "some.toml" in caught.value.text
        assert caught.value.hint

    def test_ours_is_told_from_others(self) -> None:
        assert is_ours(text_of(pylock()))
        assert not is_ours(pylock())
        assert not is_ours("no TOML at all [")
        assert FILE_NAME == "pylock.provision.toml"


class TestDifferences:
    def test_versions_hashes_and_target_count_and_where_a_file_lies_does_not(self) -> None:
        old = lock_of(pylock())
        moved = {"version": "4.2.11", "wheels": [wheel("filelock", "4.2.11", "b", base="https://mirror.example")]}
        assert differences(old, lock_of(pylock(filelock=moved))) == ()
        other = {"version": "4.2.11", "wheels": [wheel("filelock", "4.2.11", "e")]}
        assert differences(old, lock_of(pylock(filelock=other))) == ("filelock==4.2.11: other files",)
        newer = {"version": "4.3", "wheels": [wheel("filelock", "4.3", "e")]}
        assert differences(old, lock_of(pylock(filelock=newer, sympy={}, mpmath=newer))) == (
            "filelock 4.2.11 → 4.3",
            "+ mpmath==4.3",
            "- sympy==1.14.0",
        )
        target = Target(system="linux", machine="x86_64", python="3.12", arches=("sm_90",))
        assert differences(old, lock_of(pylock(), backend="cu130", target=target)) == (
            "backend cu128 → cu130",
            "target linux x86_64, Python 3.12, sm_120 → linux x86_64, Python 3.12, sm_90",
        )

    @pytest.mark.parametrize("base", ["file:///home/me/wheels", "../wheels"])
    def test_a_file_of_this_machine_is_nothing_for_others(self, base: str) -> None:
        here = {"version": "4.2.11", "wheels": [wheel("filelock", "4.2.11", "b", base=base)]}
        with pytest.raises(UsageProblem, match="filelock come from a local folder"):
            check_portable(lock_of(pylock(filelock=here)), where="pylock.x.toml")
        check_portable(lock_of(pylock()), where="pylock.x.toml")


class TestTargets:
    @pytest.mark.parametrize(
        ("text", "system", "machine"),
        [
            ("linux-x86_64", System.LINUX, "x86_64"),
            ("Windows-AMD64", System.WINDOWS, "x86_64"),
            ("macos-arm64", System.MACOS, "aarch64"),
            ("linux-aarch64", System.LINUX, "aarch64"),
        ],
    )
    def test_a_platform_is_a_system_and_a_processor(self, text: str, system: System, machine: str) -> None:
        assert parse_platform(text) == Platform(system=system, machine=machine)

    def test_an_unknown_platform_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(UsageProblem) as caught:
            parse_platform("linux-x86")
        assert caught.value.hint == "did you mean linux-x86_64?"

    @pytest.mark.parametrize("text", ["sm_120", "12.0", "gfx1100", "SM_90", "sm_90a"])
    def test_an_arch_stands_for_a_gpu_that_is_not_here(self, text: str) -> None:
        assert is_arch(text)

    @pytest.mark.parametrize("text", ["0", "RTX 5090", "GPU-1234", "sm120x"])
    def test_anything_else_names_one_that_is(self, text: str) -> None:
        assert not is_arch(text)

    @pytest.mark.parametrize(
        ("platform", "libc", "torch", "expected"),
        [
            ("linux-x86_64", None, "2.11.0", "x86_64-manylinux_2_28"),
            ("linux-x86_64", ("glibc", "2.35"), "2.11.0", "x86_64-manylinux_2_35"),
            ("linux-x86_64", ("glibc", "2.30"), "2.11.0", "x86_64-manylinux_2_28"),
            ("linux-x86_64", ("glibc", "2.41"), "2.11.0", "x86_64-manylinux_2_40"),
            ("linux-x86_64", ("glibc", "2.17"), "2.6.0", "x86_64-manylinux_2_17"),
            ("linux-aarch64", ("glibc", "2.39"), "2.11.0", "aarch64-manylinux_2_39"),
            ("windows-x86_64", None, "2.11.0", "x86_64-pc-windows-msvc"),
            ("macos-aarch64", None, "2.11.0", "aarch64-apple-darwin"),
        ],
    )
    def test_uv_is_told_the_newest_manylinux_that_the_c_library_serves(
        self, platform: str, libc: tuple[str, str] | None, torch: str, expected: str
    ) -> None:
        asked = parse_platform(platform)
        here = Platform(system=asked.system, machine=asked.machine, libc=libc)
        build = next(one for one in load_catalog().builds if one.torch == Version(torch))
        assert uv_platform(here, build) == expected

    def test_on_another_system_only_the_cuda_of_a_driver_is_known(self) -> None:
        known = Machine(
            platform=Platform(system=System.LINUX, machine="x86_64", libc=("glibc", "2.36")),
            gpus=(Gpu(vendor=Vendor.NVIDIA, arch="12.0"),),
            drivers=(Driver(vendor=Vendor.NVIDIA, version="570.124.06", cuda="12.8"),),
        )
        there = machine_on(parse_platform("windows-x86_64"), known)
        assert there.gpus == known.gpus
        assert [(one.version, one.cuda) for one in there.drivers] == [(None, "12.8")]
        assert machine_on(parse_platform("linux-x86_64"), known) == known
