"""The documentation as a site: it is built without a warning, loads nothing from elsewhere, and says what the code says."""

import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from omnictl.config.reference import setting_groups
from omnictl.stages import command_recipe, command_stages

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "site" / "pages"

LOADING = {("script", "src"), ("img", "src"), ("iframe", "src"), ("audio", "src"), ("source", "src"), ("link", "href")}
"""What a browser fetches by itself."""


class Loaded(HTMLParser):
    """Collects the addresses of all that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if (tag, name) in LOADING]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "-f",
        str(ROOT / "docs" / "site" / "mkdocs.yml"),
        "-d",
        str(folder),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert (built.returncode, built.stderr) == (0, "")
    return folder


@pytest.mark.slow
def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {site / path for path in written} < set(pages)
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        for address in loaded.addresses:
            assert "//" not in address, f"{page.name} loads {address}"
            if page.name != "404.html":
                assert (page.parent / address.partition("#")[0].partition("?")[0]).exists(), f"{page.name} loads {address}"
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "url(http" not in styles
    assert "@import" not in styles


@pytest.mark.slow
def test_settings_commands_and_api_are_those_of_the_code(site: Path) -> None:
    for stage in command_stages():
        text = (site / "reference" / f"settings_{stage}.html").read_text(encoding="utf-8")
        settings = [one for group in setting_groups(command_recipe(stage).config_type) for one in group.settings]
        assert [one.key for one in settings if f"<code>{one.key}</code>" not in text] == []
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "<code>--max-minutes" in commands
    assert 'id="omnictl-runs-compare"' in commands
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in ("train", "evaluate", "load", "Model.transcribe"):
        assert f'id="omnictl.api.{name}"' in api


def test_links_lead_to_where_the_site_has_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PAGES))
    from hooks import relink  # type: ignore[import-not-found]

    assert relink("[a](../README.md#map) [b](runs.md#x)", ROOT / "docs") == "[a](index.md#map) [b](runs.md#x)"
    assert relink("![a](docs/omni_model.svg) [b](CHANGELOG.md)", ROOT) == "![a](omni_model.svg) [b](changelog.md)"
    assert relink("[a](../../examples/scene.png)", ROOT / "docs" / "log") == "[a](../examples/scene.png)"
    assert relink("[a](https://example.org/x.md) [b](#here)", ROOT) == "[a](https://example.org/x.md) [b](#here)"
    assert relink("[a](memory.md)", ROOT / "docs" / "log") == "[a](../log/memory.md)"


def test_every_extra_is_named_where_installing_is_described() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`[^|]+`) \|", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", " ".join(rows))) == set(extras)
