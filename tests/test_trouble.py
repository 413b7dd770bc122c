"""Whatever the network does: the environment is as it was, exit 5, the class and the cause in a line, in bounded time.

The kinds of trouble of reliability.md 2d and some more, each as a person meets it: the whole command, real uv, a server
on loopback that misbehaves. Sources may be silent for six seconds here instead of sixty. The runs wait more than they
work, so several go on at the same time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import odd
import pytest
from index import Fault, Server
from nvml import stand_in
from running import Answer, Person, tree_state

LIMITS = {"PROVISION_NETWORK_SECONDS": "6", "UV_HTTP_TIMEOUT": "2", "UV_HTTP_RETRIES": "1"}
SECONDS = 20.0
"""What no run may take: twice the silence that is allowed, the start of two Pythons, and two slow processors."""

AT_ONCE = 8

TORCH_PAGES = ("/whl/*", "/simple/torch/")
PACKAGE_PAGE = ("/simple/filelock/",)
TORCH_WHEEL = ("/whl/cpu/torch-*.whl",)
PACKAGE_WHEEL = ("/files/filelock-*.whl",)

PORTAL = odd.page("<html><title>Free WiFi</title><form action='/accept'><input type=submit></form></html>")
LIE = odd.page('{"status": "ok"}', kind="application/vnd.pypi.simple.v1+json")


@dataclass(frozen=True)
class Case:
    """What is spoiled how (or how the index is reached instead), and what a person is told."""

    code: str
    says: str
    where: tuple[str, ...] = ()
    how: odd.Spoiler | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    around: Callable[[Path], contextlib.AbstractContextManager[Mapping[str, str]]] | None = None


def elsewhere(base: str) -> dict[str, str]:
    """Every index at another address."""
    return {"PROVISION_INDEX_BASE": f"{base}/whl", "UV_DEFAULT_INDEX": f"{base}/simple"}


@contextlib.contextmanager
def nobody_answers(_: Path) -> Iterator[Mapping[str, str]]:
    with odd.black_hole() as url:
        yield elsewhere(url)


PAGES = {
    "says nothing": (odd.silent, "network", "answer in "),
    "stops in the middle": (odd.stalls, "network", "answer in "),
    "drips": (odd.drips, "network", "answer in "),
    "drips its headers": (odd.drips_its_headers, "network", "answer in "),
    "500": (odd.status(500), "network", "HTTP status 500"),
    "502": (odd.status(502), "network", "HTTP status 502"),
    "503": (odd.status(503), "network", "HTTP status 503"),
    "429": (odd.status(429, Retry_After="1"), "network", "is asked too often"),
    "403": (odd.status(403), "network", "none of the pages of a torch index"),
    "404": (odd.status(404), "network", "none of the pages of a torch index"),
    "401": (odd.status(401, WWW_Authenticate="Basic realm=x"), "credentials", "wants a login"),
    "a captive portal": (PORTAL, "network", 'not an index page (it calls itself "Free WiFi"'),
    "garbage": (odd.garbage, "network", "not an index page"),
    "an empty page": (odd.page(""), "network", "not an index page"),
    "json of something else": (LIE, "network", "not an index page"),
    "a redirect to itself": (odd.redirect("?again"), "network", "redirects without end"),
    "a redirect to nowhere": (odd.redirect("http://127.0.0.1:9/"), "network", "connection refused"),
    "ends too early": (odd.ends_early, "network", "its answer ended too early"),
    "a reset in the middle": (odd.resets_halfway, "network", "connection dropped"),
    "a reset": (odd.resets, "network", "connection dropped"),
    "hangs up": (odd.hangs_up, "network", "connection dropped"),
    "no web server": (odd.is_no_web_server, "network", "spoke no proper HTTP"),
    "broken chunks": (odd.broken_chunks, "network", "ended too early"),
    "a header without end": (odd.huge_header, "network", "spoke no proper HTTP"),
}
PACKAGE_PAGES = {
    "says nothing": (odd.silent, "network", ""),
    "drips": (odd.drips, "network", "next to nothing arrived for 6 s"),
    "500": (odd.status(500), "network", "500 Internal Server Error"),
    "a reset": (odd.resets, "network", ""),
    "404": (odd.status(404), "resolution", "filelock was not found"),
    "a captive portal": (PORTAL, "resolution", "filelock"),
}
WHEELS = {
    "says nothing": (odd.silent, "network", ""),
    "stops in the middle": (odd.stalls, "network", ""),
    "drips": (odd.drips, "network", "next to nothing arrived for 6 s"),
    "500": (odd.status(500), "network", "500 Internal Server Error"),
    "429": (odd.status(429, Retry_After="1"), "network", "429 Too Many Requests"),
    "404": (odd.status(404), "network", "404 Not Found"),
    "401": (odd.status(401), "credentials", "401 Unauthorized"),
    "ends too early, always": (odd.ends_early, "network", ""),
    "a reset in the middle, always": (odd.resets_halfway, "network", ""),
    "one bit is off": (odd.one_bit_off, "integrity", ""),
    "a shorter file": (odd.cut_short, "integrity", ""),
    "an empty file": (odd.empty, "integrity", ""),
    "a login page as the file": (PORTAL, "integrity", ""),
}
CASES = {
    **{f"torch's page: {n}": Case(code, says, TORCH_PAGES, how) for n, (how, code, says) in PAGES.items()},
    **{f"a package's page: {n}": Case(code, says, PACKAGE_PAGE, how) for n, (how, code, says) in PACKAGE_PAGES.items()},
    **{f"torch's wheel: {n}": Case(code, says, TORCH_WHEEL, how) for n, (how, code, says) in WHEELS.items()},
    "a package's wheel: 403": Case("network", "403 Forbidden", PACKAGE_WHEEL, odd.status(403)),
    "a package's wheel: one bit is off": Case("integrity", "", PACKAGE_WHEEL, odd.one_bit_off),
    "nobody listens": Case("network", "connection refused", environ=elsewhere("http://127.0.0.1:9")),
    "no such host": Case("network", "name cannot be resolved", environ=elsewhere("http://nowhere.invalid")),
    "no connection is accepted": Case("network", "answer in ", around=nobody_answers),
    "a dead proxy": Case(
        "network", "connection refused through the proxy 127.0.0.1:9", environ={"http_proxy": "http://127.0.0.1:9"}
    ),
}


@pytest.fixture(scope="module")
def runs(index: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Future[Outcome]]]:
    """Starts a case's run, and those that are likely to be asked for next."""
    pool = ThreadPoolExecutor(max_workers=AT_ONCE)
    top = tmp_path_factory.mktemp("trouble")
    started: dict[str, Future[Outcome]] = {}

    def outcome(name: str) -> Future[Outcome]:
        names = list(CASES)
        for one in names[names.index(name) : names.index(name) + AT_ONCE]:
            if one not in started:
                started[one] = pool.submit(meet, CASES[one], index, top / str(names.index(one)))
        return started[name]

    yield outcome
    pool.shutdown()


