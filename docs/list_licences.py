"""Lists the licences of all that omnictl needs, with its extras and for development: `python docs/list_licences.py` writes
`licences.md`, from the metadata of the packages that are installed here, and of what these need in turn.

`tests/test_dependencies.py` compares the table with `pyproject.toml`.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

DOCUMENT = Path(__file__).parent / "licences.md"
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

HEAD = """# Licences of dependencies

What omnictl and its tools for development install on Linux, with the extras that these include. Nothing of it is part of omnictl's
own package, which is under Apache-2.0. Wheels may hold libraries with licences of their own: those of PyAV hold FFmpeg (LGPL and
GPL), those of SoundFile libsndfile (LGPL). Written by `python docs/list_licences.py`.

| package | licence | needed for |
|---|---|---|
"""

LONGEST = 120
"""Characters of a licence's name; some packages give its whole text."""

UNSAID = "not said in its metadata"

KNOWN = {"cuda-toolkit": "LicenseRef-NVIDIA-Proprietary", "espeakng-loader": "holds espeak-ng, GPL-3.0-or-later"}
"""Of packages whose metadata do not say it."""


def normalise(name: str) -> str:
    """A package's name as all registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(name: str, extras: set[str]) -> dict[str, set[str]]:
    """What a package needs here, with these of its extras, and which extras of that."""
    found: dict[str, set[str]] = {}
    if name == "omnictl":  # as it is here, whatever was installed
        texts = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    else:
        texts = distribution(name).requires or []
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            found.setdefault(normalise(requirement.name), set()).update(requirement.extras)
    return found


def closure(extras: set[str]) -> set[str]:
    """All that omnictl needs with these extras, as far as it is installed."""
    seen: dict[str, set[str]] = {}
    waiting = [("omnictl", extras)]
    while waiting:
        name, wanted = waiting.pop()
        if name in seen and wanted <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | wanted
        try:
            waiting += needs(name, seen[name]).items()
        except PackageNotFoundError:
            del seen[name]
    return seen.keys() - {"omnictl"}


def licence(name: str) -> str:
    """What a package's metadata says, in the newest of the three ways that there are."""
    metadata = distribution(name).metadata
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    said = (
        metadata.get("License-Expression") or ", ".join(classifiers) or (metadata.get("License") or "").strip().partition("\n")[0]
    )
    return said.replace("|", "/") if 0 < len(said) <= LONGEST else KNOWN.get(name, UNSAID)


def table() -> str:
    """The document."""
    extras = PROJECT["optional-dependencies"].keys() - {"dev"}
    core, with_extras, everything = closure(set()), closure(extras), closure({*extras, "dev"})
    rows = []
    for name in sorted(everything):
        purpose = "omnictl" if name in core else "an extra" if name in with_extras else "development"
        rows.append(f"| {name} | {licence(name)} | {purpose} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    DOCUMENT.write_text(table(), encoding="utf-8")
