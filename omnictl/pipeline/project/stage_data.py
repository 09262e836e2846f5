"""Whether a stage can be trained on data, as far as its rows tell: no image or recording is opened, and no text read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.images.layouts import find_images
from omnictl.data.inspect.findings import Kind
from omnictl.data.manifest.quarantine import refuse_too_many
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.transcripts.targets import TargetKind, choose_spelling
from omnictl.data.text.files import find_text_files
from omnictl.errors import DataError, OmniError

KINDS: Mapping[str, Kind] = {"pretrain": "text", "asr": "speech", "vision": "images", "talker": "speech", "sft": "dialogues"}
"""What each stage is trained on."""

_READERS: Mapping[Kind, Callable[[Path], Any]] = {
    "text": find_text_files,
    "speech": find_speech,
    "images": find_images,
    "dialogues": read_dialogues,
}


def find_data_flaw(stage: str, path: Path, *, max_broken: float = 0.05, targets: TargetKind = "characters") -> str | None:
    """Why a stage would refuse data, with the fix; None if nothing speaks against it.

    Args:
        stage: of a pipeline.
        path: of the data.
        max_broken: share of the rows that may be set aside.
        targets: what transcripts are spelled in.
    """
    kind = KINDS[stage]
    try:
        rows = _READERS[kind](path)
        if kind == "text":
            _check_names(rows, path)
        else:
            _check_rows(kind, rows, path, max_broken, targets)
    except OmniError as error:
        return f"{error.message}; {error.fix}"
    except OSError as error:
        return f"{error.filename or path}: {error.strerror}; make it readable for this user"
    if kind == "text":
        return None
    sizes = fill_splits(rows.rows)
    empty = [name for name in ("train", "val") if not sizes[name]]
    return f"the {' and '.join(empty)} split of {path} is empty; add rows that belong there" if empty else None


def _check_names(files: Sequence[Path], path: Path) -> None:
    """Refuse texts whose names leave none to train on.

    Raises:
        DataError: all of them are called after other splits.
    """
    splits = {split_of_path(file, path) for file in files} if path.is_dir() else {None}
    if splits.isdisjoint({None, "train"}):
        example = f"{files[0].name} is the {split_of_path(files[0], path)} split by its name"
        fix = "rename it, name the file itself instead of its folder, or give more text"
        raise DataError(f"nothing of {path} is left to train on: {example}", where=str(path), fix=fix)


def _check_rows(kind: Kind, manifest: Any, path: Path, max_broken: float, targets: TargetKind) -> None:
    """Refuse rows of which too many are broken, or have transcripts that cannot be spelled.

    Raises:
        DataError: there are too many.
    """
    broken = list(manifest.broken)
    if kind == "speech":
        spelling = choose_spelling(targets, (row.text for row in manifest.rows if row.split in (None, "train")))
        flaws = ((row, spelling.find_flaw(row.text)) for row in manifest.rows)
        broken += [BrokenRow(row.id, row.where, flaw) for row, flaw in flaws if flaw is not None]
    total = len(manifest.rows) + len(manifest.broken)
    refuse_too_many(broken, usable=total - len(broken), allowed=max_broken, source=str(path))
