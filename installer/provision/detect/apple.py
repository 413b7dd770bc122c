"""Is this Apple silicon? `sysctl` names the chip, which is the GPU, and the memory that both share."""

from __future__ import annotations

import re

from ..host import Host
from ..machine import Driver, Vendor
from .answer import TIMEOUT, Answer, Seen, facts_of

KEYS = ("machdep.cpu.brand_string", "hw.memsize", "kern.osproductversion", "sysctl.proc_translated")


def ask_apple(host: Host) -> Answer:
    """The chip's GPU; a Mac with an Intel processor has none that torch can use."""
    try:
        answer = host.run(["sysctl", *KEYS], timeout=TIMEOUT)
    except OSError as error:
        return Answer.nothing("sysctl", error.strerror or str(error))
    if answer.timed_out:
        return Answer.nothing("sysctl", f"did not answer within {TIMEOUT:g} s", silent=True)
    return parse_sysctl(answer.stdout)


def parse_sysctl(text: str) -> Answer:
    """`machdep.cpu.brand_string: Apple M2 Max\\nhw.memsize: 34359738368\\n…` → the GPU."""
    values = dict(re.findall(r"^([\w.]+): (.*)$", text, re.M))
    chip = values.get("machdep.cpu.brand_string", "")
    version = values.get("kern.osproductversion")
    facts = facts_of(
        "sysctl", macos__version=version, macos__chip=chip or None, macos__rosetta=values.get("sysctl.proc_translated")
    )
    if not chip.startswith("Apple "):
        return Answer.nothing("sysctl", f"the processor is {chip or 'unnamed'}, not Apple silicon", facts=facts)
    memory = values.get("hw.memsize", "")
    gpu = Seen(vendor=Vendor.APPLE, index=0, name=chip, memory_mib=int(memory) >> 20 if memory.isdigit() else None)
    driver = Driver(vendor=Vendor.APPLE, version=version, source="sysctl")
    return Answer(source="sysctl", gpus=(gpu,), drivers=(driver,), facts=facts)
