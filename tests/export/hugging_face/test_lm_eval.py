"""`lm-eval` judges an exported Thinker through `transformers`, offline, by two tasks that are files; the run scores them alike."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from omnictl.data.text.tokenizer import END
from omnictl.export.agreement import score
from omnictl.export.targets import ExportSettings, export_model
from omnictl.export.thinker import ThinkerExport, open_thinker
from omnictl.runs.run import Run

CHOICES: list[dict[str, Any]] = [
    {
        "question": "There is a red ring and a blue star. What colour is the ring?",
        "choices": [" Red.", " Blue.", " Green."],
        "label": 0,
    },
    {"question": "Kate has a brown dog. Who has a dog?", "choices": [" Leo.", " Kate.", " The dog."], "label": 1},
    {"question": "Two and two are", "choices": [" four.", " five.", " a ring."], "label": 0},
]
TEXTS = ["Kate has a brown dog. She is a clever nurse.", "There is a small red circle on the left.", "They meet on Monday."]

CHOICE_TASK = """
task: choices
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
TEXT_TASK = """
task: texts
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}]
"""


def write_task(folder: Path, description: str, rows: list[dict[str, Any]]) -> str:
    """A task with its data, in the format of lm-eval; returns its name."""
    name = description.split()[1]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"data_files": {"test": str(folder / f"{name}.jsonl")}}
    (folder / f"{name}.yaml").write_text(f"{description}dataset_path: json\ndataset_kwargs: {json.dumps(data)}\ntest_split: test\n")
    return name


def log_probability(export: ThinkerExport, given: str, text: str) -> float:
    """ln p of a text after another one, by the run's own Thinker."""
    start, whole = (export.tokenizer.encode(one, markup=False) for one in (given, given + text))
    tokens = torch.tensor([END, *whole])
    log_probs = score(export.thinker, tokens[None, :-1])[0].log_softmax(-1)
    return float(log_probs.gather(1, tokens[1:, None])[len(start) :].sum())


def judge(folder: Path, description: str, rows: list[dict[str, Any]], how: dict[str, Any]) -> Any:
    """What lm-eval finds by a task in `folder/thinker`."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    (folder / "tasks").mkdir(exist_ok=True)
    return simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder / "thinker"), "dtype": "float32", **how},
        tasks=[write_task(folder / "tasks", description, rows)],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        device="cpu",
        batch_size=1,
        bootstrap_iters=0,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed: pip install 'omnictl[lm-eval]'")
def test_its_scores_are_the_runs_own(run: Run, settings: ExportSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    export_model("hf", run.model, tmp_path / "thinker", settings)
    choices = judge(tmp_path, CHOICE_TASK, CHOICES, {"add_bos_token": True})
    texts = judge(tmp_path, TEXT_TASK, [{"text": text} for text in TEXTS], {"add_bos_token": False})  # they have one
    export = open_thinker(run.model, tmp_path / "cache")
    for sample, row in zip(choices["samples"]["choices"], CHOICES, strict=True):
        theirs = [answer[0][0] for answer in sample["resps"]]
        own = [log_probability(export, row["question"], choice) for choice in row["choices"]]
        assert theirs == pytest.approx(own, rel=1e-4)
    bits = -sum(log_probability(export, "", text) for text in TEXTS) / math.log(2)
    expected = bits / sum(len(text.encode()) for text in TEXTS)
    assert texts["results"]["texts"]["bits_per_byte,none"] == pytest.approx(expected, rel=1e-4)
    assert 0 <= choices["results"]["choices"]["acc,none"] <= 1
