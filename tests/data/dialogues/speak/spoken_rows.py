"""Dialogues to speak, and voices that take no time: their recordings tell what was said."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from omnictl.data.export import RATE
from omnictl.data.speech.corpus import Samples
from omnictl.tinyworld.speech.utterances import Utterance

SECONDS_A_CHARACTER = 0.05


def user(*parts: str) -> dict[str, object]:
    """A message of texts, and of media by their paths."""
    media = {".png": "image", ".flac": "audio"}
    content = []
    for part in parts:
        kind = media.get(Path(part).suffix, "text")
        content.append({"type": kind, kind: part})
    return {"role": "user", "content": content if len(content) > 1 else parts[0]}


def assistant(text: str) -> dict[str, object]:
    return {"role": "assistant", "content": text}


def write_rows(folder: Path, *rows: dict[str, object]) -> Path:
    """A folder of dialogues with the images that they name."""
    folder.mkdir(exist_ok=True)
    for row in rows:
        for message in row["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else ():
                if "image" in part and not (file := folder / part["image"]).exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    colour = (len(file.name) * 16 % 256, 99, sum(file.name.encode()) % 256)
                    Image.new("RGB", (20, 20), colour).save(file)
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Tones:
    """Says an utterance as a tone, a twentieth of a second a character, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.said: list[Utterance] = []

    def __call__(self, plans: Sequence[Utterance]) -> Iterator[Samples]:
        for plan in plans:
            self.said.append(plan)
            yield np.sin(np.arange(round(len(plan.text) * SECONDS_A_CHARACTER * RATE)) / 9).astype(np.float32) / 2
