"""Draws the packages by layer, with their files and lines and what each imports: `python docs/draw_layers.py` writes `layers.svg`.

A package stands below all that import it, as low as that allows. `tests/test_layers.py` compares the drawing with the code.
"""

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent / "omnictl"
DRAWING = Path(__file__).parent / "layers.svg"

WIDTH, ROW, GAP, MARGIN = 960, 64, 10, 20


def packages() -> dict[str, list[Path]]:
    """The files of each package or module right below the root."""
    files_of: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name not in ("__init__", "__main__"):
            files_of.setdefault(name, []).append(path)
    return files_of


def imports(files: list[Path], names: set[str]) -> set[str]:
    """The packages among `names` that files import, wherever in the file."""
    imported: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "omnictl":
                parts = node.module.split(".")[1:]
                imported |= {parts[0]} if parts else {alias.name for alias in node.names}
    return imported & names


def layers(needs: dict[str, set[str]]) -> list[list[str]]:
    """Packages from the top: each above all that it imports.

    Raises:
        ValueError: some import each other in a circle.
    """
    rows: list[list[str]] = []
    left = dict(needs)
    while left:
        row = sorted(name for name, wanted in left.items() if not wanted & left.keys())
        if not row:
            raise ValueError(f"a circle among {', '.join(sorted(left))}")
        rows.insert(0, row)
        left = {name: wanted for name, wanted in left.items() if name not in row}
    return rows


def draw() -> str:
    """The drawing as SVG."""
    files = packages()
    needs = {name: imports(paths, set(files)) - {name} for name, paths in files.items()}
    rows = layers(needs)
    height = 2 * MARGIN + len(rows) * ROW + (len(rows) - 1) * GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">']
    for depth, row in enumerate(rows):
        box = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        for place, name in enumerate(row):
            x, y = MARGIN + place * (box + GAP), MARGIN + depth * (ROW + GAP)
            lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files[name])
            size = (
                f"{len(files[name])} files, {round(lines, -2):,} lines" if len(files[name]) > 1 else f"{round(lines, -1):,} lines"
            )
            wanted = ", ".join(sorted(needs[name]))
            out += [
                f"<g><title>{escape(name)} imports {escape(wanted) or 'nothing'}</title>",
                f'<rect x="{x:.0f}" y="{y}" width="{box:.0f}" height="{ROW}" rx="6" fill="#eef3fa" stroke="#5b7aa6"/>',
                f'<text x="{x + box / 2:.0f}" y="{y + 28}" text-anchor="middle" font-weight="bold">{escape(name)}</text>',
                f'<text x="{x + box / 2:.0f}" y="{y + 48}" text-anchor="middle" fill="#555">{size}</text></g>',
            ]
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    DRAWING.write_text(draw(), encoding="utf-8")
