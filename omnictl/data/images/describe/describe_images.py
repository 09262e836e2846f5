"""Makes a file of dialogues out of labelled or captioned images, for the `sft` stage."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.config.suggest import nearest
from omnictl.data.images.corpus import ImageDataConfig
from omnictl.data.images.describe.dialogues_file import DialoguesFile, check_place, new_dialogues_file
from omnictl.data.images.describe.image_contents import CorpusContents, ImageContent, read_contents
from omnictl.data.images.describe.image_dialogues import SplitDialogues, compare_labels, is_compared
from omnictl.data.images.describe.noun_phrases import is_code
from omnictl.data.images.describe.questions import CLASS, GROUP, Attribute
from omnictl.data.images.describe.similar_labels import mean_looks
from omnictl.data.images.file_corpus import ImageFiles
from omnictl.data.images.layouts import find_images
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.manifest.quarantine import format_rows
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.errors import DataError, UsageError
from omnictl.progress import log_progress
from omnictl.regular_files import read_regular


class Wording(NamedTuple):
    """How labels are put into words where the rules are not right."""

    label_name: str | None = None
    """What labels without a name are, if not things: `breed`, `mood`."""
    names: Mapping[str, str] = {}
    """What single labels are called."""


BY_RULES = Wording()


class DescribeReport(NamedTuple):
    """What was written, and what was not."""

    tasks: Mapping[str, Mapping[Split, int]]
    """Dialogues by task and split."""
    images: Mapping[Split, int]
    """Images that are talked about."""
    num_copied: int
    """Images that were copied beside the file."""
    set_aside: Sequence[BrokenRow]
    """Rows, or facts of them, that were not used."""
    notes: Sequence[str]
    """What a reader should know of the result."""


def describe_images(
    source: str,
    out: Path,
    *,
    seed: int,
    limit: int | None = None,
    max_broken: float = 0.05,
    wording: Wording = BY_RULES,
) -> DescribeReport:
    """Writes the dialogues about all images of a corpus.

    Args:
        source: a corpus of images, as `vision` reads it.
        out: a new `.jsonl` file. Images that do not lie in its folder or below are copied beside it.
        seed: of what is asked about which image, in which words.
        limit: only so many images of each split.
        max_broken: share of the rows that may be set aside.
        wording: what labels are called.

    Raises:
        UsageError: the built-in world, or a place that cannot be written.
        DataError: no such corpus, too many rows that cannot be used, or nothing to say.
        DiskFull: no space left; nothing of the file is there.
    """
    if tinyworld_seed(source) is not None:
        fix = f"write its dialogues: omnictl data export --kind dialogues --data {source} --out {out.with_suffix('')}"
        raise UsageError("TinyWorld has dialogues of its own, with more to ask about", where="IMAGES", fix=fix)
    check_place(out, source_path(source))
    corpus = ImageFiles(find_images(source_path(source)), ImageDataConfig(source=source), cache_dir())
    contents = read_contents(corpus, seed)
    _refuse_too_many(contents, source, max_broken)
    attributes = _attributes(contents, wording, source)
    notes = list(_notes(attributes, contents))
    images = {split: list(islice(contents.images[split], limit)) for split in SPLITS}
    compared = [name for name, attribute in attributes.items() if is_compared(attribute)]
    similar = compare_labels(attributes, mean_looks(contents.images["train"], compared))
    report = DescribeReport({}, {}, 0, contents.set_aside, notes)
    with new_dialogues_file(out, Path(corpus.name), (image for split in SPLITS for image in images[split])) as file:
        return _write_all(file, images, {split: SplitDialogues(attributes, similar, seed) for split in SPLITS}, report)


def _write_all(
    file: DialoguesFile,
    images: Mapping[Split, Sequence[ImageContent]],
    dialogues_of: Mapping[Split, SplitDialogues],
    report: DescribeReport,
) -> DescribeReport:
    """Write all dialogues; the report with what was written."""
    counts: Counter[tuple[str, Split]] = Counter()
    sizes: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    notes = list(report.notes)
    for split, split_dialogues in dialogues_of.items():
        for image in log_progress(images[split], f"describing {split} images", len(images[split])):
            dialogues = list(split_dialogues.about(image))
            file.write(dialogues, image)
            counts.update((dialogue.task, split) for dialogue in dialogues)
            sizes[split] += bool(dialogues)
        notes += _unbalanced(split_dialogues.num_unbalanced, split)
    tasks = {task: {split: counts[task, split] for split in SPLITS} for task in dict.fromkeys(task for task, _ in counts)}
    return report._replace(tasks=tasks, images=sizes, num_copied=file.num_copied, notes=notes)


def read_names(file: Path) -> dict[str, str]:
    """What labels are called: an object of labels and their words.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    fix = 'write an object of labels and their words: {"n01440764": "tench", "fries": "french fries"}'
    try:
        names = json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read names of labels from {file}: {reason}", where=str(file), fix=fix) from error
    if not isinstance(names, dict) or not all(isinstance(name, str) and name.strip() for name in names.values()):
        raise DataError(f"{file} is not an object of labels and words", where=str(file), fix=fix)
    return {label: " ".join(name.split()) for label, name in names.items()}


