"""Does a capture hold every answer, replay to the same machine, and keep names and serials to itself?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nvml import stand_in
from provision.capture import SCHEMA, Recorder, ReplayHost, anonymous, read, record, render
from provision.detect import detect
from provision.errors import BadData
from provision.host import Completed, LocalHost

RECORD = """
import json, sys
from pathlib import Path
from provision.capture import record
from provision.detect import detect
from provision.host import LocalHost
record(LocalHost(), Path(sys.argv[1]))
print(json.dumps(detect().to_json()))
"""


def recorded(folder: Path, **settings: Any) -> tuple[dict[str, Any], str]:
    """(what the machine is, the text of its capture), with the stand-in's GPUs."""
    shell = {name: settings.pop(name) for name in list(settings) if name.isupper()}
    env = stand_in.environment(**settings) | shell
    answer = subprocess.run(
        [sys.executable, "-c", RECORD, str(folder)], env=env, check=True, capture_output=True, text=True
    )
    machine: dict[str, Any] = json.loads(answer.stdout)
    return machine, (folder / "capture.json").read_text(encoding="utf-8")


def without_uuids(machine: dict[str, Any]) -> dict[str, Any]:
    """The parts of a machine that a capture keeps as they are."""
    return {
        "platform": machine["platform"],
        "gpus": [{**gpu, "uuid": None} for gpu in machine["gpus"]],
        "drivers": machine["drivers"],
        "skipped": machine["skipped"],
    }


def test_this_machine_replays_to_itself(tmp_path: Path) -> None:
    record(LocalHost(), tmp_path / "new" / "folder")
    replayed = detect(ReplayHost(tmp_path / "new" / "folder")).to_json()
    assert without_uuids(replayed) == without_uuids(detect().to_json())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gpus": [stand_in.RTX_3090, stand_in.T4]},
        {"nvml_init": 18, "cuda_init": 803, "smi_mode": "mismatch"},
        {"nvml_fault": "crash:gpu", "smi_mode": "garbage"},
        {
            "nvml": False,
            "libcuda": False,
            "smi_fields": "index,name,memory.total,uuid,pci.bus_id,pci.device_id,driver_version",
        },
    ],
    ids=["plain", "two", "mismatch", "crash", "old-smi"],
)
def test_a_machine_with_gpus_replays_to_itself(tmp_path: Path, settings: dict[str, Any]) -> None:
    machine, _ = recorded(tmp_path, **settings)
    assert without_uuids(detect(ReplayHost(tmp_path)).to_json()) == without_uuids(machine)


UUID = "GPU-8f2d5e1a-3c4b-4d5e-9f60-718293a4b5c6"


def test_a_capture_holds_no_uuid_and_keeps_equal_ones_equal(tmp_path: Path) -> None:
    card = stand_in.gpu("NVIDIA GeForce RTX 3090", "8.6", 24576, device="2204", uuid=UUID)
    _, text = recorded(tmp_path, gpus=[card, stand_in.T4], CUDA_VISIBLE_DEVICES=UUID)
    assert UUID[4:] not in text
    machine = detect(ReplayHost(tmp_path))
    visible = next(fact.value for fact in machine.facts if fact.name == "env.CUDA_VISIBLE_DEVICES")
    assert visible == machine.gpus[0].uuid
    assert machine.gpus[0].uuid != machine.gpus[1].uuid


def test_a_capture_names_neither_the_user_nor_the_host(tmp_path: Path) -> None:
    home = tmp_path / "home" / "marguerite"
    (home / "cuda" / "lib64" / "stubs").mkdir(parents=True)
    stub = home / "cuda" / "lib64" / "stubs" / "libcuda.so.1"
    stub.write_bytes((stand_in.build() / "cuda" / "libcuda.so.1").read_bytes())
    machine, text = recorded(
        tmp_path / "capture",
        base={**os.environ, "HOME": str(home), "USER": "marguerite", "LD_LIBRARY_PATH": str(stub.parent)},
        libcuda=False,
        cuda_init=34,
    )
    assert "marguerite" not in text
    assert any("marguerite" in fact["value"] for fact in machine["facts"])
    assert "/home/user/cuda/lib64/stubs/libcuda.so.1" in text


