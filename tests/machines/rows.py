"""The composed machines: a card, a driver, a situation, and what must be said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from compose import (
    LIB,
    NO_FILE,
    Capture,
    Nvidia,
    add,
    answer_gpu,
    cuda_lines,
    driver_row,
    libraries,
    linux,
    module,
    nvml_lines,
    on_bus,
    only_pci,
    other_gpu,
    plain,
    platform,
    smi,
    with_nvidia,
)


def nvidia(name: str, arch: str, memory: int, id: str) -> Nvidia:
    return Nvidia(name=name, arch=arch, memory=memory, id=id)


GTX_680 = nvidia("NVIDIA GeForce GTX 680", "3.0", 2002, "1180")
K80 = nvidia("Tesla K80", "3.7", 11441, "102d")
GTX_750_TI = nvidia("NVIDIA GeForce GTX 750 Ti", "5.0", 2000, "1380")
GTX_980_TI = nvidia("NVIDIA GeForce GTX 980 Ti", "5.2", 6083, "17c8")
GTX_1050_TI = nvidia("NVIDIA GeForce GTX 1050 Ti", "6.1", 4096, "1c82")
GTX_1080 = nvidia("NVIDIA GeForce GTX 1080", "6.1", 8192, "1b80")
GTX_1080_TI = nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1", 11264, "1b06")
P100 = nvidia("Tesla P100-PCIE-16GB", "6.0", 16384, "15f8")
V100 = nvidia("Tesla V100-SXM2-32GB", "7.0", 32768, "1db5")
GTX_1650 = nvidia("NVIDIA GeForce GTX 1650", "7.5", 4096, "1f82")
RTX_2080_TI = nvidia("NVIDIA GeForce RTX 2080 Ti", "7.5", 11264, "1e07")
T4 = nvidia("Tesla T4", "7.5", 15360, "1eb8")
A100 = nvidia("NVIDIA A100-SXM4-80GB", "8.0", 81920, "20b2")
A10 = nvidia("NVIDIA A10", "8.6", 23028, "2236")
RTX_2050 = nvidia("NVIDIA GeForce RTX 2050", "8.6", 4096, "25ad")
RTX_3050_A = nvidia("NVIDIA GeForce RTX 3050 A Laptop GPU", "8.9", 4096, "28a3")
RTX_3060 = nvidia("NVIDIA GeForce RTX 3060", "8.6", 12288, "2487")
RTX_3090 = nvidia("NVIDIA GeForce RTX 3090", "8.6", 24576, "2204")
RTX_4090 = nvidia("NVIDIA GeForce RTX 4090", "8.9", 24564, "2684")
L4 = nvidia("NVIDIA L4", "8.9", 23034, "27b8")
L40S = nvidia("NVIDIA L40S", "8.9", 46068, "26b9")
H100 = nvidia("NVIDIA H100 80GB HBM3", "9.0", 81559, "2330")
H200 = nvidia("NVIDIA H200", "9.0", 143771, "2335")
GH200 = nvidia("NVIDIA GH200 480GB", "9.0", 97871, "2342")
B200 = nvidia("NVIDIA B200", "10.0", 183359, "2901")
GB200 = nvidia("NVIDIA GB200", "10.0", 189471, "2941")
B300 = nvidia("NVIDIA B300 SXM6 AC", "10.3", 275040, "3182")
RTX_5060_TI = nvidia("NVIDIA GeForce RTX 5060 Ti", "12.0", 16311, "2d04")
RTX_5070_LAPTOP = nvidia("NVIDIA GeForce RTX 5070 Laptop GPU", "12.0", 8151, "2d18")
RTX_5090 = nvidia("NVIDIA GeForce RTX 5090", "12.0", 32607, "2b85")
RTX_PRO_6000 = nvidia("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "12.0", 97887, "2bb1")
GB10 = Nvidia(name="NVIDIA GB10", arch="12.1", memory=None, id="2e12")
THOR = Nvidia(name="NVIDIA Thor", arch="11.0", memory=None, id="2b00")

NVIDIA_580 = ("580.95.05", "13.0")
ARM = {"machine": "aarch64", "release": "6.8.0-1041-nvidia-64k"}


def fill() -> None:
    generations()
    tegra()
    others()
    without_gpu()
    windows_and_wsl()
    no_driver()
    wrong_driver()
    containers()
    libraries_astray()
    states()
    variables()


def generations() -> None:
    """From Kepler to Blackwell Ultra, on Linux, with a driver of their time."""
    plain("gtx-680--linux-470.256.02", [GTX_680], "470.256.02", "11.4", kind="proprietary")
    plain("2x-tesla-k80--linux-470.256.02", [K80, K80], "470.256.02", "11.4", kind="proprietary")
    plain("gtx-750-ti--linux-535.183.01", [GTX_750_TI], "535.183.01", "12.2", kind="proprietary")
    plain("gtx-980-ti--linux-580.95.05", [GTX_980_TI], *NVIDIA_580, kind="proprietary")
    plain("gtx-1050-ti--linux-525.147.05", [GTX_1050_TI], "525.147.05", "12.0", kind="proprietary")
    plain("gtx-1080-ti--linux-580.95.05", [GTX_1080_TI], *NVIDIA_580, kind="proprietary", audio=True)
    plain("tesla-p100-pcie-16gb--linux-550.163.01", [P100], "550.163.01", "12.4", kind="proprietary")
    plain("tesla-v100-sxm2-32gb--linux-535.183.01", [V100], "535.183.01", "12.2", kind="proprietary")
    plain("gtx-1650--linux-575.64.03", [GTX_1650], "575.64.03", "12.9")
    plain("rtx-2080-ti--linux-590.48.01", [RTX_2080_TI], "590.48.01", "13.1")
    plain("tesla-t4--linux-450.248.02", [T4], "450.248.02", "11.0", kind="proprietary")
    switches = linux()
    for place in range(6):
        switches.device("10DE", "1AF1", "68000", bus=f"0000:c{place}:00.0", driver="nvidia-nvswitch")
    plain("8x-a100-sxm4-80gb--linux-570.124.06", [A100] * 8, "570.124.06", "12.8", base=switches)
    plain("a10--linux-535.183.01", [A10], "535.183.01", "12.2")
    plain("rtx-2050--linux-560.35.03", [RTX_2050], "560.35.03", "12.6")
    plain("rtx-3050-a-laptop--linux-570.124.06", [RTX_3050_A], "570.124.06", "12.8")
    plain("rtx-3090--linux-580.95.05", [RTX_3090], *NVIDIA_580, audio=True)
    plain("rtx-4090--linux-535.183.01", [RTX_4090], "535.183.01", "12.2", audio=True)
    plain("l4--linux-550.163.01", [L4], "550.163.01", "12.4")
    plain("4x-l40s--linux-580.95.05", [L40S] * 4, *NVIDIA_580)
    hopper = linux()
    for place in range(4):
        hopper.device("10DE", "22A3", "68000", bus=f"0000:c{place}:00.0", driver="nvidia-nvswitch")
    plain("8x-h100-80gb-hbm3--linux-570.124.06", [H100] * 8, "570.124.06", "12.8", base=hopper)
    plain("h200--linux-580.95.05", [H200], *NVIDIA_580)
    plain("8x-b200--linux-580.95.05", [B200] * 8, *NVIDIA_580)
    plain("8x-b300-sxm6-ac--linux-580.95.05", [B300] * 8, *NVIDIA_580)
    plain("rtx-5090--linux-570.124.06", [RTX_5090], "570.124.06", "12.8", audio=True)
    plain("rtx-5090--linux-580.95.05", [RTX_5090], *NVIDIA_580, audio=True)
    plain("rtx-5090--linux-610.57.04--new-header", [RTX_5090], "610.57.04", "13.3", header="new", nvml=True)
    plain("rtx-5060-ti--linux-615.71.09", [RTX_5060_TI], "615.71.09", "13.4")
    plain("rtx-pro-6000-blackwell-workstation-edition--linux-595.71.05", [RTX_PRO_6000], "595.71.05", "13.2")
    smi_only = with_nvidia([RTX_5060_TI], "610.57.04", "13.3", header="new", nvml=False, libcuda=False)
    smi_only.script("ask_nvml", [], code=1, stderr="ModuleNotFoundError: No module named 'pynvml'\n")
    smi_only.put("scripts", ask_cuda={"error": [13, "Permission denied"]})
    add(
        "rtx-5060-ti--linux-610.57.04--nvidia-smi-alone",
        smi_only,
        gpus=[answer_gpu(RTX_5060_TI, 0, source="nvidia-smi")],
        drivers=[driver_row("610.57.04", "13.3", source="nvidia-smi")],
    )
    for name, gpu, driver, cuda in [
        ("gh200-480gb--linux-aarch64-570.124.06", GH200, "570.124.06", "12.8"),
        ("gb200--linux-aarch64-580.95.05", GB200, *NVIDIA_580),
        ("gb10--linux-aarch64-580.95.05", GB10, *NVIDIA_580),
    ]:
        missing = [] if gpu.memory else ["memory"]
        add(
            name,
            with_nvidia([gpu], driver, cuda, base=linux(**ARM), missing=missing),
            platform=platform(machine="aarch64"),
            gpus=[answer_gpu(gpu, 0)],
            drivers=[driver_row(driver, cuda)],
        )


def jetson(soc: str, model: str, release: str, *, libc: str = "glibc 2.35") -> Capture:
    capture = Capture(machine="aarch64", release="5.15.148-tegra", libc=libc).nodes()
    major, _, minor = release.partition(".")
    capture.file("/etc/nv_tegra_release", f"# R{major} (release), REVISION: {minor}, GCID: 38968081, BOARD: generic\n")
    capture.file("/proc/device-tree/compatible", f"nvidia,p3737-0000+p3701-0005\0nvidia,{soc}\0")
    return capture.file("/proc/device-tree/model", model + "\0")


def tegra() -> None:
    """Jetsons: the GPU is not on PCI (but for Thor), and NVML is not there or answers in part."""
    arm = platform(machine="aarch64", libc=("glibc", "2.35"))
    tegra_lib = "/usr/lib/aarch64-linux-gnu/nvidia"

    thor = jetson("tegra264", "NVIDIA Jetson AGX Thor Developer Kit", "38.2.0", libc="glibc 2.39")
    on_bus(thor, [THOR])
    libraries(thor, "580.00", tegra_lib)
    module(thor, "580.00")
    old_name = replace(THOR, arch="10.1")
    thor.script("ask_nvml", nvml_lines([old_name], "580.00", "13.0", missing=["memory"]))
    thor.script("ask_cuda", cuda_lines([replace(THOR, memory=125772)], "13.0", f"{tegra_lib}/libcuda.so.1.1"))
    add(
        "thor--linux-aarch64-580.00",
        thor,
        platform=platform(machine="aarch64"),
        gpus=[answer_gpu(THOR, 0) | {"memory_mib": 125772}],
        drivers=[driver_row("580.00", "13.0")],
        findings=["jetson"],
    )

    orin6 = jetson("tegra234", "NVIDIA Jetson AGX Orin Developer Kit", "36.4.3")
    libraries(orin6, "540.4.0", tegra_lib)
    orin = Nvidia(name="Orin (nvgpu)", arch="8.7", memory=None, id="0")
    lines = nvml_lines([orin], "540.4.0", "12.6", missing=["memory", "name"])
    lines[5]["gpu"].pop("bus")
    lines[5]["gpu"] |= {"device": None, "uuid": None}
    orin6.script("ask_nvml", lines)
    orin6.script(
        "ask_cuda", cuda_lines([replace(orin, name="Orin", memory=30697)], "12.6", f"{tegra_lib}/libcuda.so.1.1")
    )
    header = "index, name, compute_cap, memory.total [MiB], uuid, pci.bus_id, pci.device_id, driver_version\n"
    query = (
        "/usr/sbin/nvidia-smi --query-gpu=" + header.strip().replace(" [MiB]", "").replace(", ", ",") + " --format=csv"
    )
    orin6.command(query, header + "0, Orin (nvgpu), [N/A], [N/A], [N/A], [N/A], [N/A], 540.4.0\n")
    orin6.command("/usr/sbin/nvidia-smi", "| NVIDIA-SMI 540.4.0   Driver Version: 540.4.0   CUDA Version: 12.6 |\n")
    orin6.put("tools", **{"nvidia-smi": "/usr/sbin/nvidia-smi"})
    add(
        "orin--linux-aarch64-540.4.0--jetpack-6",
        orin6,
        platform=arm,
        gpus=[other_gpu("nvidia", name="Orin", arch="8.7", memory_mib=30697, source="nvml")],
        drivers=[driver_row("540.4.0", "12.6")],
        findings=["jetson"],
    )

    orin5 = jetson("tegra234", "NVIDIA Orin NX Developer Kit", "35.4.1", libc="glibc 2.31")
    path = "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1"
    orin5.put("libraries", **{"libcuda.so.1": "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1"})
    orin5.put("real-paths", **{"/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1": path})
    orin5.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    orin5.script("ask_cuda", cuda_lines([replace(orin, name="Orin", memory=15388)], "11.4", path))
    add(
        "orin--linux-aarch64--jetpack-5",
        orin5,
        platform=platform(machine="aarch64", libc=("glibc", "2.31")),
        gpus=[other_gpu("nvidia", name="Orin", arch="8.7", memory_mib=15388, source="libcuda")],
        drivers=[driver_row(None, "11.4", source="libcuda")],
        findings=["jetson"],
    )

    nano = jetson("tegra210", "NVIDIA Jetson Nano Developer Kit", "32.7.4", libc="glibc 2.27")
    nano.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    nano.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    add(
        "jetson-nano-developer-kit--linux-aarch64-no-driver--jetpack-4",
        nano,
        platform=platform(machine="aarch64", libc=("glibc", "2.27")),
        gpus=[other_gpu("nvidia", name="NVIDIA Jetson Nano Developer Kit", arch="5.3", source="tegra")],
        findings=["jetson"],
    )


def kfd(capture: Capture, nodes: list[tuple[int, str, int]], *, location: int = 0x300) -> Capture:
    """AMD's compute topology: a processor, then GPUs as (gfx version, device id, MiB)."""
    folder = "/sys/class/kfd/kfd/topology/nodes"
    capture.put("folders", **{f"{folder}/*": [str(place) for place in range(len(nodes) + 1)]})
    capture.file(
        f"{folder}/0/properties", "cpu_cores_count 16\nsimd_count 0\nmem_banks_count 1\ngfx_target_version 0\n"
    )
    capture.file(f"{folder}/0/mem_banks/0/properties", "heap_type 0\nsize_in_bytes 68719476736\n")
    for place, (version, device, memory) in enumerate(nodes):
        text = f"cpu_cores_count 0\nsimd_count 192\nmem_banks_count 1\ngfx_target_version {version}\nvendor_id 4098\n"
        text += f"device_id {int(device, 16)}\nlocation_id {location + 0x100 * place}\ndomain 0\n"
        capture.file(f"{folder}/{place + 1}/properties", text)
        bank = f"heap_type 1\nsize_in_bytes {memory << 20}\nflags 0\nwidth 384\n"
        capture.file(f"{folder}/{place + 1}/mem_banks/0/properties", bank)
        bus = f"0000:{(location >> 8) + place:02x}:00.0"
        capture.device("1002", device, "30000", bus=bus, driver="amdgpu")
    return capture.nodes("kfd")


