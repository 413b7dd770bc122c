"""What this build was made of, and how it misbehaves. `torch_wheel` replaces this file."""

ARCHES: tuple[str, ...] = ()
"""The code in libtorch_cuda: `sm_90`, `compute_120`."""

BEHAVIOUR = "good"
