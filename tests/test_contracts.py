"""What scripts, CI jobs and fleets build on (contracts 2 to 8), one small test a promise, each by running the program.

What takes a machine of its own to show (a full disk, a killed run, a busy environment) is shown in the test_transaction
files; this file is the table of names, shapes and codes.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from index import Server, serve, standard_tree, wheel
from nvml import stand_in
from provision.commands import COMMANDS
from running import Answer, Person, tree_state

DEAD = "http://127.0.0.1:9"

LINUX = {"system": "linux", "machine": "x86_64", "libc": ["glibc", "2.35"]}


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def scenery() -> Iterator[Server]:
    """An index of this file's own: it outlives every test here."""
    with serve(standard_tree()) as server:
        yield server


def without_gpu(server: Server) -> dict[str, str]:
    return stand_in.environment(base=server.environ(), nvml_init=9, libcuda=False, smi=False, gpus=())


def with_gpu(server: Server) -> dict[str, str]:
    return stand_in.environment(base=server.environ(), driver="570.124.06", cuda="12.8")


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, scenery: Server) -> Person:
    """Someone who has run provision twice, for two versions, and has locked. To be read, not to be changed."""
    person = Person(tmp_path_factory.mktemp("settled"), without_gpu(scenery))
    assert person.run("--torch", "2.9.1").code == 0
    assert person.run("--torch", "2.15.0").code == 0
    assert person.run("lock").code == 0
    return person


@pytest.fixture(scope="module")
def gamer(tmp_path_factory: pytest.TempPathFactory, scenery: Server) -> Person:
    """Someone with an RTX 5090 and a proven torch. To be read, not to be changed."""
    person = Person(tmp_path_factory.mktemp("gamer"), with_gpu(scenery))
    assert person.run().code == 0
    return person


@pytest.fixture
def newcomer(tmp_path: Path, scenery: Server) -> Person:
    """Someone who has run nothing yet."""
    return Person(tmp_path, without_gpu(scenery))


@pytest.fixture
def decide(tmp_path: Path) -> Any:
    """`plan --json` for a machine that a file describes, without a network."""
    person = Person(tmp_path)

    def ask(machine: Any, *options: str) -> Answer:
        (person.folder / "machine.json").write_text(machine if isinstance(machine, str) else json.dumps(machine))
        return person.run("plan", "--machine", "machine.json", "--offline", "--json", *options)

    return ask


# ── 2. commands ─────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = {
    "add": ["add", "--dry-run", "numpy"],
    "apply": ["--torch", "2.15.0"],
    "clean": ["clean", "--env", "elsewhere"],
    "completion": ["completion", "bash"],
    "detect": ["detect"],
    "doctor": ["doctor"],
    "explain": ["explain", "driver-too-old"],
    "export": ["export", "requirements"],
    "history": ["history"],
    "hold": ["hold"],
    "lock": ["lock", "--check"],
    "plan": ["plan"],
    "profiles": ["profiles"],
    "rollback": ["rollback", "--dry-run"],
    "scan": ["scan"],
    "sync": ["sync", "pylock.torch.toml", "--dry-run"],
    "verify": ["verify", "--quick"],
}
"""Command → a line that succeeds for someone who is settled, and changes nothing."""

BAD = {
    "add": (["add", "--env", "nowhere", "numpy"], 4),
    "apply": (["--torch", "99"], 3),
    "completion": (["completion", "tcsh"], 2),
    "detect": (["detect", "--from", "nowhere"], 9),
    "doctor": (["doctor", "--log", "nowhere"], 2),
    "explain": (["explain", "no-such-code"], 2),
    "export": (["export", "requirements", "--python", "3.7"], 3),
    "hold": (["hold", "--env", "nowhere"], 4),
    "lock": (["lock", "--machine", "nowhere"], 9),
    "plan": (["plan", "--python", "3.7"], 3),
    "profiles": (["profiles", "no-such-profile"], 2),
    "rollback": (["rollback", "--env", "nowhere"], 4),
    "scan": (["scan", "nowhere"], 2),
    "sync": (["sync", "nowhere.toml"], 9),
    "verify": (["verify", "--env", "nowhere"], 4),
}
"""Command → a line that fails, and its exit code. (`clean` and `history` of nothing are no failures.)"""

