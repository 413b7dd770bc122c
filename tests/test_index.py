"""What the live indexes hold: asked for once in ten minutes, told apart from what is no index, and in bounded time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import odd
import pytest
from index import Server, Tree, torch_wheel, wheel
from provision.catalog import PYTORCH_INDEX, Channel, SourceKind, load_catalog
from provision.choose import new_backends
from provision.fetch import in_time, reason, status_problem
from provision.index import (
    Answer,
    Question,
    Survey,
    age_phrase,
    ask_sizes,
    package_index_question,
    pytorch_questions,
    remarks,
    survey,
    user_questions,
)
from provision.kept import Kept
from provision.machine import machine_from_json
from provision.settings import Login, Settings

NONE = Settings()
CPU = [("cpu", Channel.STABLE)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources may be silent for four seconds in all; no proxy or netrc of this machine's takes part."""
    monkeypatch.setenv("PROVISION_NETWORK_SECONDS", "4")
    monkeypatch.setenv("NETRC", os.devnull)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def ask(base: str, cache: Path | None = None, settings: Settings = NONE, *, offline: bool = False) -> Survey:
    return survey(pytorch_questions(base, CPU), settings, cache, offline=offline)


def problem(found: Survey) -> str:
    [(_, text)] = found.unreachable.items()
    return text


class TestAsking:
    def test_every_page_of_the_pytorch_index_that_is_wanted(self, index: Server) -> None:
        pages = [("cu130", Channel.STABLE), ("cu130", Channel.NIGHTLY), ("cu134", Channel.TEST)]
        found = survey(pytorch_questions(index.pytorch, pages), NONE, None)
        assert [(one.backend, one.channel.value) for one in found.listings] == [
            ("cu130", "stable"),
            ("cu130", "nightly"),
            ("cu134", "test"),
        ]
        versions = [{str(wheel.version) for wheel in one.wheels} for one in found.listings]
        assert "2.15.0+cu130" in versions[0]
        assert "2.16.0.dev20261009+cu130" in versions[1]
        assert versions[2] == {"2.14.0+cu134"}

    def test_a_page_that_is_absent_is_an_answer(self, index: Server) -> None:
        pages = [("cpu", Channel.STABLE), ("cu131", Channel.STABLE)]
        found = survey(pytorch_questions(index.pytorch, pages), NONE, None)
        assert [bool(one.wheels) for one in found.listings] == [True, False]
        assert not found.unreachable

    def test_the_users_own_in_pips_order(self, tmp_path: Path) -> None:
        settings = Settings(
            index_url="https://a/simple/", extra_index_urls=("https://b/s",), find_links=(str(tmp_path), "https://c/w")
        )
        asked = [(one.source.kind.value, one.url, one.source.label) for one in user_questions(settings)]
        assert asked == [
            ("user-index", "https://a/simple/torch/", "a"),
            ("user-index", "https://b/s/torch/", "b"),
            ("find-links", str(tmp_path), str(tmp_path)),
            ("find-links", "https://c/w", "c"),
        ]
        closed = Settings(index_url="https://a/simple/", no_index=True, find_links=("https://c/w",))
        assert [one.url for one in user_questions(closed)] == ["https://c/w"]

    def test_the_default_package_index_in_its_own_format(self, index: Server) -> None:
        found = survey([package_index_question(index.packages)], NONE, None)
        [listing] = found.listings
        assert listing.source.kind is SourceKind.PACKAGE_INDEX
        assert any(str(one.version) == "2.15.0" and one.size for one in listing.wheels)

    @pytest.mark.parametrize("kind", ["folder", "file", "page", "flat"])
    def test_find_links_of_every_kind(self, index: Server, tmp_path: Path, kind: str) -> None:
        made = torch_wheel("2.13.0", "cpu")
        made.write(tmp_path / "w")
        (tmp_path / "w" / "links.html").write_text(f'<a href="{made.filename}">torch</a>')
        link = {
            "folder": str(tmp_path / "w"),
            "file": (tmp_path / "w").as_uri(),
            "page": str(tmp_path / "w" / "links.html"),
            "flat": index.flat("cpu"),
        }[kind]
        found = survey(user_questions(Settings(find_links=(link,))), NONE, None)
        assert "2.13.0+cpu" in {str(one.version) for listing in found.listings for one in listing.wheels}

    def test_an_index_of_files(self, tmp_path: Path) -> None:
        page = tmp_path / "simple" / "torch" / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text('<a href="../../w/torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl">t</a>')
        url = (tmp_path / "simple").as_uri()
        found = survey(user_questions(Settings(index_url=url)), NONE, None)
        assert found.listings[0].wheels[0].url == f"{tmp_path.as_uri()}/w/torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl"

    def test_a_folder_that_is_not_there_is_out_of_reach_and_not_empty(self, tmp_path: Path) -> None:
        found = survey(user_questions(Settings(find_links=(str(tmp_path / "gone"),))), NONE, None)
        assert problem(found) == "there is no such folder"
        found = survey(user_questions(Settings(index_url=(tmp_path / "gone").as_uri())), NONE, None)
        assert problem(found) == "there is no such folder"

    def test_yanked_wheels_are_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "l.html").write_text('<a href="torch-2.8.0-cp312-cp312-win_amd64.whl" data-yanked="">t</a>')
        [listing] = survey(user_questions(Settings(find_links=(str(tmp_path / "l.html"),))), NONE, None).listings
        assert listing.wheels == ()

    def test_nothing_to_ask_is_nothing_reached(self) -> None:
        assert survey([], NONE, None) == Survey(answers=())


