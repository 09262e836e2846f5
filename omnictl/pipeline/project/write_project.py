"""A drafted project as the text of a project file, which says beside each stage what was found and what else there is."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from omnictl.pipeline.project.survey import Choice, Corpus, Draft

_WIDEST = 60
"""Characters of a setting for which the comments of a table are set in."""

Line = tuple[str, str]
"""A setting, and what is said about it."""

_TRAINS = {
    "pretrain": "the Thinker, a language model, on text",
    "asr": "the audio encoder, on speech and its transcripts",
    "vision": "the vision encoder, on labelled or captioned images",
    "talker": "the codec and the Talker, on one or more voices",
    "sft": "all of them together, on dialogues",
}

REAL_VOICE_PRESET = "tiny"
"""Whose settings are for a synthetic voice."""

REAL_VOICE = """\
# For an hour of a person's voice, which is harder than the built-in one; without these lines, the preset's own.
codec.model.width = 256
codec.model.quantiser = { books = 12, codes = 128 }
codec.book_dropout = 0.5
codec.train.steps = 12000
codec.train.schedule.decay_fraction = 0.7
aligner.train.steps = 1500
talker.books = 4
talker.corruption = 0.2
talker.model = { width = 256, heads = 4, hidden = 688, dropout = 0.3 }
talker.train.steps = 1500
talker.train.batch_size = 16
"""


def project_text(draft: Draft, *, preset: str, file: Path, command: str) -> str:
    """The text of a project file.

    Args:
        draft: what is trained on what.
        preset: of all stages.
        file: where it will lie; paths below its folder are relative to that.
        command: that wrote it.
    """
    head = [
        f"# Written by `{command}`. Train it with `omnictl pipeline --config {file.name}`.",
        "# Paths are relative to this file. `omnictl config show STAGE` lists the settings that a table may have.",
        "",
        *_align(
            [
                (f"preset = {json.dumps(preset)}", "debug, tiny or small; a stage may name one of its own"),
                ('others = "out"', 'stages without a table are left out; "tinyworld" trains them on the built-in world'),
            ]
        ),
    ]
    tables = [_table(draft, choice, preset, file) for choice in draft.choices.values()]
    return "\n".join([*head, *(line for table in tables for line in ("", *table)), ""])


def _table(draft: Draft, choice: Choice, preset: str, file: Path) -> list[str]:
    title = f"# {_TRAINS[choice.stage]}"
    if choice.corpus is not None:
        voice = REAL_VOICE.splitlines() if choice.stage == "talker" and preset == REAL_VOICE_PRESET else []
        return [title, f"[{choice.stage}]", *_align(list(_data_lines(choice, choice.corpus, file))), *voice]
    if choice.stage in draft.stand_ins:
        stands_in = ('data = "tinyworld"', f"{choice.lacking}: the built-in world stands in")
        return [title, f"[{choice.stage}]", *_align([stands_in])]
    return [f"{title}: left out, {_one_line(choice.lacking)}", f"# [{choice.stage}]"]


def _data_lines(choice: Choice, corpus: Corpus, file: Path) -> Iterator[Line]:
    yield f"data = {source_of(corpus.path, file)}", corpus.size
    if not corpus.has_labels:
        yield 'objective = "contrastive"', "learns from captions, as there are no labels"
    for other in choice.others:
        yield f"# data = {source_of(other.path, file)}", other.size


def source_of(path: Path, file: Path) -> str:
    """A path as a project file has it, quoted: relative to its folder if it lies there."""
    path, folder = path.absolute(), file.absolute().parent
    text = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    if text.startswith(("~", "tinyworld")):  # these would mean something else
        text = f"./{text}"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _align(lines: Sequence[Line]) -> list[str]:
    width = max((len(setting) for setting, _ in lines if len(setting) <= _WIDEST), default=0)
    return [f"{setting:<{width}}  # {_one_line(comment)}" for setting, comment in lines]


def _one_line(text: str | None) -> str:
    """A text that ends no comment: file names may have line ends."""
    return " ".join("".join(character if character.isprintable() else " " for character in text or "").split())