DECIDING = ("apply", "plan", "lock", "export")
COMMON = {
    "--machine", "--from", "--gpu", "--backend", "--channel", "--torch", "--python", "--index-base", "--offline"
}  # fmt: skip
CHANGING = ("apply", "sync", "add", "rollback", "clean", "doctor")


def test_every_command_is_in_these_tables() -> None:
    assert set(GOOD) == set(COMMANDS)
    assert set(BAD) == set(COMMANDS) - {"clean", "history"}


@pytest.mark.parametrize("name", DECIDING)
def test_what_decides_takes_the_options_common_to_all_that_decide(name: str) -> None:
    assert options_of(name) >= COMMON


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_takes_env_yes_and_dry_run(name: str) -> None:
    assert options_of(name) >= {"--env", "-y", "--yes", "--dry-run"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_v_q_and_color_and_has_help(name: str, newcomer: Person) -> None:
    assert options_of(name) >= {"--json", "-v", "-q", "--color"}
    run = newcomer.run(name, "--help")
    assert run.code == 0
    assert run.out.startswith(f"Usage: provision {name} ")
    assert max(map(len, run.out.splitlines())) <= 80


def test_the_groups_help_names_every_command_and_fits_a_terminal(newcomer: Person) -> None:
    run = newcomer.run("--help")
    assert all(f"\n  {name} " in run.out for name in COMMANDS)
    assert max(map(len, run.out.splitlines())) <= 80
    assert newcomer.run("-h").out == run.out


def test_options_may_stand_before_the_command(settled: Person) -> None:
    assert settled.run("--json", "plan", "--offline").json["command"] == "plan"
    assert settled.run("--json", "--color", "never", "--env", ".venv", "history").json["command"] == "history"


def options_of(name: str) -> set[str]:
    return {word for param in COMMANDS[name].params for word in param.names if word.startswith("-")}


# ── 2. where things happen ──────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_is_dot_venv_here_or_the_active_one_or_the_one_named(settled: Person, tmp_path: Path) -> None:
    def looked_at(*args: str, **environ: str) -> str:
        path = settled.run("plan", "--json", *args, environ=environ).data["environment"]["path"]
        return str(path)

    active = tmp_path / "active"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(active)], check=True)
    assert looked_at() == str(settled.env)
    assert looked_at(VIRTUAL_ENV=str(active)) == str(active)
    assert looked_at("--env", "named", VIRTUAL_ENV=str(active)) == str(settled.folder / "named")


def test_a_mirror_is_named_by_the_option_or_by_the_variable(newcomer: Person, scenery: Server) -> None:
    dead = {"PROVISION_INDEX_BASE": DEAD}
    by_option = newcomer.run("plan", "--index-base", scenery.pytorch, "--json", environ=dead)
    by_variable = newcomer.run("plan", "--json", environ={"PROVISION_INDEX_BASE": scenery.pytorch + "/"})
    assert by_option.data["choice"]["index_url"] == by_variable.data["choice"]["index_url"] == f"{scenery.pytorch}/cpu"


def test_a_bare_version_means_equal_and_a_patch_level_of_python_is_ignored(newcomer: Person) -> None:
    def chosen(*options: str) -> Any:
        return newcomer.run("plan", *options, "--offline", "--json").data["choice"]["torch"]

    assert chosen("--torch", "2.9.1") == "2.9.1"
    assert chosen("--torch", "<2.9") == "2.8.0"
    assert chosen("--python", "3.10") == chosen("--python", "3.10.99") == "2.14.1"


def test_an_arch_stands_for_a_gpu_that_is_not_there(newcomer: Person) -> None:
    for spelling in ("sm_120", "12.0"):
        run = newcomer.run("plan", "--gpu", spelling, "--json")
        assert run.data["coverage"] == [{"gpu": None, "arch": "12.0", "by": "sm_120", "kind": "cubin"}]
        assert "taken to be new enough" in run.out, "a driver that is not there is not made up in silence"


# ── 2. streams ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_quiet_is_silent_but_for_errors(settled: Person) -> None:
    done = settled.run("plan", "-q")
    assert (done.out, done.err) == ("", "")
    failed = settled.run("plan", "-q", "--python", "3.7")
    assert failed.out == ""
    assert failed.err.startswith("error[no-build-fits]: ")