AMD_WORKS = driver_row(None, None, vendor="amd", source="kfd")


def amd(name: str, nodes: list[tuple[int, str, int]], archs: list[str], *findings: str, **how: str) -> None:
    gpus = [
        other_gpu("amd", index, arch=arch, memory_mib=memory, pci_device_id=f"0x{device}", source="kfd")
        for index, (arch, (_, device, memory)) in enumerate(zip(archs, nodes, strict=True))
    ]
    add(name, kfd(linux(), nodes).env(**how), gpus=gpus, drivers=[AMD_WORKS], findings=findings)


def others() -> None:
    """AMD, Intel, Apple."""
    amd("gfx1100--linux", [(110000, "744c", 24560)], ["gfx1100"])
    amd("gfx1030--linux", [(100300, "73bf", 16368)], ["gfx1030"])
    amd("gfx1201--linux", [(120001, "7550", 16304)], ["gfx1201"])
    amd(
        "gfx1103--linux--hsa-override",
        [(110003, "15bf", 16000)],
        ["gfx1103"],
        "hsa-override",
        HSA_OVERRIDE_GFX_VERSION="11.0.0",
    )
    amd("gfx1151--linux", [(110501, "1586", 98304)], ["gfx1151"])
    amd("8x-gfx942--linux", [(90402, "74a1", 196592)] * 8, ["gfx942"] * 8)
    amd("4x-gfx90a--linux", [(90010, "7408", 65520)] * 4, ["gfx90a"] * 4)
    amd("gfx1100+gfx1036--linux", [(110000, "744c", 24560), (100306, "164e", 512)], ["gfx1100", "gfx1036"])

    driver = linux().device("1002", "744C", "30000", bus="0000:03:00.0", driver="radeon")
    driver.put("folders", **{"/sys/class/kfd/kfd/topology/nodes/*": NO_FILE})
    unknown = other_gpu("amd", pci_device_id="0x744c", source="pci")
    add("amd-0x744c--linux-no-driver--amd-driver-missing", driver, gpus=[unknown], findings=["amd-driver-missing"])

    marketing = kfd(linux(), [(110000, "744c", 24560)]).put("tools", rocminfo="/opt/rocm/bin/rocminfo")
    marketing.file("/opt/rocm/.info/version", "6.4.3-128\n").file("/sys/module/amdgpu/version", "6.12.12\n")
    marketing.command("/opt/rocm/bin/rocminfo", ROCMINFO)
    add(
        "amd-radeon-rx-7900-xtx--linux-6.12.12",
        marketing,
        gpus=[
            other_gpu(
                "amd",
                name="AMD Radeon RX 7900 XTX",
                arch="gfx1100",
                memory_mib=24560,
                pci_device_id="0x744c",
                source="kfd",
            )
        ],
        drivers=[driver_row("6.12.12", None, vendor="amd", source="kfd")],
    )

    for name, device, label, bound in [
        ("intel-uhd-graphics-alder-lake--linux", "4680", "Intel UHD Graphics (Alder Lake)", "i915"),
        ("intel-arc-a-series-alchemist--linux", "56A0", "Intel Arc A-series (Alchemist)", "i915"),
        ("intel-arc-b-series-battlemage--linux", "E20B", "Intel Arc B-series (Battlemage)", "xe"),
        ("intel-arc-graphics-lunar-lake--linux", "64A0", "Intel Arc Graphics (Lunar Lake)", "xe"),
        ("intel-data-center-gpu-max-ponte-vecchio--linux", "0BD5", "Intel Data Center GPU Max (Ponte Vecchio)", "i915"),
        (
            "intel-arc-b-series-battlemage--linux-no-driver--intel-driver-missing",
            "E20B",
            "Intel Arc B-series (Battlemage)",
            None,
        ),
    ]:
        gpu = other_gpu("intel", name=label, pci_device_id=f"0x{device.lower()}", source="pci")
        drivers = [driver_row(None, None, vendor="intel", source=f"pci ({bound})")] if bound else []
        capture = linux().device("8086", device, "30000", bus="0000:00:02.0", driver=bound)
        add(name, capture, gpus=[gpu], drivers=drivers, findings=[] if bound else ["intel-driver-missing"])

    mac("apple-m1--macos-14.7.2", "Apple M1", 16, "14.7.2")
    mac("apple-m4-max--macos-26.1", "Apple M4 Max", 128, "26.1")
    mac("apple-m2--macos-15.3.1--rosetta", "Apple M2", 8, "15.3.1", "rosetta", machine="x86_64", rosetta="1")
    intel_mac = Capture(system="darwin", machine="x86_64", release="23.6.0", libc=None)
    intel_mac.command("sysctl -n sysctl.proc_translated", "", code=1, stderr="unknown oid 'sysctl.proc_translated'\n")
    intel_mac.command(
        SYSCTL, "machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz\nhw.memsize: 17179869184\n"
    )
    add("no-gpu--macos-x86_64", intel_mac, platform=platform("macos", "x86_64", None), findings=["no-gpu"])


