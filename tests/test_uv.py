"""How uv is asked, what its answers mean, and when it is ended because a server only pretends to serve."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from index import HOST_PYTHON, Server, Tree, host_platform, torch_wheel, wheel
from packaging.requirements import Requirement
from packaging.version import Version
from provision import uv, watch
from provision.carry import login_variables, uv_environment
from provision.catalog import Build, Channel, Source, SourceKind, pytorch_index
from provision.environment import Python
from provision.errors import InstallFailed
from provision.host import Completed, LocalHost
from provision.index import Survey, pytorch_questions, survey
from provision.listings import platform_of
from provision.needs import needs_of, parse_requirements
from provision.room import Demand, Room, ask_room, check_room, shortage
from provision.settings import Login, Settings
from provision.values import replace
from provision.watch import Sample, Watch, moved

UV = str(Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv"))
HERE = LocalHost()
PYTHON = Python(version=".".join(map(str, sys.version_info[:3])))


def source(url: str, *, flat: bool = False) -> Source:
    return replace(pytorch_index(url), flat=flat)


def wanted(server: Server, backend: str = "cpu", *, others: tuple[str, ...] = (), **family: str) -> uv.Wanted:
    return uv.Wanted(
        family=family, others=others, source=source(server.pytorch), index_url=f"{server.pytorch}/{backend}"
    )


def environment(server: Server, settings: Settings | None = None, **more: str) -> dict[str, str]:
    """uv's variables for somebody whose default index is this server's."""
    chosen = settings or Settings(index_url=server.packages)
    return uv_environment(chosen, {**server.environ(), **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def pinned(server: Server, what: uv.Wanted, folder: Path, **how: str) -> uv.Pins:
    env = environment(server) | how
    return uv.compile_pins(HERE, UV, what, folder=folder, python=sys.executable, env=env, installed={})


class TestPinning:
    def test_torch_comes_from_the_chosen_index_and_the_rest_never(self, index: Server, folder: Path) -> None:
        pins = pinned(index, wanted(index, torch="==2.15.0+cpu", torchvision="==0.29.2"), folder)
        urls = {pin.name: pin.url or "" for pin in pins.packages}
        assert {name for name, url in urls.items() if "/whl/cpu/" in url} == {"torch", "torchvision"}
        assert pins.versions["filelock"] == "4.2.11"  # the PyTorch index has 3.19.1
        assert all(len(digest) == 64 for pin in pins.packages for digest in pin.hashes)
        assert all(pin.hashes for pin in pins.packages)

    def test_a_constraint_asks_for_nothing_by_itself(self, index: Server, folder: Path) -> None:
        what = replace(wanted(index, torch="==2.15.0+cpu"), constraints=("xformers==0.0.35",))
        assert "xformers" not in pinned(index, what, folder).versions

    def test_a_constraint_holds_for_what_comes_along(self, index: Server, folder: Path) -> None:
        what = replace(wanted(index, torch="==2.15.0+cpu"), constraints=("filelock<4",))
        with pytest.raises(InstallFailed, match=r"filelock<4") as error:
            pinned(index, what, folder)
        assert error.value.code == "resolution"

    def test_what_is_installed_stays_where_it_may(self, index: Server, folder: Path) -> None:
        what = wanted(index, others=("numpy",), torch="==2.15.0+cpu")
        env = environment(index, Settings(index_url=index.packages, extra_index_urls=(f"{index.pytorch}/cpu",)))
        kept = uv.compile_pins(
            HERE, UV, what, folder=folder, python=sys.executable, env=env, installed={"numpy": "2.3.3"}
        )
        assert kept.versions["numpy"] == "2.3.3"

    def test_a_rival_with_higher_numbers_on_the_users_own_index_gets_nothing_of_the_family(
        self, index: Server, scene: Callable[..., Server], folder: Path
    ) -> None:
        names = ("torch", "torchvision", "triton")
        evil = scene(Tree(packages=[wheel(name, "99.0") for name in names]))
        settings = Settings(index_url=index.packages, extra_index_urls=(evil.packages,), best_match=True)
        what = wanted(index, torch="==2.15.0+cpu", torchvision="")
        env = environment(index, settings)
        pins = uv.compile_pins(HERE, UV, what, folder=folder, python=sys.executable, env=env, installed={})
        assert "99.0" not in pins.versions.values()

    def test_configuration_beside_the_project_or_in_the_current_directory_changes_nothing(
        self, index: Server, scene: Callable[..., Server], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evil = scene(Tree(packages=[wheel("filelock", "99.0"), wheel("numpy", "99.0")]))
        for place in (folder, folder.parent):
            (place / "uv.toml").write_text(f'index-url = "{evil.packages}"\n')
            (place / "pip.conf").write_text(f"[global]\nindex-url = {evil.packages}\n")
            (place / ".env").write_text(f"UV_DEFAULT_INDEX={evil.packages}\n")
        (folder.parent / "pyproject.toml").write_text(f'[tool.uv]\nindex-url = "{evil.packages}"\n')
        monkeypatch.chdir(folder.parent)
        pins = pinned(index, wanted(index, others=("numpy",), torch="==2.15.0+cpu"), folder)
        assert pins.versions["filelock"] == "4.2.11"
        assert evil.requests == []

    def test_a_quarantine_of_new_packages_does_not_hide_torch(self, index: Server, folder: Path) -> None:
        """The index of torch tells no day of upload for some files, and uv passes such files over."""
        pins = pinned(index, wanted(index, torch="==2.15.0+cpu"), folder, UV_EXCLUDE_NEWER="2026-11-10")
        assert pins.versions["torch"] == "2.15.0+cpu"

    def test_no_index_leaves_the_chosen_one_open(self, index: Server, tmp_path: Path, folder: Path) -> None:
        for one in index.tree.packages:
            if one.tag == "py3-none-any" and not one.name.startswith("nvidia"):
                one.write(tmp_path / "wheels")
        settings = Settings(index_url="http://127.0.0.1:9", no_index=True, find_links=(str(tmp_path / "wheels"),))
        pins = uv.compile_pins(
            HERE,
            UV,
            wanted(index, torch="==2.15.0+cpu"),
            folder=folder,
            python=sys.executable,
            env=environment(index, settings),
            installed={},
        )
        assert pins.versions["torch"] == "2.15.0+cpu"

    @pytest.mark.parametrize("flat", [False, True])
    def test_a_mirror_of_either_kind(self, index: Server, folder: Path, flat: bool) -> None:
        base = f"{index.url}/{'flat' if flat else 'whl'}"
        what = uv.Wanted(
            family={"torch": "==2.15.0+cpu"}, others=(), source=source(base, flat=flat), index_url=f"{base}/cpu"
        )
        assert pinned(index, what, folder).versions["torch"] == "2.15.0+cpu"


class TestLogin:
    """The login of the chosen index reaches uv through its environment: no file and no argument holds it."""

    def test_pinning_and_installing_with_it(
        self, index: Server, scene: Callable[..., Server], folder: Path, tmp_path: Path
    ) -> None:
        tree = Tree(pytorch={"cpu": [torch_wheel("2.15.0", "cpu", HOST_PYTHON, host_platform())]})
        locked = scene(tree, auth="ci:s3cret")
        url = f"{locked.pytorch}/cpu"
        settings = Settings(index_url=index.packages, logins=(Login(url=url, user="ci", password="s3cret"),))
        env = environment(index, settings)
        what = uv.Wanted(family={"torch": "==2.15.0+cpu"}, others=(), source=source(locked.pytorch), index_url=url)
        with pytest.raises(InstallFailed) as refused:
            uv.compile_pins(HERE, UV, what, folder=folder, python=sys.executable, env=env, installed={})
        assert refused.value.code == "resolution"  # uv tells 401 from absent no more than this; `index` did before

        pinning = env | login_variables(settings, url)
        uv.compile_pins(HERE, UV, what, folder=folder, python=sys.executable, env=pinning, installed={})
        lock = folder / "pylock.toml"
        assert "s3cret" not in lock.read_text()
        assert "s3cret" not in (folder / "pyproject.toml").read_text()
        target = tmp_path / "env"
        made = HERE.run(uv.venv_command(UV, path=target, python=sys.executable), timeout=60, env=env)
        assert made.returncode == 0, made.stderr
        python = target / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        command = uv.install_command(UV, python=python, lock=lock)
        assert "s3cret" not in " ".join(command)
        installing = env | login_variables(settings, url, installing=env)
        done = HERE.run(command, timeout=60, env=installing)
        assert done.returncode == 0, done.stderr


# What torch needs from its own index ----------------------------------------------------------------------------------


def build(torch: str, backend: str, where: Source, channel: Channel = Channel.STABLE) -> Build:
    place = platform_of(host_platform().replace("-", "_"))
    assert place is not None
    return Build(
        torch=Version(torch), backend=backend, system=place[0], machine=place[1], source=where, channel=channel,
        local=backend,
    )  # fmt: skip


def seen(server: Server, backend: str, channel: Channel = Channel.STABLE) -> Survey:
    questions = pytorch_questions(server.pytorch, [(backend, channel)])
    return survey(questions, Settings(), None)


linux_x86 = pytest.mark.skipif(host_platform() != "linux-x86_64", reason="the index' nightlies are for Linux x86_64")


@linux_x86
class TestNeeds:
    def nightly(self, server: Server) -> Build:
        return build("2.16.0.dev20261009", "cu130", source(server.pytorch), Channel.NIGHTLY)

    def test_a_nightlys_triton_is_asked_for_where_it_is(self, index: Server, tmp_path: Path) -> None:
        one = self.nightly(index)
        wheels = seen(index, "cu130", Channel.NIGHTLY).wheels(one.source)
        needs = needs_of(one, wheels, PYTHON, Settings(), tmp_path)
        assert needs == ('triton==3.9.0+git1b0b0a2e; platform_system == "Linux"',)
        with index.recording() as requests:
            assert needs_of(one, wheels, PYTHON, Settings(), tmp_path, offline=True) == needs
        assert requests == []

    def test_so_a_nightly_can_be_pinned(self, index: Server, tmp_path: Path, folder: Path) -> None:
        one = self.nightly(index)
        wheels = seen(index, "cu130", Channel.NIGHTLY).wheels(one.source)
        what = uv.Wanted(
            family={"torch": f"=={one.requirement}"},
            others=(),
            source=one.source,
            index_url=one.index_url,
            needs=needs_of(one, wheels, PYTHON, Settings(), tmp_path),
        )
        with index.recording() as requests:
            pins = pinned(index, what, folder)
        assert pins.versions["triton"] == "3.9.0+git1b0b0a2e"
        assert not any(request.path.startswith("/simple/triton") for request in requests)

    def test_where_no_metadata_can_be_read_uv_is_asked_twice(self, index: Server, folder: Path) -> None:
        one = self.nightly(index)
        what = uv.Wanted(
            family={"torch": f"=={one.requirement}"}, others=(), source=one.source, index_url=one.index_url
        )
        assert pinned(index, what, folder).versions["triton"] == "3.9.0+git1b0b0a2e"

    def test_a_stable_builds_triton_comes_from_torchs_own_index_too(self, index: Server, tmp_path: Path) -> None:
        one = build("2.11.0", "cu128", source(index.pytorch))
        needs = needs_of(one, seen(index, "cu128").wheels(one.source), PYTHON, Settings(), tmp_path)
        assert [Requirement(need).name for need in needs] == ["triton"]

    def test_what_that_index_does_not_have_is_left_to_the_others(
        self, scene: Callable[..., Server], tmp_path: Path
    ) -> None:
        lonely = scene(Tree(pytorch={"cu128": [torch_wheel("2.11.0", "cu128", requires=("triton==3.6.0", "numpy"))]}))
        one = build("2.11.0", "cu128", source(lonely.pytorch))
        assert needs_of(one, seen(lonely, "cu128").wheels(one.source), PYTHON, Settings(), tmp_path) == ()

    def test_a_wheel_in_a_folder_tells_by_itself(self, tmp_path: Path) -> None:
        torch_wheel("2.16.0", "cu130", requires=("triton==3.9.0+git1",)).write(tmp_path / "w")
        where = Source(kind=SourceKind.FIND_LINKS, url=str(tmp_path / "w"), label="w")
        from provision.index import user_questions

        found = survey(user_questions(Settings(find_links=(where.url,))), Settings(), None)
        [listing] = found.listings
        one = build("2.16.0", "cu130", listing.source)
        assert needs_of(one, listing.wheels, PYTHON, Settings(), None) == ("triton==3.9.0+git1",)


def test_requirements_of_extras_and_nonsense_are_left_out() -> None:
    lines = (
        "Name: torch",
        "Requires-Dist: a>=1",
        'Requires-Dist: b; extra == "x"',
        "Requires-Dist: !!",
        "",
        "Requires-Dist: c",
    )
    text = "\r\n".join(lines)
    assert [str(one) for one in parse_requirements(text)] == ["a>=1"]


# What uv's answers mean -----------------------------------------------------------------------------------------------

SAID = {
    "integrity": [
        "error: Failed to install: x.whl\n  cause: Hash mismatch for `torch==2.15.0`",
        "error: Failed to download `x`\n  cause: Failed to extract archive\n  cause: Bad CRC (got 1)",
    ],
    "no-space": ["error: failed to write\n  cause: No space left on device (os error 28)"],
    "certificate": ["error: Failed to fetch: `https://h/`\n  cause: invalid peer certificate: UnknownIssuer"],
    "credentials": [
        "error: Failed to download `torch`\n  cause: HTTP status client error (401 Unauthorized) for url (https://h/x)",
        "error: No solution found\n\nhint: `https://h/` could not be queried (401 Unauthorized).",
    ],
    "network": [
        "error: Failed to fetch: `http://h/`\n  cause: error sending request\n  cause: Connection refused",
        "error: Request failed after 3 retries\n  cause: HTTP status server error (500 Internal Server Error)",
        "error: Failed to fetch: `http://h/`\n  cause: dns error: failed to lookup address information",
    ],
    "permission": ["error: failed to create file\n  cause: Permission denied (os error 13)"],
    "read-only": ["error: failed to create file\n  cause: Read-only file system (os error 30)"],
    "in-use": ["error: failed to remove file\n  cause: The process cannot access the file (os error 32)"],
    "resolution": ["error: No solution found when resolving dependencies\n  cause: Because a depends on b==5.0.1 ..."],
    "install-failed": ["error: something new"],
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in SAID.items() for text in texts])
def test_the_class_of_cause_of_what_uv_says(code: str, text: str) -> None:
    problem = uv.failure(Completed(argv=("uv",), returncode=2, stdout="", stderr=text), "installing")
    assert (problem.code, int(problem.exit_code)) == (code, 5)
    first, _, rest = problem.text.partition("\n")
    assert first.startswith("installing failed: ")
    assert text in rest
    assert problem.hint


def test_the_innermost_cause_is_the_one_line() -> None:
    text = "error: Failed to fetch: `http://h/`\n  cause: error sending request\n  cause: Connection refused\nhint: no"
    assert uv.cause_of(text) == "Connection refused"
    assert uv.cause_of("warning: w\nerror: Failed\n") == "Failed"
    assert uv.cause_of("") == "it said nothing"


def test_an_error_tells_no_login() -> None:
    said = Completed(argv=(), returncode=2, stdout="", stderr="error: Failed to fetch: `https://ci:s3cret@h/simple/x/`")
    assert "s3cret" not in uv.failure(said, "pinning").text


def test_the_default_index_is_what_uv_itself_tells() -> None:
    assert uv.parse_default_index("--index-url https://h/simple\n\nx==1\n") == "https://h/simple"
    assert uv.parse_default_index("--index-url https://ci:s3cret@h/simple\n") == "https://h/simple"
    assert uv.parse_default_index("x==1\n") is None
    env = {**os.environ, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    assert uv.default_index(HERE, UV, env) == "http://127.0.0.1:9/simple"


# Room -----------------------------------------------------------------------------------------------------------------


def a_room(free: float, *, device: int = 1, inodes: int | None = 10**6) -> Room:
    return Room(place=Path(f"/disk{device}"), device=device, free=round(free * 1e9), inodes=inodes)


CUDA = Demand(download=4_100_000_000, torch=True)


class TestRoom:
    @pytest.mark.parametrize(
        ("environment", "cache", "linked", "said"),
        [
            (a_room(7.1), a_room(7.1), True, None),
            (a_room(6.9), a_room(6.9), True, "7.0 GB are needed on the file system of /disk1, and 6.9 GB are"),
            (a_room(10), a_room(10), False, "14.0 GB are needed on the file system of /disk1, and 10.0 GB are"),
            (a_room(7.1, device=2), a_room(7.1), True, None),
            (a_room(6.9, device=2), a_room(7.1), True, "7.0 GB are needed on the file system of /disk2, and 6.9 GB"),
            (a_room(7.1, device=2), a_room(6.9), True, "7.0 GB are needed on the file system of /disk1, and 6.9 GB"),
            (
                a_room(9),
                a_room(9, inodes=900),
                True,
                "some 16000 files are needed on the file system of /disk1, and 900",
            ),
            (a_room(9), a_room(9, inodes=None), True, None),
        ],
    )
    def test_what_is_missing_where(self, environment: Room, cache: Room, linked: bool, said: str | None) -> None:
        problem = shortage(CUDA, environment, cache, linked=linked)
        assert problem is None if said is None else (problem or "").startswith(said)

    def test_a_folder_that_is_to_be_made_has_its_parents_room(self, tmp_path: Path) -> None:
        here, there = ask_room(tmp_path), ask_room(tmp_path / "a" / "b")
        assert here is not None and there is not None
        assert (there.device, there.inodes is None) == (here.device, here.inodes is None)
        assert abs(there.free - here.free) < 1e9

    def test_what_uv_has_in_its_cache_is_not_counted(self, index: Server, folder: Path, tmp_path: Path) -> None:
        """The sizes are made up and beyond every disk: refused at first, and not when everything is in the cache."""
        env = environment(index, UV_CACHE_DIR=str(tmp_path / "cache"))
        pins = pinned(index, wanted(index, torch="==2.15.0+cpu"), folder)
        target = tmp_path / "env"
        HERE.run(uv.venv_command(UV, path=target, python=sys.executable), timeout=60, env=env)

        def check() -> None:
            sizes = dict.fromkeys(pins.versions, 10**18)
            check_room(HERE, UV, prefix=tmp_path / "env", versions=pins.versions, variables=env, sizes=sizes)

        with pytest.raises(InstallFailed, match="are needed on the file system") as refused:
            check()
        assert refused.value.code == "no-space"
        python = target / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        done = HERE.run(uv.install_command(UV, python=python, lock=folder / "pylock.toml"), timeout=60, env=env)
        assert done.returncode == 0, done.stderr
        check()

    def test_nothing_is_refused_for_sizes_that_nobody_knows(self, tmp_path: Path) -> None:
        check_room(HERE, UV, prefix=tmp_path, versions={}, variables={}, sizes={})


# Watching uv ----------------------------------------------------------------------------------------------------------


class TestWatch:
    def test_what_counts_as_getting_on(self) -> None:
        start = Sample(at=0, written=0, busy=0)
        assert moved(start, Sample(at=10, written=200_000, busy=0))
        assert moved(start, Sample(at=10, written=0, busy=2))
        assert moved(start, Sample(at=10, written=0, busy=0, waits=3_000))
        assert not moved(start, Sample(at=10, written=50_000, busy=0.01, waits=1_000))

    def test_a_process_that_works_is_left_alone_and_one_that_waits_is_not(self) -> None:
        if sys.platform != "linux":
            pytest.skip("elsewhere the processor time of another process is not asked")
        busy, idle = (
            subprocess.Popen([sys.executable, "-c", program])
            for program in ("while True: pass", "import time; time.sleep(60)")
        )
        try:
            time.sleep(0.3)
            watches = [Watch(one.pid, seconds=0.8) for one in (busy, idle)]
            stuck = [False, False]
            end = time.monotonic() + 1.6
            while time.monotonic() < end:
                time.sleep(0.1)
                stuck = [before or one.stuck() for before, one in zip(stuck, watches, strict=True)]
            assert stuck == [False, True]
        finally:
            for one in (busy, idle):
                one.kill()
                one.wait()

    def test_work_of_children_counts(self, tmp_path: Path) -> None:
        if sys.platform != "linux":
            pytest.skip("elsewhere children are not looked at")
        program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
        parent = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        try:
            time.sleep(0.5)
            one = Watch(parent.pid, seconds=0.5)
            for _ in range(8):
                time.sleep(0.1)
                assert not one.stuck()
        finally:
            os.killpg(parent.pid, 9)
            parent.wait()

    def test_elsewhere_the_cache_tells(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(watch, "ELSEWHERE", 1.0)
        arriving = tmp_path / ".tmpAbC" / "torch" / "lib.so"
        arriving.parent.mkdir(parents=True)
        arriving.write_bytes(b"")
        one = Watch(os.getpid(), seconds=0.2, cache=tmp_path)
        time.sleep(0.12)
        arriving.write_bytes(bytes(100_000))
        assert not one.stuck()
        time.sleep(0.25)
        assert one.stuck()

    def test_a_command_that_ends_has_its_own_answer(self, tmp_path: Path) -> None:
        done = watch.run(
            [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"],
            env=os.environ,
            cwd=tmp_path,
            timeout=20,
        )
        assert (done.returncode, done.stdout.strip(), done.stderr.strip(), done.timed_out) == (3, "out", "err", False)

    def test_one_that_gets_nowhere_is_ended_with_its_children_and_says_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sys.platform != "linux":
            pytest.skip("elsewhere it gets five times as long")
        monkeypatch.setenv("PROVISION_NETWORK_SECONDS", "1")
        started = time.monotonic()
        command = ["sh", "-c", "echo Downloading torch >&2; sleep 60 & sleep 60"]
        done = watch.run(command, env={"PATH": os.environ["PATH"]}, cwd=tmp_path, timeout=50)
        assert time.monotonic() - started < 6
        assert done.timed_out
        problem = uv.failure(done, "installing")
        assert problem.code == "network"
        assert problem.text.startswith("installing was ended: next to nothing arrived for 1 s\nDownloading torch")