def test_colour_is_for_terminals_unless_asked_for(settled: Person) -> None:
    args = ("clean", "--dry-run")
    coloured = "\x1b["
    assert coloured not in settled.run(*args).out
    assert coloured in settled.run(*args, environ={"FORCE_COLOR": "1"}).out
    assert coloured not in settled.run(*args, environ={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out
    assert coloured in settled.run(*args, environ={"FORCE_COLOR": "1", "NO_COLOR": ""}).out
    assert coloured in settled.run(*args, "--color", "always", environ={"NO_COLOR": "1"}).out
    assert coloured not in settled.run(*args, "--color", "never", environ={"FORCE_COLOR": "1"}).out


def test_json_has_no_colour_whatever_is_asked_for(settled: Person) -> None:
    assert "\x1b" not in settled.run("history", "--json", "--color", "always").out


def test_results_go_to_stdout_and_errors_to_stderr(settled: Person) -> None:
    failed = settled.run("plan", "--python", "3.7")
    assert "python-not-built" in failed.out
    assert "error[" not in failed.out
    assert re.match(r"error\[[a-z-]+\]: .+\nfix:   .+", failed.err)


# ── 2. terminals ────────────────────────────────────────────────────────────────────────────────────────────────


def at_a_terminal(person: Person, *args: str, answer: str = "") -> tuple[str, int]:
    """What someone sees in a window of 80 columns who gives this answer to the first question; the exit code."""
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal of POSIX")
    import pexpect

    places = {"HOME": str(person.home), "XDG_CACHE_HOME": str(person.home / "cache"), "TERM": "xterm"}
    window = pexpect.spawn(
        sys.executable,
        ["-m", "provision", *args],
        cwd=str(person.folder),
        env={**person.environ, **places, "PYTHONIOENCODING": "utf-8"},
        dimensions=(50, 80),
        encoding="utf-8",
        timeout=60,
    )
    seen = ""
    if answer:
        window.expect(r"\[y/N\]")
        seen = window.before
        window.send(answer)
    window.expect(pexpect.EOF)
    window.close()
    return seen + window.before, window.exitstatus


@pytest.mark.parametrize("line", [["plan"], ["doctor"], ["detect", "-v"], ["explain", "driver-too-old"], ["history"]])
def test_screens_fit_80_columns(settled: Person, line: list[str]) -> None:
    seen, _ = at_a_terminal(settled, *line)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    # A word that is longer than a line (a path) stays whole.
    assert [text for text in plain.splitlines() if len(text) > 80 and len(max(text.split(), key=len)) < 60] == []


@pytest.mark.parametrize(("answer", "code"), [("n\r", 2), ("\x03", 130), ("y\r", 0)], ids=["no", "Ctrl-C", "yes"])
def test_breaking_a_package_outside_the_family_is_asked(tmp_path: Path, answer: str, code: int) -> None:
    with serve(standard_tree(packages=[wheel("xformers", "0.0.28", requires=["torch==2.9.1"])])) as server:
        person = Person(tmp_path, without_gpu(server))
        assert person.run("--torch", "2.9.1").code == 0
        assert person.run("add", "xformers==0.0.28").code == 0
        before = tree_state(person.env)
        seen, exit_code = at_a_terminal(person, answer=answer)
    assert "xformers" in seen
    assert "Traceback" not in seen
    assert exit_code == code
    assert (tree_state(person.env) == before) == (code != 0)


# ── 3. exit codes ───────────────────────────────────────────────────────────────────────────────────────────────
# 5, 6 and 4 in all their kinds: test_main_job, test_transaction*. 7 and 130: test_trouble, test_interrupt.


def test_exit_0_and_1_of_scan_require(gamer: Person) -> None:
    assert gamer.run("scan", "--require", "sm_120").code == 0
    lacking = gamer.run("scan", "--require", "sm_61", "--json")
    assert lacking.code == 1
    assert lacking.json["status"] == "findings"
    assert "sm_61" in lacking.data["unmet"][0]


def test_exit_1_of_an_error_text_that_is_known(settled: Person) -> None:
    (settled.folder / "train.log").write_text(
        "RuntimeError: CUDA error: no kernel image is available for execution on the device\n"
    )
    run = settled.run("doctor", "--log", "train.log", "--json")
    assert run.code == 1
    assert run.json["status"] == "findings"


@pytest.mark.parametrize(
    "line",
    [
        ["--no-such-option"],
        ["docter"],
        ["two", "words"],
        ["plan", "--channel", "weekly"],
        ["plan", "--torch", "newest"],
        ["plan", "--python", "three"],
        ["plan", "--backend", "cu999"],
        ["plan", "--gpu", "7"],
        ["plan", "--index-base", "mirror"],
        ["explain"],
        ["sync"],
        ["add"],
    ],
    ids=" ".join,
)
def test_exit_2_is_told_in_one_line_with_what_to_write_instead(newcomer: Person, line: list[str]) -> None:
    run = newcomer.run(*line)
    assert run.code == 2
    assert run.out == ""
    assert re.match(r"error\[[a-z-]+\]: .+\nfix:   .+\n(or:    .+\n)*$", run.err), run.err
    spoken = newcomer.run(*line, "--json")
    assert spoken.code == spoken.json["exit_code"] == 2


def test_exit_2_where_a_question_would_be_needed_and_nobody_is_there(newcomer: Person) -> None:
    """The case itself is in test_main_job (a package that pins the old torch); here: the usual job never asks."""
    assert newcomer.run().code == 0
    assert newcomer.run("--torch", "2.9.1").code == 0


def test_exit_3_where_no_build_fits_with_every_reason(decide: Any) -> None:
    run = decide({"platform": LINUX, "gpus": [gpu("12.0")], "drivers": [driver("470.57.02")]})
    assert run.code == 3
    assert run.json["status"] == "error"
    assert run.data["choice"] is None
    assert run.data["candidates"] == []
    assert len(run.data["rejected"]) > 100


def test_exit_5_not_3_where_no_source_answers(newcomer: Person) -> None:
    run = newcomer.run("--json", environ={"PROVISION_INDEX_BASE": DEAD, "UV_DEFAULT_INDEX": f"{DEAD}/simple"})
    assert run.code == 5
    assert run.json["errors"][0]["code"] == "network"
    assert list(newcomer.folder.iterdir()) == []


def test_exit_8_of_a_lock_for_another_machine(settled: Person) -> None:
    text = (settled.folder / "pylock.torch.toml").read_text()
    assert 'machine = "x86_64"' in text or 'machine = "aarch64"' in text
    other = text.replace('machine = "x86_64"', 'machine = "s390x"').replace('machine = "aarch64"', 'machine = "s390x"')
    (settled.folder / "pylock.other.toml").write_text(other)
    before = tree_state(settled.env)
    run = settled.run("sync", "pylock.other.toml", "--json")
    assert run.code in (8, 9)
    assert tree_state(settled.env) == before


def test_exit_10_of_changes_pending_is_no_error(settled: Person) -> None:
    run = settled.run("plan", "--torch", "2.9.1", "--exit-code", "--json")
    assert run.code == run.json["exit_code"] == 10
    assert run.json["status"] == "ok"
    assert settled.run("plan", "--torch", "2.15.0", "--exit-code").code == 0


# ── 4. the envelope ─────────────────────────────────────────────────────────────────────────────────────────────


def check_envelope(run: Answer, command: str) -> None:
    """One object, nothing else, with what section 4 names."""
    said = run.json
    assert list(said) == ["schema", "command", "status", "exit_code", "data", "messages", "errors"]
    assert said["schema"] == 1
    assert said["command"] == command
    assert said["exit_code"] == run.code
    assert said["status"] in ("ok", "findings", "error")
    assert (said["status"] == "error") == bool(said["errors"])
    assert isinstance(said["data"], dict)
    for message in said["messages"]:
        assert set(message) == {"level", "code", "text"}
        assert message["level"] in ("info", "hint", "warning")
        assert re.fullmatch(r"[a-z0-9-]+", message["code"])
    for error in said["errors"]:
        assert set(error) == {"code", "text", "hint"}
        assert re.fullmatch(r"[a-z0-9-]+", error["code"])
        assert error["text"]
        assert error["hint"], "an error says what to do next"
    assert run.err == "", "whatever is said is in the object"


@pytest.mark.parametrize("name", GOOD)
def test_success_in_json(name: str, settled: Person) -> None:
    before = tree_state(settled.env)
    run = settled.run(*GOOD[name], "--json")
    check_envelope(run, name)
    assert run.code == 0, run.out
    assert run.json["status"] == "ok"
    assert tree_state(settled.env) == before


@pytest.mark.parametrize("name", BAD)
def test_failure_in_json(name: str, settled: Person) -> None:
    line, code = BAD[name]
    before = tree_state(settled.env)
    run = settled.run(*line, "--json")
    check_envelope(run, name)
    assert run.code == code, run.out
    assert run.json["status"] == "error"
    assert tree_state(settled.env) == before


# ── 4. shapes ───────────────────────────────────────────────────────────────────────────────────────────────────

REASONS = {
    "arch-missing", "arch-unknown", "driver-too-old", "driver-does-not-serve-gpu", "driver-missing", "python-not-built",
    "platform-not-built", "libc-too-old", "not-published", "not-advertised", "channel", "excluded-by-request",
    "ptx-needs-newer-driver", "older",
}  # fmt: skip
VERDICTS = {"covered", "covered-jit", "partial", "not-covered", "unknown", "none"}


def test_machine(gamer: Person) -> None:
    said = gamer.run("detect", "--json").data
    assert set(said) >= {"schema", "platform", "gpus", "drivers", "skipped"}
    assert said["schema"] == 1
    assert set(said["platform"]) == {"system", "machine", "libc", "wsl", "container"}
    assert said["platform"]["system"] in ("linux", "windows", "macos")
    assert said["platform"]["machine"] in ("x86_64", "aarch64")
    (card,) = said["gpus"]
    assert set(card) == {
        "vendor", "name", "arch", "index", "memory_mib", "pci_device_id", "uuid", "mig", "source"
    }  # fmt: skip
    assert (card["vendor"], card["arch"], card["memory_mib"]) == ("nvidia", "12.0", 32607)
    assert [(one["version"], one["cuda"]) for one in said["drivers"]] == [("570.124.06", "12.8")]
    assert all(set(one) == {"vendor", "version", "cuda", "source"} for one in said["drivers"])
    assert all(set(one) == {"probe", "reason"} for one in said["skipped"])


def test_plan(gamer: Person) -> None:
    said = gamer.run("plan", "--torch", "2.9.1", "--json").data
    assert set(said) >= {"machine", "choice", "candidates", "coverage", "rejected", "advice", "changes"}
    choice = said["choice"]
    assert set(choice) >= {"torch", "backend", "channel", "index_url", "packages", "confidence"}
    assert (choice["torch"], choice["backend"], choice["packages"]) == ("2.9.1", "cu128", {"torch": "2.9.1+cu128"})
    assert choice["index_url"].endswith("/cu128")
    assert (said["candidates"][0]["torch"], said["candidates"][0]["backend"]) == ("2.9.1", "cu128")
    assert said["coverage"] == [{"gpu": 0, "arch": "12.0", "by": "sm_120", "kind": "cubin"}]
    for one in said["rejected"]:
        assert set(one) == {"torch", "backend", "reason", "wanted", "found"}
        assert one["reason"] in REASONS
        assert one["wanted"]
        assert one["found"]
    assert all(set(one) == {"do", "gains"} for one in said["advice"])
    assert {"name": "torch", "old": "2.11.0+cu128", "new": "2.9.1+cu128"} in said["changes"]
    assert all(set(one) == {"name", "old", "new"} for one in said["changes"])


def test_a_plan_where_nothing_fits_is_whole_but_for_the_choice(decide: Any) -> None:
    said = decide({"platform": LINUX, "gpus": [gpu("12.0")]}).data
    assert said["choice"] is None
    assert set(said) >= {"machine", "choice", "candidates", "coverage", "rejected", "advice"}
    assert "changes" not in said, "no environment is looked at for another machine"


def test_scan(gamer: Person) -> None:
    said = gamer.run("scan", "--json").data
    assert said["files"]
    for file in said["files"]:
        assert set(file) >= {
            "path", "package", "cubins", "ptx", "every_container", "containers", "zstd", "verdicts"
        }  # fmt: skip
        assert set(file["verdicts"].values()) <= VERDICTS
    verdicts = {package["name"]: package["verdicts"] for package in said["packages"]}
    assert verdicts["torch"] == {"sm_120": "covered"}
    assert all(set(package) >= {"name", "version", "verdicts"} for package in said["packages"])


def test_verify(gamer: Person) -> None:
    said = gamer.run("verify", "--quick", "--json").data
    assert set(said) >= {"torch", "checks"}
    assert set(said["torch"]) >= {"version", "backend", "arch_list"}
    for check in said["checks"]:
        assert set(check) == {"name", "gpu", "status", "expected", "actual", "detail", "seconds"}
        assert check["status"] in ("passed", "failed", "skipped")
        assert check["status"] == "passed" or check["detail"] or check["actual"], "a skip has its reason"


def test_doctor(tmp_path: Path, scenery: Server) -> None:
    sick = Person(tmp_path, stand_in.environment(base=scenery.environ(), driver="470.57.02", cuda="11.4"))
    run = sick.run("doctor", "--json")
    assert run.data["findings"]
    grades = [finding["severity"] for finding in run.data["findings"]]
    for finding in run.data["findings"]:
        assert set(finding) >= {"code", "severity", "title", "evidence", "cause", "fix"}
        assert finding["severity"] in ("error", "warning", "hint")
        assert finding["fix"] is None or all(isinstance(argv, list) and argv for argv in finding["fix"])
    assert run.code == (0 if set(grades) <= {"hint"} else 1)


def test_a_log_is_answered_with_the_code_of_its_row(settled: Person) -> None:
    said = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    (settled.folder / "run.log").write_text(said)
    codes = [one["code"] for one in settled.run("doctor", "--log", "run.log", "--json").data["findings"]]
    assert codes[0].startswith("no_kernel_image")


# ── 4. machine files ────────────────────────────────────────────────────────────────────────────────────────────


def gpu(arch: str | None, vendor: str = "nvidia") -> dict[str, Any]:
    return {"vendor": vendor, "arch": arch}


def driver(version: str) -> dict[str, str]:
    return {"vendor": "nvidia", "version": version}


def choice(run: Answer) -> tuple[str, str] | None:
    chosen = run.data["choice"]
    return chosen and (chosen["torch"], chosen["backend"])


def test_only_system_machine_and_gpus_are_required(decide: Any) -> None:
    facts = {"platform": {"system": "linux", "machine": "x86_64"}, "gpus": []}
    assert choice(decide(facts)) == ("2.15.0", "cpu")
    without: list[Any] = [{"gpus": []}, {"platform": {"system": "linux"}, "gpus": []}, {"platform": facts["platform"]}]
    for lacking in without:
        run = decide(lacking)
        assert run.code == 9
        assert run.json["errors"][0]["code"] == "bad-machine"
        assert "is missing" in run.json["errors"][0]["text"]


@pytest.mark.parametrize(
    ("spelling", "read"),
    [("amd64", "x86_64"), ("AMD64", "x86_64"), ("x86_64", "x86_64"), ("arm64", "aarch64"), ("aarch64", "aarch64")],
)
def test_processors_are_read_in_every_spelling(decide: Any, spelling: str, read: str) -> None:
    run = decide({"platform": {"system": "linux", "machine": spelling}, "gpus": []})
    assert run.data["machine"]["platform"]["machine"] == read


def test_the_whole_envelope_is_a_machine_file_too(decide: Any, gamer: Person) -> None:
    assert choice(decide(gamer.run("detect", "--json").out)) == ("2.11.0", "cu128")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"version": "570.124.06"}, ("2.11.0", "cu128")),
        ({"cuda": "12.8"}, ("2.11.0", "cu128")),
        ({"cuda": "13.0"}, ("2.15.0", "cu130")),
        ({"version": "570.124.06", "cuda": "13.0"}, ("2.11.0", "cu128")),
    ],
    ids=["the version alone", "the CUDA alone", "a newer CUDA alone", "the version decides"],
)
def test_a_driver_is_known_by_its_version_or_by_its_cuda(decide: Any, told: Any, expected: Any) -> None:
    facts = {"platform": LINUX, "gpus": [gpu("12.0")], "drivers": [{"vendor": "nvidia", **told}]}
    assert choice(decide(facts)) == expected


