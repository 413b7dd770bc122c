"""What do the indexes publish? Values: wheels under backends, and wheels of the default package index."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .torchwheel import Behaviour, standin_files, toolkit, torch_wheel, wheel_tag
from .wheel import Wheel, normalize, wheel


@dataclass(frozen=True, kw_only=True)
class Tree:
    """`pytorch` is keyed by the path below `/whl/`: `cu130`, `nightly/cu130`, `test/cu134`."""

    pytorch: Mapping[str, Sequence[Wheel]] = field(default_factory=dict)
    packages: Sequence[Wheel] = ()


def by_project(wheels: Iterable[Wheel]) -> dict[str, list[Wheel]]:
    """Wheels under their normalized project names."""
    projects: dict[str, list[Wheel]] = {}
    for one in wheels:
        projects.setdefault(normalize(one.name), []).append(one)
    return projects


def standard_tree(
    *,
    behaviour: Mapping[str, Behaviour] | None = None,
    without: Iterable[str] = (),
    pytorch: Mapping[str, Sequence[Wheel]] | None = None,
    packages: Sequence[Wheel] = (),
) -> Tree:
    """The scene of 2026-11: torch 2.6.0 to 2.15.0 on the PyTorch index, everything else on the default index.

    `behaviour` maps a torch (`2.15.0+cu130`) to how it misbehaves, `without` leaves torches out, `pytorch` and
    `packages` are further wheels.
    """
    index: dict[str, list[Wheel]] = {}
    plain: list[Wheel] = []
    left_out = set(without)
    for release in _table()["release"]:
        for platform, builds in release["platforms"].items():
            pythons = release.get(f"{platform.split('-')[0]}_pythons", release["pythons"]).split()
            for backend, arches in builds.items():
                if f"{release['torch']}+{backend}" in left_out:
                    continue
                how = (behaviour or {}).get(f"{release['torch']}+{backend}", "good")
                index.setdefault(backend, []).extend(
                    _family(release, backend, platform, pythons, tuple(arches.split()), how)
                )
                if release["plain"].get(platform) == backend:
                    plain.extend(_plain(release, backend, platform, pythons, tuple(arches.split()), how))
    for backend, wheels in index.items():
        wheels.extend(_shared(backend))
    for path, more in [*_nightly().items(), *(pytorch or {}).items()]:
        index.setdefault(path, []).extend(more)
    return Tree(pytorch=index, packages=[*plain, *_everything_else(), *packages])


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "releases.toml").read_text(encoding="utf-8"))


def _family(
    release: Mapping[str, Any],
    backend: str,
    platform: str,
    pythons: Sequence[str],
    arches: tuple[str, ...],
    behaviour: Behaviour,
    *,
    local: bool = True,
) -> list[Wheel]:
    """torch, torchvision and torchaudio of one release and backend, a wheel for each Python."""
    torch, vision, audio = release["torch"], release["torchvision"], release.get("torchaudio")
    suffix = f"+{backend}" if local and not platform.startswith("macos") else ""
    needs = _torch_needs(release, backend, platform)
    wheels = []
    for python in pythons:
        tag = wheel_tag(platform, python)
        wheels.append(torch_wheel(torch, backend, python, platform, arches, behaviour, needs, local))
        pin = "torch>=2.14.0" if vision in ("0.29.1", "0.29.2") else f"torch=={torch}"
        wheels.append(_companion("torchvision", vision + suffix, tag, ("numpy", pin, "pillow>=5.3.0")))
        if audio:
            needs_torch = () if audio == "2.11.0" else (f"torch=={torch}",)
            wheels.append(_companion("torchaudio", audio + suffix, tag, needs_torch))
        if platform.startswith("linux") and toolkit(backend):
            wheels.append(_companion("triton", release["triton"], tag))
    return wheels


def _plain(release: Mapping[str, Any], backend: str, *rest: Any) -> list[Wheel]:
    """The same as the default package index has it: no local version."""
    return _family(release, backend, *rest, local=False)


@cache
def _companion(name: str, version: str, tag: str, requires: tuple[str, ...] = ()) -> Wheel:
    files = {**standin_files(name), f"{name}/version.py": f"__version__ = {version!r}\n".encode()}
    return wheel(name, version, tag=tag, requires=requires, files=files)


def _torch_needs(release: Mapping[str, Any], backend: str, platform: str) -> tuple[str, ...]:
    """The CUDA wheels and triton: on Linux only, since the Windows wheels carry the CUDA DLLs themselves."""
    if not platform.startswith("linux") or not toolkit(backend):
        return ()
    minor = int(release["torch"].split(".")[1])
    operator = "~=" if minor >= 14 else "=="
    cuda = _table()["toolkits"][backend]
    if backend.startswith("cu13") and minor >= 11:
        cuda = [f"cuda-toolkit[cublas,cudart]=={_toolkit_version(backend)}", *cuda[2:]]
    return tuple(f'{need}; platform_system == "Linux"' for need in [*cuda, f"triton{operator}{release['triton']}"])


def _toolkit_version(backend: str) -> str:
    return {"cu130": "13.0.2", "cu132": "13.2.2"}[backend]


_SMALL = (
    "mpmath==1.3.0",
    "markupsafe==3.0.3",
    "pillow==12.0.0",
    "setuptools==80.9.0",
    "sympy==1.14.0",
    "jinja2==3.1.6",
)

_OLDER = ("filelock==3.19.1", "typing-extensions==4.15.0", "networkx==3.5", "fsspec==2025.9.0", "numpy==2.3.3")
"""Small packages as the PyTorch index carries them beside torch: often older than elsewhere."""

_NEWER = ("filelock==4.2.11", "typing-extensions==4.16.0", "networkx==3.6.1", "fsspec==2026.9.0", "numpy==2.3.5")
"""The same on the default package index."""

_NEEDS = {"sympy": ("mpmath<1.4,>=1.1.0",), "jinja2": ("markupsafe>=2.0",)}


@cache
def _shared(backend: str) -> tuple[Wheel, ...]:
    """What a backend's folder of the PyTorch index holds beside the torch family."""
    return (*_pinned(_SMALL + _OLDER), *_cuda_wheels(backend))


