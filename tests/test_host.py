"""Does the host answer, and does it come back from whatever it asks?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from provision.host import LocalHost, _in_loader_cache

HOST = LocalHost()
posix = pytest.mark.skipif(os.name != "posix", reason="asks for a POSIX shell")


def test_a_command_answers_with_everything_it_said() -> None:
    code = "import sys; print(input()); print('err', file=sys.stderr); sys.exit(3)"
    answer = HOST.run([sys.executable, "-c", code], timeout=30, input="héllo\n")
    assert (answer.returncode, answer.stdout, answer.stderr, answer.timed_out) == (3, "héllo\n", "err\n", False)


def test_bytes_that_are_no_text_are_replaced() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes([65, 255, 66]))"
    assert HOST.run([sys.executable, "-c", code], timeout=30).stdout == "A\ufffdB"


def test_a_command_that_is_not_there_is_an_oserror() -> None:
    with pytest.raises(OSError):
        HOST.run(["no-such-command-here"], timeout=1)


@posix
def test_a_hanging_command_is_ended_with_its_children_and_its_words_are_kept(tmp_path: Path) -> None:
    mark = tmp_path / "still-alive"
    script = f"echo before; (sleep 1.5; touch {mark}) & sleep 60"
    start = time.perf_counter()
    answer = HOST.run(["sh", "-c", script], timeout=0.5)
    assert time.perf_counter() - start < 1.5
    assert answer.timed_out
    assert answer.returncode < 0
    assert answer.stdout == "before\n"
    time.sleep(1.7)
    assert not mark.exists()


@posix
def test_a_child_that_left_the_group_with_our_pipe_does_not_hold_us(tmp_path: Path) -> None:
    """As a driver call that even a kill does not end: the pipe stays open, and we go on."""
    if HOST.which("setsid") is None:
        pytest.skip("needs setsid (Debian package util-linux)")
    pid = tmp_path / "pid"
    start = time.perf_counter()
    answer = HOST.run(
        ["sh", "-c", f"echo before; setsid sh -c 'echo $$ > {pid}; exec sleep 20' & sleep 60"], timeout=0.5
    )
    assert answer.timed_out
    assert answer.stdout == "before\n"
    assert time.perf_counter() - start < 5
    os.kill(int(pid.read_text()), 9)


@posix
def test_a_signal_is_a_negative_return_code() -> None:
    assert HOST.run(["sh", "-c", "kill -SEGV $$"], timeout=5).returncode == -11


@posix
def test_which_takes_executables_only_in_the_order_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, mode in [("a", 0o644), ("b", 0o755), ("c", 0o755)]:
        (tmp_path / folder).mkdir()
        tool = tmp_path / folder / "tool"
        tool.write_text("#!/bin/sh\n")
        tool.chmod(mode)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / folder) for folder in ("none", "a", "b", "c")))
    assert HOST.which("tool") == str(tmp_path / "b" / "tool")
    assert HOST.which(str(tmp_path / "c" / "tool")) == str(tmp_path / "c" / "tool")
    assert HOST.which("other") is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's loader")
def test_a_library_is_looked_for_where_the_loader_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert HOST.find_library("libno-such-library.so.1") is None
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{tmp_path}")
    assert HOST.find_library("libcuda.so.1") == str(tmp_path / "libcuda.so.1")


def test_the_loader_cache_names_a_library_by_its_whole_file_name(tmp_path: Path) -> None:
    """`glibc-ld.so.cache1.1` ends in NUL-terminated names and paths; a path that is gone counts for nothing."""
    for name in ("libcuda.so.1", "libmy-libcuda.so.1"):
        (tmp_path / name).write_bytes(b"")
    paths = ["/gone/libcuda.so.1", f"{tmp_path}/libmy-libcuda.so.1", f"{tmp_path}/libcuda.so.1"]
    cache = tmp_path / "ld.so.cache"
    cache.write_bytes(b"glibc-ld.so.cache1.1\x03\0\0\0" + "".join(f"libcuda.so.1\0{path}\0" for path in paths).encode())
    assert _in_loader_cache("libcuda.so.1", str(cache)) == f"{tmp_path}/libcuda.so.1"
    assert _in_loader_cache("libcuda.so.2", str(cache)) is None
    assert _in_loader_cache("libcuda.so.1", str(tmp_path / "no-cache")) is None


@pytest.mark.skipif(not os.path.exists("/etc/ld.so.cache"), reason="no glibc loader cache")
def test_the_real_loader_cache_is_read_as_ldconfig_reads_it() -> None:
    ldconfig = HOST.which("ldconfig") or HOST.which("/sbin/ldconfig")
    if ldconfig is None:
        pytest.skip("needs ldconfig")
    listed = subprocess.run([ldconfig, "-p"], check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    known = {line.split(" => ")[1] for line in listed if " => " in line}
    for path in sorted(known)[:50]:
        if os.path.isfile(path):
            assert _in_loader_cache(os.path.basename(path)) in known


def test_a_script_of_the_package_runs_in_a_child_without_this_environment() -> None:
    answer = HOST.run_script("ask_cuda", timeout=30)
    assert answer.stdout.startswith('{"library"')
    with pytest.raises(OSError, match="no_such_module_here is not installed"):
        HOST.run_script("ask_nvml", timeout=30, module="no_such_module_here")


def test_importing_the_host_loads_nothing_heavy() -> None:
    heavy = "{'subprocess', 'shutil', 'pathlib'}"
    code = f"import sys; sys.path[:] = {sys.path!r}; import provision.host; print({heavy} & set(sys.modules))"
    assert HOST.run([sys.executable, "-S", "-c", code], timeout=30).stdout == "set()\n"
