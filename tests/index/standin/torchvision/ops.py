"""Non-maximum suppression on boxes of [x1, y1, x2, y2], in plain Python."""

from __future__ import annotations

from typing import Any

import torch


def nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """The indices of the boxes that are kept, the best first."""
    corners, rating = boxes.cpu().tolist(), scores.cpu().tolist()
    kept: list[int] = []
    for one in sorted(range(len(rating)), key=lambda place: -rating[place]):
        if all(_overlap(corners[one], corners[other]) <= threshold for other in kept):
            kept.append(one)
    return torch.tensor(kept)


def _overlap(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)