SYSCTL = "sysctl machdep.cpu.brand_string hw.memsize kern.osproductversion sysctl.proc_translated"

ROCMINFO = """ROCk module version 6.12.12 is loaded
==========
HSA Agents
==========
*******
Agent 1
*******
  Name:                    AMD Ryzen 9 7950X 16-Core Processor
  Uuid:                    CPU-XX
  Marketing Name:          AMD Ryzen 9 7950X 16-Core Processor
  Device Type:             CPU
*******
Agent 2
*******
  Name:                    gfx1100
  Uuid:                    GPU-0000000000000000
  Marketing Name:          AMD Radeon RX 7900 XTX
  Vendor Name:             AMD
  Device Type:             GPU
  Chip ID:                 29772(0x744c)
  BDFID:                   768
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx1100
"""


def mac(
    name: str, chip: str, gib: int, version: str, *findings: str, machine: str = "arm64", rosetta: str = "0"
) -> None:
    capture = Capture(system="darwin", machine=machine, release="24.6.0", libc=None)
    if machine == "x86_64":
        capture.command("sysctl -n sysctl.proc_translated", rosetta + "\n")
    text = f"machdep.cpu.brand_string: {chip}\nhw.memsize: {gib << 30}\nkern.osproductversion: {version}\n"
    capture.command(SYSCTL, text + f"sysctl.proc_translated: {rosetta}\n")
    add(
        name,
        capture,
        platform=platform("macos", "aarch64", None),
        gpus=[other_gpu("apple", name=chip, memory_mib=gib << 10, source="sysctl")],
        drivers=[driver_row(version, None, vendor="apple", source="sysctl")],
        findings=findings,
    )


