"""A new torch is one command and a review: the index against the table, on a loopback index whose contents change."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from index import Server, Tree, Wheel, wheel
from packaging.version import Version
from provision.catalog import TABLE, Channel, load_catalog, parse_catalog, pytorch_index

SCRIPT = Path(__file__).parents[1] / "scripts" / "update_catalog.py"
PLATFORM = {
    "linux x86_64": "manylinux_2_28_x86_64",
    "linux aarch64": "manylinux_2_28_aarch64",
    "windows x86_64": "win_amd64",
    "macos aarch64": "macosx_11_0_arm64",
    "macos x86_64": "macosx_10_9_x86_64",
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_catalog", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table(tmp_path: Path) -> Path:
    copy = tmp_path / "catalog.toml"
    copy.write_text(TABLE.read_text("utf-8"), "utf-8")
    return copy


def torch(version: str, tag: str, on: str, *, requires: tuple[str, ...] = ()) -> Wheel:
    return wheel("torch", version, tag=f"{tag.rstrip('t')}-{tag}-{PLATFORM[on]}", requires=requires)


def as_the_table_has_it() -> dict[str, list[Wheel]]:
    """Pages that say what the table says."""
    pages: dict[str, list[Wheel]] = {}
    for build in load_catalog().builds:
        path = build.backend if build.channel is Channel.STABLE else f"{build.channel.value}/{build.backend}"
        wheels = [torch(build.requirement, tag, build.platform) for tag in build.pythons or ["cp312"]]
        pages.setdefault(path, []).extend(wheels)
    return pages


Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run(script: ModuleType, scene: Callable[..., Server], table: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(pages: dict[str, list[Wheel]], *options: str) -> tuple[int, list[str]]:
        server = scene(Tree(pytorch=pages))
        code = script.main(
            ["--index-base", server.pytorch, "--table", str(table), "--day", "2026-12-01", *options],
        )
        said = capsys.readouterr().out.splitlines()
        return code, [line for line in said if "→ seen on the index" not in line]

    return run


def rows(table: Path, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    found = tomllib.loads(table.read_text("utf-8"))[kind]
    return [row for row in found if all(row.get(name) == value for name, value in wanted.items())]


def test_the_table_is_in_its_usual_order(script: ModuleType, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--offline", "--write", "--table", str(table)]) == 0
    assert table.read_text("utf-8") == TABLE.read_text("utf-8")


def test_nothing_has_changed(run: Run, table: Path) -> None:
    pages = as_the_table_has_it()
    run(pages, "--write")  # the index confirms what was inferred
    assert run(pages) == (0, ["nothing has changed"])


def test_a_new_torch_a_new_backend_a_build_that_is_gone(run: Run, table: Path) -> None:
    pages = as_the_table_has_it()
    run(pages, "--write")
    needs = ("triton==3.10.0; platform_system == 'Linux'",)
    for backend in ("cpu", "cu132", "cu134"):
        pages.setdefault(backend, []).append(torch(f"2.16.0+{backend}", "cp312", "linux x86_64", requires=needs))
    pages["cu134"].append(
        wheel("torchvision", "0.30.0+cu134", tag="py3-none-manylinux_2_28_x86_64", requires=("torch==2.16.0",))
    )
    pages["cu129"] = [one for one in pages["cu129"] if "2.12.1" not in one.version or "aarch64" not in one.tag]
    pages["cu130"].append(torch("2.15.0+cu130", "cp316", "linux x86_64"))
    code, said = run(pages)
    assert code == 1
    assert said == [
        "~ 2.15.0+cu130 linux x86_64: Pythons {0} → {0} cp316".format("cp311 cp312 cp313 cp314 cp314t cp315 cp315t"),
        "- 2.12.1+cu129 linux aarch64: the index lists it no longer",
        "+ release 2.16.0: first seen 2026-12-01",
        "+ 2.16.0+cpu linux x86_64: contents as 2.15.0+cpu",
        "+ 2.16.0+cu132 linux x86_64: contents as 2.15.0+cu132",
        "+ 2.16.0+cu134 linux x86_64: contents as 2.16.0.dev20261009+cu134",
        "+ companions of 2.16.0: torchvision ==0.30.0, triton ==3.10.0",
    ]
    before = table.read_text("utf-8")
    assert run(pages, "--write")[0] == 0
    assert table.read_text("utf-8") != before
    assert run(pages) == (0, ["nothing has changed"])
    (new,) = rows(table, "build", backend="cu134", on="linux x86_64", torch="2.16.0")
    assert new["code"] == "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
    assert (new["exists"], new["contents"]) == ("primary", "inferred")
    (gone,) = rows(table, "build", until=date(2026, 12, 1))
    assert (gone["torch"], gone["backend"], gone["on"]) == ("2.12.1", "cu129", "linux aarch64")
    catalog = parse_catalog(tomllib.loads(table.read_text("utf-8")), pytorch_index())
    assert catalog.companions[Version("2.16.0")]["torchvision"] == "==0.30.0"
    assert "2.12.1+cu129" not in {one.name for one in catalog.builds if one.platform == "linux aarch64"}
    then = catalog.as_of(date(2026, 11, 1))
    assert "2.12.1+cu129" in {one.name for one in then.builds if one.platform == "linux aarch64"}


def test_no_row_loses_a_source(run: Run, table: Path) -> None:
    def sources() -> dict[tuple[str, ...], set[str]]:
        return {
            (torch, row["backend"], row["on"], row.get("channel", "")): {
                name for key, value in row.items() if key.endswith("source") for name in value.split()
            }
            for row in rows(table, "build")
            for torch in row["torch"].split()
        }

    before = sources()
    run(as_the_table_has_it(), "--write")
    after = sources()
    assert all(before[build] <= after[build] for build in before)
    texts = tomllib.loads(table.read_text("utf-8"))["sources"]
    assert texts["index-2026-12-01"].startswith("the pages of torch on 127.0.0.1")


def test_a_new_series_of_nightlies_ends_the_one_before(run: Run, table: Path) -> None:
    pages = as_the_table_has_it()
    pages["nightly/cu130"] += [
        torch(f"2.17.0.dev{day}+cu130", "cp312", "linux x86_64") for day in ("20261120", "20261121")
    ]
    pages["nightly/cu132"] += [torch("2.16.0.dev20261119+cu132", "cp312", "linux x86_64")]
    _, said = run(pages, "--write")
    assert [line for line in said if "nightly" in line] == [
        "+ nightly 2.17.0+cu130 linux x86_64: since 2026-11-20",
        "~ nightly 2.16.0+cu132 linux x86_64: last seen 2026-10-09 → 2026-11-19",
    ]
    here = rows(table, "nightly", backend="cu130", on="linux x86_64")
    old, new = [row for row in here if row["since"] > date(2026, 1, 1)]
    assert (old["torch"], old["until"]) == ("2.16.0", date(2026, 11, 19))
    assert (new["torch"], new["seen"], new["ptx"]) == ("2.17.0", date(2026, 11, 21), "compute_120")


def test_an_index_that_cannot_be_reached_changes_nothing(script: ModuleType, table: Path) -> None:
    before = table.read_text("utf-8")
    with pytest.raises(SystemExit, match="the index could not be read"):
        script.main(["--index-base", "http://127.0.0.1:9/whl", "--table", str(table), "--write"])
    assert table.read_text("utf-8") == before


def test_it_runs_as_a_script(table: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--offline", "--table", str(table)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "nothing has changed\n")
    table.write_text(table.read_text("utf-8").replace('"sm_37 ', '"sm_33 ', 1), "utf-8")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--offline", "--table", str(table)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "catalog.toml: row of `build`" in done.stderr
    assert "Traceback" not in done.stderr
