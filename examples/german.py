"""Writes German sentences spoken by espeak-ng, a stand-in for recordings in another language than English.

    python examples/german.py german
    omnictl data check german --targets chars
    omnictl asr --preset tiny --data german --set targets.kind=chars

A small grammar makes the sentences; no sentence of the validation or test split is in another one. Half of the test split is spoken
by two voices that the other splits have not.
"""

import csv
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import soundfile

from omnictl.tinyworld.speech.espeak import Request, speak

SIZES = {"train": 3_000, "val": 100, "test": 200}
VOICES = tuple(f"de+{variant}" for variant in ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3"))
UNSEEN_VOICES = ("de+m7", "de+f4")
BLOCK = 100
"""Sentences that one process of espeak-ng says."""

MASCULINE = ("Hund", "Vogel", "Bäcker", "Löwe", "Nachbar", "König", "Schüler", "Igel")
FEMININE = ("Katze", "Ärztin", "Frau", "Schildkröte", "Köchin", "Biene", "Lehrerin", "Großmutter")
NEUTER = ("Mädchen", "Pferd", "Kind", "Häschen", "Eichhörnchen", "Schaf", "Küken", "Gespenst")
ADJECTIVES = ("kleine", "große", "müde", "fröhliche", "süße", "graue", "grüne", "schöne", "böse", "weiße", "junge", "höfliche")
VERBS = ("sieht", "sucht", "findet", "hört", "möchte", "braucht", "kauft", "trägt", "wäscht", "grüßt", "öffnet", "zählt")
THINGS = ("Äpfel", "Bücher", "Schlüssel", "Hüte", "Blumen", "Brötchen", "Stühle", "Gläser", "Flöße", "Körbe", "Mützen", "Züge")
NUMBERS = ("zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf", "dreißig")
PLACES = (
    "im Garten",
    "am Fluss",
    "auf der Straße",
    "in der Küche",
    "vor dem Haus",
    "über der Brücke",
    "unter dem Tisch",
    "im Schloss",
)
TIMES = ("Heute", "Gestern", "Am Abend", "Früh am Morgen", "Im Frühling", "Jetzt", "Später", "Jeden Dienstag")


def draw_sentence(random_numbers: random.Random) -> str:
    """A sentence; adjectives behind an article in the nominative singular end in -e in every gender."""
    pick = random_numbers.choice
    article, noun = pick((("der", MASCULINE), ("die", FEMININE), ("das", NEUTER)))
    subject = f"{article} {pick(ADJECTIVES)} {pick(noun)}"
    ending = f"{pick(NUMBERS)} {pick(THINGS)} {pick(PLACES)}"
    if random_numbers.random() < 0.5:
        return f"{subject[0].upper()}{subject[1:]} {pick(VERBS)} {ending}."
    return f"{pick(TIMES)} {pick(VERBS)} {subject} {ending}."


def draw_rows(seed: int) -> Iterator[tuple[str, str, Request]]:
    """Split, sentence and how it is said, of every row."""
    random_numbers, seen = random.Random(seed), set[str]()
    for split, size in SIZES.items():
        for number in range(size):
            sentence = draw_sentence(random_numbers)
            while sentence in seen:
                sentence = draw_sentence(random_numbers)
            seen.add(sentence)
            voices = UNSEEN_VOICES if split == "test" and number % 2 else VOICES
            voice = random_numbers.choice(voices)
            yield split, sentence, Request(sentence, voice, random_numbers.randint(140, 190), random_numbers.randint(35, 65))


def write_corpus(folder: Path, seed: int = 0) -> None:
    """Write `metadata.csv` and the recordings."""
    (folder / "audio").mkdir(parents=True)
    rows = list(draw_rows(seed))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["audio", "text", "speaker", "split"])
        for begin in range(0, len(rows), BLOCK):
            block = rows[begin : begin + BLOCK]
            spoken = speak([request for _, _, request in block])
            for number, ((split, sentence, request), samples) in enumerate(zip(block, spoken.samples, strict=True), start=begin):
                soundfile.write(folder / "audio" / f"{number:05}.flac", samples, spoken.rate)
                table.writerow([f"audio/{number:05}.flac", sentence, request.voice, split])


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