def without_gpu() -> None:
    """Nothing to compute on, each for another reason."""
    add("no-gpu--linux", linux(), findings=["no-gpu"])
    server = linux().device("1A03", "2000", "30000", bus="0000:03:00.0", driver="ast")
    add("no-gpu--linux--aspeed-server", server, findings=["no-gpu"])
    virtual = linux(libc="glibc 2.28", release="4.18.0-553.el8_10.x86_64")
    virtual.device("1234", "1111", "30000", bus="0000:00:02.0", driver="bochs-drm")
    add("no-gpu--linux--virtual-machine", virtual, platform=platform(libc=("glibc", "2.28")), findings=["no-gpu"])
    alpine = linux(libc=None, release="6.12.13-0-lts")
    alpine.put("folders", **{"/lib/ld-musl-*": ["ld-musl-x86_64.so.1"]})
    alpine.command(
        "/lib/ld-musl-x86_64.so.1",
        "",
        code=1,
        stderr="musl libc (x86_64)\nVersion 1.2.5\nDynamic Program Loader\nUsage: /lib/ld-musl-x86_64.so.1 [options]\n",
    )
    add("no-gpu--linux--musl", alpine, platform=platform(libc=("musl", "1.2.5")), findings=["no-gpu"])
    docker = linux().file("/.dockerenv", "")
    add("no-gpu--linux--docker", docker, platform=platform(container="docker"), findings=["no-gpu"])
    image = linux().file("/.dockerenv", "")
    libraries(image, "550.163.01")
    image.script("ask_nvml", [{"init": {"code": 9, "text": "Driver Not Loaded"}}])
    image.script(
        "ask_cuda", cuda_lines([], "12.4", f"{LIB}/libcuda.so.550.163.01", init=100, name="CUDA_ERROR_NO_DEVICE")
    )
    add("no-gpu--linux--libraries-in-the-image", image, platform=platform(container="docker"), findings=["no-gpu"])
    nodes = linux().nodes("nvidiactl")
    nodes.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    nodes.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    add("no-gpu--linux--device-nodes", nodes, findings=["device-nodes", "no-gpu"])
    sandbox = Capture(libc="glibc 2.36", release="4.4.0").put("folders", **{"/sys/bus/pci/devices/*": NO_FILE})
    sandbox.system = "linux"
    data = sandbox.data()
    data["folders"]["/sys/bus/pci/devices/*"] = NO_FILE
    sandbox.data = lambda: data  # type: ignore[method-assign]
    add("no-gpu--linux--no-sysfs", sandbox, platform=platform(libc=("glibc", "2.36")), findings=["no-gpu"])


DISPLAY = r"HKLM\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


def windows(*adapters: tuple[str, str, str]) -> Capture:
    """A Windows machine with display adapters as (name, matching device id, driver version)."""
    capture = Capture(system="win32", machine="AMD64", release="", libc=None)
    text = ""
    for place, (name, device, version) in enumerate(adapters):
        key = DISPLAY.replace("HKLM", "HKEY_LOCAL_MACHINE") + f"\\{place:04}"
        text += f"\n{key}\n    DriverDesc    REG_SZ    {name}\n    DriverVersion    REG_SZ    {version}\n"
        text += f"    MatchingDeviceId    REG_SZ    {device}\n"
    return capture.command(f"reg query {DISPLAY} /s", text)


SYSTEM32 = "C:\\Windows\\System32"