def test_under_wsl_the_windows_columns_apply(decide: Any) -> None:
    """527 is enough for CUDA 12 on Linux (525.60.13), not on Windows (528.33)."""
    facts = {"platform": LINUX, "gpus": [gpu("7.5")], "drivers": [driver("527.00")]}
    assert choice(decide(facts)) == ("2.14.1", "cu126")
    assert choice(decide(facts | {"platform": {**LINUX, "wsl": True}})) == ("2.7.1", "cu118")


def test_a_gpu_of_unknown_arch_gets_no_gpu_build_and_never_silently_the_cpu(decide: Any) -> None:
    run = decide({"platform": LINUX, "gpus": [gpu(None)], "drivers": [driver("580.95.05")]})
    assert run.code == 3
    assert "arch-unknown" in {one["reason"] for one in run.data["rejected"]}
    assert "--backend cpu" in run.json["errors"][0]["hint"]


def test_a_backend_is_obeyed_where_there_is_no_gpu_and_judged_where_there_is_one(decide: Any) -> None:
    assert choice(decide({"platform": LINUX, "gpus": []}, "--backend", "cu130")) == ("2.15.0", "cu130")
    old = {"platform": LINUX, "gpus": [gpu("12.0")], "drivers": [driver("570.124.06")]}
    assert decide(old, "--backend", "cu130").code == 3
    assert choice(decide(old, "--backend", "cpu")) == ("2.15.0", "cpu")


