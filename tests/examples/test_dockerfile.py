"""The Dockerfile, as far as it can be checked without building an image."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "examples" / "docker" / "Dockerfile"
TEXT = DOCKERFILE.read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint has no wheel for this platform")
    checked = subprocess.run(
        [program, "--failure-threshold", "style", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [name for line in re.findall(r"^COPY (.+)$", TEXT, flags=re.MULTILINE) for name in line.split()[:-1]]
    kept = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert [name for name in copied if not (ROOT / name).exists() or f"!{name}" not in kept] == []


def test_extras_and_versions_are_those_of_the_project() -> None:
    (extras,) = re.findall(r'"\.\[(.+)\]"', TEXT)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    torch = {one for one in PROJECT["dependencies"] if one.startswith("torch")}
    for line in re.findall(r"^RUN pip .*torch.*$", TEXT, flags=re.MULTILINE):
        assert set(re.findall(r'"(torch[^"]+)"', line)) == torch


def test_each_kind_of_torch_has_its_stage() -> None:
    assert set(re.findall(r" AS torch-(\w+)", TEXT)) == {"cpu", "cuda"}
    assert "ARG TORCH=cpu" in TEXT