def windows_and_wsl() -> None:
    on_windows = platform("windows", "x86_64", None)
    nvidia_pci = "PCI\\VEN_10DE&DEV_2B85"

    works = windows(("NVIDIA GeForce RTX 5090", nvidia_pci, "32.0.15.8157"))
    works.put("libraries", **{"nvml.dll": f"{SYSTEM32}\\nvml.dll", "nvcuda.dll": f"{SYSTEM32}\\nvcuda.dll"})
    works.put("real-paths", **{f"{SYSTEM32}\\{name}": f"{SYSTEM32}\\{name}" for name in ("nvml.dll", "nvcuda.dll")})
    works.script("ask_nvml", nvml_lines([RTX_5090], "581.57", "13.0"))
    works.script("ask_cuda", [line for line in cuda_lines([RTX_5090], "13.0", "") if "library" not in line])
    smi(works, [RTX_5090], "581.57", "13.0", path=f"{SYSTEM32}\\nvidia-smi.EXE")
    add(
        "rtx-5090--windows-581.57",
        works,
        platform=on_windows,
        gpus=[answer_gpu(RTX_5090, 0)],
        drivers=[driver_row("581.57", "13.0")],
    )

    silent = windows(
        ("Intel(R) UHD Graphics 770", "PCI\\VEN_8086&DEV_4680", "31.0.101.2125"),
        ("NVIDIA GeForce RTX 5090", nvidia_pci, "32.0.15.7261"),
    )
    silent.put("libraries", **{"nvml.dll": f"{SYSTEM32}\\nvml.dll"})
    silent.script("ask_nvml", [], hangs=True)
    add(
        "rtx-5090+intel-r-uhd-graphics-770--windows-572.61--driver-hangs",
        silent,
        platform=on_windows,
        gpus=[
            other_gpu("intel", name="Intel(R) UHD Graphics 770", pci_device_id="0x4680", source="registry"),
            only_pci(RTX_5090) | {"source": "registry"},
        ],
        drivers=[
            driver_row("572.61", "12.8", source="registry"),
            driver_row("31.0.101.2125", None, vendor="intel", source="registry"),
        ],
        findings=["driver-hangs"],
    )

    radeon = windows(("AMD Radeon RX 7900 XTX", "PCI\\VEN_1002&DEV_744C&REV_C8", "32.0.21025.1024"))
    radeon_gpu = other_gpu("amd", name="AMD Radeon RX 7900 XTX", pci_device_id="0x744c", source="registry")
    add(
        "amd-radeon-rx-7900-xtx--windows-32.0.21025.1024",
        radeon,
        platform=on_windows,
        gpus=[radeon_gpu],
        drivers=[driver_row("32.0.21025.1024", None, vendor="amd", source="registry")],
    )

    basic = windows(("Microsoft Basic Display Adapter", "PCI\\CC_0300", "10.0.26100.1"))
    add("no-gpu--windows", basic, platform=on_windows, findings=["no-gpu"])

    add(
        "rtx-4090--wsl-581.57",
        wsl([RTX_4090], "581.57", "13.0"),
        platform=platform(wsl=True),
        gpus=[answer_gpu(RTX_4090, 0)],
        drivers=[driver_row("581.57", "13.0")],
    )
    old = wsl([RTX_3060], "516.59", "11.7")
    lines = nvml_lines([RTX_3060], "516.59", "11.7", missing=["memory", "uuid"])
    old.script("ask_nvml", lines)
    old.kinds["commands"]["/usr/lib/wsl/lib/nvidia-smi"]["stdout"] = (
        "| NVIDIA-SMI 515.48   Driver Version: 516.59   CUDA Version: ERR! |\n"
    )
    add(
        "rtx-3060--wsl-516.59--wsl-old-nvml",
        old,
        platform=platform(wsl=True),
        gpus=[answer_gpu(RTX_3060, 0)],
        drivers=[driver_row("516.59", "11.7")],
        findings=["wsl-old-nvml"],
    )
    shadowed = wsl([RTX_4090], "581.57", "13.0")
    shadowed.put("libraries", **{"libcuda.so.1": f"{LIB}/libcuda.so.1"})
    shadowed.put("real-paths", **{f"{LIB}/libcuda.so.1": f"{LIB}/libcuda.so.535.183.01"})
    wrong = cuda_lines([], "12.2", f"{LIB}/libcuda.so.535.183.01", init=100, name="CUDA_ERROR_NO_DEVICE")
    shadowed.script("ask_cuda", wrong)
    add(
        "rtx-4090--wsl-581.57--wsl-linux-driver",
        shadowed,
        platform=platform(wsl=True),
        gpus=[answer_gpu(RTX_4090, 0)],
        drivers=[driver_row("581.57", "13.0")],
        findings=["wsl-linux-driver"],
    )
    none = Capture(release="4.4.0-19041-Microsoft", libc="glibc 2.35").nodes()
    add(
        "no-gpu--wsl--wsl-no-gpu",
        none,
        platform=platform(libc=("glibc", "2.35"), wsl=True),
        findings=["wsl-no-gpu"],
    )
    arc = Capture(release="6.6.87.2-microsoft-standard-WSL2").nodes("dxg")
    reg = "/mnt/c/Windows/System32/reg.exe"
    adapter = windows(("Intel(R) Arc(TM) B580 Graphics", "PCI\\VEN_8086&DEV_E20B", "32.0.101.8132"))
    arc.put("tools", **{reg: reg}).command(
        f"{reg} query {DISPLAY} /s", "\n".join(adapter.kinds["commands"][f"reg query {DISPLAY} /s"]["stdout"])
    )
    arc.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    arc.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    add(
        "intel-r-arc-tm-b580-graphics--wsl-32.0.101.8132",
        arc,
        platform=platform(wsl=True),
        gpus=[other_gpu("intel", name="Intel(R) Arc(TM) B580 Graphics", pci_device_id="0xe20b", source="registry")],
        drivers=[driver_row("32.0.101.8132", None, vendor="intel", source="registry")],
    )
    radeon_wsl = Capture(release="6.6.87.2-microsoft-standard-WSL2").nodes("dxg")
    radeon_wsl.put("tools", rocminfo="/usr/bin/rocminfo").command("/usr/bin/rocminfo", ROCMINFO.split("\n", 1)[1])
    radeon_wsl.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    radeon_wsl.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    add(
        "amd-radeon-rx-7900-xtx--wsl",
        radeon_wsl,
        platform=platform(wsl=True),
        gpus=[
            other_gpu("amd", name="AMD Radeon RX 7900 XTX", arch="gfx1100", pci_device_id="0x744c", source="rocminfo")
        ],
        drivers=[driver_row(None, None, vendor="amd", source="rocminfo")],
    )


def wsl(gpus: list[Nvidia], driver: str, cuda: str) -> Capture:
    """WSL 2: the Windows driver's libraries, no PCI device of NVIDIA, no kernel module."""
    folder = "/usr/lib/wsl/lib"
    capture = Capture(release="6.6.87.2-microsoft-standard-WSL2").nodes("dxg")
    capture.device("1414", "008E", "30200", bus="5582:00:00.0", driver="dxgkrnl")
    libraries(capture, "1.1", folder)
    capture.put("real-paths", **{f"{folder}/libcuda.so.1": f"{folder}/libcuda.so.1.1"})
    capture.script("ask_nvml", nvml_lines(gpus, driver, cuda))
    capture.script("ask_cuda", cuda_lines(gpus, cuda, f"{folder}/libcuda.so.1.1"))
    smi(capture, gpus, driver, cuda, path=f"{folder}/nvidia-smi")
    return capture.put("tools", **{"nvidia-smi": None, f"{folder}/nvidia-smi": f"{folder}/nvidia-smi"})


SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MODINFO = "modinfo -F version nvidia"


