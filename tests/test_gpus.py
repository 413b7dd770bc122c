"""Does a PCI id, and nothing else, decide what a GPU is?"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from provision import gpus

TABLE = Path(gpus.__file__).parent / "data" / "gpus.toml"
ROWS = [line.split(" ", 3) for line in tomllib.loads(TABLE.read_text())["nvidia"].splitlines()]


def test_every_row_answers_for_its_id() -> None:
    assert len(ROWS) >= 840
    assert len({row[0] for row in ROWS}) == len(ROWS)
    for key, capability, chip, *_ in ROWS:
        known = gpus.nvidia_gpu(f"0x{key}")
        assert known is not None
        assert (known.capability, known.chip, known.guessed_from) == (capability, chip, None)


def test_a_chip_has_one_capability() -> None:
    """The capability is the chip's: two rows of one chip that differ are a slip of the pen."""
    capabilities = defaultdict(set)
    for _, capability, chip, *_ in ROWS:
        capabilities[chip].add(capability)
    assert {chip: found for chip, found in capabilities.items() if len(found) > 1} == {}
    assert capabilities["GB202"] == {"12.0"}
    assert capabilities["GA100"] == {"8.0"}
    assert capabilities["GB110"] == {"10.3"}


@pytest.mark.parametrize(
    ("device", "name", "capability"),
    [
        ("0x2822", "RTX 3050 A Laptop GPU", "8.9"),
        ("0x28a3", "RTX 3050 A Laptop GPU", "8.9"),
        ("0x28E3", "RTX 3050 A Laptop GPU", "8.9"),
        ("0x25ad", "RTX 2050", "8.6"),
        ("0x25a7", "RTX 2050", "8.6"),
        ("0x1f97", "MX450", "7.5"),
        ("0x0fc5", "GT 1030", "3.0"),
        ("0x1d01", "GT 1030", "6.1"),
        ("0x0fc9", "GT 730", "3.0"),
        ("0x1287", "GT 730", "3.5"),
        ("0x1381", "GTX 750", "5.0"),
        ("0x1407", "GTX 750", "5.2"),
        ("0x11c7", "GTX 750 Ti", "3.0"),
        ("0x119a", "GTX 860M", "3.0"),
        ("0x1392", "GTX 860M", "5.0"),
        ("0x20b0", "A100", "8.0"),
        ("0x2235", "A40", "8.6"),
        ("0x2b00", "Thor", "11.0"),
        ("0x2e12", "GB10", "12.1"),
        ("0x3182", "B300", "10.3"),
    ],
)
def test_names_that_mislead_are_decided_by_the_id(device: str, name: str, capability: str) -> None:
    known = gpus.nvidia_gpu(device)
    assert known is not None
    assert known.name is not None and name in known.name
    assert known.capability == capability


def test_an_unknown_id_is_guessed_from_its_block_and_marked() -> None:
    known = gpus.nvidia_gpu("0x2baf")
    assert known is not None
    assert (known.capability, known.guessed_from, known.name) == ("12.0", "0x2b80", None)


@pytest.mark.parametrize("device", ["0x1040", "0x13ff", "0x22ff"])
def test_a_block_of_several_capabilities_gives_no_guess(device: str) -> None:
    """0x1380 holds 5.0 and 5.2, 0x2280 holds H100's switch and GB10."""
    assert gpus.nvidia_gpu(device) is None


@pytest.mark.parametrize("device", ["0x0001", "0x3f01", "0xffff"])
def test_an_id_far_from_all_others_is_unknown(device: str) -> None:
    assert gpus.nvidia_gpu(device) is None


@pytest.mark.parametrize(
    ("soc", "capability"),
    [("tegra210", "5.3"), ("tegra194", "7.2"), ("tegra234", "8.7"), ("tegra264", "11.0"), ("tegra999", None)],
)
def test_a_system_on_chip_names_its_gpu(soc: str, capability: str | None) -> None:
    known = gpus.tegra_gpu(soc)
    assert (known.capability if known else None) == capability


@pytest.mark.parametrize(
    ("device", "family"),
    [
        ("0xe20b", "Intel Arc B-series (Battlemage)"),
        ("0x56a0", "Intel Arc A-series (Alchemist)"),
        ("0x0bd5", "Intel Data Center GPU Max (Ponte Vecchio)"),
        ("0x7d55", "Intel Arc Graphics (Meteor Lake-H)"),
        ("0x7d45", "Intel Graphics (Meteor Lake-U)"),
        ("0x7d41", "Intel Graphics (Arrow Lake-U)"),
        ("0x4680", "Intel UHD Graphics (Alder Lake)"),
        ("0x3e92", "Intel UHD Graphics (Coffee Lake)"),
        ("0x0412", "Intel HD Graphics (before Skylake)"),
        ("0x27a2", "Intel GMA"),
        ("0xf123", None),
    ],
)
def test_intel_families_by_the_beginning_of_the_id(device: str, family: str | None) -> None:
    assert gpus.intel_name(device) == family


def test_the_table_says_where_it_comes_from_and_when_it_was_read() -> None:
    text = TABLE.read_text()
    assert text.count("Source:") >= 2
    assert tomllib.loads(text)["read"] >= "2026-11-20"