@cache
def _pinned(pins: tuple[str, ...]) -> tuple[Wheel, ...]:
    split = [pin.split("==") for pin in pins]
    return tuple(wheel(name, version, requires=_NEEDS.get(name, ())) for name, version in split)


@cache
def _cuda_wheels(backend: str) -> tuple[Wheel, ...]:
    pins = [pin.split("==") for pin in _table()["toolkits"].get(backend, ())]
    wheels = [wheel(name, version, files=_cuda_files(name)) for name, version in pins]
    if backend.startswith("cu13") and pins:
        extras = {"cublas": [f"{pins[0][0]}=={pins[0][1]}"], "cudart": [f"{pins[1][0]}=={pins[1][1]}"]}
        wheels.append(wheel("cuda-toolkit", _toolkit_version(backend), extras=extras))
    return tuple(wheels)


def _cuda_files(name: str) -> dict[str, bytes | str]:
    """Up to CUDA 12 a package each below `nvidia`, whose `__init__.py` they all own; from 13 on one folder for all."""
    part, _, suffix = name.removeprefix("nvidia-").partition("-cu1")
    part = part.replace("-", "_")
    if suffix in ("1", "2"):
        return {"nvidia/__init__.py": "", f"nvidia/{part}/__init__.py": "", f"nvidia/{part}/lib/__init__.py": ""}
    return {f"nvidia/cu13/include/{part}.h": f"/* {part} */\n"}


@cache
def _everything_else() -> tuple[Wheel, ...]:
    """The default package index without torch: newer small packages, every toolkit, and two that hold torch."""
    cuda = [one for backend in _table()["toolkits"] for one in _cuda_wheels(backend)]
    return (
        *_pinned(_SMALL + _NEWER),
        *{(one.name, one.version): one for one in cuda}.values(),
        wheel("bitsandbytes", "0.50.2", requires=["torch<3,>=2.4", "numpy>=1.17", "packaging>=20.9"]),
        wheel("xformers", "0.0.35", requires=["torch>=2.10", "numpy"]),
        wheel("packaging", "26.3"),
    )


@cache
def _nightly() -> dict[str, tuple[Wheel, ...]]:
    """Nightly and test channels: a git version of triton that exists nowhere else, and a candidate left behind."""
    index: dict[str, list[Wheel]] = {"cu134": [*_pinned(_SMALL + _OLDER)]}
    newest = _table()["release"][-1]
    pythons = newest["pythons"].split()
    for backend, arches in {"cpu": (), "cu130": _NIGHTLY_CODE, "cu134": _NIGHTLY_CODE}.items():
        wheels = index.setdefault(f"nightly/{backend}", [])
        for day in (6, 7, 8, 9):
            version = f"2.16.0.dev202610{day:02}"
            needs = ('triton==3.9.0+git1b0b0a2e; platform_system == "Linux"',) if arches else ()
            for python in pythons:
                wheels.append(torch_wheel(version, backend, python, "linux-x86_64", arches, "good", needs))
                tag = wheel_tag("linux-x86_64", python)
                vision = f"0.30.0.dev202610{day:02}+{backend}"
                wheels.append(_companion("torchvision", vision, tag, ("numpy", f"torch=={version}", "pillow>=5.3.0")))
        if arches:
            tags = [wheel_tag("linux-x86_64", python) for python in pythons]
            wheels.extend(_companion("triton", "3.9.0+git1b0b0a2e", tag) for tag in tags)
        wheels.extend(_pinned(_SMALL + _OLDER))
    index["test/cu134"] = [
        torch_wheel("2.14.0", "cu134", python, "linux-x86_64", _NIGHTLY_CODE[:-1]) for python in pythons
    ]
    return {path: tuple(wheels) for path, wheels in index.items()}


_NIGHTLY_CODE = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