def unbound(gpu: Nvidia, *, bound: str | None = None, on_disk: str | None = None, secure: bool = False) -> Capture:
    """A GPU that NVIDIA's kernel driver does not hold."""
    capture = on_bus(linux(), [replace(gpu, bound=bound)])
    capture.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    capture.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    capture.file(SECURE_BOOT, "\x06\0\0\0" + ("\1" if secure else "\0"))
    if on_disk is None:
        return capture.command(MODINFO, "", code=1, stderr="modinfo: ERROR: Module nvidia not found.\n")
    libraries(capture, on_disk)
    capture.script("ask_nvml", [{"init": {"code": 9, "text": "Driver Not Loaded"}}])
    lines = cuda_lines([], "13.0", f"{LIB}/libcuda.so.{on_disk}", init=100, name="CUDA_ERROR_NO_DEVICE")
    message = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
    query = "index,name,compute_cap,memory.total,uuid,pci.bus_id,pci.device_id,driver_version"
    capture.put("tools", **{"nvidia-smi": "/usr/bin/nvidia-smi"})
    capture.command(
        f"/usr/bin/nvidia-smi --query-gpu={query} --format=csv",
        message + "NVIDIA driver is installed and running.\n\n",
        code=9,
    )
    return capture.script("ask_cuda", lines).command(MODINFO, on_disk + "\n")


def no_driver() -> None:
    """The GPU is on PCI, and nobody drives it."""
    gpu = only_pci(RTX_5090)
    add("rtx-5090--linux-no-driver--driver-missing", unbound(RTX_5090), gpus=[gpu], findings=["driver-missing"])
    add("rtx-5090--linux-no-driver--nouveau", unbound(RTX_5090, bound="nouveau"), gpus=[gpu], findings=["nouveau"])
    aside = unbound(RTX_4090, bound="vfio-pci", on_disk="580.95.05")
    add(
        "rtx-4090--linux-no-driver--gpu-passed-through",
        aside,
        gpus=[only_pci(RTX_4090)],
        findings=["gpu-passed-through"],
    )
    blocked = unbound(RTX_5090, on_disk="580.95.05", secure=True)
    add("rtx-5090--linux-no-driver--secure-boot", blocked, gpus=[gpu], findings=["secure-boot"])
    unloaded = unbound(RTX_5090, on_disk="580.95.05")
    add("rtx-5090--linux-no-driver--kernel-module", unloaded, gpus=[gpu], findings=["kernel-module"])
    hybrid = unbound(RTX_5070_LAPTOP, on_disk="580.95.05").device(
        "8086", "7D67", "30000", bus="0000:00:02.0", driver="xe"
    )
    add(
        "rtx-5070-laptop+intel-graphics-arrow-lake-s--linux-no-driver--hybrid-gpu-off",
        hybrid,
        gpus=[
            only_pci(RTX_5070_LAPTOP),
            other_gpu("intel", name="Intel Graphics (Arrow Lake-S)", pci_device_id="0x7d67", source="pci"),
        ],
        drivers=[driver_row(None, None, vendor="intel", source="pci (xe)")],
        findings=["hybrid-gpu-off"],
    )
    on = with_nvidia([RTX_5070_LAPTOP], *NVIDIA_580)
    on.device("1002", "150E", "30000", bus="0000:66:00.0", driver="amdgpu")
    on.put("folders", **{"/sys/class/kfd/kfd/topology/nodes/*": NO_FILE})
    add(
        "rtx-5070-laptop+amd-0x150e--linux-580.95.05--hybrid",
        on,
        gpus=[answer_gpu(RTX_5070_LAPTOP, 0), other_gpu("amd", pci_device_id="0x150e", source="pci")],
        drivers=[driver_row(*NVIDIA_580)],
    )
    trap = only_pci(RTX_3050_A)
    add(
        "rtx-3050-a-laptop--linux-no-driver--nouveau",
        unbound(RTX_3050_A, bound="nouveau"),
        gpus=[trap],
        findings=["nouveau"],
    )
    kepler = nvidia("NVIDIA GeForce GT 730", "3.5", 2048, "1287")
    add(
        "gt-730--linux-no-driver--nouveau",
        unbound(kepler, bound="nouveau"),
        gpus=[only_pci(kepler)],
        findings=["nouveau"],
    )
    new = nvidia("", "12.0", 0, "2baf")
    add(
        "nvidia-0x2baf--linux-no-driver--arch-guessed",
        unbound(new),
        gpus=[only_pci(new) | {"name": None, "source": "pci; arch guessed from the id block 0x2b80"}],
        findings=["driver-missing", "arch-guessed"],
    )
    newer = Nvidia(name="", arch=None, memory=None, id="3f01")
    add(
        "nvidia-0x3f01--linux-no-driver--arch-unknown",
        unbound(newer),
        gpus=[only_pci(newer) | {"name": None}],
        findings=["driver-missing", "arch-unknown"],
    )


