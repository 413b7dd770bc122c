"""Does every finding say what holds, why and what to do? (Which machine shows which is in test_detect.py.)"""

from __future__ import annotations

import pytest
from provision.checks import Severity
from provision.machine import Driver, Fact, Gpu, Machine, Platform, System, Vendor
from provision.situations import EXPLAINS, RULES, explanations, situations

LINUX = Platform(system=System.LINUX, machine="x86_64", libc=("glibc", "2.39"))


def test_every_rule_has_its_row_and_every_row_its_rule() -> None:
    assert set(explanations()) == set(RULES)
    assert {code for codes in EXPLAINS.values() for code in codes} | set(EXPLAINS) <= set(RULES)


@pytest.mark.parametrize("code", RULES)
def test_a_row_says_what_why_what_to_do_and_where_that_is_from(code: str) -> None:
    row = explanations()[code]
    assert set(row) == {"severity", "title", "cause", "remedy", "source", "read"}
    assert row["severity"] in set(Severity)
    assert not row["title"].endswith(".")
    assert row["cause"].endswith(".")
    assert row["remedy"]
    assert row["source"].startswith(("https://", "data/", "torch/", "measured"))


def machine(*gpus: Gpu, driver: str | None = "580.95.05", **facts: str) -> Machine:
    drivers = (Driver(vendor=Vendor.NVIDIA, version=driver, cuda="13.0", source="nvml"),) if driver else ()
    told = tuple(
        Fact(name=name.replace("__", ".").replace("_", "-"), value=value, source="test")
        for name, value in facts.items()
    )
    return Machine(platform=LINUX, gpus=gpus, drivers=drivers, facts=told)


def gpu(arch: str, index: int = 0, name: str = "NVIDIA GPU") -> Gpu:
    return Gpu(vendor=Vendor.NVIDIA, name=name, arch=arch, index=index, source="nvml")


def codes(of: Machine) -> list[str]:
    return [finding.code for finding in situations(of)]


def test_a_machine_without_trouble_has_no_findings() -> None:
    assert codes(machine(gpu("12.0"))) == []


def test_a_machine_file_without_facts_is_judged_by_what_it_says() -> None:
    assert codes(machine(gpu("6.1"), driver="590.48.01")) == ["driver-dropped-gpu"]
    assert codes(machine(gpu("12.0"), driver="550.163.01")) == ["driver-too-old-for-gpu"]
    assert codes(machine(gpu("12.0"), driver="570.86.16")) == []


@pytest.mark.parametrize(
    ("arch", "driver", "served"),
    [
        ("3.5", "470.256.02", True),
        ("3.5", "535.183.01", False),
        ("6.1", "580.95.05", True),
        ("6.1", "590.48.01", False),
        ("7.0", "580.95.05", True),
        ("8.9", "515.105.01", False),
        ("8.9", "525.60.13", True),
        ("10.3", "575.64.03", False),
        ("12.1", "580.95.05", True),
    ],
)
def test_whether_a_driver_serves_a_gpu(arch: str, driver: str, served: bool) -> None:
    found = {"driver-too-old-for-gpu", "driver-dropped-gpu"} & set(codes(machine(gpu(arch), driver=driver)))
    assert bool(found) != served


def test_errors_come_before_warnings_and_hints() -> None:
    both = machine(gpu("8.6"), gpu("6.1", 1), driver="590.48.01", env__NVIDIA_VISIBLE_DEVICES="0", gpu__not_served="x")
    order = [finding.severity for finding in situations(both)]
    assert order == sorted(order, key=list(Severity).index)
    assert order[0] is Severity.ERROR and order[-1] is Severity.HINT


def test_what_only_follows_from_another_finding_is_not_said_twice() -> None:
    """Error 803 after an update without a reboot: the mismatch says it all."""
    facts = {"cuda__init": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "nvml__init": "NVML error 18: mismatch"}
    assert codes(machine(gpu("8.6"), driver=None, **facts)) == ["driver-lib-mismatch"]
    alone = {"cuda__init": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"}
    assert codes(machine(gpu("8.6"), **alone)) == ["error-803"]


def test_evidence_names_the_values_that_disagree() -> None:
    (finding,) = situations(machine(gpu("6.1", name="NVIDIA GeForce GTX 1080"), driver="590.48.01"))
    for part in ("NVIDIA GeForce GTX 1080", "6.1", "590.48.01", "580"):
        assert part in finding.evidence
    assert finding.remedy and finding.cause and finding.fix is None
