"""The README.md of an export, as model hubs show it: what it is, how to use it, and the numbers that its run was measured by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnictl import __version__
from omnictl.data.manifest.source import names_tinyworld
from omnictl.export.agreement import Agreement
from omnictl.export.model_card.origins import Origins
from omnictl.export.model_card.usage import Usage, join_words
from omnictl.runs.files import read_json, write_text
from omnictl.runs.model_folder import read_stage
from omnictl.runs.run import Run

MOST_METRICS = 40


def write_model_card(
    folder: Path, model: Path, usage: Usage, origins: Origins, agreements: Sequence[Agreement], *, name: str, licence: str | None
) -> None:
    """Write README.md.

    Args:
        folder: the export.
        model: the model folder that it was made of.
        usage: of this format.
        origins: what the model was made from.
        agreements: what was compared.
        name: of the model.
        licence: an identifier of a licence; None: Apache-2.0 of a model of nothing but the built-in world, unknown of others.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    config = read_json(model / "config.json")["config"]
    given = licence or ("apache-2.0" if origins.built_in else None)
    scratch = " Trained from scratch." if origins.from_scratch else ""
    sections = [
        _front_matter(usage, origins, given),
        f"# {name}",
        f"{usage.summary}{scratch} Made with omnictl {__version__}, stage `{read_stage(model)}`.",
        "## Use",
        usage.text,
        "## Measured",
        *_measurements(_run_of(model)),
        "## Training",
        *_training(origins, config, _run_of(model)),
        "## This export",
        "Compared with the run before it was written:",
        "| what | compared | largest difference | allowed |\n|---|---|---|---|\n"
        + "\n".join(f"| {one.what} | {one.compared:,} | {one.difference:.3g} | {one.allowed:.3g} |" for one in agreements),
        "## Licence",
        f"`{given}`" if given else f"Not stated. {_describe_owners(origins)}",
    ]
    write_text(folder / "README.md", "\n\n".join(sections) + "\n")


def _front_matter(usage: Usage, origins: Origins, licence: str | None) -> str:
    language = "en" if origins.built_in else None
    fields = {"library_name": usage.library, "pipeline_tag": usage.pipeline, "license": licence or "other", "language": language}
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return "\n".join(["---", *lines, "tags:", "- omnictl", "---"])


def _run_of(model: Path) -> Run | None:
    """The run whose model folder it is; None of a copy."""
    return Run(model.parent) if (model.parent / "run.json").is_file() else None


def _measurements(run: Run | None) -> list[str]:
    """A table for each evaluation of the run."""
    reports = sorted(run.evaluations.glob("*/report.json")) if run else []
    if not reports:
        return ["Not evaluated. `omnictl eval` measures a run; export it again after that."]
    return [_metrics_table(report.parent.name, read_json(report)) for report in reports]


def _metrics_table(name: str, report: Mapping[str, Any]) -> str:
    verdict, headline = report["verdict"], report["headline"]
    lines = [
        f"Split `{name}`, {report['num_examples']:,} examples, headline `{headline['name']}` ({headline['better']} is better). "
        f"Verdict: **{verdict['word']}**, {verdict['reason']}.",
        "",
        "| metric | value | 95 % interval | examples | control |",
        "|---|---|---|---|---|",
    ]
    lines += [_metric_row(metric, one) for metric, one in list(report["estimates"].items())[:MOST_METRICS]]
    more = len(report["estimates"]) - MOST_METRICS
    return "\n".join([*lines, *([f"\n… and {more} more in the run's report"] if more > 0 else [])])


def _metric_row(name: str, estimate: Mapping[str, Any]) -> str:
    control = "" if estimate.get("control") is None else f"{_number(estimate['control_value'])} (`{estimate['control']}`)"
    interval = f"{_number(estimate['low'])} to {_number(estimate['high'])}"
    return f"| `{name}` | {_number(estimate['value'])} | {interval} | {estimate['n']:,} | {control} |"


def _number(value: float | None) -> str:
    """Reports hold null for what is not finite, such as the interval of a single example."""
    return "–" if value is None else f"{value:.4g}"


def _training(origins: Origins, config: Mapping[str, Any], run: Run | None) -> list[str]:
    train = config["train"]
    lines = [f"Data: {_describe_data(origins)}. {train['batch_size']} examples a step, seed {train['seed']}."]
    if origins.imported:
        lines.append(f"It, or a part of it, began as another project's model: {_name_folders(origins.imported)}.")
    if origins.unknown:
        lines.append(f"Of what was taken from these, it is not known what it began as: {_name_folders(origins.unknown)}.")
    if run is not None:
        record = run.record()
        versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
        steps = f"{record['steps']:,} steps" if "steps" in record else "steps"
        lines.append(f"{steps} on {record.get('device', 'an unknown device')}; {versions}. Run `{run.path.name}`.")
    return lines


def _describe_data(origins: Origins) -> str:
    """All data that it was trained on."""
    built_in = ["the built-in world of omnictl"] if any(names_tinyworld(source) for source in origins.sources) else []
    own = [source for source in origins.sources if not names_tinyworld(source)]
    return join_words([*built_in, *([_name_folders(own)] if own else [])]) if origins.sources else "not known"


def _describe_owners(origins: Origins) -> str:
    """Who must be asked for a licence."""
    own = [source for source in origins.sources if not names_tinyworld(source)]
    asked = [
        *([f"of the training data ({_name_folders(own)})"] if own else []),
        *([f"of the model that it, or a part of it, began as ({_name_folders(origins.imported)})"] if origins.imported else []),
        *([f"of {_name_folders(origins.unknown)}"] if origins.unknown else []),
    ]
    return f"Under which licence this may be used, the owners say {join_words(asked)}."


def _name_folders(places: Sequence[str]) -> str:
    """The last parts of some paths: a card tells no one where they were."""
    return ", ".join(dict.fromkeys(f"`{Path(place).name}`" for place in places))
