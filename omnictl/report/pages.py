"""The pages: one of a run, one of a pipeline over all its stages."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnictl.report.html import Html, Number, concat, definition_list, details, element, embed_file, items, number, page, table
from omnictl.report.run_files import StoredEvaluation, evaluations, key_figures, read_evaluation
from omnictl.report.training import training_section, training_sections
from omnictl.runs.files import write_text
from omnictl.runs.run import Run

MOST_SAMPLES = 20
MOST_IMAGES = 12
MOST_RECORDINGS = 10
MOST_ALIGNMENTS = 6
MOST_GROUPS = 60
MOST_TEXT = 20_000
"""Characters of a text file that are shown."""

ALIGNMENT = ".alignment.png"
"""Ends the name of a spectrogram with what is said when; `NAME.wav` beside it is what it shows."""

FACTS = ("status", "error", "created", "steps", "device", "precision", "optimizer", "command")
"""Of a run's record, in this order."""


def write_report(run: Run) -> Path:
    """Write a run's page; its newest evaluation is shown in full, the others in numbers.

    Returns:
        Where it is.

    Raises:
        RunError: the run's files are damaged, or its folder cannot be written.
        DiskFull: no space left.
    """
    return _write(run, _run_content(run))


def _run_content(run: Run) -> list[Html]:
    stored_evaluations = evaluations(run)
    parents = [(f"from {name}", path) for name, path in run.record()["parents"].items()]
    content = [_title(run), definition_list([*_facts(run), *parents]), *training_section(run)]
    for evaluation in stored_evaluations[:1]:
        content += [element("h2", _describe(evaluation)), *_in_full(evaluation)]
    for evaluation in stored_evaluations[1:]:
        content += [element("h2", _describe(evaluation)), *_in_numbers(evaluation)]
    if not stored_evaluations:
        content.append(element("p", f"Not judged yet: omnictl eval {run.stage} --run {run.path}", class_="about"))
    content.append(_config(run))
    return content


def live_page(run: Run, refresh_seconds: int) -> str:
    """The page of a run as it stands, which asks for itself again; of a pipeline, the trainings of its stages.

    Raises:
        RunError: the run's files are damaged.
    """
    if run.stage == "pipeline" or not evaluations(run):
        content = [_title(run), definition_list(_facts(run)), *training_sections(run), _config(run)]
    else:
        content = _run_content(run)
    return page(f"{run.stage} {run.path.name}", *content, refresh_seconds=refresh_seconds)


def write_pipeline_report(run: Run, folders: Sequence[Path], missing: Mapping[str, str]) -> Path:
    """Write the page of a pipeline: a table over its stages, then each stage.

    Args:
        run: the pipeline's run.
        folders: the evaluation of each stage.
        missing: by stage, why it could not be judged.

    Returns:
        Where it is.

    Raises:
        RunError: a file is damaged, or the run's folder cannot be written.
        DiskFull: no space left.
    """
    stored_evaluations = [read_evaluation(folder) for folder in folders]
    absent = (element("p", f"{stage}: {why}", class_="about") for stage, why in missing.items())
    content = [_title(run), definition_list(_facts(run)), _overview(stored_evaluations), *absent]
    for evaluation in stored_evaluations:
        stage = evaluation.report["stage"]
        content += [
            element("h2", stage, id=stage),
            element("p", str(evaluation.run.path), class_="about"),
            *training_section(evaluation.run),
            element("h3", _describe(evaluation)),
            *_in_full(evaluation),
        ]
    content.append(_config(run))
    return _write(run, content)


def _write(run: Run, content: Iterable[str]) -> Path:
    write_text(run.page, page(f"{run.stage} {run.path.name}", *content))
    return run.page


def _title(run: Run) -> Html:
    return element("h1", f"{run.stage} · {run.path.name}")


def _facts(run: Run) -> list[tuple[str, str]]:
    record = run.record()
    return [(name, _fact(record[name])) for name in FACTS if name in record]


