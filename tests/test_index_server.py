"""The indexes that other tests install from: are they what they claim to be?"""

from __future__ import annotations

import base64
import csv
import hashlib
import http.client
import io
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import provision
import pytest
from index import HOST_PYTHON, Fault, Server, Tree, Wheel, host_platform, serve, torch_wheel, wheel
from nvml import stand_in
from packaging.metadata import parse_email
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

PROBE = (Path(provision.__file__).parent / "probe.py").read_text(encoding="utf-8")
UV = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


Completed = subprocess.CompletedProcess[str]
Prove = Callable[..., Completed]


def get(url: str, accept: str = "text/html", timeout: float = 10, **headers: str) -> tuple[int, bytes, str]:
    request = urllib.request.Request(url, headers={"Accept": accept, **headers})
    with _direct.open(request, timeout=timeout) as answer:
        return answer.status, answer.read(), answer.headers["Content-Type"]


def status_of(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url)
    caught.value.close()
    return caught.value.code


def host_wheel(**how: Any) -> Wheel:
    """One torch for this very interpreter, on no index."""
    return torch_wheel(version="9.9.0", **how)


class TestWheel:
    def test_every_file_is_in_record_with_its_hash_and_size(self) -> None:
        made = wheel("Some.Thing", "1.0", files={"a.py": "x = 1\n"}, console_scripts={"thing": "a:main"})
        assert made.filename == "some_thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
            record = list(csv.reader(io.StringIO(archive.read("some_thing-1.0.dist-info/RECORD").decode())))
            assert [row[0] for row in record] == archive.namelist()
            for path, digest, size in record[:-1]:
                content = archive.read(path)
                wanted = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={wanted}", str(len(content)))
            assert record[-1][1:] == ["", ""]

    def test_metadata_reads_back(self) -> None:
        made = wheel(
            "a", "1.0", requires=["b>=2", 'c; python_version < "3"'], extras={"x": ["d"]}, requires_python=">=3"
        )
        raw, unparsed = parse_email(made.metadata)
        assert not unparsed
        assert raw["requires_dist"] == ["b>=2", 'c; python_version < "3"', 'd; extra == "x"']
        assert (raw["provides_extra"], raw["requires_python"]) == (["x"], ">=3")

    def test_the_same_wheel_twice_has_the_same_bytes(self) -> None:
        assert wheel("a", "1.0").sha256 == wheel("a", "1.0").sha256

    def test_the_torch_of_this_machine_fits_this_interpreter(self) -> None:
        _, _, _, tags = parse_wheel_filename(torch_wheel().filename)
        if "musl" not in host_platform():
            assert tags & set(sys_tags())