class TestCache:
    def test_for_ten_minutes_nothing_is_asked_again(self, index: Server, cache: Path) -> None:
        first = ask(index.pytorch, cache)
        with index.recording() as requests:
            again = ask(index.pytorch, cache)
        assert requests == []
        assert again.listings == first.listings
        assert first.oldest is None
        assert again.oldest is not None and again.oldest < 60

    def test_then_it_is_asked_whether_it_has_changed(self, index: Server, cache: Path) -> None:
        first = ask(index.pytorch, cache)
        older(cache, 700)
        with index.recording() as requests:
            again = ask(index.pytorch, cache)
        assert [request.status for request in requests] == [304]
        assert again.listings == first.listings
        with index.recording() as requests:
            ask(index.pytorch, cache)
        assert requests == []

    def test_a_page_that_is_absent_is_remembered_where_the_index_answered(self, index: Server, cache: Path) -> None:
        questions = pytorch_questions(index.pytorch, [("cpu", Channel.STABLE), ("cu131", Channel.STABLE)])
        survey(questions, NONE, cache)
        with index.recording() as requests:
            survey(questions, NONE, cache)
        assert requests == []

    def test_offline_the_kept_pages_answer_whatever_their_age(self, index: Server, cache: Path) -> None:
        first = ask(index.pytorch, cache)
        older(cache, 10**6)
        with index.recording() as requests:
            again = ask(index.pytorch, cache, offline=True)
        assert requests == []
        assert again.listings == first.listings
        assert again.oldest is not None and again.oldest >= 10**6

    def test_offline_without_a_kept_page_the_source_is_out_of_reach(self, index: Server, cache: Path) -> None:
        with index.recording() as requests:
            assert problem(ask(index.pytorch, cache, offline=True)) == "offline, and no page of it was kept"
        assert requests == []

    @pytest.mark.parametrize("how", ["gone", "busy"])
    def test_where_the_network_fails_the_kept_page_stands_and_that_is_said(
        self, index: Server, cache: Path, how: str
    ) -> None:
        spoiler = {"gone": odd.resets, "busy": odd.status(503)}[how]
        spoil: dict[str, odd.Spoiler] = {}
        with odd.front(index, spoil) as before:
            first = ask(f"{before.url}/whl", cache)
            older(cache, 7200 * 1.5)
            spoil["*"] = spoiler
            again = ask(f"{before.url}/whl", cache)
        assert again.listings == first.listings
        [remark] = remarks(again)
        assert remark.code == "kept-pages"
        why = {"gone": "connection dropped", "busy": "HTTP status 503"}[how]
        assert remark.text == (
            f"127.0.0.1:{before.port}/whl could not be reached ({why}): its pages as they were 3 h ago stand for it"
        )

    def test_an_absent_page_does_not_stand_for_a_network_that_fails(self, index: Server, cache: Path) -> None:
        spoil: dict[str, odd.Spoiler] = {}
        with odd.front(index, spoil) as before:
            questions = pytorch_questions(f"{before.url}/whl", [("cpu", Channel.STABLE), ("cu131", Channel.STABLE)])
            survey(questions, NONE, cache)
            older(cache, 700)
            spoil["*/cu131/*"] = odd.resets
            assert survey(questions, NONE, cache).answers[1].problem == "connection dropped"

    def test_a_cache_that_is_broken_or_cannot_be_written_is_only_slower(self, index: Server, cache: Path) -> None:
        first = ask(index.pytorch, cache)
        for path in cache.iterdir():
            path.write_text('{"url": 3')
        assert ask(index.pytorch, cache).listings == first.listings
        (cache.parent / "file").write_text("")
        assert ask(index.pytorch, cache.parent / "file").listings == first.listings

    def test_no_login_gets_into_it(self, scene: Callable[..., Server], cache: Path) -> None:
        locked = scene(Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]}), auth="ci:s3cret")
        settings = Settings(logins=(Login(url=locked.pytorch, user="ci", password="s3cret"),))
        assert ask(locked.pytorch, cache, settings).listings[0].wheels
        assert cache.is_dir()
        assert not any(b"s3cret" in path.read_bytes() for path in cache.iterdir())