def _fact(value: object) -> str:
    return f"{value[0]} ({value[1]})" if isinstance(value, list) and len(value) >= 2 else str(value)  # precision: name, reason


def _describe(judged: StoredEvaluation) -> str:
    report = judged.report
    judge = f", judged by {report['judge']}" if "judge" in report else ""
    return f"{report['num_examples']} examples of the {report['split']} split{f' of {judged.data}' if judged.data else ''}{judge}"


def _in_numbers(judged: StoredEvaluation) -> list[Html]:
    """Verdict, headline, metrics and controls; what older versions have judged has neither verdict nor intervals."""
    report = judged.report
    if "estimates" in report:
        tables = [table(["metric", "", "95 %", "n", "beats its control"], _estimate_rows(report["metrics"], report["estimates"]))]
    else:
        tables = [table(["metric", ""], _figures(report["metrics"]))]
    if report["controls"]:
        tables.append(table(["control", ""], _figures(report["controls"])))
    short = [element("p", report["shortfall"], class_="about")] if report.get("shortfall") else []
    return [*_verdict(report), _headline(report), *short, element("div", *tables, class_="row")]


def _in_full(judged: StoredEvaluation) -> list[Html]:
    """The numbers, and what there is to read, to look at and to listen to."""
    rows = judged.predictions(MOST_SAMPLES)
    attached = [_find_attachments(judged, row) for row in rows]
    aligned = judged.files(ALIGNMENT)
    players = [_player(file) for file in aligned]
    elsewhere = {*(file for files in attached for file in files.values()), *aligned, *players}
    return [
        *_in_numbers(judged),
        *_groups(judged.report),
        *_alignments(aligned),
        *_recordings([file for file in judged.files(".wav") if file not in elsewhere], MOST_RECORDINGS),
        *_samples(rows, attached, judged.num_predictions),
        *_images([file for file in judged.files(".png") if file not in elsewhere]),
        *(details(file.name, element("pre", _text(file))) for file in judged.files(".txt")),
    ]


def _verdict(report: Mapping[str, Any]) -> list[Html]:
    """The verdict and its reason."""
    if "verdict" not in report:
        return []
    return [element("p", _word(report["verdict"]["word"]), f" — {report['verdict']['reason']}", class_="verdict")]


def _word(word: str) -> Html:
    return element("strong", word, class_=word.replace(" ", "-"))


def _estimate_rows(metrics: Mapping[str, float], estimates: Mapping[str, Any]) -> list[list[str]]:
    """A row for each metric, with its interval and its control if it has them."""
    rows: list[list[str]] = []
    for name, value in metrics.items():
        estimate = estimates.get(name, {})
        bounds = ["?" if estimate[bound] is None else number(estimate[bound]) for bound in ("low", "high")] if estimate else []
        compared = f"{'yes' if estimate['beats_control'] else 'no'}, {estimate['control']}" if "control" in estimate else ""
        rows.append([name, number(value), Number(" to ".join(bounds)), Number(estimate.get("n", "")), compared])
    return rows


def _headline(report: Mapping[str, Any]) -> Html:
    headline = report["headline"]
    return element(
        "div",
        element("strong", number(headline["value"])),
        element("span", headline["name"]),
        element("span", f"{headline['better']} is better", class_="about"),
        class_="headline",
    )


def _figures(values: Mapping[str, float]) -> list[list[str]]:
    return [[name, number(value)] for name, value in values.items()]


def _groups(report: Mapping[str, Any]) -> list[Html]:
    groups: dict[str, dict[str, float]] = report.get("groups", {})
    if not groups:
        return []
    names = list(dict.fromkeys(name for metrics in groups.values() for name in metrics))
    rows = [[group, *(number(metrics.get(name, "")) for name in names)] for group, metrics in list(groups.items())[:MOST_GROUPS]]
    return [
        details(f"by group ({len(groups)})", table(["", *names], rows), _note_omissions(len(groups) - len(rows), "report.json"))
    ]