class TestPytorchIndex:
    def test_a_page_has_what_the_real_one_has(self, index: Server) -> None:
        _, page, kind = get(f"{index.pytorch}/cu130/torch/")
        assert kind == "text/html"
        line = next(row for row in page.decode().splitlines() if "2.15.0%2Bcu130-cp312-cp312-manylinux" in row)
        assert 'href="/whl/cu130/torch-2.15.0%2Bcu130-cp312-cp312-manylinux_2_28_x86_64.whl#sha256=' in line
        assert 'data-dist-info-metadata="sha256=' in line
        assert 'data-core-metadata="sha256=' in line
        assert ">torch-2.15.0+cu130-cp312-cp312-manylinux_2_28_x86_64.whl</a><br/>" in line

    def test_hashes_are_those_of_the_files(self, index: Server) -> None:
        _, page, _ = get(f"{index.pytorch}/cu128/torch/")
        line = next(row for row in page.decode().splitlines() if "2.11.0" in row and "win_amd64" in row)
        link, _, digest = line.split('"')[1].partition("#sha256=")
        metadata_digest = line.split('data-core-metadata="sha256=')[1].split('"')[0]
        assert hashlib.sha256(get(index.url + link)[1]).hexdigest() == digest
        assert hashlib.sha256(get(f"{index.url}{link}.metadata")[1]).hexdigest() == metadata_digest

    @pytest.mark.parametrize("path", ["cu131/torch/", "cu134/torch/", "cu130/absent/", "cu130/a.whl"])
    def test_what_is_absent_is_forbidden(self, index: Server, path: str) -> None:
        assert status_of(f"{index.pytorch}/{path}") == 403

    def test_nightly_has_no_hashes_and_test_has_what_was_left_behind(self, index: Server) -> None:
        _, nightly, _ = get(f"{index.pytorch}/nightly/cu130/torch/")
        assert b"2.16.0.dev20261009%2Bcu130" in nightly
        assert b"#sha256" not in nightly
        assert b"2.14.0%2Bcu134" in get(f"{index.pytorch}/test/cu134/torch/")[1]

    @pytest.mark.parametrize("links", ["relative", "root", "absolute"])
    def test_links_of_every_kind_lead_to_the_wheel(self, scene: Callable[..., Server], links: str) -> None:
        made = wheel("small", "1.0")
        server = scene(Tree(pytorch={"cpu": [made]}), links=links)
        page_url = f"{server.pytorch}/cpu/small/"
        href = get(page_url)[1].decode().split('href="')[1].split("#")[0]
        assert {"relative": ".", "root": "/", "absolute": "h"}[links] == href[0]
        assert get(urllib.parse.urljoin(page_url, href))[1] == made.content

    def test_links_may_lead_to_another_host(self, scene: Callable[..., Server]) -> None:
        tree = Tree(pytorch={"cpu": [wheel("small", "1.0")]})
        files = scene(tree)
        server = scene(tree, links=files.url)
        assert (
            f'href="{files.url}/whl/cpu/small-1.0-py3-none-any.whl#'.encode() in get(f"{server.pytorch}/cpu/small/")[1]
        )

    def test_an_unchanged_page_is_not_sent_again(self, index: Server) -> None:
        url = f"{index.pytorch}/cpu/torch/"
        with _direct.open(url) as answer:
            etag = answer.headers["ETag"]
            assert answer.headers["Cache-Control"] == "max-age=600"
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(url, **{"If-None-Match": etag})
        caught.value.close()
        assert (caught.value.code, caught.value.headers["Content-Type"]) == (304, "text/html")
        assert "Content-Length" not in caught.value.headers

    def test_the_flat_page_lists_every_wheel_beside_itself(self, index: Server) -> None:
        _, page, _ = get(index.flat("cpu"))
        href = page.decode().split('href="')[1].split('"')[0]
        assert "/" not in href
        assert zipfile.is_zipfile(io.BytesIO(get(index.flat("cpu") + href)[1]))


class TestPackageIndex:
    def test_json_and_html_say_the_same(self, index: Server) -> None:
        url = f"{index.packages}/filelock/"
        _, html, html_type = get(url)
        _, text, json_type = get(url, "application/vnd.pypi.simple.v1+json, text/html;q=0.1")
        assert (html_type, json_type) == ("text/html", "application/vnd.pypi.simple.v1+json")
        (file,) = json.loads(text)["files"]
        assert f'href="{file["url"]}#sha256={file["hashes"]["sha256"]}"' in html.decode()

    def test_torch_there_has_no_local_version_but_knows_its_backend(self, index: Server, tmp_path: Path) -> None:
        page = get(f"{index.packages}/torch/")[1].decode()
        assert f"torch-2.15.0-{HOST_PYTHON}" in page
        assert "%2B" not in page
        name = "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl"
        plain = next(one for one in index.tree.packages if one.filename == name)
        assert b"'2.11.0+cu130'" in plain.files["torch/version.py"]

    def test_what_is_absent_is_not_found(self, index: Server) -> None:
        assert status_of(f"{index.packages}/absent/") == 404


