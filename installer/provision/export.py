"""How is a choice said to other tools? Dockerfile, requirements, uv's project, shell settings, a CI job. Pure texts.

Each function takes one `Choice` and returns the whole file. The wheels bring CUDA with them, so an image needs the
driver of its host and nothing else of NVIDIA's; a CUDA base image is for who compiles in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .catalog import Build, SourceKind
from .errors import UsageProblem
from .machine import System
from .uv import Wanted
from .values import frozen

UBUNTU = (((12, 6), "24.04", "3.12"), ((0, 0), "22.04", "3.10"))
"""From which toolkit on NVIDIA's images stand on which Ubuntu, and the Python that it has. Source: the tags of
docker.io/nvidia/cuda, remembered and not read again (2026-11-20); each toolkit's first tag is X.Y.0."""

RUNNERS = {
    (System.LINUX, "x86_64"): "ubuntu-latest",
    (System.LINUX, "aarch64"): "ubuntu-24.04-arm",
    (System.WINDOWS, "x86_64"): "windows-latest",
    (System.WINDOWS, "aarch64"): "windows-11-arm",
    (System.MACOS, "aarch64"): "macos-latest",
}
"""GitHub's own runners: https://docs.github.com/actions/reference/runners/github-hosted-runners."""


@frozen
class Choice:
    """What was chosen, for which machine, and what goes with it.

    `pins` are the exact versions of torch and its companions, which come from `index_url` (None: from the default
    package index; one page of links where `flat`), as do the `needs`; `others` come from the user's own indexes, within
    the `constraints`. `arches` are the GPU architectures that count, in torch's spelling.
    """

    backend: str
    toolkit: str | None
    system: System
    machine: str
    python: str
    profile: str
    pins: Mapping[str, str]
    index_url: str | None
    flat: bool = False
    needs: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})

    @property
    def requirements(self) -> tuple[str, ...]:
        """Everything that is asked for by name, each name once, with all its bounds."""
        named = [*(f"{name}=={version}" for name, version in self.pins.items()), *self.needs, *self.others]
        bounds = [text for text in self.constraints if _name(text) in map(_name, self.others)]
        return merged([*named, *bounds])

    @property
    def required(self) -> tuple[str, ...]:
        """The architectures that `provision scan --require` knows: NVIDIA's."""
        return tuple(arch for arch in self.arches if arch.startswith("sm_")) if self.toolkit else ()


