"""Adds to the site what lies elsewhere or is generated: README as the first page, the changelog, settings, commands, examples."""

import re
from pathlib import Path
from typing import Any

import generated
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[3]

MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
"""Pages from the root of the repository, and where the site has them."""

STYLE = ROOT / "docs" / "site" / "site.css"

LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)((?:#[^)\s]*)?\))")
"""A link or an image: the file it leads to, and the place in it."""


def on_files(files: Files, config: Any) -> Files:
    """Add what is not in docs/."""
    pages = {
        **{to: relink((ROOT / name).read_text(encoding="utf-8"), ROOT) for name, to in MOVED.items()},
        **{f"reference/settings_{stage}.md": text for stage, text in generated.settings_pages().items()},
        "reference/commands.md": generated.commands_page(),
        "reference/api.md": generated.API_PAGE,
        "site.css": STYLE.read_text(encoding="utf-8"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for file in sorted((ROOT / "examples").rglob("*")):
        if file.is_file() and file.suffix != ".md" and "__pycache__" not in file.parts:
            files.append(File.generated(config, f"examples/{file.relative_to(ROOT / 'examples')}", abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links that leave docs/ to where the site has their targets."""
    source = page.file.abs_src_path
    return relink(markdown, Path(source).parent) if source else markdown


def relink(markdown: str, folder: Path) -> str:
    """The same text, with links to files of the repository as the site has them.

    Args:
        markdown: a page.
        folder: where the page lies in the repository.
    """
    depth = len(folder.relative_to(ROOT / "docs").parts) if folder.is_relative_to(ROOT / "docs") else 0

    def lead(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        path = target.relative_to(ROOT).as_posix()
        return f"{match[1]}{'../' * depth}{MOVED.get(path, path.removeprefix('docs/'))}{match[3]}"

    return LINK.sub(lead, markdown)