class TestFaults:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        with serve(Tree(packages=[wheel("small", "1.0", files={"small.py": "#" * 4000})])) as server:
            yield server

    @pytest.fixture
    def file(self, server: Server) -> str:
        return f"{server.url}/files/small-1.0-py3-none-any.whl"

    @pytest.mark.parametrize("fault", [f for f in Fault if f.value.isdigit()])
    def test_a_status(self, server: Server, file: str, fault: Fault) -> None:
        server.fail("/files/*", fault)
        assert status_of(file) == int(fault.value)
        assert server.requests[-1].status == int(fault.value)

    def test_as_often_as_asked(self, server: Server, file: str) -> None:
        server.fail("/files/*", Fault.SERVER_ERROR, times=2)
        assert [status_of(file), status_of(file), get(file)[0]] == [500, 500, 200]

    def test_only_during_a_block(self, server: Server, file: str) -> None:
        with server.failing("/files/*", Fault.NOT_FOUND), server.recording() as seen:
            assert status_of(file) == 404
        assert get(file)[0] == 200
        assert [(request.method, request.status) for request in seen] == [("GET", 404)]

    def test_garbage_is_no_zip(self, server: Server, file: str) -> None:
        server.fail("/files/*", Fault.GARBAGE)
        assert not zipfile.is_zipfile(io.BytesIO(get(file)[1]))

    def test_a_redirect_leads_to_itself(self, server: Server, file: str) -> None:
        server.fail("/files/*", Fault.REDIRECT_LOOP)
        assert status_of(file) == 302
        assert len(server.requests) > 2

    def test_truncated(self, server: Server, file: str) -> None:
        server.fail("/files/*", Fault.TRUNCATED)
        with pytest.raises(http.client.IncompleteRead):
            get(file)

    def test_stalled_and_the_server_closes_nevertheless(self, server: Server, file: str) -> None:
        server.fail("/files/*", Fault.STALLED)
        with pytest.raises(TimeoutError):
            get(file, timeout=0.3)

    def test_slow_but_right(self, server: Server, file: str) -> None:
        right = get(file)[1]
        server.fail("/files/*", Fault.SLOW)
        start = time.perf_counter()
        assert get(file)[1] == right
        assert time.perf_counter() - start > 1

    def test_wrong_hash_has_the_right_length(self, server: Server, file: str) -> None:
        right = get(file)[1]
        server.fail("/files/*", Fault.WRONG_HASH)
        wrong = get(file)[1]
        assert (len(wrong), wrong == right) == (len(right), False)

    def test_dropped(self, server: Server, file: str) -> None:
        server.fail("/files/*", Fault.DROPPED)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected, urllib.error.URLError)):
            get(file)

    def test_a_login_is_needed(self, scene: Callable[..., Server]) -> None:
        server = scene(Tree(packages=[wheel("small", "1.0")]), auth="ann:secret")
        assert status_of(f"{server.packages}/small/") == 401
        login = "Basic " + base64.b64encode(b"ann:secret").decode()
        assert get(f"{server.packages}/small/", Authorization=login)[0] == 200


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment; its interpreter."""
    home = tmp_path_factory.mktemp("target") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--no-config", "--python", sys.executable, home], check=True)
    return home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def install(venv: Path, env: dict[str, str], *what: str | Path) -> Completed:
    argv = [UV, "pip", "install", "--no-cache", "--reinstall-package", "torch", "--python", venv, *what]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def proof(venv: Path, folder: Path, env: dict[str, str] | None = None, limit: float = 20) -> Completed:
    """What provision's own probe says in the environment."""
    order = json.dumps({"checks": {"matmul-fp32": limit, "matmul-fp16": limit, "matmul-bf16": limit}})
    argv = [str(venv), "-I", "-", order]
    return subprocess.run(argv, input=PROBE, cwd=folder, env=env, capture_output=True, text=True, check=False)


class TestWithRealClients:
    def test_uv_installs_torch_with_its_companions_and_cuda_wheels(self, index: Server, venv: Path) -> None:
        if host_platform() != "linux-x86_64":
            pytest.skip("the CUDA wheels of this scene that need CUDA packages are those for Linux x86_64")
        done = install(venv, index.environ(), "--index", f"{index.pytorch}/cu130", "torch==2.14.1", "torchvision")
        assert done.returncode == 0, done.stderr
        for pin in ["torch==2.14.1+cu130", "torchvision==0.29.2+cu130", "triton==3.8.0", "nvidia-cublas==13.1.0.3"]:
            assert f"+ {pin}" in done.stderr
        assert "+ filelock==3.19.1" in done.stderr, "first index wins"

    def test_uv_refuses_a_wheel_that_is_not_what_its_hash_says(self, scene: Callable[..., Server], venv: Path) -> None:
        made = host_wheel()
        server = scene(Tree(pytorch={"cpu": [made]}))
        server.fail("*.whl", Fault.WRONG_HASH)
        done = install(venv, server.environ(), "--no-deps", "--index", f"{server.pytorch}/cpu", "torch==9.9.0")
        assert done.returncode != 0
        assert made.sha256 in done.stderr

    def test_pip_finds_everything_on_the_flat_page(self, index: Server, tmp_path: Path) -> None:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps", "--no-index"]
        argv += ["--find-links", index.flat("cpu"), "--dest", str(tmp_path), "torch==2.13.0"]
        subprocess.run(argv, env=index.environ(), check=True)
        assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == [
            "2.13.0+cpu" if sys.platform != "darwin" else "2.13.0"
        ]


