"""Writes dialogues about recordings, and about two photographs of which a person names one aloud.

    python examples/projects/recordings_and_pairs.py SPEECH PHOTOS OUT

SPEECH is a folder with `metadata.csv` (audio,text,speaker,split), digits by people and sentences among it; PHOTOS has
`train/CLASS/*.jpg` and `test/CLASS/*.jpg`. Three tasks, each row in the split of its recording:

- transcribe: a sentence is written down;
- digit: which digit is said;
- named_photo: of two photographs, of different classes, "one" or "two" is named, and the reply says what it shows.
"""

import csv
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRANSCRIBE = ("Write down what you hear.", "What is said here?", "Please transcribe this.")
WHICH_DIGIT = ("Which digit is this?", "What number do you hear?", "Which digit is said?")
WHAT_DOES_IT_SHOW = ("What does the photograph with this number show?", "Name what the photograph of this number shows.")
PAIRS = {"train": 6_000, "val": 300, "test": 300}
VALIDATION = 20
"""One photograph in so many of the training folder is looked at in validation alone."""


class Folder:
    """Where dialogues and their media go."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.links: dict[Path, str] = {}

    def place(self, file: Path, kind: str) -> dict[str, str]:
        """A part of a message: the file as a hard link, or where the disk has none a copy."""
        if file not in self.links:
            path = f"{kind}/{len(self.links):06}{file.suffix}"
            (self.out / kind).mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.resolve(), self.out / path)
            except OSError:
                shutil.copyfile(file, self.out / path)
            self.links[file] = path
        return {"type": kind, kind: self.links[file]}


def turn(parts: Sequence[dict[str, str]], question: str, answer: str, task: str, split: str) -> dict[str, object]:
    """A row: media, a question in writing, and the answer."""
    asked = [*parts, {"type": "text", "text": question}]
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
        "task": task,
        "split": split,
    }


def about_recordings(
    rows: Sequence[dict[str, str]], speech: Path, folder: Folder, chance: random.Random
) -> Iterator[dict[str, object]]:
    for row in rows:
        audio = folder.place(speech / row["audio"], "audio")
        if row["text"] in DIGITS:
            yield turn([audio], chance.choice(WHICH_DIGIT), f"{row['text'].capitalize()}.", "digit", row["split"])
        else:
            yield turn([audio], chance.choice(TRANSCRIBE), row["text"], "transcribe", row["split"])


def about_pairs(
    rows: Sequence[dict[str, str]], speech: Path, photos: Path, folder: Folder, chance: random.Random
) -> Iterator[dict[str, object]]:
    """Photographs of a split are those that nobody has seen in another."""
    seen = sorted((photos / "train").glob("*/*.jpg"))
    images = {"train": [], "val": [], "test": sorted((photos / "test").glob("*/*.jpg"))}
    for number, image in enumerate(seen):
        images["train" if number % VALIDATION else "val"].append(image)
    for split, count in PAIRS.items():
        spoken = [row for row in rows if row["split"] == split and row["text"] in ("one", "two")]
        for _ in range(count if spoken else 0):
            row, pair = chance.choice(spoken), chance.sample(images[split], 2)
            while pair[0].parent.name == pair[1].parent.name:
                pair = chance.sample(images[split], 2)
            shown = pair[("one", "two").index(row["text"])].parent.name.replace("_", " ")
            parts = [*(folder.place(image, "image") for image in pair), folder.place(speech / row["audio"], "audio")]
            article = "An" if shown[0] in "aeiou" else "A"
            yield turn(parts, chance.choice(WHAT_DOES_IT_SHOW), f"{article} {shown}.", "named_photo", split)


def main(speech: Path, photos: Path, out: Path) -> None:
    out.mkdir(parents=True)
    folder, chance = Folder(out), random.Random(0)
    with (speech / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    dialogues = [*about_recordings(rows, speech, folder, chance), *about_pairs(rows, speech, photos, folder, chance)]
    (out / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dialogues), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
