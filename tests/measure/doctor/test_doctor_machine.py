"""What the doctor says of GPUs, CPUs, memory and disks, of which each test plants one."""

from pathlib import Path

import pytest
import torch

from omnictl.measure.doctor import processor, space
from omnictl.measure.doctor.gpu import Driver, Gpu, GpuFacts, _ask_driver, _is_on_bus, check_gpu
from omnictl.measure.doctor.machine import examine_briefly
from omnictl.measure.doctor.processor import CpuFacts, ThreadFacts, check_cpu, check_threads
from omnictl.measure.doctor.space import DiskFacts, check_disk, check_memory, check_shared_memory, read_disk_facts

CPU = torch.device("cpu")
NO_GPU = GpuFacts("2.14.1+cu130", "13.0", [], [], None, on_bus=False)
CUDA = GpuFacts("2.14.1+cu130", "13.0", ["sm_75", "sm_80", "sm_90", "compute_120"], [], None, on_bus=True)
GEFORCE = Gpu("GeForce RTX 3060", (8, 6), 12 * 10**9)


def driver(version: str) -> Driver:
    return Driver(version, ["GeForce RTX 3060"])


@pytest.mark.parametrize(
    ("facts", "level", "words", "fix"),
    [
        (NO_GPU, "ok", "training takes the CPU", None),
        (CUDA, "warn", "no driver answers", "--gpus all"),
        (NO_GPU._replace(cuda=None, torch="2.14.1+cpu", driver=driver("580.95")), "fail", "built for CPUs", "whl/cu130"),
        (NO_GPU._replace(cuda=None, driver=driver("550.1")), "fail", "does not use GeForce RTX 3060", "whl/cu126"),
        (CUDA._replace(driver=driver("535.104")), "fail", "535.104 is too old", "whl/cu126"),
        (
            CUDA._replace(driver=driver("535.104"), cuda="12.8"),
            "fail",
            "although driver 535.104 is new enough",
            "CUDA_VISIBLE_DEVICES",
        ),
        (CUDA._replace(gpus=[GEFORCE]), "ok", "GeForce RTX 3060 with 11.2 GiB", None),
        (CUDA._replace(gpus=[Gpu("Blackwell", (12, 1), 2**34)]), "ok", "Blackwell", None),
        (CUDA._replace(gpus=[GEFORCE._replace(memory_bytes=6 * 10**9)]), "warn", "less than the 12 GB", "omnictl plan all"),
        (CUDA._replace(gpus=[Gpu("GTX 1080", (6, 1), 2**33)]), "fail", "no kernels for GTX 1080 (sm_61)", "cu126"),
    ],
)
def test_gpus(facts: GpuFacts, level: str, words: str, fix: str | None) -> None:
    finding = check_gpu(facts)
    assert finding.level == level
    assert words in finding.message
    assert finding.fix is None if fix is None else fix in (finding.fix or "")


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for output, expected in (
        ("535.104.05, NVIDIA GeForce RTX 3060", Driver("535.104.05", ["NVIDIA GeForce RTX 3060"])),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", None),
    ):
        program.write_text(f'#!/bin/sh\necho "{output}"\n')
        program.chmod(0o755)
        assert _ask_driver() == expected


