"""The page and its files."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

import omnictl

PAGE = Path(omnictl.__file__).parent / "serve" / "page"
STAGE = Path(__file__).parent / "page"
"""What stands for the server, the microphone and the memory of the browser, and what a person does with the page."""
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
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
    html, script = (PAGE / "index.html").read_text(), "".join((PAGE / name).read_text() for name in FILES if name.endswith(".js"))
    ids = set(re.findall(r'id="([\w-]+)"', html))
    used = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert used - ids == set()
    for field in re.findall(r"<(?:select|textarea|input)[^>]*>", html):
        before = html[: html.index(field)]
        assert before.rfind("<label") > before.rfind("</label"), field


def show(address: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What a browser makes of the page, and what it logs."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}",
        "--enable-logging=stderr", "--v=0", *options, "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall(r"CONSOLE.*(?:Error|error|Refused).*", done.stderr) == []
    return done


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it(address: str, tmp_path: Path, width: int) -> None:
    done = show(address, tmp_path, f"--window-size={width},800", "--virtual-time-budget=20000")
    assert "_debug</p>" in done.stdout  # the model's name, which a script asked the server for


@contextmanager
def staged_page() -> Iterator[str]:
    """Where the page is with the stage around it; it has loaded when its script has ended."""
    ended = threading.Event()
    page = (PAGE / "index.html").read_text().replace("<head>", '<head><script src="/static/stubs.js"></script>')
    page = page.replace("</body>", '<img src="/wait" alt=""><script type="module" src="/static/script.js"></script></body>')

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/static/")
            if self.path == "/ended":
                ended.set()
            elif self.path == "/wait":
                ended.wait(90)
            body, kind = page.encode(), "text/html"
            staged, own = STAGE / name, PAGE / name.removeprefix("/real/")  # the page's own, also where it is staged
            if staged.is_file() or own.name in FILES:
                body, kind = (staged if staged.is_file() else own).read_bytes(), KINDS[own.suffix]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_what_a_person_does_with_it(tmp_path: Path) -> None:
    """Questions, conversations and microphones that get in each other's way, step by step in `page/script.js`."""
    with staged_page() as address:
        done = show(address, tmp_path)
    failures = re.search(r'<pre id="failures">(.*?)</pre>', done.stdout)
    assert failures is not None, done.stderr
    assert json.loads(unescape(failures[1])) == []
