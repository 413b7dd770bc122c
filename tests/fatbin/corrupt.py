"""Damaged inputs: truncated, overwritten and rearranged copies of a sound one, the same ones on every run."""

from __future__ import annotations

import random
from collections.abc import Iterator

_EXTREMES = [0, 1, 7, 8, 15, 16, 63, 64, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


def damaged(sound: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """`count` damaged copies of `sound`."""
    dice = random.Random(seed)
    for _ in range(count):
        copy = bytearray(sound)
        for _ in range(dice.randint(1, 4)):
            _damage(copy, dice)
        yield bytes(copy)


def _damage(copy: bytearray, dice: random.Random) -> None:
    if not copy:
        return
    at = dice.randrange(len(copy))
    kind = dice.randrange(6)
    if kind == 0:
        del copy[at:]
    elif kind == 1:
        copy[at] = dice.randrange(256)
    elif kind == 2:  # a size or an offset, where headers are dense
        place = dice.randrange(0, min(len(copy), 512), 2)
        width = dice.choice([2, 4, 8])
        copy[place : place + width] = dice.choice(_EXTREMES).to_bytes(8, "little")[:width]
    elif kind == 3:  # the same near the end, where tables are
        place = max(0, len(copy) - dice.randrange(1, 512))
        width = dice.choice([2, 4, 8])
        copy[place : place + width] = dice.choice(_EXTREMES).to_bytes(8, "little")[:width]
    elif kind == 4:
        length = dice.randrange(1, 64)
        copy[at : at + length] = dice.randbytes(length)
    else:
        del copy[at : at + dice.randrange(1, 64)]
