"""Every format that is written down stays readable: a saved file of each schema, and what a newer one meets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from provision.capture import ReplayHost
from provision.detect import detect
from provision.errors import BadData
from provision.proof import read_failures, read_stamp
from provision.saved import read_plan
from provision.seen import read_seen

FORMATS = Path(__file__).parent / "formats"


def test_a_saved_plan_of_schema_1() -> None:
    saved = read_plan(FORMATS / "plan" / "schema-1.json")
    assert saved.proposal["choice"]["packages"] == {"torch": "2.11.0+cu128"}
    assert saved.job.machine == Path("machine.json")


def test_a_saved_plan_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    data = json.loads((FORMATS / "plan" / "schema-1.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(data | {"schema": 2}))
    with pytest.raises(BadData) as error:
        read_plan(tmp_path / "plan.json")
    assert error.value.code == "schema-too-new"


def test_a_proof_stamp_of_schema_1() -> None:
    stamp = read_stamp(FORMATS / "proof" / "stamp.1.json")
    assert stamp is not None
    assert (stamp.torch, stamp.backend, stamp.proven) == ("2.15.0+cpu", "cpu", 1795195980.25)


def test_remembered_failures_of_schema_1() -> None:
    (failure,) = read_failures(FORMATS / "proof" / "failures.1.json")
    assert (failure.torch, failure.backend, failure.day) == ("2.15.0", "cu130", "2026-11-20")


def test_what_was_seen_in_binaries_of_schema_1() -> None:
    (seen,) = read_seen(FORMATS / "proof" / "seen.1.json")
    assert seen.arches == ("sm_75", "sm_120")


@pytest.mark.parametrize("name", ["stamp", "failures", "seen"])
def test_what_a_newer_provision_remembered_counts_as_nothing(tmp_path: Path, name: str) -> None:
    data = json.loads((FORMATS / "proof" / f"{name}.1.json").read_text())
    path = tmp_path / "newer.json"
    path.write_text(json.dumps(data | {"schema": 2}))
    read = {"stamp": read_stamp, "failures": read_failures, "seen": read_seen}[name]
    assert not read(path)


def test_a_capture_of_schema_1(tmp_path: Path) -> None:
    shutil.copy(FORMATS / "capture" / "schema-1.json", tmp_path / "capture.json")
    machine = detect(ReplayHost(tmp_path))
    assert [gpu.arch for gpu in machine.gpus] == ["12.0"]