class TestMirrors:
    def test_an_index_that_links_to_its_own_files_needs_no_remark(self, index: Server) -> None:
        assert remarks(ask(index.pytorch)) == []

    def test_one_with_flat_pages_is_found_out(self, index: Server) -> None:
        found = ask(f"{index.url}/flat")
        [listing] = found.listings
        assert listing.source.flat
        assert listing.wheels
        assert not any(flat.source.flat for flat in ask(index.pytorch).listings)

    def test_one_that_leads_elsewhere_is_told(self, scene: Callable[..., Server]) -> None:
        tree = Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]})
        official = scene(tree)
        mirror = scene(tree, links=official.url)
        found = ask(mirror.pytorch)
        assert found.listings[0].wheels
        [remark] = remarks(found)
        assert remark.code == "mirror-leads-elsewhere"
        assert f"its links lead to {official.url.removeprefix('http://')}" in remark.text

    def test_one_that_leads_to_where_nobody_gets_is_of_no_use(self, scene: Callable[..., Server], cache: Path) -> None:
        mirror = scene(Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]}), links="http://127.0.0.1:9")
        found = ask(mirror.pytorch, cache)
        assert problem(found) == (
            "its pages link to files on 127.0.0.1:9, which cannot be reached (connection refused)"
        )
        assert found.listings == ()

    def test_that_the_other_host_answers_is_asked_once_in_ten_minutes(
        self, scene: Callable[..., Server], cache: Path
    ) -> None:
        tree = Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]})
        official = scene(tree)
        mirror = scene(tree, links=official.url)
        for _ in range(2):
            ask(mirror.pytorch, cache)
        assert [request.method for request in official.requests] == ["HEAD"]

    def test_a_host_with_none_of_the_pages_is_no_index_of_torch(self, index: Server) -> None:
        found = survey(pytorch_questions(f"{index.url}/wrong", [("cu130", Channel.STABLE)]), NONE, None)
        assert "none of the pages of a torch index" in problem(found)

    def test_an_index_without_what_was_asked_is_one_all_the_same(self, index: Server) -> None:
        found = survey(pytorch_questions(index.pytorch, [("cu131", Channel.STABLE)]), NONE, None)
        assert not found.unreachable

    @pytest.mark.parametrize(
        ("spoiler", "said"),
        [
            (
                odd.page("<title>Sign in to Corp</title><form><input type=password></form>"),
                'something that is not an index page (it calls itself "Sign in to Corp": a login page?)',
            ),
            (odd.page("<html>welcome</html>"), "something that is not an index page"),
            (odd.page(""), "something that is not an index page"),
            (
                odd.page('{"hello": 1}', kind="application/vnd.pypi.simple.v1+json"),
                "something that is not an index page",
            ),
            (odd.garbage, "something that is not an index page"),
            (odd.status(401), "wants a login (HTTP status 401)"),
            (odd.status(500), "answered with HTTP status 500"),
            (odd.status(429), "is asked too often (HTTP status 429)"),
            (odd.redirect("torch/"), "redirects without end"),
            (odd.redirect("file:///etc/passwd"), "or to what is no web address"),
            (odd.redirect("http://127.0.0.1:9/"), "connection refused"),
            (odd.ends_early, "its answer ended too early"),
            (odd.resets_halfway, "connection dropped"),
            (odd.resets, "connection dropped"),
            (odd.hangs_up, "connection dropped"),
            (odd.is_no_web_server, "spoke no proper HTTP"),
            (odd.broken_chunks, "its answer ended too early"),
            (odd.huge_header, "spoke no proper HTTP"),
        ],
        ids=lambda value: getattr(value, "__name__", None) or str(value)[:40],
    )
    def test_what_is_no_index_is_told_apart(self, index: Server, spoiler: odd.Spoiler, said: str) -> None:
        with odd.front(index, {"/whl/*": spoiler}) as before:
            assert said in problem(ask(f"{before.url}/whl"))

    def test_a_login_page_on_another_host_is_named(self, index: Server) -> None:
        with odd.front(index, {"/sso": odd.page("<title>Sign in</title><form>")}) as portal:
            there = portal.url.replace("127.0.0.1", "localhost")
            with odd.front(index, {"/whl/*": odd.redirect(f"{there}/sso")}) as before:
                assert problem(ask(f"{before.url}/whl")).startswith(f"sent us on to localhost:{portal.port}, which")


