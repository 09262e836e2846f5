"""What is installed for development has one version each, written down, and a licence."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = ROOT / ".ci" / "requirements-dev.lock"
LICENCES = ROOT / "docs" / "licences.md"


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*extras: str) -> list[Requirement]:
    """The project's own, and those of extras with the extras that they name."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(text)
            texts += [str(other) for other in requirements(*requirement.extras)] if requirement.name == "omnictl" else [text]
    return [Requirement(text) for text in texts]


def test_everything_for_development_is_locked_to_a_version_that_is_allowed() -> None:
    locked: dict[str, list[Requirement]] = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            assert re.match(r"[\w.-]+==", line), "names and versions alone: no address of any registry"
            locked.setdefault(normalise(Requirement(line).name), []).append(Requirement(line))
    for requirement in requirements():
        assert normalise(requirement.name) in locked, f"{requirement.name} is not locked: uv pip compile (docs/CONTRIBUTING.md)"
    for requirement in requirements("dev"):
        versions = [str(pin.specifier).removeprefix("==") for pin in locked.get(normalise(requirement.name), [])]
        assert [version for version in versions if version not in requirement.specifier] == [], requirement


def test_every_dependency_has_a_licence() -> None:
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (.+?) \|", LICENCES.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {normalise(requirement.name) for requirement in requirements()} <= rows.keys(), "python docs/list_licences.py"
    assert "not said" not in "".join(rows.values())
