"""Ctrl-C in the middle of the job: exit 130, and the environment is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from index import Fault, Server
from nvml import stand_in
from running import Person, tree_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process group")


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("stalled", ["/whl/cpu/torch/*", "*/torch-2.15.0*"], ids=["page", "download"])
def test_the_old_environment_stays(tmp_path: Path, scene: Callable[..., Server], stalled: str, presses: int) -> None:
    server = scene()
    person = Person(
        tmp_path, stand_in.environment(base=server.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())
    )
    assert person.run("--torch", "2.9.1").code == 0
    before = tree_state(person.env)
    server.fail(stalled, Fault.STALLED)
    asked = len(server.requests)
    run = subprocess.Popen(
        [sys.executable, "-m", "provision", "--torch", "2.15.0"],
        cwd=person.folder,
        env={**person.environ, "HOME": str(person.home), "XDG_CACHE_HOME": str(person.home / "other-cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: any(fnmatch(request.path, stalled) for request in server.requests[asked:]))
    time.sleep(0.3)
    for _ in range(presses):
        os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.05)
    pressed = time.monotonic()
    _, told = run.communicate(timeout=30)
    assert time.monotonic() - pressed < 4, "a person waits"
    assert run.returncode == 130, told
    assert "as it was" in told or "nothing was changed" in told
    assert "Traceback" not in told
    assert tree_state(person.env) == before
    server.close()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)
