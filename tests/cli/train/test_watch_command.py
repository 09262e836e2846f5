"""`omnictl watch`: a page that follows a training."""

import json
import shutil
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnictl.cli.train import watch
from omnictl.errors import UsageError
from omnictl.report import live_page
from omnictl.report.live_server import serve_page
from omnictl.runs.run import Run

Command = Callable[..., Any]


def test_a_run_that_is_not_trained_gets_its_page(omnictl: Command, trained: Path) -> None:
    ended = omnictl("watch", "--json")
    assert ended.json == {"run": str(trained), "status": "finished", "page": str(trained / "report.html")}
    assert "gradient norm" in (trained / "report.html").read_text()


def test_a_training_is_shown_until_it_ends(omnictl: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, pages, ended = Run(trained), [], threading.Event()
    run.update(status="running")

    def look(seconds: float) -> None:
        """In place of a sleep: ask for the page, then let the training end."""
        pages.append(urllib.request.urlopen(addresses[0], timeout=10).read().decode())
        ended.set()

    addresses: list[str] = []
    original = serve_page

    def remember(render: Callable[[], str], port: int) -> Any:
        context = original(render, port)
        address = context.__enter__()
        addresses.append(address)

        class Served:
            def __enter__(self) -> str:
                return address

            def __exit__(self, *ending: object) -> None:
                context.__exit__(None, None, None)

        return Served()

    monkeypatch.setattr("omnictl.report.live_server.serve_page", remember)
    monkeypatch.setattr(watch.time, "sleep", look)
    monkeypatch.setattr("omnictl.runs.catalogue.is_trained_now", lambda run: not ended.is_set())
    shown = omnictl("watch", trained, "--port", 0)
    assert shown.code == 0
    assert addresses[0] in shown.out
    assert '<meta http-equiv="refresh" content="5">' in pages[0]
    assert "training loss" in pages[0]
    assert "refresh" not in (trained / "report.html").read_text()


def test_a_pipeline_shows_its_stages(trained: Path) -> None:
    pipeline = Run(trained.parent.parent / "pipeline" / "2026-11-22_14-05-09_tiny")
    pipeline.path.mkdir(parents=True)
    record = {"stage": "pipeline", "status": "running", "parents": {"pretrain": f"pretrain/{trained.name}"}}
    (pipeline.path / "run.json").write_text(json.dumps(record))
    pipeline.config_file.write_text("{}")
    page = live_page(pipeline, 5)
    assert f"pretrain · {trained.name} · finished" in page
    assert "validation perplexity" in page


def test_a_run_that_vanishes_is_told_on_the_page(trained: Path) -> None:
    run = Run(trained)
    with serve_page(lambda: live_page(run, 5), 0) as address:
        shutil.rmtree(trained)
        page = urllib.request.urlopen(address, timeout=10).read().decode()
    assert "cannot read" in page


def test_a_port_that_is_taken(omnictl: Command) -> None:
    with serve_page(lambda: "", 0) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UsageError, match=f"port {port} cannot be used") as caught, serve_page(lambda: "", port):
            pass
    assert "--port 0" in caught.value.fix