def _refuse_too_many(contents: CorpusContents, source: str, allowed: float) -> None:
    broken = contents.set_aside
    if not contents.images["train"] or len(broken) > allowed * contents.num_rows:
        left = "" if contents.images["train"] else "; no image of the training split is left"
        message = f"{len(broken)} of {contents.num_rows} rows cannot be used, allowed are {allowed:.0%}{left}"
        fix = f"see all of them with `omnictl data check {shlex.quote(source)}`; mend or remove them, or --max-broken 1"
        raise DataError("\n".join([f"{message}:", format_rows(broken)]), where=source, fix=fix)


def _attributes(contents: CorpusContents, wording: Wording, source: str) -> dict[str, Attribute]:
    values = contents.values
    known = {value for some in values.values() for value in some}
    unknown = next((label for label in wording.names if label not in known), None)
    if unknown is not None:
        close = nearest(unknown, sorted(known))
        fix = f"did you mean {close!r}?" if close else f"see the labels with `omnictl data stats {shlex.quote(source)}`"
        raise DataError(f"no training image has the label {unknown!r}", where="--names", fix=fix)
    if wording.label_name is not None and CLASS not in values:
        found = f"its labels are called {', '.join(values)}" if values else "it has no labels"
        raise UsageError(f"{source} has no labels without a name: {found}", where="--label-name", fix="leave --label-name out")
    return {name: Attribute(name, values[name], wording.label_name, wording.names) for name in values}


def _notes(attributes: Mapping[str, Attribute], contents: CorpusContents) -> Iterator[str]:
    for name, attribute in attributes.items():
        if not attribute.is_varied:
            yield f"{name} has one value alone, {next(iter(attribute.phrases))!r}: no yes or no questions are asked about it"
        codes = [label for label, phrase in attribute.phrases.items() if is_code(phrase.words)]
        if codes:
            yield f"{len(codes):,} values of {name} are not words, such as {codes[0]!r}: say what they are called with --names FILE"
        if attribute.is_guess:
            plurals = f"most labels have a plural in them and are taken for groups (“What is the {GROUP}?”)"
            yield f"{plurals}: say what they are with --label-name"
    if attributes and not any(is_compared(attribute) or attribute.form == "truth" for attribute in attributes.values()):
        yield "no attribute has two values: there are no yes or no questions"
    images = [image for split in SPLITS for image in contents.images[split]]
    lacking = {"labels": sum(not image.labels for image in images), "captions": sum(not image.captions for image in images)}
    for kind, number in lacking.items():
        if 0 < number < len(images):
            yield f"{number:,} of {len(images):,} images have no {kind}, and no questions that need them"


def _unbalanced(count: int, split: Split) -> Iterator[str]:
    if count:
        yield (
            f"{count:,} images of the {split} split have no yes or no question: of their labels there are so many that the "
            "question would tell the answer"
        )