class TestTime:
    """Four seconds of patience: two for a page in all, less than half a second of silence at a time."""

    @pytest.mark.parametrize("spoiler", [odd.silent, odd.stalls, odd.drips, odd.drips_its_headers])
    def test_no_page_costs_more_than_its_share(self, index: Server, spoiler: odd.Spoiler) -> None:
        with odd.front(index, {"/whl/*": spoiler}) as before:
            started = time.monotonic()
            text = problem(ask(f"{before.url}/whl"))
            assert time.monotonic() - started < 3.5
        assert " in " in text

    def test_nor_does_an_address_that_accepts_no_connection(self) -> None:
        with odd.black_hole() as url:
            started = time.monotonic()
            assert problem(ask(url)) == "no answer in time"
            assert time.monotonic() - started < 3.5

    def test_the_users_own_timeout_counts_for_silence(self, index: Server) -> None:
        def late(line: odd.Line, good: odd.Good) -> None:
            line.over.wait(0.8)
            line.send(good.head + good.body)

        with odd.front(index, {"/whl/*": late}) as before:
            assert problem(ask(f"{before.url}/whl")) == "no answer in time"
            assert not ask(f"{before.url}/whl", settings=Settings(timeout=1.9)).unreachable

    def test_a_call_is_left_alone_when_its_time_is_over(self) -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="no whole answer in 0 s"):
            in_time(lambda: time.sleep(5), 0.1)
        assert time.monotonic() - started < 1
        with pytest.raises(KeyError):
            in_time(lambda: {"y": 1}["x"], 1)