@dataclass(frozen=True)
class Outcome:
    answer: Answer
    seconds: float
    left: list[str]


def machine(index: Server, folder: Path) -> dict[str, str]:
    """Somebody without a GPU, with caches of their own."""
    environ = stand_in.environment(base=index.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
    return {**environ, **LIMITS, "UV_CACHE_DIR": str(folder / "uv")}


def meet(case: Case, index: Server, folder: Path) -> Outcome:
    """One run into an environment that does not exist yet."""
    folder.mkdir()
    person = Person(folder, machine(index, folder))
    with contextlib.ExitStack() as stack:
        environ = dict(case.environ)
        if case.how is not None:
            spoil = dict.fromkeys(case.where, case.how)
            environ |= elsewhere(stack.enter_context(odd.front(index, spoil)).url)
        if case.around is not None:
            environ |= stack.enter_context(case.around(folder))
        began = time.monotonic()
        answer = person.run("--json", environ=environ, timeout=120)
        seconds = time.monotonic() - began
    return Outcome(answer, seconds, sorted(path.name for path in person.folder.iterdir()))


@pytest.mark.parametrize("name", CASES)
def test_trouble(name: str, runs: Callable[[str], Future[Outcome]]) -> None:
    case, outcome = CASES[name], runs(name).result()
    answer = outcome.answer
    assert answer.code == 5, answer.out + answer.err
    [error] = answer.json["errors"]
    assert error["code"] == case.code, error["text"]
    first = error["text"].splitlines()[0]
    assert case.says in first
    assert len(first) > 20
    assert error["hint"]
    assert "Traceback" not in answer.err
    assert outcome.left == []
    assert outcome.seconds < SECONDS


@pytest.fixture(scope="module")
def person(index: Server, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with torch 2.9.1."""
    folder = tmp_path_factory.mktemp("settled")
    person = Person(folder, machine(index, folder))
    made = person.run("--torch", "2.9.1", "--json")
    assert made.code == 0, made.err
    return person


class TestWithAnEnvironment:
    """The same where there is something to lose."""

    @pytest.mark.parametrize("how", [odd.one_bit_off, odd.drips])
    def test_it_stays_to_the_byte(self, person: Person, index: Server, tmp_path: Path, how: odd.Spoiler) -> None:
        before = tree_state(person.env)
        with odd.front(index, dict.fromkeys(TORCH_WHEEL, how)) as spoiled:
            run = person.run("--json", environ={**elsewhere(spoiled.url), "UV_CACHE_DIR": str(tmp_path / "uv")})
        assert run.code == 5, run.out
        assert tree_state(person.env) == before
        assert person.python("import torch; print(torch.__version__)") == "2.9.1+cpu"

    def test_what_was_downloaded_is_kept_for_the_next_try(self, person: Person, index: Server, tmp_path: Path) -> None:
        environ = {"UV_CACHE_DIR": str(tmp_path / "uv")}
        fresh = tmp_path / "fresh"
        with index.failing("/whl/cpu/torch-*.whl", Fault.SERVER_ERROR):
            assert person.run("--env", fresh, "--json", environ=environ).code == 5
        with index.recording() as requests:
            run = person.run("--env", fresh, "--json", environ=environ)
        assert run.code == 0, run.out
        fetched = [request.path for request in requests if request.status == 200 and request.path.endswith(".whl")]
        assert [path for path in fetched if "/files/" in path] == []
        assert any("/whl/cpu/torch-" in path for path in fetched)

    def test_a_fault_that_passes_is_not_even_noticed(self, person: Person, index: Server, tmp_path: Path) -> None:
        environ = {"UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "3"}
        with index.failing("/whl/cpu/torch-*.whl", Fault.TRUNCATED, times=1):
            run = person.run("--env", tmp_path / "fresh", "--json", environ=environ)
        assert run.code == 0, run.out

    def test_without_room_nothing_is_fetched(self, person: Person, index: Server, tmp_path: Path) -> None:
        before = tree_state(person.env)
        with odd.front(index, dict.fromkeys(TORCH_WHEEL, claims_to_be_huge)) as spoiled:
            run = person.run("--json", environ={**elsewhere(spoiled.url), "UV_CACHE_DIR": str(tmp_path / "uv")})
        assert run.code == 5, run.out
        assert run.json["errors"][0]["code"] == "no-space"
        assert "are needed on the file system of" in run.json["errors"][0]["text"]
        assert not any(path.endswith(".whl") for method, _, path, *_ in spoiled.seen if method == "GET")
        assert tree_state(person.env) == before


def claims_to_be_huge(line: odd.Line, good: odd.Good) -> None:
    """More than any disk has room for."""
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000000000\r\nConnection: close\r\n\r\n")


def test_there_are_at_least_as_many_kinds_as_were_met_before() -> None:
    """36 network cases were met with uv alone (reliability.md 2d)."""
    assert len(CASES) >= 36