HEAD = "| NVIDIA-SMI 580.95.05 Driver Version: 580.95.05 |"
REGISTRY = r"""
HKEY_LOCAL_MACHINE\X\0000
    DriverDesc    REG_SZ    NVIDIA GeForce RTX 5090
    UserModeDriverName    REG_SZ    frieda
"""


def test_private_words_are_taken_out_and_others_stay() -> None:
    data = {
        "schema": SCHEMA,
        "files": {
            "/home/nvidia/lib": "made by frieda on build-7",
            "/proc/1/cgroup": "1:name=systemd:/docker/" + "3f" * 32,
        },
        "variables": {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "APPTAINER_CONTAINER": None},
        "commands": {
            "nvidia-smi": {"stdout": f"{HEAD}\n| Processes:        |\n| 0  4711  /home/frieda/secret |"},
            "reg query X /s": {"stdout": REGISTRY},
        },
    }
    text = json.dumps(anonymous(data, ["frieda", "build-7", "nvidia", "/home/frieda"]))
    for gone in ("frieda", "build-7", "3f3f", "4711", "10.0.0.1", "UserModeDriverName", "/home/nvidia"):
        assert gone not in text, gone
    for kept in ("NVIDIA-SMI 580.95.05", "nvidia-smi", "docker", "NVIDIA GeForce RTX 5090", '"1"'):
        assert kept in text, kept


def test_silence_is_recorded_with_its_reason() -> None:
    recorder = Recorder(LocalHost())
    with pytest.raises(OSError):
        recorder.read_text("/no/such/file")
    assert recorder.answers()["files"] == {"/no/such/file": {"error": [2, "No such file or directory"]}}


@pytest.mark.skipif(os.name != "posix", reason="asks for POSIX links and a shell")
def test_every_kind_of_question_is_answered_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\ntwo\n")
    (tmp_path / "link").symlink_to("file")
    recorder = Recorder(LocalHost())

    def ask(host: Recorder | ReplayHost) -> list[object]:
        return [
            host.uname(),
            host.read_text(f"{tmp_path}/file"),
            host.list_dir(str(tmp_path), prefix="fi"),
            host.read_link(f"{tmp_path}/link"),
            host.real_path(f"{tmp_path}/link"),
            host.getenv("PATH"),
            host.getenv("NO_SUCH_VARIABLE_HERE"),
            host.which("sh"),
            host.which("no-such-command-here"),
            host.find_library("libc.so.6"),
            host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=5),
            host.run_script("ask_cuda", timeout=5).returncode,
        ]

    answers = ask(recorder)
    (tmp_path / "capture.json").write_text(render(recorder.answers()))
    assert ask(ReplayHost(tmp_path)) == answers
    assert answers[-2] == Completed(
        argv=("sh", "-c", "echo out; echo err >&2; exit 3"), returncode=3, stdout="out\n", stderr="err\n"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "bad-capture"),
        ("", "bad-capture"),
        ("[]", "bad-capture"),
        ("{}", "bad-capture"),
        (f'{{"schema": {SCHEMA + 1}}}', "schema-too-new"),
    ],
)
def test_what_is_no_capture_is_refused_with_what_to_do(tmp_path: Path, text: str | None, code: str) -> None:
    if text is not None:
        (tmp_path / "capture.json").write_text(text)
    with pytest.raises(BadData) as caught:
        ReplayHost(tmp_path)
    assert caught.value.code == code
    assert caught.value.hint
    assert str(tmp_path) in caught.value.text


def test_a_capture_can_be_read_by_a_person(tmp_path: Path) -> None:
    path = record(LocalHost(), tmp_path)
    assert read(path)["schema"] == SCHEMA
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) < 400