class TestLogins:
    def test_a_configured_one_is_sent(self, scene: Callable[..., Server]) -> None:
        locked = scene(Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]}), auth="c i:p@ss/1")
        assert problem(ask(locked.pytorch)) == "wants a login (HTTP status 401)"
        assert next(iter(ask(locked.pytorch).missed.values())).cause == "credentials"
        settings = Settings(logins=(Login(url=locked.pytorch, user="c i", password="p@ss/1"),))
        assert not ask(locked.pytorch, settings=settings).unreachable

    def test_one_in_the_netrc_file_is_sent(
        self, scene: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked = scene(Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]}), auth="ci:s3cret")
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login ci password s3cret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        assert not ask(locked.pytorch).unreachable
        netrc.write_bytes(b"machine \xff\n")
        assert ask(locked.pytorch).unreachable

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for keyring is a shell script")
    def test_one_in_the_keyring_is_asked_for_where_that_is_wanted(
        self, scene: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked = scene(Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu")]}), auth="ci:s3cret")
        keyring = tmp_path / "keyring"
        keyring.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "get {locked.pytorch} ci" ] && echo s3cret\n')
        keyring.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        login = Login(url=locked.pytorch, user="ci", password=None)
        assert ask(locked.pytorch, settings=Settings(logins=(login,))).unreachable
        assert not ask(locked.pytorch, settings=Settings(logins=(login,), keyring="subprocess")).unreachable

    def test_no_redirect_takes_it_elsewhere(self, index: Server) -> None:
        with (
            odd.front(index) as other,
            odd.front(index, {"/whl/*": odd.redirect(f"{other.url}/whl/cpu/torch/")}) as own,
        ):
            settings = Settings(logins=(Login(url=own.url, user="ci", password="s3cret"),))
            assert not ask(f"{own.url}/whl", settings=settings).unreachable
        assert [bool(seen[3]) for seen in own.seen] == [True]
        assert {seen[3] for seen in other.seen} == {None}


class TestSecureTransport:
    def test_an_authority_of_the_firms_own_is_accepted_where_it_is_named(self, index: Server, tmp_path: Path) -> None:
        corp = odd.authority(tmp_path / "ca")
        with odd.front(index, tls=corp.context) as own:
            found = ask(f"{own.url}/whl")
            assert "its certificate was not accepted" in problem(found)
            assert next(iter(found.missed.values())).cause == "certificate"
            for settings in (Settings(cert=str(corp.certificate)), Settings(trusted_hosts=("127.0.0.1",))):
                assert not ask(f"{own.url}/whl", settings=settings).unreachable

    def test_a_server_without_it_is_told(self, index: Server) -> None:
        assert problem(ask(index.pytorch.replace("http:", "https:"))) == "speaks no proper TLS"

    def test_through_a_proxy_with_a_login_and_certificates_of_its_own(self, index: Server, tmp_path: Path) -> None:
        corp = odd.authority(tmp_path / "ca", "pytorch.example")
        with odd.front(index, inside=corp.context, login="me:pw") as proxy:
            settings = Settings(cert=str(corp.certificate), proxy=proxy.proxy)
            found = ask("https://pytorch.example/whl", settings=settings)
            assert (
                problem(found) == f"the proxy wants a login (HTTP status 407) through the proxy 127.0.0.1:{proxy.port}"
            )
            assert next(iter(found.missed.values())).cause == "credentials"
            login = Login(url=proxy.proxy, user="me", password="pw")
            settings = Settings(cert=str(corp.certificate), proxy=proxy.proxy, logins=(login,))
            assert not ask("https://pytorch.example/whl", settings=settings).unreachable
            assert not ask("http://pytorch.example/whl", settings=settings).unreachable

    def test_a_dead_proxy_is_named(self) -> None:
        found = ask("http://pytorch.example/whl", settings=Settings(proxy="http://u:p@127.0.0.1:9"))
        assert problem(found) == "connection refused through the proxy 127.0.0.1:9"


class TestSizes:
    def test_as_the_files_hosts_tell_them(self, index: Server, tmp_path: Path) -> None:
        made = torch_wheel("2.13.0", "cpu").write(tmp_path)
        urls = [wheel.url for wheel in ask(index.pytorch).listings[0].wheels][:3]
        with index.recording() as requests:
            sizes = ask_sizes([*urls, str(made), f"{index.url}/nowhere", "http://127.0.0.1:9/x", urls[0]], NONE)
        assert set(sizes) == {*urls, str(made)}
        assert sizes[str(made)] == made.stat().st_size
        assert all(size > 500 for size in sizes.values())
        assert {request.method for request in requests} == {"HEAD"}

    def test_a_server_that_does_not_answer_that_question_tells_none(self, index: Server) -> None:
        url = ask(index.pytorch).listings[0].wheels[0].url.removeprefix(index.url)
        for spoiler in (odd.status(405), odd.silent, odd.status(500)):
            with odd.front(index, {"*.whl": spoiler}) as before:
                assert ask_sizes([before.url + url], NONE) == {}


class TestNewBackends:
    def machine(self, cuda: str | None, vendor: str = "nvidia") -> object:
        drivers = [{"vendor": vendor, "version": None, "cuda": cuda, "source": "test"}] if cuda else []
        gpus = [{"vendor": vendor, "name": "x", "arch": "12.0", "index": 0}]
        return machine_from_json(
            {"platform": {"system": "linux", "machine": "x86_64"}, "gpus": gpus, "drivers": drivers}
        )

    @pytest.mark.parametrize(
        ("cuda", "asked"),
        [
            ("13.0", ["cu133", "cu134"]),
            ("13.6", ["cu133", "cu134", "cu135", "cu136"]),
            ("12.8", []),
            (None, []),
        ],
    )
    def test_the_next_minors_of_the_newest_toolkit_are_asked_for(self, cuda: str | None, asked: list[str]) -> None:
        assert new_backends(load_catalog(), self.machine(cuda)) == asked  # type: ignore[arg-type]


# Small ones


def older(cache: Path, seconds: float) -> None:
    """Make every kept page older."""
    for path in cache.iterdir():
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"fetched": values["fetched"] - seconds}))