def test_on_macos_the_backend_is_cpu_and_mps_is_said_in_a_message(decide: Any) -> None:
    run = decide({"platform": {"system": "macos", "machine": "arm64"}, "gpus": []})
    assert choice(run) == ("2.15.0", "cpu")
    assert "mps" in [message["code"] for message in run.json["messages"]]


# ── 7. locks ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["pylock.provision.toml", "pylock.torch.toml"])
def test_a_lock_names_its_schema_and_has_no_dot_in_its_name(settled: Person, name: str) -> None:
    import tomllib

    from packaging.pylock import Pylock

    lock = tomllib.loads((settled.folder / name).read_text())
    Pylock.from_dict(lock)
    ours = lock["tool"]["provision"]
    assert ours["schema"] == 1
    assert (ours["backend"], ours["channel"]) == ("cpu", "stable")
    assert re.fullmatch(r"pylock\.[^.]+\.toml", name)


@pytest.mark.parametrize("text", ["", "kept = 'by me'\n", 'lock-version = "1.0"\npackages = []\n'])
def test_a_file_without_our_table_is_never_replaced(newcomer: Person, text: str) -> None:
    for name in ("pylock.provision.toml", "pylock.torch.toml"):
        (newcomer.folder / name).write_text(text)
    assert newcomer.run("--torch", "2.9.1").code == 0
    newcomer.run("lock")
    for name in ("pylock.provision.toml", "pylock.torch.toml"):
        assert (newcomer.folder / name).read_text() == text


