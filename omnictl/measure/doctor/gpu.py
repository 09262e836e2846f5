"""Does torch reach the GPU: its build, the driver, the GPU's generation."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import torch

from omnictl.measure.doctor.finding import Finding, fail, ok, size_text, warn

SUBJECT = "GPU"

DRIVER_OF_CUDA = {11: 450, 12: 525, 13: 580}
"""By major version of CUDA the oldest driver on Linux (NVIDIA, CUDA Compatibility, table 1)."""

INDEX = "https://download.pytorch.org/whl"

SMALL_BYTES = 11 * 2**30
"""What a "12 GB" GPU has at least: the preset `small` is planned for one."""

NVIDIA, DISPLAY = "0x10de", "0x03"
"""Vendor and class on the PCI bus."""


class Driver(NamedTuple):
    """What `nvidia-smi` says."""

    version: str
    names: list[str]

    @property
    def major(self) -> int:
        """The number that CUDA's requirements are about."""
        return int(self.version.partition(".")[0])


class Gpu(NamedTuple):
    """A GPU as torch sees it."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int


class GpuFacts(NamedTuple):
    """What there is to know about GPUs."""

    torch: str
    cuda: str | None
    """Version of CUDA that torch is built for; None: for CPUs."""
    architectures: list[str]
    """That torch's kernels are compiled for, `sm_90` or `compute_90`."""
    gpus: list[Gpu]
    driver: Driver | None
    on_bus: bool
    """Whether there is an NVIDIA GPU, reachable or not."""


def read_gpu_facts() -> GpuFacts:
    """Ask torch, the driver and the PCI bus."""
    count = torch.cuda.device_count() if torch.version.hip is None and torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(number) for number in range(count)]
    gpus = [Gpu(each.name, (each.major, each.minor), each.total_memory) for each in properties]
    architectures = torch.cuda.get_arch_list() if gpus else []
    return GpuFacts(torch.__version__, torch.version.cuda, architectures, gpus, None if gpus else _ask_driver(), _is_on_bus())


def check_gpu(facts: GpuFacts) -> Finding:
    """Whether torch can use the GPUs that there are."""
    if facts.gpus:
        return _check_reached(facts)
    if facts.driver is None:
        if facts.on_bus:
            message = "there is an NVIDIA GPU, but no driver answers: training takes the CPU"
            return warn(SUBJECT, message, "install NVIDIA's driver; in a container: start it with --gpus all")
        return ok(SUBJECT, f"none: training takes the CPU (torch {facts.torch})")
    names = ", ".join(facts.driver.names) or "an NVIDIA GPU"
    if facts.cuda is None:
        message = f"torch {facts.torch} is built for CPUs, and does not use {names} (driver {facts.driver.version})"
        return fail(SUBJECT, message, _install(_newest_index(facts.driver)))
    needed = DRIVER_OF_CUDA.get(int(facts.cuda.partition(".")[0]), max(DRIVER_OF_CUDA.values()))
    if facts.driver.major < needed:
        message = (
            f"driver {facts.driver.version} is too old for torch {facts.torch}, whose CUDA {facts.cuda} needs {needed} or newer"
        )
        return fail(SUBJECT, message, f"update the driver, or {_install(_newest_index(facts.driver))}")
    message = f"torch {facts.torch} cannot use {names}, although driver {facts.driver.version} is new enough for CUDA {facts.cuda}"
    return fail(
        SUBJECT, message, "unset CUDA_VISIBLE_DEVICES if it is set; else restart the machine: the driver may have been updated"
    )


def _check_reached(facts: GpuFacts) -> Finding:
    foreign = [gpu for gpu in facts.gpus if not _is_compiled_for(gpu.capability, facts.architectures)]
    if foreign:
        major, minor = foreign[0].capability
        message = (
            f"torch {facts.torch} has no kernels for {foreign[0].name} (sm_{major}{minor}): it has {', '.join(facts.architectures)}"
        )
        return fail(SUBJECT, message, f"{_install('cu126')}; that build is for older GPUs. Or train with --device cpu")
    text = ", ".join(f"{gpu.name} with {size_text(gpu.memory_bytes)}" for gpu in facts.gpus)
    if max(gpu.memory_bytes for gpu in facts.gpus) < SMALL_BYTES:
        message = f"{text}: less than the 12 GB that the preset small is planned for"
        return warn(SUBJECT, message, "see what fits with `omnictl plan all --preset small`")
    return ok(SUBJECT, f"{text}, torch {facts.torch}")


def _is_compiled_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether there are kernels for a GPU: of its own generation, or code that the driver compiles for it."""
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        digits = digits.rstrip("af")
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and (major, minor) <= capability:
            return True
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
    return False


def _newest_index(driver: Driver) -> str:
    """The newest of PyTorch's builds that a driver is enough for."""
    return "cu130" if driver.major >= DRIVER_OF_CUDA[13] else "cu126"


def _install(build: str) -> str:
    return f"pip install --force-reinstall torch torchaudio torchvision --index-url {INDEX}/{build}"


def _ask_driver() -> Driver | None:
    """What `nvidia-smi` says; None where it is missing or finds no GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    rows = [line.split(", ", 1) for line in asked.stdout.splitlines() if ", " in line]
    if asked.returncode != 0 or not rows or not rows[0][0].partition(".")[0].isdigit():
        return None
    return Driver(rows[0][0], [name for _, name in rows])


def _is_on_bus(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether an NVIDIA display adapter is on the PCI bus."""
    for vendor in devices.glob("*/vendor"):
        try:
            if vendor.read_text().strip() == NVIDIA and vendor.with_name("class").read_text().startswith(DISPLAY):
                return True
        except OSError:
            continue
    return False
