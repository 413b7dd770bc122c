"""What is wrong with this machine, or good to know of it? A Machine goes in, findings come out, the gravest first.

When a situation holds is decided by a function of its own, from facts that detection kept; what it means and what to
do about it is a row of `data/situations.toml`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from ..checks import Finding, Severity
from ..machine import Machine
from . import driver, running
from .view import Rule, View


def situations(machine: Machine) -> tuple[Finding, ...]:
    """Every situation that holds, errors first, in the order of `RULES` (the cause before what follows from it)."""
    view = View(machine=machine)
    found = {code: evidence for code, rule in RULES.items() if (evidence := rule(view))}
    follow = {code for cause, codes in EXPLAINS.items() if cause in found for code in codes}
    findings = [finding(code, evidence) for code, evidence in found.items() if code not in follow]
    return tuple(sorted(findings, key=lambda each: list(Severity).index(each.severity)))


def finding(code: str, evidence: str) -> Finding:
    """The finding of a code, from its row."""
    row = explanations()[code]
    return Finding(
        code=code,
        severity=Severity(row["severity"]),
        title=row["title"],
        evidence=evidence,
        cause=row["cause"],
        remedy=row["remedy"],
    )


@functools.cache
def explanations() -> Mapping[str, Mapping[str, str]]:
    """The rows of `data/situations.toml` by code: severity, title, cause, remedy, source, read."""
    import tomllib

    with open(os.path.join(os.path.dirname(__file__), os.pardir, "data", "situations.toml"), "rb") as file:
        rows: dict[str, Any] = tomllib.load(file)
    return rows


RULES: Mapping[str, Rule] = {
    "container-no-gpu": driver.container_without_gpu,
    "container-no-compute": driver.container_without_compute,
    "container-lost-gpu": driver.container_lost_gpu,
    "nouveau": driver.nouveau,
    "gpu-passed-through": driver.passed_through,
    "secure-boot": driver.secure_boot,
    "hybrid-gpu-off": driver.hybrid_gpu_off,
    "kernel-module": driver.kernel_module,
    "driver-missing": driver.driver_missing,
    "driver-lib-mismatch": driver.library_mismatch,
    "driver-libraries-missing": driver.libraries_missing,
    "driver-too-old-for-gpu": driver.too_old,
    "driver-dropped-gpu": driver.dropped,
    "no-devices": driver.no_devices,
    "wsl-no-gpu": running.wsl_without_gpu,
    "wsl-linux-driver": running.wsl_linux_driver,
    "cuda-stub-library": running.stub_library,
    "cuda-compat-804": running.cuda_error(804),
    "error-802": running.cuda_error(802),
    "error-803": running.cuda_error(803),
    "error-999-suspend": running.cuda_error(999),
    "cuda-init": running.cuda_failure,
    "driver-hangs": running.hanging_driver,
    "gpu-lost": running.lost_gpu,
    "mig-without-instances": running.mig_without_instances,
    "cuda-visible-devices-empty": running.all_hidden,
    "amd-driver-missing": driver.amd_driver,
    "intel-driver-missing": driver.intel_driver,
    "arch-unknown": running.unknown_arch,
    "cuda-compat": running.compat_library,
    "cuda-visible-devices-wrong": running.wrong_entry,
    "gpu-not-served": driver.not_served,
    "arch-guessed": running.guessed_arch,
    "device-nodes": driver.stray_nodes,
    "rosetta": running.rosetta,
    "no-gpu": driver.no_gpu,
    "wsl-old-nvml": running.wsl_old_nvml,
    "mig": running.mig,
    "vgpu": running.vgpu,
    "jetson": running.jetson,
    "mixed-gpus": running.mixed_gpus,
    "cuda-visible-devices": running.some_hidden,
    "nvidia-visible-devices": running.ignored_variable,
    "hsa-override": running.renamed_target,
}
"""When each situation holds, the likeliest causes first."""

EXPLAINS: Mapping[str, frozenset[str]] = {
    "driver-lib-mismatch": frozenset({"error-803", "cuda-init"}),
    "cuda-stub-library": frozenset({"cuda-init", "error-999-suspend", "wsl-linux-driver"}),
    "wsl-linux-driver": frozenset({"cuda-init", "error-803", "error-999-suspend"}),
    "container-lost-gpu": frozenset({"error-999-suspend", "no-gpu"}),
    "wsl-no-gpu": frozenset({"no-gpu"}),
    "no-devices": frozenset({"cuda-init"}),
    "gpu-lost": frozenset({"error-999-suspend", "cuda-init"}),
}
"""A situation and those that only follow from it: they would be said twice."""