def choice_of(
    build: Build,
    wanted: Wanted,
    *,
    python: str,
    profile: str,
    arches: Iterable[str],
    gpus: Iterable[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Choice:
    """The choice of a build and what is wanted beside it (`wants.wanted_for`)."""
    plain = build.source.kind is SourceKind.PACKAGE_INDEX
    return Choice(
        backend=build.backend,
        toolkit=build.toolkit,
        system=build.system,
        machine=build.machine,
        python=python,
        profile=profile,
        pins={name: _exact(name, spec, build) for name, spec in wanted.family.items()},
        index_url=None if plain else build.index_url,
        flat=build.source.flat or build.source.kind is SourceKind.FIND_LINKS,
        needs=wanted.needs,
        others=wanted.others,
        constraints=wanted.constraints,
        arches=tuple(arches),
        gpus=tuple(dict.fromkeys(gpus)),
        environment=dict(environment),
    )


def _exact(name: str, spec: str, build: Build) -> str:
    """`0.26.0+cu128` of `==0.26.0`: companions carry torch's local version; one torchaudio is for every later torch."""
    version = spec.removeprefix("==")
    alone = name == "torchaudio" and version != str(build.torch)
    return version if "+" in version or build.local is None or alone else f"{version}+{build.local}"


# The kinds -----------------------------------------------------------------------------------------------------------


def requirements(choice: Choice) -> str:
    """A requirements file for pip and uv, without hashes (those are in the lock: `provision lock`)."""
    return _head(choice, "requirements") + "".join(
        f"{line}\n" for line in (*_index_lines(choice), *choice.requirements)
    )


def dockerfile(choice: Choice, *, cuda: bool = False) -> str:
    """A Dockerfile in three stages: install, check the binaries, keep what was checked. Raises UsageProblem.

    With `cuda` it stands on NVIDIA's development image of the toolkit that torch was made with, to compile in.
    """
    if choice.system is not System.LINUX:
        raise UsageProblem(
            f"a Dockerfile is for Linux, and the choice is for {choice.system.value}",
            hint="name the machine that will run it: --machine FILE, or provision export from there",
        )
    base, before = _base(choice, cuda)
    install = " \\\n      ".join([*_index_lines(choice), *map(_quoted, choice.requirements)])
    variables = {"PATH": "/opt/venv/bin:$PATH", "VIRTUAL_ENV": "/opt/venv", **choice.environment}
    if choice.toolkit:
        variables |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    run = " \\\n    ".join(f'{name}="{value}"' for name, value in variables.items())
    checks = "".join(f" --require {arch}" for arch in choice.required)
    checked = (
        f"\n# What is not proven is not built: the binaries must hold code for {', '.join(choice.required)}.\n"
        "FROM python:3.13-slim AS checked\n"
        "RUN pip install --no-cache-dir torch-provision\n"
        "COPY --from=installed /opt/venv /opt/venv\n"
        f"RUN provision scan /opt/venv{checks}\n"
    )
    return (
        f"{_head(choice, 'dockerfile' + (' --base cuda' if cuda else ''))}"
        f"FROM {base} AS installed\n{before}"
        f"RUN python3 -m venv /opt/venv\n"
        f"RUN /opt/venv/bin/pip install --no-cache-dir \\\n      {install}\n"
        f"{checked if choice.required else ''}"
        f"\nFROM {base}\n{before}"
        f"COPY --from={'checked' if choice.required else 'installed'} /opt/venv /opt/venv\n"
        f"ENV {run}\n"
    )


def _base(choice: Choice, cuda: bool) -> tuple[str, str]:
    """The image, and what has to be done in it before there is a Python."""
    if not cuda:
        return f"python:{choice.python}-slim", ""
    if choice.toolkit is None:
        raise UsageProblem(
            f"--base cuda is for CUDA, and the choice is {choice.backend}", hint="leave --base out: python slim will do"
        )
    major, minor = map(int, choice.toolkit.split("."))
    ubuntu, python = next((ubuntu, python) for since, ubuntu, python in UBUNTU if (major, minor) >= since)
    if choice.python != python:
        raise UsageProblem(
            f"NVIDIA's image for CUDA {choice.toolkit} is Ubuntu {ubuntu}, whose Python is {python}; "
            f"the choice is for Python {choice.python}",
            code="python-of-image",
            hint=f"provision export dockerfile --base cuda --python {python}",
        )
    packages = "python3 python3-dev python3-venv"
    before = f"RUN apt-get update && apt-get install --no-install-recommends --yes {packages} && apt-get clean\n"
    return f"nvidia/cuda:{choice.toolkit}.0-devel-ubuntu{ubuntu}", before


def uv_project(choice: Choice) -> str:
    """The parts of a pyproject.toml by which uv takes torch and its companions from one index, and nothing else."""
    dependencies = "".join(f"  {_toml(one)},\n" for one in choice.requirements)
    text = (
        f"{_head(choice, 'uv')}"
        f'[project]\nname = "example"\nversion = "0.1.0"\nrequires-python = "=={choice.python}.*"\n'
        f"dependencies = [\n{dependencies}]\n"
        f"\n[tool.uv]\nenvironments = [{_toml(_marker(choice))}]\n"
    )
    if choice.index_url is None:
        return text
    name = _toml("torch" if choice.flat else f"pytorch-{choice.backend.replace('.', '')}")
    own = dict.fromkeys([*choice.pins, *map(_name, choice.needs)])
    sources = "".join(f"{one} = {{ index = {name} }}\n" for one in own)
    flat = 'format = "flat"\n' if choice.flat else ""
    return (
        f"{text}\n[tool.uv.sources]\n{sources}"
        f"\n[[tool.uv.index]]\nname = {name}\nurl = {_toml(choice.index_url)}\nexplicit = true\n{flat}"
    )


def _toml(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)


def _marker(choice: Choice) -> str:
    system = {System.LINUX: "linux", System.WINDOWS: "win32", System.MACOS: "darwin"}[choice.system]
    machine = {
        (System.WINDOWS, "x86_64"): "AMD64",
        (System.WINDOWS, "aarch64"): "ARM64",
        (System.MACOS, "aarch64"): "arm64",
    }.get((choice.system, choice.machine), choice.machine)
    return f"sys_platform == '{system}' and platform_machine == '{machine}'"


def environment(choice: Choice) -> str:
    """Shell settings under which extensions are compiled for these GPUs; for Windows they are PowerShell's."""
    settings = dict(choice.environment)
    after = []
    capabilities = [f"{arch[3:-1]}.{arch[-1]}" for arch in choice.required]
    if choice.toolkit:
        if capabilities:
            settings["TORCH_CUDA_ARCH_LIST"] = ";".join(capabilities)
        settings["FORCE_CUDA"] = "1"
        after = [
            f"# The compiler must be that of CUDA {choice.toolkit}, with which torch was made (nvcc --version):",
            f"# {_setting(choice, 'CUDA_HOME', _cuda_home(choice))}",
        ]
    elif choice.backend.startswith("rocm"):
        settings |= {"PYTORCH_ROCM_ARCH": ";".join(choice.arches)} if choice.arches else {}
        after = [f"# The compiler must be that of {choice.backend}, with which torch was made:"]
        after += [f"# {_setting(choice, 'ROCM_HOME', '/opt/rocm')}"]
    after += ["# An extension is compiled against the torch that is installed, not one of its own:"]
    after += ["# pip install --no-build-isolation --no-cache-dir PACKAGE"]
    lines = [_setting(choice, name, value) for name, value in settings.items()] + after
    return _head(choice, "env") + "".join(f"{line}\n" for line in lines)


def _cuda_home(choice: Choice) -> str:
    if choice.system is System.WINDOWS:
        return rf"C:\Program Files\NVIDIA GPU Computing Toolkit\CUDA\v{choice.toolkit}"
    return f"/usr/local/cuda-{choice.toolkit}"


def _setting(choice: Choice, name: str, value: str) -> str:
    return f'$env:{name} = "{value}"' if choice.system is System.WINDOWS else f'export {name}="{value}"'


def ci(choice: Choice) -> str:
    """A GitHub Actions job without a GPU: the lock is up to date, and what it installs holds code for the GPUs."""
    runner = RUNNERS.get((choice.system, choice.machine))
    if runner is None:
        raise UsageProblem(f"no runner is known for {choice.system.value} {choice.machine}", hint="--machine FILE")
    python = r".venv\Scripts\python" if choice.system is System.WINDOWS else ".venv/bin/python"
    requires = "".join(f" --require {arch}" for arch in choice.required)
    steps = [
        "uses: actions/checkout@v4",
        f'uses: actions/setup-python@v5\n        with:\n          python-version: "{choice.python}"',
        "run: pipx install torch-provision",
        f"run: provision lock {choice.profile} --check",
        "run: python -m venv .venv",
        f"run: {python} -m pip install --require-hashes --requirement requirements.{choice.profile}.txt",
        f"run: provision scan .venv{requires}",
    ]
    body = "".join(f"      - {step}\n" for step in steps)
    torch = choice.pins["torch"].partition("+")[0]
    options = [f"--torch {torch} --backend {choice.backend} --python {choice.python}"]
    options += [f"--gpu-arch {arch}" for arch in choice.required]
    again = " ".join(["provision lock", choice.profile, f"--for {choice.system}-{choice.machine}", *options])
    return (
        f"{_head(choice, 'ci')}"
        f"# pylock.{choice.profile}.toml and requirements.{choice.profile}.txt belong into the repository, made by\n"
        f"#   {again}\n"
        f"name: torch\non: [push, pull_request]\npermissions:\n  contents: read\n"
        f"jobs:\n  torch:\n    runs-on: {runner}\n    steps:\n{body}"
    )


KINDS: Mapping[str, Callable[[Choice], str]] = {
    "dockerfile": dockerfile,
    "requirements": requirements,
    "uv": uv_project,
    "env": environment,
    "ci": ci,
}
"""What `provision export KIND` writes."""


def merged(requirements: Iterable[str]) -> tuple[str, ...]:
    """Requirements of one package as one (pip refuses two); those for certain machines only stay as they are."""
    found: dict[str, Requirement] = {}
    for text in requirements:
        one = Requirement(text)
        key = text if one.marker or one.url else canonicalize_name(one.name)
        if key in found:
            found[key].specifier &= one.specifier
            found[key].extras |= one.extras
        else:
            found[key] = one
    return tuple(map(str, found.values()))


# Parts ---------------------------------------------------------------------------------------------------------------


def _head(choice: Choice, kind: str) -> str:
    """What it is for, and how it was made: a comment in every one of these languages."""
    what = " and ".join(choice.gpus or choice.arches) or "no GPU"
    arches = f" ({', '.join(choice.arches)})" if choice.arches and choice.gpus else ""
    torch = choice.pins["torch"]
    return (
        f"# torch {torch} for {what}{arches}: {choice.system.value} {choice.machine}, Python {choice.python}.\n"
        f"# Made by: provision export {kind}\n"
    )


def _index_lines(choice: Choice) -> tuple[str, ...]:
    """The option by which pip finds torch; its exact version can come from there alone."""
    if choice.index_url is None:
        return ()
    return (f"{'--find-links' if choice.flat else '--extra-index-url'} {_quoted(choice.index_url)}",)


def _quoted(word: str) -> str:
    return f"'{word}'" if re.search(r"[^\w+=.:/@-]", word) else word


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement
