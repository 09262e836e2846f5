"""What the corpora of a folder are good for: how much each has, which stages it can train, and which is taken for which."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.dialogues.modalities import MediaKind, needed_stages
from omnictl.data.inspect.dialogues import measure_dialogues
from omnictl.data.inspect.findings import FindingsReport, Kind
from omnictl.data.inspect.folder_scan import CorpusPlace
from omnictl.data.inspect.images import measure_images
from omnictl.data.inspect.text_and_speech import check_text, measure_speech
from omnictl.errors import OmniError
from omnictl.pipeline.project.stage_data import KINDS, find_data_flaw
from omnictl.stages import command_stages

_REPORTS: Mapping[Kind, Callable[[str], FindingsReport]] = {
    "text": check_text,
    "speech": measure_speech,
    "images": measure_images,
    "dialogues": measure_dialogues,
}
"""What counts a corpus: text is read, of recordings and images the headers are."""

_SHOWN_CLASSES = 3


class Need(NamedTuple):
    """How much a stage needs for training to make sense; it would train on less."""

    least: float
    unit: str
    what: str
    """It is called where there is none."""


NEEDS: Mapping[str, Need] = {
    "pretrain": Need(50_000, "characters of text", "text"),
    "asr": Need(3, "minutes of recordings with transcripts", "recordings with transcripts"),
    "vision": Need(100, "images with labels or captions", "images with labels or captions"),
    "talker": Need(15, "minutes of a voice with transcripts", "recordings with transcripts"),
    "sft": Need(50, "dialogues", "dialogues"),
}


class Corpus(NamedTuple):
    """A corpus and what it can be used for."""

    place: CorpusPlace
    size: str
    """For people; empty if it cannot be read."""
    amounts: Mapping[str, float]
    """In the unit of `NEEDS`, by the stages that take such data."""
    flaws: Mapping[str, str]
    """Why a stage would refuse it, with the fix."""
    media: frozenset[MediaKind] = frozenset()
    """That its dialogues show."""
    has_labels: bool = True
    """Of images; without any, they are learned by their captions."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.place.path

    def can_train(self, stage: str) -> bool:
        """Whether a stage takes it, and there is enough."""
        return stage not in self.flaws and self.amounts.get(stage, 0) >= NEEDS[stage].least


class Choice(NamedTuple):
    """What a stage is to be trained on."""

    stage: str
    corpus: Corpus | None
    """The largest that will do; None: there is none."""
    others: tuple[Corpus, ...]
    """That would do too, the largest first."""
    lacking: str | None
    """What is missing where there is none."""


class Draft(NamedTuple):
    """A project that a folder allows."""

    choices: Mapping[str, Choice]
    stand_ins: tuple[str, ...]
    """Stages without data that others cannot do without: they are trained on TinyWorld."""

    @property
    def stages(self) -> tuple[str, ...]:
        """That are trained, in their order."""
        return tuple(stage for stage in self.choices if self.choices[stage].corpus is not None or stage in self.stand_ins)


def measure_corpus(place: CorpusPlace) -> Corpus:
    """Look a corpus over; where it cannot be read, the reason is among its flaws."""
    stages = [stage for stage, kind in KINDS.items() if kind == place.kind]
    try:
        str(place.path).encode()
        report = _REPORTS[place.kind](str(place.path))
    except UnicodeEncodeError:
        return Corpus(place, "", {}, dict.fromkeys(stages, "its name is not valid UTF-8; rename it"))
    except OmniError as error:
        return Corpus(place, "", {}, dict.fromkeys(stages, f"{error.message}; {error.fix}"))
    flaw = find_data_flaw(stages[0], place.path) or _empty_split(place, report)  # stages that take the same data judge it alike
    flaws = {} if flaw is None else dict.fromkeys(stages, flaw)
    measured = _MEASURES[place.kind](report.summary, report.total)
    media = _media(place.path) if place.kind == "dialogues" else frozenset[MediaKind]()
    has_labels = place.kind != "images" or bool(report.summary["labels"])
    return Corpus(place, measured.size, dict(zip(stages, measured.amounts, strict=True)), flaws, media, has_labels)


def make_draft(corpora: Sequence[Corpus]) -> Draft:
    """The project that trains as many stages as there is data for, each on the largest corpus that will do."""
    choices = {stage: _choose(stage, corpora) for stage in command_stages()}
    joined = choices["sft"].corpus
    needed = () if joined is None else needed_stages(joined.media)
    return Draft(choices, tuple(stage for stage in needed if choices[stage].corpus is None))


def _choose(stage: str, corpora: Sequence[Corpus]) -> Choice:
    suited = [corpus for corpus in corpora if corpus.place.kind == KINDS[stage]]
    fit = sorted((corpus for corpus in suited if corpus.can_train(stage)), key=lambda corpus: -corpus.amounts[stage])
    return Choice(stage, fit[0], tuple(fit[1:]), None) if fit else Choice(stage, None, (), _lacking(stage, suited))


def _lacking(stage: str, suited: Sequence[Corpus]) -> str:
    need = NEEDS[stage]
    readable = [corpus for corpus in suited if stage not in corpus.flaws]
    if readable:
        best = max(readable, key=lambda corpus: corpus.amounts.get(stage, 0))
        return f"{best.path} has {best.amounts.get(stage, 0):,.4g} {need.unit}, {need.least:,g} or more would be needed"
    if suited:
        return f"{suited[0].path} cannot be used: {suited[0].flaws[stage].splitlines()[0]}"
    return f"no {need.what} found"


def _empty_split(place: CorpusPlace, report: FindingsReport) -> str | None:
    """Why text that has been read cannot be trained on, if all of it belongs to other splits."""
    sizes: Any = report.summary["splits"]
    empty = [split for split in ("train", "val") if place.kind == "text" and not sizes[split]["documents"]]
    return f"the {' and '.join(empty)} split of {place.path} is empty; give more text" if empty else None


def _media(path: Path) -> frozenset[MediaKind]:
    return frozenset(media.kind for row in read_dialogues(path).rows for media in row.media)


class _Size(NamedTuple):
    size: str
    amounts: tuple[float, ...]
    """Of the stages that take such data, in their order."""


def _text_size(summary: Mapping[str, Any], files: int) -> _Size:
    characters = _total(summary, "characters")
    return _Size(f"{_count(characters, 'character')} in {_count(files, 'file')}", (characters,))


def _speech_size(summary: Mapping[str, Any], _rows: int) -> _Size:
    hours, speakers = _total(summary, "hours"), len(summary["utterances_by_speaker"])
    named = f", {_count(speakers, 'speaker')}" if speakers else ""
    size = f"{_count(_total(summary, 'utterances'), 'utterance')}, {_duration(hours)}{named}"
    return _Size(size, (60 * hours, 60 * hours / max(1, speakers)))


def _image_size(summary: Mapping[str, Any], _rows: int) -> _Size:
    number, captions = _total(summary, "pictures"), _total(summary, "captions")
    parts = [_class_names(name, counts) for name, counts in summary["labels"].items()]
    parts += [f"{_count(captions, 'caption')}"] if captions else []
    return _Size(f"{_count(number, 'image')}: {', '.join(parts)}", (number,))


def _class_names(name: str, counts: Mapping[str, int]) -> str:
    names = sorted(counts)
    more = ", …" if len(names) > _SHOWN_CLASSES else ""
    what = "label" if name == "label" else f"value of {name}"
    return f"{_count(len(names), what)} ({', '.join(names[:_SHOWN_CLASSES])}{more})"


def _dialogue_size(summary: Mapping[str, Any], _rows: int) -> _Size:
    number, images, sounds = (_total(summary, name) for name in ("dialogues", "pictures", "sounds"))
    about = [_count(images, "image")] if images else []
    about += [_count(sounds, "recording")] if sounds else []
    media = f" about {' and '.join(about)}" if about else ""
    return _Size(f"{_count(number, 'dialogue')}{media}", (number,))


_MEASURES: Mapping[str, Callable[[Mapping[str, Any], int], _Size]] = {
    "text": _text_size,
    "speech": _speech_size,
    "images": _image_size,
    "dialogues": _dialogue_size,
}


def _total(summary: Mapping[str, Any], name: str) -> float:
    return float(sum(sizes[name] for sizes in summary["splits"].values()))


def _count(number: float, noun: str) -> str:
    first, *rest = noun.split(" ", 1)
    return " ".join([f"{number:,.0f} {first}{'' if number == 1 else 's'}", *rest])


def _duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 1 else f"{hours * 60:.1f} min"
