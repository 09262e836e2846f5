"""The README.md of an export, as model hubs show it: what it is, how to use it, and the numbers that its run was measured by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnictl import __version__
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.export.agreement import Agreement
from omnictl.runs.files import read_json, write_text
from omnictl.runs.model_folder import read_stage
from omnictl.runs.run import Run

MOST_METRICS = 40

THINKER_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
inputs = {inputs}
written = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(written, skip_special_tokens=True))
```"""

CHAT_INPUTS = """tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello."}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
TEXT_INPUTS = """tokenizer("Once upon a time", return_tensors="pt")"""


ADAPTER_USE = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER/base")
base = AutoModelForCausalLM.from_pretrained("FOLDER/base")
model = PeftModel.from_pretrained(base, "FOLDER")  # model.merge_and_unload() makes them one
```"""

FOLDER_USE = """\
```python
import soundfile
from PIL import Image
from transformers import AutoModel, AutoProcessor

processor = AutoProcessor.from_pretrained("FOLDER", trust_remote_code=True)
model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
turns = [{"role": "user", "content": [{"type": "image"}, {"type": "audio"}]}]
samples, rate = soundfile.read("question.wav")  # mono, at processor.sample_rate
written = model.generate(**processor(turns, images=[Image.open("scene.png")], audio=[samples]))
print(processor.decode(written[0]))
```"""


class Usage(NamedTuple):
    """What a format's card says besides the numbers."""

    summary: str
    text: str
    """How it is used, in Markdown."""
    library: str | None = None
    """`library_name` of the card."""
    pipeline: str | None = None
    """`pipeline_tag` of the card."""


def thinker_usage(*, chats: bool) -> Usage:
    """Of the Thinker in the format of `transformers`."""
    return Usage(
        "A small language model (`Qwen3ForCausalLM`), trained from scratch.",
        THINKER_USE.replace("{inputs}", CHAT_INPUTS if chats else TEXT_INPUTS),
        "transformers",
        "text-generation",
    )


def adapter_usage() -> Usage:
    """Of low-rank updates in the format of `peft`, with the Thinker that they update."""
    return Usage(
        "Low-rank updates (LoRA) of a small language model, which lies in `base` without them.",
        ADAPTER_USE,
        "peft",
        "text-generation",
    )


def gguf_usage(file: str, *, chats: bool) -> Usage:
    """Of the Thinker as a GGUF file."""
    command = f"llama-cli -m {file} --jinja --temp 0" if chats else f'llama-cli -m {file} -no-cnv -p "Once upon a time"'
    return Usage(
        "A small language model (architecture `qwen3`), trained from scratch, for llama.cpp.",
        f"```bash\n{command}\n```\n\nOther number formats: `llama-quantize {file} smaller.gguf Q5_K_M` of an F16 file.",
        None,
        "text-generation",
    )


def folder_usage() -> Usage:
    """Of an omni model in the format of `transformers`."""
    return Usage(
        "A small omni model (text, images and speech in, text out), trained from scratch, with its own modelling code.",
        FOLDER_USE,
        "transformers",
        "any-to-any",
    )


def onnx_usage() -> Usage:
    """Of an omni model as ONNX graphs."""
    return Usage(
        "A small omni model (text, images and speech in, text and speech out), trained from scratch, as ONNX graphs.",
        "`onnx_chat.py`, in the examples of omnictl, chats by voice with them: a hundred lines with onnxruntime alone.\n\n"
        "```bash\npython onnx_chat.py FOLDER --audio question.wav --image scene.png --speak reply.wav\n```",
        None,
        "any-to-any",
    )


def write_model_card(
    folder: Path, model: Path, usage: Usage, agreements: Sequence[Agreement], *, name: str, licence: str | None
) -> None:
    """Write README.md.

    Args:
        folder: the export.
        model: the model folder that it was made of.
        usage: of this format.
        agreements: what was compared.
        name: of the model.
        licence: an identifier of a licence; None: Apache-2.0 of a model of the built-in world, unknown of others.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    config = read_json(model / "config.json")["config"]
    source = str(config["data"]["source"])
    given = licence or ("apache-2.0" if tinyworld_seed(source) is not None else None)
    sections = [
        _front_matter(usage, given),
        f"# {name}",
        f"{usage.summary} Made with omnictl {__version__}, stage `{read_stage(model)}`.",
        "## Use",
        usage.text,
        "## Measured",
        *_measurements(_run_of(model)),
        "## Training",
        *_training(source, config, _run_of(model)),
        "## This export",
        "Compared with the run before it was written:",
        "| what | compared | largest difference | allowed |\n|---|---|---|---|\n"
        + "\n".join(f"| {one.what} | {one.compared:,} | {one.difference:.3g} | {one.allowed:.3g} |" for one in agreements),
        "## Licence",
        f"`{given}`" if given else "Not stated: the owner of the training data says under which licence this may be used.",
    ]
    write_text(folder / "README.md", "\n\n".join(sections) + "\n")


def _front_matter(usage: Usage, licence: str | None) -> str:
    fields = {"library_name": usage.library, "pipeline_tag": usage.pipeline, "license": licence or "other"}
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return "\n".join(["---", *lines, "language: en", "tags:", "- omnictl", "---"])


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
    control = "" if estimate.get("control") is None else f"{estimate['control_value']:.4g} (`{estimate['control']}`)"
    interval = f"{estimate['low']:.4g} to {estimate['high']:.4g}"
    return f"| `{name}` | {estimate['value']:.4g} | {interval} | {estimate['n']:,} | {control} |"


def _training(source: str, config: Mapping[str, Any], run: Run | None) -> list[str]:
    train = config["train"]
    data = "the built-in world of omnictl" if tinyworld_seed(source) is not None else f"`{Path(source).name}`"
    lines = [f"Data: {data}. {train['batch_size']} examples a step, seed {train['seed']}."]
    if run is not None:
        record = run.record()
        versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
        steps = f"{record['steps']:,} steps" if "steps" in record else "steps"
        lines.append(f"{steps} on {record.get('device', 'an unknown device')}; {versions}. Run `{run.path.name}`.")
    return lines
