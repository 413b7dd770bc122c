"""What do the rules ask of a machine? Its facts, put as questions."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..machine import Gpu, Machine, Vendor
from ..values import frozen


@frozen
class View:
    """A machine with the questions that the rules ask of it."""

    machine: Machine

    def fact(self, name: str) -> str | None:
        """The value of the first fact of that name, which is the most trusted source's."""
        return next((fact.value for fact in self.machine.facts if fact.name == name), None)

    def facts(self, name: str) -> list[str]:
        """All values of that name."""
        return [fact.value for fact in self.machine.facts if fact.name == name]

    def said(self, name: str, source: str) -> str | None:
        """What one source said."""
        return next((fact.value for fact in self.machine.facts if (fact.name, fact.source) == (name, source)), None)

    @property
    def nvidia(self) -> list[Gpu]:
        return [gpu for gpu in self.machine.gpus if gpu.vendor is Vendor.NVIDIA]

    @property
    def driver(self) -> str | None:
        """The version of NVIDIA's usable driver."""
        driver = self.machine.driver(Vendor.NVIDIA)
        return driver.version if driver else None

    @property
    def usable(self) -> bool:
        return self.machine.driver(Vendor.NVIDIA) is not None

    @property
    def nodes(self) -> list[str]:
        """The device nodes, or none."""
        return (self.fact("device-nodes") or "").split()

    @property
    def has_nodes(self) -> bool:
        return any(node.startswith("nvidia") and node[6:].isdigit() for node in self.nodes) or "dxg" in self.nodes

    @property
    def tegra(self) -> bool:
        return self.fact("tegra.soc") is not None or self.fact("tegra.release") is not None

    @property
    def on_pci(self) -> list[str]:
        """NVIDIA's display devices, as `nouveau (nvidia:0x2b85 at 0000:01:00.0)`."""
        return [value for value in self.facts("pci.driver-bound") if "(nvidia:" in value]

    @property
    def module(self) -> str | None:
        return self.fact("nvidia.module-version")

    @property
    def library(self) -> str | None:
        """The path of libcuda: the one that was loaded, else the one that the loader would take."""
        return self.fact("nvidia.libcuda-loaded") or self.fact("nvidia.libcuda")

    @property
    def compat(self) -> bool:
        """Whether libcuda is one of a cuda-compat package."""
        return "compat" in (self.library or "")

    @property
    def cuda_error(self) -> int | None:
        """What cuInit answered; None if it was not asked."""
        match = re.search(r"\((\d+)\)$", self.fact("cuda.init") or "")
        return int(match[1]) if match else None

    @property
    def nvml_error(self) -> int | None:
        """What nvmlInit answered; None if it went well or was not asked."""
        match = re.match(r"NVML error (\d+)", self.fact("nvml.init") or "")
        return int(match[1]) if match else None

    @property
    def visible(self) -> list[str] | None:
        """The entries of CUDA_VISIBLE_DEVICES; None if it is not set."""
        value = self.fact("env.CUDA_VISIBLE_DEVICES")
        return None if value is None else [word.strip() for word in value.split(",")]


Rule = Callable[[View], str | None]
"""A rule gives the evidence where its situation holds, and None where it does not."""