class TestStandInTorch:
    """`provision.probe` judges the stand-in as it judges torch."""

    @pytest.fixture
    def torch(self, venv: Path, index: Server, tmp_path: Path) -> Prove:
        def prove(env: dict[str, str] | None = None, limit: float = 20, **how: Any) -> Completed:
            made = host_wheel(**how)
            done = install(venv, index.environ(), "--no-deps", made.write(tmp_path / "wheels"))
            assert done.returncode == 0, done.stderr
            (tmp_path / "empty").mkdir(exist_ok=True)
            return proof(venv, tmp_path / "empty", env, limit)

        return prove

    def test_good_on_the_cpu(self, torch: Prove) -> None:
        answer = json.loads(torch().stdout)
        assert answer["torch"]["version"].startswith("9.9.0")
        assert [row["status"] for row in answer["results"]] == ["passed"] * 4

    @pytest.mark.parametrize(
        ("behaviour", "status"), [("wrong-result", ["passed", "failed"]), ("import-fails", ["failed"])]
    )
    def test_wrong_on_the_cpu(self, torch: Prove, behaviour: str, status: list[str]) -> None:
        answer = json.loads(torch(behaviour=behaviour).stdout)
        assert [row["status"] for row in answer["results"]] == status

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
    def test_segfault(self, torch: Prove) -> None:
        done = torch(behaviour="segfault")
        assert (done.returncode, done.stdout) == (-11, "")

    def test_hangs(self, torch: Prove) -> None:
        done = torch(behaviour="hangs", limit=0.2)
        assert "Timeout" in done.stderr

    ARCHES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")

    def test_good_on_a_gpu(self, torch: Prove) -> None:
        env = stand_in.environment(gpus=[stand_in.RTX_5090], cuda="12.8")
        answer = json.loads(torch(env, backend="cu128", arches=self.ARCHES).stdout)
        assert answer["devices"][0]["name"] == "NVIDIA GeForce RTX 5090"
        assert answer["torch"]["arch_list"] == list(self.ARCHES)
        assert [(row["device"], row["status"]) for row in answer["results"]] == [
            ("cpu", "passed"),
            *[("cuda:0", "passed")] * 3,
        ]

    @pytest.mark.parametrize(
        ("how", "status", "words"),
        [
            ({"arches": ("sm_80", "sm_90")}, "failed", "no kernel image is available"),
            ({"arches": ARCHES, "behaviour": "no-kernel"}, "failed", "no kernel image is available"),
            ({"arches": ARCHES, "behaviour": "wrong-result"}, "failed", "error 1"),
        ],
        ids=["no code for sm_120", "no kernel", "wrong result"],
    )
    def test_bad_on_a_gpu(self, torch: Prove, how: dict[str, object], status: str, words: str) -> None:
        env = stand_in.environment(gpus=[stand_in.RTX_5090], cuda="12.8")
        last = json.loads(torch(env, backend="cu128", **how).stdout)["results"][-1]
        assert (last["device"], last["status"]) == ("cuda:0", status)
        assert words in last["actual"]

    @pytest.mark.parametrize(
        ("how", "cuda", "because"),
        [
            ({"backend": "cu130"}, "12.8", "driver on your system is too old"),
            ({"backend": "cu128", "behaviour": "not-available"}, "12.8", "Found no NVIDIA driver"),
        ],
        ids=["driver too old", "not available"],
    )
    def test_a_gpu_that_torch_cannot_open(self, torch: Prove, how: dict[str, str], cuda: str, because: str) -> None:
        env = stand_in.environment(gpus=[stand_in.RTX_5090], cuda=cuda)
        answer = json.loads(torch(env, arches=self.ARCHES, **how).stdout)
        assert answer["devices"] == [{"device": "cpu", "name": "CPU"}]
        assert because in answer["torch"]["unavailable_because"]
