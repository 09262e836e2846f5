from pathlib import Path

import pytest
import torch

from omnictl.trainer.plan import free_memory
from omnictl.trainer.plan.free_memory import budget

CPU = torch.device("cpu")


def group(folder: Path, limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    group(tmp_path / "user" / "job", "max", 300, 0)
    group(tmp_path / "user", "1000", 600, 150)
    own = tmp_path / "cgroup"
    own.write_text("0::/user/job\n")
    assert free_memory._free_in_control_group(tmp_path, own) == 1000 - 600 + 150
    group(tmp_path / "user" / "job", "500", 300, 0)
    assert free_memory._free_in_control_group(tmp_path, own) == 200


def test_control_groups_of_version_1_count_too(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/job\n3:cpu:/\n0::/\n")
    for name, limit, used in (("", 2**62, 900), ("job", 1000, 700)):
        folder = tmp_path / "memory" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("cache 90\ninactive_file 1\ntotal_inactive_file 50\n")
    assert free_memory._free_in_control_group(tmp_path, own) == 1000 - 700 + 50


@pytest.mark.parametrize("text", [None, "", "3:cpu:/user\n", "0::/gone\n", "4:memory:/gone\n"])
def test_without_a_control_group_there_is_no_limit(tmp_path: Path, text: str | None) -> None:
    own = tmp_path / "cgroup"
    if text is not None:
        own.write_text(text)
    assert free_memory._free_in_control_group(tmp_path, own) == 2**63


def test_not_all_that_is_free_is_planned_for() -> None:
    assert 0 < budget(free_memory.free_memory(CPU), CPU) < free_memory.free_memory(CPU)
    assert budget(2**20, CPU) == 0