def test_the_official_index_may_lead_to_other_hosts_without_a_remark() -> None:
    [question] = pytorch_questions(PYTORCH_INDEX, CPU)
    assert question.url == "https://download.pytorch.org/whl/cpu/torch/"
    assert remarks(Survey(answers=(Answer(question=question, listing=None),))) == []


def test_a_source_is_reached_when_one_of_its_pages_answered() -> None:
    one, two = pytorch_questions("https://m/whl", [("cpu", Channel.STABLE), ("cu130", Channel.STABLE)])
    found = Survey(answers=(Answer(question=one, problem="no"), Answer(question=two)))
    assert list(found.reached) == [one.source]
    assert found.unreachable == {}
    found = Survey(answers=(Answer(question=one, problem="no"), Answer(question=two, problem="never")))
    assert found.unreachable == {one.source: "no"}
    assert isinstance(one, Question)


@pytest.mark.parametrize(
    ("seconds", "phrase"), [(5, "1 min"), (600, "10 min"), (7199, "120 min"), (7200, "2 h"), (200000, "2 days")]
)
def test_an_age_in_words(seconds: float, phrase: str) -> None:
    assert age_phrase(seconds) == phrase


def test_causes_in_words() -> None:
    assert reason(ConnectionRefusedError()) == ("network", "connection refused")
    assert reason(TimeoutError("timed out")) == ("network", "no answer in time")
    assert reason(OSError("Tunnel connection failed: 407 Proxy Authentication Required"))[0] == "credentials"
    assert reason(OSError("Tunnel connection failed: 503 x")) == ("network", "Tunnel connection failed: 503 x")
    assert status_problem(418) == "answered with HTTP status 418"


def test_a_file_that_never_changes_is_fetched_once(index: Server, cache: Path) -> None:
    url = ask(index.pytorch).listings[0].wheels[0].url + ".metadata"
    with index.recording() as requests:
        texts = [Kept(NONE, cache).forever(url) for _ in range(2)]
    assert len(requests) == 1
    assert texts[0] == texts[1]
    assert "Name: torch" in (texts[0] or "")
    assert Kept(NONE, cache).forever(f"{index.url}/nothing.metadata") is None


def test_packages_beside_torch_are_no_torch(scene: Callable[..., Server]) -> None:
    mixed = scene(Tree(pytorch={"cpu": [torch_wheel("2.13.0", "cpu"), wheel("torchvision", "0.28.0")]}))
    found = ask(f"{mixed.url}/flat")
    assert {one.name for one in found.listings[0].wheels} == {"torch"}