def wrong_driver() -> None:
    """The driver works, but not with this GPU, or not with its own libraries."""
    stale = on_bus(linux(), [RTX_3090])
    module(stale, "610.57.04").nodes("nvidia0", "nvidiactl", "nvidia-uvm")
    libraries(stale, "615.71.09")
    stale.script("ask_nvml", [{"init": {"code": 18, "text": "RM has detected an NVML/RM version mismatch."}}])
    stale.script(
        "ask_cuda",
        cuda_lines([], "13.4", f"{LIB}/libcuda.so.615.71.09", init=803, name="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    )
    stale.put("tools", **{"nvidia-smi": "/usr/bin/nvidia-smi"})
    query = "index,name,compute_cap,memory.total,uuid,pci.bus_id,pci.device_id,driver_version"
    text = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 615.71\n"
    stale.command(f"/usr/bin/nvidia-smi --query-gpu={query} --format=csv", text, code=18)
    add(
        "rtx-3090--linux-no-driver--driver-lib-mismatch",
        stale,
        gpus=[only_pci(RTX_3090)],
        findings=["driver-lib-mismatch"],
    )

    old = with_nvidia([replace(RTX_5090, nvml=False)], "550.163.01", "12.4", init=100, init_name="CUDA_ERROR_NO_DEVICE")
    add(
        "rtx-5090--linux-550.163.01--driver-too-old-for-gpu",
        old,
        gpus=[only_pci(RTX_5090)],
        drivers=[driver_row("550.163.01", "12.4")],
        findings=["driver-too-old-for-gpu"],
    )
    dropped = with_nvidia(
        [replace(GTX_1080, nvml=False)], "590.48.01", "13.1", init=100, init_name="CUDA_ERROR_NO_DEVICE"
    )
    add(
        "gtx-1080--linux-590.48.01--driver-dropped-gpu",
        dropped,
        gpus=[only_pci(GTX_1080)],
        drivers=[driver_row("590.48.01", "13.1")],
        findings=["driver-dropped-gpu"],
    )
    closed = with_nvidia(
        [replace(RTX_5090, nvml=False)], *NVIDIA_580, kind="proprietary", init=100, init_name="CUDA_ERROR_NO_DEVICE"
    )
    add(
        "rtx-5090--linux-580.95.05--no-devices",
        closed,
        gpus=[only_pci(RTX_5090)],
        drivers=[driver_row(*NVIDIA_580)],
        findings=["no-devices"],
    )
    headless = on_bus(linux(), [RTX_4090])
    module(headless, "580.95.05").nodes("nvidia0", "nvidiactl")
    headless.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
    headless.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    add(
        "rtx-4090--linux-no-driver--driver-libraries-missing",
        headless,
        gpus=[only_pci(RTX_4090)],
        findings=["driver-libraries-missing"],
    )
    host = linux()
    for place in range(4):
        bus = f"0000:01:00.{place + 4}"
        host.device("10DE", A10.id, "30200", bus=bus, driver="nvidia")
        host.put("links", **{f"/sys/bus/pci/devices/{bus}/physfn": "../0000:01:00.0"})
    plain("a10--linux-550.163.01--vgpu-host", [A10], "550.163.01", "12.4", base=host)
    plain("gtx-1080+rtx-4090--linux-580.95.05--mixed-gpus", [GTX_1080, RTX_4090], *NVIDIA_580, "mixed-gpus")
    held = [RTX_4090, replace(GTX_1080, nvml=False)]
    plain("rtx-4090--linux-590.48.01--gpu-not-served", held, "590.48.01", "13.1", "gpu-not-served")


def containers() -> None:
    """What a container was given, and what not."""
    works = with_nvidia([H100], "570.124.06", "12.8", base=linux().file("/.dockerenv", ""))
    works.env(NVIDIA_VISIBLE_DEVICES="all", NVIDIA_DRIVER_CAPABILITIES="compute,utility")
    in_docker = platform(container="docker")
    add(
        "h100-80gb-hbm3--linux-570.124.06--docker",
        works,
        platform=in_docker,
        gpus=[answer_gpu(H100, 0)],
        drivers=[driver_row("570.124.06", "12.8")],
    )
    one = with_nvidia([H100], "570.124.06", "12.8", base=linux().file("/run/.containerenv", 'engine="podman-5.2.3"\n'))
    on_bus(one, [H100, H100, H100])
    one.pci = one.pci[:3] + one.pci[4:]
    add(
        "h100-80gb-hbm3--linux-570.124.06--podman-one-of-four",
        one,
        platform=platform(container="podman"),
        gpus=[answer_gpu(H100, 0)],
        drivers=[driver_row("570.124.06", "12.8")],
    )
    for name, value in [("docker", None), ("void", "void")]:
        refused = module(on_bus(linux().file("/.dockerenv", ""), [RTX_4090]), "580.95.05")
        if value:
            refused.env(NVIDIA_VISIBLE_DEVICES=value)
        refused.script("ask_nvml", [{"init": {"code": 12, "text": "NVML Shared Library Not Found"}}])
        refused.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
        add(
            f"rtx-4090--linux-no-driver--container-no-gpu-{name}",
            refused,
            platform=in_docker,
            gpus=[only_pci(RTX_4090)],
            findings=["container-no-gpu"],
        )
    partly = module(on_bus(linux().env(KUBERNETES_SERVICE_HOST="1"), [L4]), "550.163.01")
    partly.nodes("nvidia0", "nvidiactl").env(NVIDIA_DRIVER_CAPABILITIES="utility", NVIDIA_VISIBLE_DEVICES="all")
    partly.put("libraries", **{"libnvidia-ml.so.1": f"{LIB}/libnvidia-ml.so.1"})
    partly.put("real-paths", **{f"{LIB}/libnvidia-ml.so.1": f"{LIB}/libnvidia-ml.so.550.163.01"})
    partly.script("ask_nvml", nvml_lines([L4], "550.163.01", "12.4"))
    partly.script("ask_cuda", [{"library": None, "error": "libcuda.so.1: cannot open shared object file"}])
    add(
        "l4--linux-550.163.01--container-no-compute",
        partly,
        platform=platform(container="kubernetes"),
        gpus=[answer_gpu(L4, 0)],
        drivers=[driver_row("550.163.01", "12.4")],
        findings=["container-no-compute"],
    )
    lost = with_nvidia(
        [A100],
        "570.124.06",
        "12.8",
        base=linux().file("/.dockerenv", ""),
        nvml=False,
        tool=False,
        init=999,
        init_name="CUDA_ERROR_UNKNOWN",
    )
    lost.script("ask_nvml", [{"init": {"code": 999, "text": "Unknown Error"}}])
    add(
        "a100-sxm4-80gb--linux-570.124.06--container-lost-gpu",
        lost,
        platform=in_docker,
        gpus=[only_pci(replace(A100, name="NVIDIA A100-SXM4-80GB / PG509-210"))],
        drivers=[driver_row("570.124.06", "12.8", source="kernel module")],
        findings=["container-lost-gpu"],
    )
    image = module(on_bus(linux().file("/.dockerenv", ""), [RTX_3090]), "550.163.01").nodes("nvidia0", "nvidiactl")
    libraries(image, "535.183.01")
    image.script("ask_nvml", [{"init": {"code": 18, "text": "RM has detected an NVML/RM version mismatch."}}])
    image.script(
        "ask_cuda",
        cuda_lines([], "12.2", f"{LIB}/libcuda.so.535.183.01", init=803, name="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    )
    add(
        "rtx-3090--linux-no-driver--driver-lib-mismatch-in-image",
        image,
        platform=in_docker,
        gpus=[only_pci(RTX_3090)],
        findings=["driver-lib-mismatch"],
    )


def libraries_astray() -> None:
    """libcuda is another than the driver's."""
    stubs = "/usr/local/cuda/lib64/stubs/libcuda.so.1"
    plain(
        "rtx-3090--linux-580.95.05--cuda-stub-library",
        [RTX_3090],
        *NVIDIA_580,
        "cuda-stub-library",
        loaded=stubs,
        init=34,
        init_name="CUDA_ERROR_STUB_LIBRARY",
    )
    compat = "/usr/local/cuda-13.0/compat/libcuda.so.1"
    server = with_nvidia([A100], "535.183.01", "12.2", loaded=compat, told_cuda="13.0")
    add(
        "a100-sxm4-80gb--linux-535.183.01--cuda-compat",
        server,
        gpus=[answer_gpu(A100, 0)],
        drivers=[driver_row("535.183.01", "12.2")],
        findings=["cuda-compat"],
    )
    geforce = with_nvidia(
        [RTX_3060],
        "535.183.01",
        "12.2",
        loaded=compat,
        told_cuda="13.0",
        init=804,
        init_name="CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    )
    add(
        "rtx-3060--linux-535.183.01--cuda-compat-804",
        geforce,
        gpus=[answer_gpu(RTX_3060, 0)],
        drivers=[driver_row("535.183.01", "12.2")],
        findings=["cuda-compat-804"],
    )


def states() -> None:
    """The driver is right, the GPU's state is not."""
    unknown: dict[str, Any] = {"init": 999, "init_name": "CUDA_ERROR_UNKNOWN"}
    plain("rtx-3060--linux-580.95.05--error-999-suspend", [RTX_3060], *NVIDIA_580, "error-999-suspend", **unknown)
    fabric: dict[str, Any] = {"init": 802, "init_name": "CUDA_ERROR_SYSTEM_NOT_READY"}
    plain("8x-h100-80gb-hbm3--linux-580.95.05--error-802", [H100] * 8, *NVIDIA_580, "error-802", **fabric)
    other: dict[str, Any] = {"init": 803, "init_name": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}
    plain("rtx-4090--linux-580.95.05--error-803", [RTX_4090], *NVIDIA_580, "error-803", **other)
    gsp: dict[str, Any] = {"init": 100, "init_name": "CUDA_ERROR_NO_DEVICE"}
    plain("rtx-4090--linux-580.95.05--cuda-init", [RTX_4090], *NVIDIA_580, "cuda-init", **gsp)
    add(
        "2x-rtx-3090--linux-580.95.05--gpu-lost",
        with_nvidia([RTX_3090, replace(RTX_3090, lost=True)], *NVIDIA_580, init=999, init_name="CUDA_ERROR_UNKNOWN"),
        gpus=[
            answer_gpu(RTX_3090, 0),
            only_pci(RTX_3090, index=1) | {"source": "nvml; arch from pci"},
        ],
        drivers=[driver_row(*NVIDIA_580)],
        findings=["gpu-lost"],
    )
    divided = replace(A100, mig=7)
    plain("a100-sxm4-80gb--linux-580.95.05--mig", [divided], *NVIDIA_580, "mig")
    empty = replace(H100, mig=0)
    plain("h100-80gb-hbm3--linux-580.95.05--mig-without-instances", [empty], *NVIDIA_580, "mig-without-instances")
    virtual = replace(nvidia("GRID T4-8Q", "7.5", 8192, "1eb8"))
    plain("grid-t4-8q--linux-550.163.01--vgpu", [virtual], "550.163.01", "12.4", "vgpu")
    hung = with_nvidia([RTX_4090], *NVIDIA_580, nvml=False, libcuda=False, tool=False)
    for name in ("ask_nvml", "ask_cuda"):
        hung.script(name, [], hangs=True)
    add(
        "rtx-4090--linux-580.95.05--driver-hangs",
        hung,
        gpus=[only_pci(RTX_4090)],
        drivers=[driver_row(*NVIDIA_580, source="kernel module")],
        findings=["driver-hangs"],
    )
    crashed = with_nvidia([RTX_4090, RTX_4090], *NVIDIA_580, nvml=False, tool=False)
    crashed.script("ask_nvml", [*nvml_lines([RTX_4090, RTX_4090], *NVIDIA_580)[:6], '{"gpu": {"ind'], code=-11)
    add(
        "2x-rtx-4090--linux-580.95.05--driver-hangs-nvml-crashed-at-gpu-1",
        crashed,
        gpus=[
            answer_gpu(RTX_4090, 0),
            answer_gpu(RTX_4090, 1, source="nvml; arch from libcuda", uuid=False),
        ],
        drivers=[driver_row(*NVIDIA_580)],
        findings=["driver-hangs"],
    )
    garbage = with_nvidia([RTX_4090], *NVIDIA_580, nvml=False, libcuda=False)
    garbage.script("ask_nvml", ["\x7fELF\x02\x01 not JSON\n", "[1, 2]\n", '{"gpu": 3}\n'], code=0)
    garbage.script("ask_cuda", ["null\n"], code=3, stderr="what?\n")
    query = "index,name,compute_cap,memory.total,uuid,pci.bus_id,pci.device_id,driver_version"
    garbage.command(f"/usr/bin/nvidia-smi --query-gpu={query} --format=csv", "\ufffd\x00\x01, \x07\n\ufffd\n")
    add(
        "rtx-4090--linux-580.95.05--garbage",
        garbage,
        gpus=[only_pci(RTX_4090)],
        drivers=[driver_row(*NVIDIA_580, source="kernel module")],
    )
    no_memory = with_nvidia([RTX_4090], *NVIDIA_580, missing=["memory", "capability"], libcuda=False)
    no_memory.put("scripts", ask_cuda={"error": [2, "No such file or directory"]})
    add(
        "rtx-4090--linux-580.95.05--nvml-in-part",
        no_memory,
        gpus=[answer_gpu(RTX_4090, 0, source="nvml; arch from nvidia-smi")],
        drivers=[driver_row(*NVIDIA_580)],
    )


def variables() -> None:
    """What the shell says."""
    two = [RTX_3090, RTX_3090]
    gsp: dict[str, Any] = {"init": 100, "init_name": "CUDA_ERROR_NO_DEVICE"}
    for value, code, seen, how in [
        ("", "cuda-visible-devices-empty", None, gsp),
        ("0,7", "cuda-visible-devices-wrong", [0], {}),
        ("1", "cuda-visible-devices", [0], {}),
    ]:
        capture = with_nvidia(two, *NVIDIA_580, only=seen, **how).env(CUDA_VISIBLE_DEVICES=value)
        add(
            f"2x-rtx-3090--linux-580.95.05--{code}",
            capture,
            gpus=[answer_gpu(RTX_3090, 0), answer_gpu(RTX_3090, 1)],
            drivers=[driver_row(*NVIDIA_580)],
            findings=[code],
        )
    ignored = with_nvidia([RTX_3090], *NVIDIA_580).env(NVIDIA_VISIBLE_DEVICES="0")
    add(
        "rtx-3090--linux-580.95.05--nvidia-visible-devices",
        ignored,
        gpus=[answer_gpu(RTX_3090, 0)],
        drivers=[driver_row(*NVIDIA_580)],
        findings=["nvidia-visible-devices"],
    )
    over = linux().env(PROVISION_GPU_ARCH="sm_120,8.6", PROVISION_CUDA_DRIVER_VERSION="570.124.06")
    add(
        "12.0+8.6--linux-570.124.06--override",
        over,
        gpus=[
            other_gpu("nvidia", 0, arch="12.0", source="override"),
            other_gpu("nvidia", 1, arch="8.6", source="override"),
        ],
        drivers=[driver_row("570.124.06", "12.8", source="override")],
        findings=["mixed-gpus"],
    )
    hidden = with_nvidia([RTX_3090], *NVIDIA_580).env(PROVISION_GPU_ARCH="none")
    add("no-gpu--linux-580.95.05--override-none", hidden, drivers=[driver_row(*NVIDIA_580)])
