"""Does the comparison with other tools judge fairly, and do they really run? The whole of it: tests/bench/README.md"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator

import pytest
from bench.accuracy import Verdict, by_group, judge, outcomes
from bench.scene import Machine, Scene, machines, published, scene
from bench.tools import DRIVER_IS_LOADED, Provision, Uv
from provision.catalog import load_catalog
from provision.environment import Python
from provision.gpus import nvidia_gpu
from provision.machine import machine_from_json
from provision.resolve import Request, resolve

BY_NAME = {machine.name: machine for machine in machines()}


@pytest.fixture(scope="module")
def here() -> Iterator[Scene]:
    if os.name == "nt":
        pytest.skip("the simulated nvidia-smi and lspci are scripts of a POSIX shell")
    if shutil.which("openssl") is None:
        pytest.skip("the loopback index under its real name needs openssl (Debian package `openssl`)")
    with scene(published()) as found:
        yield found


def test_the_machines_are_as_many_of_each_kind_as_in_the_study() -> None:
    counts = Counter(machine.group for machine in machines())
    assert counts == {
        "before Turing": 14,
        "Turing to Hopper": 15,
        "Blackwell": 12,
        "driver before 525": 5,
        "mixed": 5,
        "no GPU": 3,
        "nothing fits": 6,
    }
    assert len(BY_NAME) == sum(counts.values())
    assert {machine.name for machine in machines() if machine.right is None} == {
        machine.name for machine in machines() if machine.group == "nothing fits"
    }


@pytest.mark.parametrize("machine", machines(), ids=lambda machine: machine.name)
def test_every_gpu_is_the_one_that_its_pci_id_says(machine: Machine) -> None:
    for gpu in machine.gpus:
        known = nvidia_gpu(gpu.device)
        assert known is not None
        assert (known.capability, known.guessed_from) == (gpu.capability, None)


@pytest.mark.parametrize("machine", machines(), ids=lambda machine: machine.name)
def test_our_table_alone_gives_the_right_build(machine: Machine) -> None:
    choice = resolve(
        machine_from_json(machine.to_json()), Request(python=Python(version="3.12")), load_catalog()
    ).choice
    assert (choice.name if choice else None) == machine.right


@pytest.mark.parametrize(
    ("name", "pick", "verdict"),
    [
        ("RTX 5090 on 570", "2.11.0+cu128", Verdict.RIGHT),
        ("RTX 5090 on 570", "2.13.0+cu129", Verdict.RIGHT),  # newer, but not advertised: good for others
        ("RTX 5090 on 570", "2.10.0+cu128", Verdict.OLDER),
        ("RTX 5090 on 570", "2.14.1+cu126", Verdict.BROKEN),  # no code for it
        ("RTX 5090 on 570", "2.15.0+cu130", Verdict.BROKEN),  # the driver is too old
        ("RTX 5090 on 570", "2.15.0+cpu", Verdict.CPU),
        ("RTX 5090 on 570", None, Verdict.NONE),
        ("RTX 5090 on 580", "2.15.0+cu132", Verdict.RIGHT),
        ("no GPU", "2.15.0+cu132", Verdict.SPARE),
        ("no GPU", "2.14.1+cpu", Verdict.OLDER),
        ("RTX 5090 without a driver", None, Verdict.RIGHT),
        ("RTX 5090 without a driver", "2.15.0+cpu", Verdict.CPU),
        ("RTX 5090 without a driver", "2.15.0+cu130", Verdict.BROKEN),
    ],
)
def test_what_a_pick_is_worth(name: str, pick: str | None, verdict: Verdict) -> None:
    assert judge(BY_NAME[name], pick) is verdict


def test_ours_has_to_be_that_very_build() -> None:
    assert judge(BY_NAME["RTX 5090 on 570"], "2.13.0+cu129", exactly=True) is Verdict.OLDER
    assert judge(BY_NAME["RTX 5090 on 580"], "2.15.0+cu132", exactly=True) is Verdict.OLDER
    assert judge(BY_NAME["RTX 5090 on 580"], "2.15.0+cu130", exactly=True) is Verdict.RIGHT


def test_whole_processes_before_the_index(here: Scene) -> None:
    names = [
        "GTX 1080 Ti on 580",
        "RTX 5060 Ti on Windows 576",
        "V100 and RTX 5090 on 580",
        "RTX 5090 without a driver",
    ]
    asked = [BY_NAME[name] for name in names if BY_NAME[name].driver or not DRIVER_IS_LOADED]
    found = list(outcomes(here, [Provision(), Uv()], asked))
    picks = {(one.machine.name, one.tool): one.answer.pick for one in found}
    assert picks | {(one.name, "provision"): one.right for one in asked} == picks
    assert picks["GTX 1080 Ti on 580", "uv"] == "2.15.0+cu132"  # the driver serves it, and it has no code for Pascal
    assert picks["RTX 5060 Ti on Windows 576", "uv"] == "2.9.0+cu129"  # the first index that fits, not the best build
    assert here.front.troubles == []
    assert by_group(found, ["provision", "uv"])[-1][:3] == ["all", str(len(asked)), f"{len(asked)} ({len(asked)})"]


def test_a_host_that_is_none_of_ours_is_refused(here: Scene) -> None:
    import urllib.error
    import urllib.request

    proxies = urllib.request.ProxyHandler({"https": here.environ["HTTPS_PROXY"]})
    with pytest.raises(OSError, match="403"):
        urllib.request.build_opener(proxies).open("https://elsewhere.invalid/", timeout=10)
    assert here.front.troubles == ["elsewhere.invalid:443 was asked for"]
    here.front.troubles.clear()
