"""What does one file hold? Values only; `files` fills them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    ELF = "elf"
    PE = "pe"
    COFF = "coff"
    ARCHIVE = "archive"
    FATBIN = "fatbin"
    CUBIN = "cubin"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image in a container: `arch` is `sm_90a` (a cubin) or `compute_120` (PTX, of the ISA version `isa`).

    A `zstd` image needs driver 550.54 (CUDA 12.4) or later.
    """

    arch: str
    isa: str | None = None
    zstd: bool = False

    @property
    def ptx(self) -> bool:
        return self.isa is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`count` containers hold just these images. `relocatable` ones are link inputs; a `stub` holds no kernel."""

    images: tuple[Image, ...]
    count: int
    relocatable: bool = False
    stub: bool = False

    @property
    def loadable(self) -> bool:
        return not (self.relocatable or self.stub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What one file holds.

    `unread` are reasons for which nothing can be concluded (code outside the sections, a damaged container);
    `unknown` are entries that were met and not understood: they can add to what is listed, never take away from it.
    `bare` says that the file is a cubin by itself, whose `a` or `f` suffix cannot be seen.
    """

    format: Format
    profiles: tuple[Profile, ...] = ()
    wrappers: int | None = None
    bare: bool = False
    unread: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def loadable(self) -> tuple[Profile, ...]:
        """The containers from which the driver loads code: not relocatable, no stubs."""
        return tuple(profile for profile in self.profiles if profile.loadable)

    @property
    def containers(self) -> int:
        """How many containers the driver loads code from."""
        return sum(profile.count for profile in self.loadable)

    @property
    def stubs(self) -> int:
        return sum(profile.count for profile in self.profiles if profile.stub)

    @property
    def cubins(self) -> tuple[str, ...]:
        """The cubins of the loadable containers, by architecture."""
        return _archs(self.loadable, ptx=False)

    @property
    def ptx(self) -> tuple[str, ...]:
        """The PTX of the loadable containers."""
        return _archs(self.loadable, ptx=True)

    @property
    def ptx_isa(self) -> tuple[str, ...]:
        """The PTX ISA versions of the loadable containers; 9.0 needs a driver that serves CUDA 13.0."""
        found = {image.isa for profile in self.loadable for image in profile.images if image.isa}
        return tuple(sorted(found, key=lambda isa: tuple(map(int, isa.split(".")))))

    @property
    def zstd(self) -> bool:
        """Whether some loadable code is compressed with zstd, which needs driver 550.54 (CUDA 12.4) or later."""
        return any(image.zstd for profile in self.loadable for image in profile.images)

    @property
    def every_container(self) -> tuple[str, ...]:
        """The cubins that every loadable container holds."""
        held = [{image.arch for image in profile.images if not image.ptx} for profile in self.loadable]
        return tuple(sorted(set.intersection(*held), key=_by_number)) if held else ()

    @property
    def relocatable(self) -> tuple[str, ...]:
        """Cubins and PTX that are link inputs only; the driver may relink them, it never loads them directly."""
        link = tuple(profile for profile in self.profiles if profile.relocatable and not profile.stub)
        return _archs(link, ptx=False) + _archs(link, ptx=True)

    @property
    def has_code(self) -> bool:
        """Whether there is any sign of GPU code in the file."""
        return bool(self.profiles or self.unread or self.unknown or self.wrappers)

    def entries(self) -> Counter[str]:
        """How often each image occurs, over all containers: what `cuobjdump -all --list-elf --list-ptx` lists."""
        counts: Counter[str] = Counter()
        for profile in self.profiles:
            for image in profile.images:
                counts[image.arch] += profile.count
        return counts


def _archs(profiles: tuple[Profile, ...], *, ptx: bool) -> tuple[str, ...]:
    found = {image.arch for profile in profiles for image in profile.images if image.ptx is ptx}
    return tuple(sorted(found, key=_by_number))


def _by_number(arch: str) -> tuple[int, str]:
    number = arch.partition("_")[2]
    return int(number.rstrip("af")), number
