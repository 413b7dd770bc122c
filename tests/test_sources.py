"""A person's own surroundings: a firm's proxy and certificates, logins, mirrors, no network; each a whole run."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import odd
import pytest
from index import HOST_PYTHON, Server, Tree, host_platform, standard_tree, torch_wheel, wheel
from nvml import stand_in
from running import Person

Scene = Callable[..., Server]

HOSTS = {"PIP_CONFIG_FILE", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "UV_NO_CONFIG", "PROVISION_INDEX_BASE"}
"""Variables by which the other tests see the loopback index."""


def no_gpu(index: Server, *, without: set[str] = HOSTS) -> dict[str, str]:
    """A machine without a GPU whose configuration is its own."""
    environ = stand_in.environment(base=index.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
    trusted = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    return {name: value for name, value in environ.items() if name not in without | trusted}


def pip_conf(person: Person, text: str) -> Path:
    path = person.home / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


pytestmark = pytest.mark.skipif(os.name == "nt", reason="homes and proxies are set up as on Linux and macOS")


# A firm -------------------------------------------------------------------------------------------------------------


class TestFirm:
    """Everything goes through a proxy that wants a login and puts its own certificate in; pip.conf says all of it."""

    def test_pip_conf_alone_is_enough(self, index: Server, tmp_path: Path) -> None:
        corp = odd.authority(tmp_path / "ca", "pypi.corp.example", "pytorch.corp.example")
        person = Person(tmp_path / "me", no_gpu(index))
        with odd.front(index, inside=corp.context, login="me:pr0xy") as proxy:
            pip_conf(
                person,
                f"""[global]
                index-url = https://pypi.corp.example/simple
                cert = {corp.certificate}
                proxy = http://me:pr0xy@127.0.0.1:{proxy.port}
                timeout = 20
                """.replace("                ", ""),
            )
            base = {"PROVISION_INDEX_BASE": "https://pytorch.corp.example/whl"}
            shown = person.run("plan", "-v", environ=base)
            run = person.run("--json", environ=base)
        assert run.code == 0, run.out + run.err
        assert run.data["choice"]["index_url"] == "https://pytorch.corp.example/whl/cpu"
        assert {host for method, host, *_ in proxy.seen if method == "CONNECT"} == {
            "pypi.corp.example:443",
            "pytorch.corp.example:443",
        }
        assert "index-url = https://pypi.corp.example/simple   [" in shown.out
        assert f"proxy = http://127.0.0.1:{proxy.port}   [" in shown.out
        assert "timeout = 20.0   [" in shown.out
        assert "pr0xy" not in shown.out + shown.err + run.out + run.err

    def test_without_its_certificate_the_cause_is_the_certificate(self, index: Server, tmp_path: Path) -> None:
        corp = odd.authority(tmp_path / "ca", "pypi.corp.example", "pytorch.corp.example")
        person = Person(tmp_path / "me", no_gpu(index))
        with odd.front(index, inside=corp.context) as proxy:
            pip_conf(person, "[global]\nindex-url = https://pypi.corp.example/simple\n")
            environ = {"https_proxy": proxy.proxy, "PROVISION_INDEX_BASE": "https://pytorch.corp.example/whl"}
            run = person.run("--json", environ=environ)
        assert run.code == 5
        [error] = run.json["errors"]
        assert error["code"] == "certificate"
        assert "SSL_CERT_FILE" in error["hint"]
        assert list(person.folder.iterdir()) == []


# Logins -------------------------------------------------------------------------------------------------------------


class Spy:
    """Looks for words in every process's arguments and in every file below some folders, for as long as it is there."""

    def __init__(self, words: Mapping[str, str], folders: list[Path]) -> None:
        self.words = words
        self.folders = folders
        self.found: set[tuple[str, str]] = set()
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def look(self) -> None:
        self.looks += 1
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            if process.parent.name != str(os.getpid()):
                self._search(process, f"arguments of {process.parent.name}")
        for folder in self.folders:
            with contextlib.suppress(OSError):  # folders go while they are looked at
                for path in folder.rglob("*"):
                    self._search(path, str(path))

    def _search(self, path: Path, name: str) -> None:
        with contextlib.suppress(OSError):
            if path.is_symlink() or (path.is_file() and path.stat().st_size > 10_000_000):
                return
            data = path.read_bytes()
            self.found |= {(spot, name) for spot, word in self.words.items() if word.encode() in data}

    def __enter__(self) -> Spy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()


