"""What the source must not do: run code that it finds in files."""

import ast
from pathlib import Path

import pytest

import omnictl

MODULES = sorted(Path(omnictl.__file__).parent.rglob("*.py"))

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("np", "load"),
    ("numpy", "load"),
    ("os", "system"),
}


def violations(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"{node.func.id}()")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] * ((node.value.id, node.attr) in FORBIDDEN_ATTRIBUTES)
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell", "trust_remote_code"):
            found += [f"{node.arg}="] * (not isinstance(node.value, ast.Constant) or bool(node.value.value))
    return found


def test_nothing_in_a_file_is_ever_executed() -> None:
    found = {str(path): broken for path in MODULES if (broken := violations(path.read_text(encoding="utf-8")))}
    assert found == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pickle", ["import pickle"]),
        ("from shelve import open", ["from shelve"]),
        ("eval(x)", ["eval()"]),
        ("torch.load(x)", ["torch.load"]),
        ("yaml.load(x, SafeLoader)", ["yaml.load"]),
        ("f(x, allow_pickle=True)", ["allow_pickle="]),
        ("f(x, allow_pickle=False); model.eval(); torch.save", []),
    ],
)
def test_violations_are_seen(source: str, expected: list[str]) -> None:
    assert violations(source) == expected