# ── 8. across versions ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_newer_provision_wrote_is_refused_with_what_to_do(settled: Person, decide: Any) -> None:
    run = decide({"schema": 2, "platform": LINUX, "gpus": []})
    assert run.code == 9
    assert run.json["errors"][0]["code"] == "schema-too-new"
    newer = (settled.folder / "pylock.torch.toml").read_text().replace("schema = 1", "schema = 2")
    (settled.folder / "pylock.newer.toml").write_text(newer)
    run = settled.run("sync", "pylock.newer.toml", "--json")
    assert run.code == 9
    assert "update" in run.json["errors"][0]["hint"]


def test_a_capture_is_replayed_and_holds_no_name_of_this_machine(tmp_path: Path, scenery: Server) -> None:
    uuid = "GPU-5a0c1f6e-1d2b-4c3a-9e8f-7b6a5d4c3b2a"
    card = stand_in.gpu("NVIDIA GeForce RTX 5090", "12.0", 32607, uuid=uuid)
    owner = Person(tmp_path / "owner", stand_in.environment(base=scenery.environ(), gpus=[card]))
    folder = tmp_path / "capture"
    assert owner.run("detect", "--capture", str(folder)).code == 0
    assert owner.run("detect", "--json").data["gpus"][0]["uuid"] == uuid
    replayed = owner.run("detect", "--from", str(folder), "--json").data
    assert [one["arch"] for one in replayed["gpus"]] == ["12.0"]
    written = "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
    assert f'"{platform.node()}"' not in written
    assert uuid not in written
    assert json.loads((folder / "capture.json").read_text())["schema"] == 1


def test_even_a_bug_is_one_object(tmp_path: Path) -> None:
    """A fault that nobody foresaw: the object on stdout, the traceback on stderr."""
    program = (
        "import sys; from provision import upkeep; from provision.cli import serve\n"
        "def fault(*_, **__): raise LookupError('unforeseen')\n"
        "upkeep.explain = fault\n"
        "sys.exit(serve(['explain', 'network', '--json']))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    answer = json.loads(run.stdout)
    assert (run.returncode, answer["exit_code"], answer["status"]) == (1, 1, "error")
    assert answer["errors"][0]["code"] == "bug"
    assert "LookupError: unforeseen" in run.stderr
