"""The lowest version of each dependency that `pyproject.toml` allows, as requirements: to be looked up among known holes.

python tests/benchmarks/lowest_versions.py > lowest.txt
pip-audit -r lowest.txt --no-deps --disable-pip
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def lowest_versions() -> dict[str, str]:
    """By package; those without a lowest version are left out."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    lowest: dict[str, str] = {}
    for requirement in map(Requirement, texts):
        for bound in requirement.specifier:
            if bound.operator == ">=":
                lowest[requirement.name] = bound.version
    return dict(sorted(lowest.items()))


if __name__ == "__main__":
    print("".join(f"{name}=={version}\n" for name, version in lowest_versions().items()), end="")
