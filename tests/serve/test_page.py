"""The page and its files."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

import omnictl

PAGE = Path(omnictl.__file__).parent / "serve" / "page"
FILES = sorted(path.name for path in PAGE.iterdir())
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def test_every_file_is_served_for_this_site_alone(client: httpx.Client) -> None:
    for name in FILES:
        response = client.get("/" if name == "index.html" else f"/static/{name}")
        assert response.status_code == 200
        assert response.content == (PAGE / name).read_bytes()
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404


def test_nothing_comes_from_elsewhere() -> None:
    for name in FILES:
        text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://", text) == [], name
        named = re.findall(r"/static/([\w.]+)", text)
        assert [other for other in named if other not in FILES] == []


def test_every_control_has_a_name_and_every_name_used_is_there() -> None:
    html, script = (PAGE / "index.html").read_text(), (PAGE / "main.js").read_text()
    ids = set(re.findall(r'id="([\w-]+)"', html))
    used = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert used - ids == set()
    for field in re.findall(r"<(?:select|textarea|input)[^>]*>", html):
        before = html[: html.index(field)]
        assert before.rfind("<label") > before.rfind("</label"), field


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it(address: str, tmp_path: Path, width: int) -> None:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},800", "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "_debug</p>" in done.stdout  # the model's name, which a script asked the server for
    assert re.findall(r"CONSOLE.*(?:Error|error|Refused).*", done.stderr) == []
