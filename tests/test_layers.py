"""Imports go down the layers, never up or sideways; and what starts fast stays free of torch."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import omnictl

ROOT = Path(omnictl.__file__).parent

LAYERS = (
    ("__main__",),
    ("cli",),
    ("api",),
    ("pipeline", "serve"),
    ("use", "report", "export"),
    ("measure",),
    ("stages",),
    ("evaluation", "features"),
    ("trainer", "generate"),
    ("models",),
    ("data",),
    ("tinyworld",),
    ("nn", "metrics", "runs"),
    ("config",),
    ("errors", "processes", "progress", "regular_files", "visible_text"),
)
"""From top to bottom; packages of one line do not import each other."""

FORBIDDEN = {("trainer", "models"), ("trainer", "data"), ("trainer", "tinyworld")}
"""Downward, and still not allowed: the loop knows only the `Stage` protocol."""

TORCH_FREE = (
    "omnictl.errors",
    "omnictl.config",
    "omnictl.runs.run",
    "omnictl.runs.files",
    "omnictl.runs.checksums",
    "omnictl.runs.model_folder",
    "omnictl.runs.compatible",
    "omnictl.metrics.text",
    "omnictl.metrics.ngram",
    "omnictl.tinyworld",
    "omnictl.data.text.corpus",
    "omnictl.data.text.tokenizer",
    "omnictl.data.manifest.cache",
    "omnictl.data.text.token_store",
    "omnictl.data.text.packing",
    "omnictl.data.manifest.rows",
    "omnictl.data.speech.manifest",
    "omnictl.data.images.manifest",
    "omnictl.data.speech.layouts",
    "omnictl.data.images.layouts",
    "omnictl.data.speech.splits",
    "omnictl.data.inspect.corpus_kind",
    "omnictl.data.inspect.images",
    "omnictl.data.dialogues.chat_template",
    "omnictl.data.dialogues.manifest",
    "omnictl.data.speech.transcripts.transcript",
    "omnictl.metrics.error_rates",
    "omnictl.use.subtitles",
    "omnictl.metrics.classification",
    "omnictl.metrics.figures",
    "omnictl.metrics.intervals",
    "omnictl.metrics.verdict",
    "omnictl.metrics.answers",
    "omnictl.tinyworld.speech.utterances",
    "omnictl.tinyworld.speech.espeak",
    "omnictl.tinyworld.speech.acoustics",
    "omnictl.tinyworld.dialogues",
    "omnictl.trainer.config",
    "omnictl.trainer.optim.schedule",
    "omnictl.trainer.signals",
    "omnictl.stages",
    "omnictl.cli",
)

DEPTH = {package: depth for depth, line in enumerate(LAYERS) for package in line}


parse = cache(ast.parse)


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_packages(source: str) -> Iterator[tuple[int, str]]:
    """Line and package below `omnictl` of every import, wherever in the file; the root itself is free to all."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "omnictl" and len(parts) > 1 and parts[1] != "__version__":
                yield node.lineno, parts[1]


def problem(importer: str, imported: str) -> str | None:
    if importer == imported:
        return None
    if imported not in DEPTH:
        return f"`{imported}` has no layer: give it one in {Path(__file__).name}"
    if (importer, imported) in FORBIDDEN:
        return f"`{importer}` must know nothing of `{imported}`"
    if DEPTH[imported] < DEPTH[importer]:
        return f"upward: `{importer}` imports `{imported}`"
    if DEPTH[imported] == DEPTH[importer]:
        return f"sideways: `{importer}` imports `{imported}`"
    return None


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("package", sorted({package_of(path) for path in MODULES}))
def test_imports_go_down(package: str) -> None:
    assert package in DEPTH, f"`{package}` has no layer: give it one in LAYERS"
    found = [
        f"{path}:{line}: {text}"
        for path in MODULES
        if package_of(path) == package
        for line, imported in imported_packages(path.read_text(encoding="utf-8"))
        if (text := problem(package, imported)) is not None
    ]
    assert not found, "\n".join(found)


def test_the_root_hands_on_the_api_and_imports_nothing_else() -> None:
    assert {package for _, package in imported_packages((ROOT / "__init__.py").read_text(encoding="utf-8"))} == {"api"}


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("data", "models", "upward: `data` imports `models`"),
        ("nn", "runs", "sideways: `nn` imports `runs`"),
        ("trainer", "models", "`trainer` must know nothing of `models`"),
        ("errors", "config", "upward: `errors` imports `config`"),
        ("stages", "brand_new", "`brand_new` has no layer: give it one in test_layers.py"),
        ("config", "errors", None),
        ("stages", "stages", None),
    ],
)
def test_violations_are_told_apart(importer: str, imported: str, expected: str | None) -> None:
    assert problem(importer, imported) == expected


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ("import omnictl.models.thinker", ["models"]),
        ("from omnictl import use, __version__", ["use"]),
        ("def late():\n    from omnictl.trainer.loop import train", ["trainer"]),
        ("import torch, omnictl", []),
    ],
)
def test_imports_are_found_everywhere(source: str, packages: list[str]) -> None:
    assert [package for _, package in imported_packages(source)] == packages


DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "pydantic_core": "pydantic", "anyio": "starlette"}
"""Of the modules that are named otherwise, or come with another."""


WITH_EXTRA = ("export", "serve")
"""Packages that are imported late as a whole, and need the extra of their name."""


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}


def foreign_imports(source: str) -> Iterator[tuple[str, bool]]:
    """The distribution of every import that is neither Python's own nor ours, and whether it is imported at once."""
    for node in ast.walk(parse(source)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"omnictl"}:
            yield DISTRIBUTIONS.get(name, name.replace("_", "-")).lower(), node.col_offset == 0


def test_what_is_imported_is_installed_without_any_extra_or_imported_late() -> None:
    """What the extra `dev` brings, a user does not have."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always = distributions(project["dependencies"])
    extras = {name: distributions(needed) for name, needed in project["optional-dependencies"].items() if name != "dev"}
    on_request = set().union(*extras.values())
    found = {(package_of(path), *each) for path in MODULES for each in foreign_imports(path.read_text(encoding="utf-8"))}
    assert ("models", "torch", True) in found
    assert {name for _, name, _ in found} - always - on_request == set()
    assert {(where, name) for where, name, at_once in found if at_once and name not in always and where not in WITH_EXTRA} == set()
    for package in WITH_EXTRA:
        assert {name for where, name, at_once in found if at_once and where == package} <= always | extras[package]


def test_what_starts_fast_imports_no_torch() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {TORCH_FREE!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} imports torch')\n"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_the_drawing_of_the_layers_shows_the_packages_that_there_are() -> None:
    """Boxes and rows; numbers of lines may be of a little earlier."""
    drawn = runpy.run_path(str(ROOT.parent / "docs" / "draw_layers.py"))
    expected, kept = (re.findall(r"<title>(.*?)</title>", text) for text in (drawn["draw"](), drawn["DRAWING"].read_text()))
    assert kept == expected, "draw it again: python docs/draw_layers.py"
