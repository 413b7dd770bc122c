"""`provision plan --machine FILE`: the answers that people rely on, through the whole command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import Person

LINUX = {"system": "linux", "machine": "x86_64", "libc": ["glibc", "2.35"]}
WINDOWS = {"system": "windows", "machine": "x86_64"}


def nvidia(name: str, arch: str) -> dict[str, Any]:
    return {"vendor": "nvidia", "name": name, "arch": arch}


RTX_5090 = nvidia("NVIDIA GeForce RTX 5090", "12.0")
RTX_5060_TI = nvidia("NVIDIA GeForce RTX 5060 Ti", "12.0")
RTX_4090 = nvidia("NVIDIA GeForce RTX 4090", "8.9")
GTX_1080_TI = nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1")
V100 = nvidia("Tesla V100-SXM2-16GB", "7.0")
UHD = {"vendor": "intel", "name": "Intel UHD Graphics 770", "arch": None}


def machine(platform: dict[str, Any], driver: str | None, *gpus: dict[str, Any]) -> dict[str, Any]:
    numbered = [{**gpu, "index": index} for index, gpu in enumerate(gpus)]
    drivers = [{"vendor": "nvidia", "version": driver}] if driver else []
    return {"platform": platform, "gpus": numbered, "drivers": drivers}


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def plan(person: Person, facts: dict[str, Any], *options: str) -> tuple[int, dict[str, Any]]:
    (person.folder / "machine.json").write_text(json.dumps(facts))
    run = person.run("plan", "--machine", "machine.json", "--offline", "--json", *options)
    return run.code, run.json


@pytest.mark.parametrize(
    ("facts", "options", "torch", "backend"),
    [
        (machine(LINUX, "570.124.06", RTX_5090), [], "2.11.0", "cu128"),
        (machine(LINUX, "580.95.05", RTX_5090), [], "2.15.0", "cu130"),
        (machine(WINDOWS, "576.88", RTX_5060_TI), ["--python", "3.12"], "2.11.0", "cu128"),
        (machine(LINUX, "570.124.06", GTX_1080_TI), [], "2.14.1", "cu126"),
        (machine(LINUX, "580.95.05", V100, RTX_5090), [], "2.10.0", "cu128"),
        (machine(LINUX, None), [], "2.15.0", "cpu"),
        (machine(LINUX, "580.95.05", RTX_4090, UHD), [], "2.15.0", "cu130"),
        (machine(LINUX, "580.95.05", RTX_4090), [], "2.15.0", "cu130"),
    ],
    ids=["5090-570", "5090-580", "5060ti-windows", "1080ti", "v100+5090", "none", "4090+intel", "4090"],
)
def test_the_choice(person: Person, facts: dict[str, Any], options: list[str], torch: str, backend: str) -> None:
    code, answer = plan(person, facts, *options)
    assert code == 0
    assert (answer["data"]["choice"]["torch"], answer["data"]["choice"]["backend"]) == (torch, backend)


def test_gpus_that_no_build_serves_together_get_reasons_and_a_way_out_for_each(person: Person) -> None:
    code, answer = plan(person, machine(LINUX, "580.95.05", GTX_1080_TI, RTX_5090))
    assert code == 3
    assert answer["status"] == "error"
    assert answer["data"]["choice"] is None
    assert all(one["wanted"] and one["found"] for one in answer["data"]["rejected"])
    ways = " ".join(advice["do"] for advice in answer["data"]["advice"])
    assert "0" in ways
    assert "1" in ways


def test_every_build_of_the_platform_is_accounted_for(person: Person) -> None:
    _, answer = plan(person, machine(LINUX, "570.124.06", RTX_5090))
    told = {(one["torch"], one["backend"]) for one in answer["data"]["rejected"]}
    assert {("2.15.0", "cu130"), ("2.14.1", "cu126"), ("2.15.0", "cpu")} <= told
    reasons = {(one["torch"], one["backend"]): one["reason"] for one in answer["data"]["rejected"]}
    assert reasons["2.15.0", "cu130"] == "driver-too-old"
    assert reasons["2.14.1", "cu126"] == "arch-missing"


def test_the_whole_envelope_is_read_back_as_a_machine(person: Person) -> None:
    (person.folder / "machine.json").write_text(person.run("detect", "--json").out)
    assert person.run("plan", "--machine", "machine.json", "--offline").code in (0, 3)


def test_a_screen_tells_the_choice_and_what_was_passed_over(person: Person) -> None:
    (person.folder / "machine.json").write_text(json.dumps(machine(LINUX, "570.124.06", RTX_5090)))
    run = person.run("plan", "--machine", "machine.json", "--offline")
    assert "Chosen    torch 2.11.0+cu128 from" in run.out
    assert "2.15.0+cu130" in run.out
    assert "driver-too-old: wanted >=580, found 570.124.06" in run.out
    assert "error" not in run.err


def test_every_screen_is_readable_without_colour_and_without_utf_8(person: Person) -> None:
    (person.folder / "machine.json").write_text(json.dumps(machine(LINUX, "570.124.06", RTX_5090)))
    plain = {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    run = person.run("plan", "--machine", "machine.json", "--offline", environ=plain)
    assert run.code == 0
    run.out.encode("ascii")
    assert "\x1b" not in run.out
