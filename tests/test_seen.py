"""What was read from a build's binaries stands in place of what the table says of it."""

from __future__ import annotations

from pathlib import Path

from fatbin.build import elf_with_fatbin
from provision.catalog import load_catalog
from provision.fatbin import Library, scan_bytes
from provision.seen import Seen, read_seen, remember_seen, seen_in, with_seen

BUILD = next(one for one in load_catalog().builds if (one.name, one.platform) == ("2.11.0+cu128", "linux x86_64"))


def library(*containers: list[str]) -> dict[str, Library]:
    return {"libtorch_cuda.so": scan_bytes(elf_with_fatbin(list(containers)))}


def seen(*containers: list[str]) -> Seen | None:
    return seen_in(BUILD, library(*containers), "2026-11-20")


def test_only_code_that_is_in_every_container_counts() -> None:
    found = seen(["sm_75", "sm_120", "compute_120"], ["sm_75", "sm_90a", "sm_120", "compute_120"])
    assert found is not None
    assert (found.arches, found.ptx) == (("sm_75", "sm_120"), ("compute_120",))


def test_nothing_is_concluded_from_a_library_without_gpu_code() -> None:
    assert seen_in(BUILD, {}, "2026-11-20") is None
    assert seen() is None


def test_nothing_is_concluded_where_containers_have_nothing_in_common() -> None:
    assert seen(["sm_75"], ["sm_80"]) is None


def test_the_catalog_has_what_was_seen_and_says_so() -> None:
    found = seen(["sm_80", "sm_90"])
    assert found is not None
    catalog = with_seen(load_catalog(), [found])
    changed = [(old, new) for old, new in zip(load_catalog().builds, catalog.builds, strict=True) if old != new]
    assert [(old.name, old.platform) for old, _ in changed] == [("2.11.0+cu128", "linux x86_64")]
    assert (changed[0][1].arches, changed[0][1].ptx, changed[0][1].confidence) == (("sm_80", "sm_90"), (), "seen")


def test_it_is_kept_and_the_later_look_replaces_the_earlier(tmp_path: Path) -> None:
    path = tmp_path / "data" / "seen.json"
    first, second = seen(["sm_75"]), seen(["sm_80"])
    assert first
    assert second
    remember_seen(path, first)
    assert read_seen(path) == (first,)
    remember_seen(path, second)
    assert read_seen(path) == (second,)


def test_an_unreadable_memory_is_no_memory(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"schema": 99, "seen": []}', '{"schema": 1, "seen": [{"torch": "2.11.0"}]}'):
        (tmp_path / "seen.json").write_text(text)
        assert read_seen(tmp_path / "seen.json") == ()
    assert read_seen(tmp_path / "missing.json") == ()


def test_the_saved_format_still_parses(tmp_path: Path) -> None:
    (tmp_path / "seen.json").write_text(
        '{"schema": 1, "seen": [{"torch": "2.11.0", "backend": "cu128", "system": "linux", "machine": "x86_64", '
        '"arches": ["sm_75", "sm_120"], "ptx": [], "day": "2026-11-20"}]}'
    )
    (one,) = read_seen(tmp_path / "seen.json")
    assert one.arches == ("sm_75", "sm_120")