SECRETS = {
    "index base": "s3cretBASE",
    "pip.conf": "s3cretCONF",
    "named index": "s3cretNAMED",
    "find-links": "s3cretLINKS",
    "proxy": "s3cretPROXY",
    "netrc": "s3cretNETRC",
    "keyring": "s3cretKEYRING",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the arguments of all processes in /proc")
class TestLogins:
    """A login in each place that pip, uv and we read one from; where they were put is left out of the search."""

    @pytest.fixture
    def world(self, scene: Scene, tmp_path: Path) -> Iterator[tuple[Person, dict[str, str], Spy]]:
        tree = standard_tree()
        torch = scene(Tree(pytorch=tree.pytorch), auth=f"ci:{SECRETS['index base']}")
        packages = scene(tree, auth=f"ci:{SECRETS['pip.conf']}")
        more = scene(Tree(packages=[wheel("unused", "1.0")]), auth=f"ci:{SECRETS['named index']}")
        links = scene(Tree(pytorch={"w": [wheel("unused", "2.0")]}), auth=f"ci:{SECRETS['find-links']}")
        rung = scene(Tree(packages=[wheel("unused", "3.0")]), auth=f"ring:{SECRETS['keyring']}")
        person = Person(tmp_path / "me", no_gpu(torch))
        bin_folder, temporary = tmp_path / "bin", tmp_path / "tmp"
        for folder in (bin_folder, temporary):
            folder.mkdir()
        (bin_folder / "keyring").write_text(f"#!/bin/sh\necho {SECRETS['keyring']}\n")
        (bin_folder / "keyring").chmod(0o755)
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine files.example login me password {SECRETS['netrc']}\n")
        netrc.chmod(0o600)

        def with_login(url: str, login: str) -> str:
            return url.replace("://", f"://{login}@")

        conf = tmp_path / "conf" / "pip.conf"
        conf.parent.mkdir()
        conf.write_text(f"[global]\nindex-url = {with_login(packages.packages, 'ci:' + SECRETS['pip.conf'])}\n")
        with odd.front(torch, login=f"me:{SECRETS['proxy']}") as proxy:
            environ = {
                "PIP_CONFIG_FILE": str(conf),
                "PROVISION_INDEX_BASE": with_login(torch.pytorch, "ci:" + SECRETS["index base"]),
                "UV_INDEX": f"more={more.packages} {with_login(rung.packages, 'ring')}",
                "UV_INDEX_MORE_USERNAME": "ci",
                "UV_INDEX_MORE_PASSWORD": SECRETS["named index"],
                "UV_FIND_LINKS": with_login(links.flat("w"), "ci:" + SECRETS["find-links"]),
                "UV_KEYRING_PROVIDER": "subprocess",
                "https_proxy": f"http://me:{SECRETS['proxy']}@127.0.0.1:{proxy.port}",
                "NETRC": str(netrc),
                "TMPDIR": str(temporary),
                "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
                "UV_CACHE_DIR": str(tmp_path / "uv"),
            }
            yield person, environ, Spy(SECRETS, [person.home, person.folder, temporary])

    def test_none_is_found_after_or_during_a_run_that_needs_them(
        self, world: tuple[Person, dict[str, str], Spy]
    ) -> None:
        person, environ, spy = world
        with spy:
            shown = person.run("plan", "-v", environ=environ)
            run = person.run("--json", environ=environ)
            detailed = person.run("-v", "--torch", "2.14.1", environ=environ)
        assert run.code == 0, run.out + run.err
        assert detailed.code == 0, detailed.err
        assert spy.looks > 10
        assert spy.found == set()
        said = shown.out + shown.err + run.out + run.err + detailed.out + detailed.err
        assert [spot for spot, word in SECRETS.items() if word in said] == []
        lock = (person.folder / "pylock.provision.toml").read_text()
        assert "@" not in lock
        assert "login for http://127.0.0.1" in shown.out

    def test_nor_when_it_fails(self, world: tuple[Person, dict[str, str], Spy]) -> None:
        person, environ, spy = world
        wrong = {**environ, "PROVISION_INDEX_BASE": environ["PROVISION_INDEX_BASE"].replace("ci:", "nobody:")}
        with spy:
            runs = [
                person.run("--torch", "9.9", environ=environ),
                person.run("--json", environ={**wrong, "PIP_CONFIG_FILE": os.devnull}),
                person.run("doctor", "-v", environ=environ),
                person.run("doctor", "--report", "report.zip", environ=environ),
            ]
        assert [run.code for run in runs][:2] == [3, 5]
        assert spy.found == set()
        said = "".join(run.out + run.err for run in runs)
        assert [spot for spot, word in SECRETS.items() if word in said] == []


# What lies in the current directory -----------------------------------------------------------------------------------


def test_nothing_in_the_current_directory_changes_the_result(index: Server, scene: Scene, tmp_path: Path) -> None:
    """The confusion of torchtriton, and its like: higher numbers wait on another index."""
    names = ("torch", "torchvision", "triton", "filelock", "numpy", "sympy", "jinja2", "markupsafe")
    mine = torch_wheel("99.0", "cpu", HOST_PYTHON, host_platform())
    evil = scene(Tree(packages=[*(wheel(name, "99.0") for name in names), mine], pytorch={"cpu": [mine]}))
    person = Person(tmp_path, no_gpu(index, without={"UV_NO_CONFIG", "PIP_CONFIG_FILE"}))
    for name, text in {
        "uv.toml": f'index-url = "{evil.packages}"\nfind-links = ["{evil.flat("cpu")}"]\nno-verify-hashes = true\n',
        "pip.conf": f"[global]\nindex-url = {evil.packages}\nextra-index-url = {evil.pytorch}/cpu\n",
        "pyproject.toml": "[project]\nname = 'x'\nversion = '0'\ndependencies = ['torch']\n"
        f"[tool.uv]\nindex-url = '{evil.packages}'\noverride-dependencies = ['numpy==99.0']\n"
        f"[[tool.uv.index]]\nname = 'evil'\nurl = '{evil.packages}'\ndefault = true\n"
        "[tool.uv.sources]\ntorch = { index = 'evil' }\n",
        ".env": f"UV_DEFAULT_INDEX={evil.packages}\nPROVISION_INDEX_BASE={evil.pytorch}\n",
        "uv.lock": "version = 1\n",
        ".python-version": "3.4\n",
        "setup.cfg": f"[easy_install]\nindex_url = {evil.packages}\n",
    }.items():
        (person.folder / name).write_text(text)
    run = person.run("--json")
    assert run.code == 0, run.out + run.err
    assert evil.requests == []
    lock = tomllib.loads((person.folder / "pylock.provision.toml").read_text())
    assert "99.0" not in {package["version"].partition("+")[0] for package in lock["packages"]}


# Mirrors and no network ------------------------------------------------------------------------------


class TestMirrors:
    def test_a_mirror_of_flat_pages_installs(self, index: Server, tmp_path: Path) -> None:
        person = Person(tmp_path, no_gpu(index, without=set()))
        run = person.run("--index-base", f"{index.url}/flat", "--json")
        assert run.code == 0, run.out + run.err
        assert run.data["choice"]["packages"] == {"torch": "2.15.0+cpu"}
        lock = (person.folder / "pylock.provision.toml").read_text()
        assert f"{index.url}/flat/cpu/torch-2.15.0" in lock

    def test_one_that_leads_to_the_official_host_is_told_and_where_that_is_blocked_not_followed(
        self, index: Server, scene: Scene, tmp_path: Path
    ) -> None:
        tree = standard_tree()
        mirror, blocked = scene(tree, links=index.url), scene(tree, links="http://127.0.0.1:9")
        rest = scene(Tree(packages=[one for one in tree.packages if one.name != "torch"]))
        person = Person(tmp_path, no_gpu(index, without=set()) | {"UV_DEFAULT_INDEX": rest.packages})
        told = person.run("plan", "--index-base", mirror.pytorch, "--json")
        assert told.code == 0, told.out
        assert "mirror-leads-elsewhere" in [message["code"] for message in told.json["messages"]]
        refused = person.run("--index-base", blocked.pytorch, "--json")
        assert refused.code == 5, refused.out
        assert "its pages link to files on 127.0.0.1:9" in refused.json["errors"][0]["text"]
        assert list(person.folder.iterdir()) == []


class TestNews:
    """What the index has and the table does not know."""

    @pytest.fixture
    def person(self, scene: Scene, tmp_path: Path) -> Person:
        new = [torch_wheel("2.16.0", backend, python, "linux-x86_64") for backend in ("cu133",) for python in PYTHONS]
        odd_one = [torch_wheel("2.16.0", "cu139", python, "linux-x86_64") for python in PYTHONS]
        server = scene(pytorch={"cu133": new, "cu139": odd_one})
        environ = stand_in.environment(base=server.environ(), driver="590.48.01", cuda="13.1")
        return Person(tmp_path, environ)

    def test_a_new_backend_is_found_and_chosen_with_contents_that_are_inferred(self, person: Person) -> None:
        plan = person.run("plan", "--json")
        assert plan.code == 0, plan.out
        choice = plan.data["choice"]
        assert (choice["torch"], choice["backend"], choice["confidence"]) == ("2.16.0", "cu133", "inferred")

    def test_one_that_is_asked_for_by_name_too(self, person: Person) -> None:
        plan = person.run("plan", "--backend", "cu139", "--json")
        assert plan.code == 0, plan.out
        assert plan.data["choice"]["backend"] == "cu139"
        assert person.run("plan", "--backend", "cu99", "--json").code == 2
        assert person.run("plan", "--backend", "cu139", "--offline").code == 2


PYTHONS = ("cp311", "cp312", "cp313", "cp314")


class TestOffline:
    def codes(self, person: Person, *more: str) -> tuple[list[str], str]:
        run = person.run("plan", "--offline", "--json", *more)
        assert run.code == 0, run.out
        texts = " ".join(message["text"] for message in run.json["messages"])
        return [message["code"] for message in run.json["messages"]], texts

    def test_the_kept_pages_answer_and_that_is_said(self, scene: Scene, tmp_path: Path) -> None:
        server = scene(without=["2.15.0+cpu"])
        person = Person(tmp_path, no_gpu(server, without=set()))
        codes, text = self.codes(person)
        assert "from-table" in codes
        assert "the shipped table" in text
        online = person.run("plan", "--json").data["choice"]
        with server.recording() as requests:
            codes, text = self.codes(person)
            offline = person.run("plan", "--offline", "--json").data["choice"]
        assert requests == []
        assert offline == online
        assert offline["torch"] == "2.14.1"
        assert "from-cache" in codes
        assert "kept 1 min ago" in text