def _samples(rows: Sequence[Mapping[str, object]], attached: Sequence[Mapping[str, Path]], total: int) -> list[Html]:
    """A table of predictions, with the images and recordings that they name."""
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_sample(name, row, files) for name in names] for row, files in zip(rows, attached, strict=True)]
    return [element("h3", "samples"), table(names, cells), _note_omissions(total - len(rows), "predictions.jsonl")]


def _sample(name: str, row: Mapping[str, object], files: Mapping[str, Path]) -> str:
    value = row.get(name)
    if name in files:
        return embed_file(files[name])
    if isinstance(value, float):
        return number(value)
    if name == "prediction" and value == row.get("reference"):
        return element("span", str(value), class_="right")
    return "" if value is None else str(value)


def _find_attachments(judged: StoredEvaluation, row: Mapping[str, object]) -> dict[str, Path]:
    """The files of the evaluation's folder that a prediction names, by the name of the field."""
    named = {name: judged.folder / Path(str(row[name])).name for name in ("image", "audio") if row.get(name)}
    return {name: file for name, file in named.items() if file.suffix in (".png", ".wav") and file.is_file()}


def _player(image: Path) -> Path:
    """The recording that an alignment shows."""
    return image.with_name(f"{image.name.removesuffix(ALIGNMENT)}.wav")


def _alignments(images: Sequence[Path]) -> list[Html]:
    """Spectrograms with what is said when, each with its player."""
    if not images:
        return []
    figures = [
        element(
            "figure",
            element("div", embed_file(image), class_="wide"),
            *([embed_file(_player(image))] if _player(image).is_file() else []),
            element("figcaption", _space_out(image.name.removesuffix(ALIGNMENT))),
        )
        for image in images[:MOST_ALIGNMENTS]
    ]
    return [
        element("h3", "what is said when"),
        *figures,
        _note_omissions(len(images) - len(figures), _within_run(images[0].parent)),
    ]


def _images(files: Sequence[Path]) -> list[Html]:
    if not files:
        return []
    figures = [element("figure", embed_file(file), element("figcaption", file.stem)) for file in files[:MOST_IMAGES]]
    return [
        element("h3", "images"),
        element("div", *figures, class_="row"),
        _note_omissions(len(files) - len(figures), _within_run(files[0].parent)),
    ]


def _recordings(files: Sequence[Path], most: int) -> list[Html]:
    if not files:
        return []
    figures = [element("figure", element("figcaption", _space_out(file.stem)), embed_file(file)) for file in files[:most]]
    return [
        element("h3", "audio"),
        element("div", *figures, class_="row"),
        _note_omissions(len(files) - len(figures), _within_run(files[0].parent)),
    ]


def _within_run(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _space_out(stem: str) -> str:
    return stem.replace("_", " ")


def _note_omissions(count: int, place: str) -> Html:
    """A line that says where the remaining items are, if any."""
    return element("p", f"{count} more in {place}", class_="about") if count > 0 else Html("")


def _overview(stored_evaluations: Sequence[StoredEvaluation]) -> Html:
    """A row for each stage."""
    rows = []
    for evaluation in stored_evaluations:
        report = evaluation.report
        metrics, controls = key_figures(report)
        headline = {report["headline"]["name"]: report["headline"]["value"]}
        named = element("a", report["stage"], href=f"#{report['stage']}")
        word = _word(report["verdict"]["word"]) if "verdict" in report else Html("")
        rows.append([named, word, evaluation.run.path.name, *(_short(values) for values in (headline, metrics, controls))])
    return table(["stage", "verdict", "run", "headline", "further metrics", "controls"], rows)


def _short(values: Mapping[str, float | None]) -> Html:
    return items(concat([f"{name} ", element("b", number(value))]) for name, value in values.items())


def _config(run: Run) -> Html:
    return details("config.json", element("pre", _text(run.config_file)))


def _text(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… {len(text) - MOST_TEXT} characters more"
