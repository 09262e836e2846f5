"""Pages of runs made by hand: whole, offline, escaped, and no larger than they should be."""

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from omnictl.report import write_pipeline_report, write_report
from omnictl.report.curves import HEIGHT, WIDTH, Point, average_curve, curve
from omnictl.report.html import VOID, element
from omnictl.report.run_files import key_figures
from omnictl.runs.run import Run

EVIL = "<script>alert('&')</script>\"'<b>"
PNG = b"\x89PNG image"
WAV = b"RIFF audio"

MakeRun = Callable[..., Run]


class Reader(HTMLParser):
    """Checks that elements are closed in order; keeps tags, links and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(stage: str = "asr", **record: object) -> Run:
        run = Run(tmp_path / stage / "2026-11-22_14-05-09_tiny")
        run.path.mkdir(parents=True)
        known = {"stage": stage, "name": "tiny", "status": "finished", "parents": {}, "precision": ["fp32", "it is quick"]}
        (run.path / "run.json").write_text(json.dumps(known | record))
        run.config_file.write_text('{"data": "tinyworld"}')
        lines = [
            {"step": 0, "split": "val", "wer": 0.9, "loss": 3.0},
            *({"step": step, "split": "train", "loss": 4 / step} for step in range(1, 11)),
            {"step": 7, "split": "train", "skipped": 1.0},
            {"step": 10, "split": "val", "wer": 0.25, "loss": 1.0},
        ]
        run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run.path / "best.json").write_text('{"step": 10, "wer": 0.25}')
        return run

    return make


def judge(run: Run, folder: str = "test", *, value: float = 0.125, num: int = 3, **more: object) -> Path:
    """An evaluation of a run, as `omnictl eval` leaves it."""
    path = run.evaluations / folder
    path.mkdir(parents=True)
    report = {
        "stage": run.stage,
        "split": "test",
        "num_examples": num,
        "headline": {"name": "wer", "value": value, "better": "lower"},
        "metrics": {"wer": value, "cer": 0.0625, "set_aside": 0},
        "controls": {"wer_shuffled": 1.5},
        **more,
    }
    (path / "report.json").write_text(json.dumps(report))
    rows = [{"id": f"test/{i}", "reference": f"said {i}", "prediction": f"said {i}" if i % 2 else "else"} for i in range(num)]
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_page_has_numbers_curves_and_samples(make_run: MakeRun) -> None:
    run = make_run()
    judge(run, groups={"ann": {"wer": 0.5}, "bob": {"wer": 0.75, "cer": 0.25}})
    path = write_report(run)
    assert path == run.path / "report.html"
    page = read(path)
    for text in ("asr · 2026-11-22_14-05-09_tiny", "0.125", "lower is better", "set_aside", "wer_shuffled", "1.5", "ann", "said 2"):
        assert text in page.text
    assert "fp32 (it is quick)" in page.text
    assert "validation wer, best 0.25 at step 10" in page.text
    assert page.tags.count("svg") == 2
    assert page.tags.count("polyline") == 2


def test_it_is_one_file_without_scripts(make_run: MakeRun) -> None:
    run = make_run()
    folder = judge(run)
    (folder / "confusion.png").write_bytes(PNG)
    (folder / "a_b.wav").write_bytes(WAV)
    path = write_report(run)
    page = read(path)
    assert sorted(page.links) == [
        f"data:audio/wav;base64,{base64.b64encode(WAV).decode()}",
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
    ]
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"url\(|@import|https?:", path.read_text())
    assert "default-src &#x27;none&#x27;" in path.read_text()


def test_everything_is_escaped(make_run: MakeRun) -> None:
    run = make_run(command=EVIL, parents={EVIL: EVIL})
    folder = judge(run, judge=EVIL, groups={EVIL: {EVIL: 0.5}}, metrics={"wer": 0.5, EVIL: 0.5}, controls={EVIL: 1.0})
    (folder / "predictions.jsonl").write_text(json.dumps({EVIL: EVIL, "prediction": EVIL, "reference": EVIL}) + "\n")
    (folder / "worst.txt").write_text(EVIL)
    (folder / f"{EVIL.replace('/', '')}.png").write_bytes(PNG)
    run.config_file.write_text(EVIL)
    page = read(write_report(run))
    assert {"script", "b"}.isdisjoint(page.tags)
    assert page.text.count(EVIL) > 10


def test_the_newest_evaluation_is_shown_in_full(make_run: MakeRun) -> None:
    import os

    run = make_run()
    older, newer = judge(run, "test_tinyworld-7", value=0.75), judge(run, value=0.5)
    for age, folder in enumerate((newer, older)):
        os.utime(folder / "report.json", ns=(10**18 - age, 10**18 - age))
    page = read(write_report(run))
    assert page.text.index("3 examples of the test split0.5") < page.text.index("3 examples of the test split of tinyworld-70.75")
    assert page.text.count("samples") == 1


def test_a_page_has_bounds(make_run: MakeRun) -> None:
    run = make_run()
    folder = judge(run, num=50)
    for number in range(15):
        (folder / f"{number:02}.png").write_bytes(PNG)
        (folder / f"{number:02}.wav").write_bytes(WAV)
    (folder / "long.txt").write_text("x" * 100_000)
    page = read(write_report(run))
    assert (page.tags.count("img"), page.tags.count("audio")) == (12, 10)
    assert "said 19" in page.text
    assert "said 20" not in page.text
    for text in ("30 more in predictions.jsonl", "3 more in eval/test", "5 more in eval/test", "80000 characters more"):
        assert text in page.text


def test_what_is_not_shown_is_counted_in_the_file(make_run: MakeRun) -> None:
    """Stage A is judged on every document and continues a few of them."""
    run = make_run()
    folder = judge(run, num=25)
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "num_examples": 500}))
    page = read(write_report(run))
    assert "500 examples" in page.text
    assert "5 more in predictions.jsonl" in page.text


def test_images_and_recordings_stand_beside_what_names_them(make_run: MakeRun) -> None:
    run = make_run("sft")
    folder = judge(run)
    (folder / "scene.png").write_bytes(PNG)
    (folder / "reply.wav").write_bytes(WAV)
    rows = [
        {"id": "0", "image": "scene.png", "audio": str(folder / "reply.wav"), "prediction": "Red."},
        {"id": "1", "image": "../../run.json", "audio": "gone.wav", "prediction": "Blue."},
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = read(write_report(run))
    assert (page.tags.count("img"), page.tags.count("audio")) == (1, 1)
    assert "gone.wav" in page.text
    assert "images" not in page.text


def test_what_is_said_when_stands_beside_its_player(make_run: MakeRun) -> None:
    run = make_run()
    folder = judge(run)
    for number in range(8):
        (folder / f"utterance-{number}.alignment.png").write_bytes(PNG)
    (folder / "utterance-0.wav").write_bytes(WAV)
    page = read(write_report(run))
    assert (page.tags.count("img"), page.tags.count("audio")) == (6, 1)
    assert "what is said when" in page.text
    assert "2 more in eval/test" in page.text


def test_a_run_that_has_barely_begun(make_run: MakeRun) -> None:
    run = make_run(status="running")
    run.metrics_file.write_text('{"step": 0, "split": "val", "wer": 0.5}\n{"step": 1, "spl')
    (run.path / "best.json").unlink()
    page = read(write_report(run))
    assert "Not judged yet: omnictl eval asr" in page.text
    assert "validation wer" in page.text
    run.metrics_file.unlink()
    assert "svg" not in read(write_report(run)).tags


def test_the_page_of_a_pipeline(make_run: MakeRun) -> None:
    stages = [make_run(stage) for stage in ("pretrain", "asr")]
    own = make_run("pipeline", parents={run.stage: str(run.path) for run in stages})
    page = read(write_pipeline_report(own, [judge(run) for run in stages], {"vision": "there is none"}))
    assert page.links == ["#pretrain", "#asr"]
    assert "vision: there is none" in page.text
    assert page.tags.count("svg") == 4
    assert page.text.count("wer_shuffled") == 4


def test_a_page_leads_with_the_verdict(make_run: MakeRun) -> None:
    run = make_run()
    estimates = {
        "wer": {
            "value": 0.125,
            "n": 3,
            "low": 0.0,
            "high": 0.5,
            "control": "wer_shuffled",
            "control_value": 1.5,
            "beats_control": True,
        },
        "cer": {"value": 0.0625, "n": 1, "low": None, "high": None, "beats_control": None},
    }
    found = {"word": "not learned", "reason": "few & bad"}
    folder = judge(run, verdict=found, estimates=estimates, shortfall="wer is of only 3 examples")
    page = read(write_report(run))
    for text in ("not learned — few & bad", "0 to 0.5", "yes, wer_shuffled", "? to ?", "wer is of only 3 examples"):
        assert text in page.text
    assert page.text.index("not learned") < page.text.index("lower is better")
    own = make_run("pipeline", parents={"asr": str(run.path)})
    assert "not learned" in read(write_pipeline_report(own, [folder], {})).text


def test_long_curves_are_averaged() -> None:
    points = [Point(step, float(step % 2)) for step in range(1, 1001)]
    shown = average_curve(points, most=100)
    assert len(shown) == 100
    assert shown[-1].step == 1000
    assert all(point.value == 0.5 for point in shown)


def test_a_curve_lies_within_its_image() -> None:
    for values in ([5.0, 5.0], [0.0, 0.0], [-2.0, 3.0], [1000.0, 1.0, 0.1], [1e-9]):
        drawing = curve("loss", [Point(step, value) for step, value in enumerate(values)])
        (line,) = re.findall(r'polyline points="([^"]*)"', drawing)
        places = [tuple(map(float, place.split(","))) for place in line.split()]
        assert len(places) == len(values)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
        assert re.search(r"<text [^>]*>[-0-9.e]+</text>", drawing)
    assert ("logarithmic" in curve("loss", [Point(0, 100.0), Point(1, 1.0)])) is True
    assert ("logarithmic" in curve("loss", [Point(0, 10.0), Point(1, 1.0)])) is False


def test_elements_escape_what_is_no_element() -> None:
    assert element("p", "<", element("b", "&"), title='"') == '<p title="&quot;">&lt;<b>&amp;</b></p>'


@pytest.mark.parametrize(("stage", "metrics", "controls"), [("vision", 6, 4), ("sft", 21, 15)])
def test_of_tasks_every_figure_is_shown_in_the_common_table(stage: str, metrics: int, controls: int) -> None:
    named = {f"accuracy_{number}": number / 30 for number in range(30)}
    report = {"stage": stage, "headline": {"name": "accuracy_0"}, "metrics": named, "controls": named}
    shown = key_figures(report)
    assert tuple(map(len, shown)) == (metrics, controls)
    assert "accuracy_0" not in shown[0]