def test_a_gpu_is_found_on_the_bus(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate([("0x8086", "0x030000"), ("0x10de", "0x040300")]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
        (tmp_path / str(number) / "class").write_text(f"{kind}\n")
    assert not _is_on_bus(tmp_path)  # another maker's, and NVIDIA's sound device
    (tmp_path / "1" / "class").write_text("0x030200\n")
    assert _is_on_bus(tmp_path)


@pytest.mark.parametrize(
    ("flags", "capability", "environment", "level", "words", "fix"),
    [
        ({"avx2"}, "AVX2", {}, "ok", "no bf16 in hardware: trains in fp32", None),
        ({"avx2", "avx512f", "avx512_bf16"}, "AVX512", {}, "ok", "AVX512; bf16 in hardware", None),
        ({"sse4_2"}, "DEFAULT", {}, "warn", "no AVX2", "GPU"),
        ({"avx2"}, "DEFAULT", {}, "warn", "torch uses DEFAULT instructions only, the CPU has AVX2", "PyPI"),
        ({"avx2"}, "AVX2", {"ONEDNN_MAX_CPU_ISA": "SSE41"}, "warn", "ONEDNN_MAX_CPU_ISA=SSE41", "unset ONEDNN_MAX_CPU_ISA"),
        (set(), "DEFAULT", {}, "ok", "bf16 unknown", None),
    ],
)
def test_cpus(flags: set[str], capability: str, environment: dict[str, str], level: str, words: str, fix: str | None) -> None:
    finding = check_cpu(CpuFacts("x86_64", flags, capability, environment, {"fp32": 92e9, "bf16": 0.4e9}))
    assert finding.level == level
    assert words in finding.message
    assert finding.fix is None if fix is None else fix in (finding.fix or "")
    assert level == "warn" or "92 GFLOP/s in fp32, 0.4 GFLOP/s in bf16" in finding.message


@pytest.mark.parametrize(
    ("facts", "level", "words", "fix"),
    [
        (ThreadFacts(4, 4, None, 1.0, {}), "ok", "4 on 4 cores", None),
        (ThreadFacts(16, 16, 2.0, 1.0, {}), "warn", "16 threads share the time of 2 cores", "export OMP_NUM_THREADS=2"),
        (ThreadFacts(1, 4, None, 1.0, {"OMP_NUM_THREADS": "1"}), "warn", "leaves 3 of 4 cores idle", "unset OMP_NUM_THREADS"),
        (ThreadFacts(8, 2, None, 1.0, {}), "warn", "8 threads get in one another's way on 2 cores", "unset OMP_NUM_THREADS"),
        (ThreadFacts(4, 4, None, 9.0, {}), "warn", "load 9.0", "stop them"),
    ],
)
def test_threads(facts: ThreadFacts, level: str, words: str, fix: str | None) -> None:
    finding = check_threads(facts)
    assert finding.level == level
    assert words in finding.message
    assert finding.fix is None if fix is None else fix in (finding.fix or "")


def test_flags_and_quotas_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx2 avx512_bf16\nbogomips : 1\n")
    assert processor._read_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "avx512_bf16"}
    assert processor._read_flags(tmp_path / "none") == set()
    assert processor._read_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert processor._read_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processor._read_quota(tmp_path) is None


@pytest.mark.parametrize(("free", "level"), [(2 * 10**8, "fail"), (3 * 10**9, "warn"), (8 * 10**9, "ok")])
def test_memory(free: int, level: str) -> None:
    finding = check_memory(free, CPU)
    assert finding.level == level
    assert (finding.fix is None) == (level == "ok")


DISK = DiskFacts("runs", Path("runs"), 50 * 10**9, "ext4", None, 300e6, "--runs DIR")


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (DISK, "ok", "46.6 GiB free for runs, 300 MB/s"),
        (DISK._replace(error="Read-only file system"), "fail", "cannot write to runs: Read-only file system"),
        (DISK._replace(free_bytes=10**8), "fail", "runs has 95 MiB free"),
        (DISK._replace(free_bytes=10**9), "warn", "wants 1.9 GiB"),
        (DISK._replace(file_system="nfs4"), "warn", "on a network (nfs4)"),
        (DISK._replace(file_system="tmpfs"), "warn", "gone after a restart"),
        (DISK._replace(bytes_per_second=2e6), "warn", "2.0 MB/s"),
    ],
)
def test_disks(facts: DiskFacts, level: str, words: str) -> None:
    finding = check_disk(facts)
    assert finding.level == level
    assert words in finding.message
    assert finding.fix is None if level == "ok" else "--runs DIR" in (finding.fix or "")


def test_a_folder_is_looked_at_where_it_would_be(tmp_path: Path) -> None:
    facts = read_disk_facts("runs", tmp_path / "not" / "there", "--runs DIR", measured=True)
    assert facts.error is None
    assert facts.free_bytes > 0
    assert facts.bytes_per_second is None or facts.bytes_per_second > 0  # not timed on a disk that is nearly full
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "is not a folder" in str(read_disk_facts("runs", tmp_path / "file" / "runs", "--runs DIR", measured=False).error)


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_shared_memory(tmp_path / "none") is None
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: type("", (), {"free": 64 * 2**20}))
    finding = check_shared_memory(tmp_path)
    assert finding is not None
    assert finding.level == "warn"
    assert "--shm-size" in (finding.fix or "")


def test_the_brief_look_says_only_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    findings = examine_briefly(tmp_path, tmp_path, CPU)
    assert "ok" not in {finding.level for finding in findings}
    assert any("ATEN_CPU_CAPABILITY=default" in finding.message for finding in findings)
    assert all(finding.fix for finding in findings)
