"""From an image to what it shows, with the model of a `vision` run."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from omnictl.data.images.augmentation import prepare
from omnictl.data.images.file_corpus import FINER
from omnictl.data.images.files.decoder import read_image
from omnictl.errors import UsageError
from omnictl.runs.run import Run
from omnictl.stages.protocol import open_trained
from omnictl.stages.vision import Vision

Float32 = NDArray[np.float32]


class Guess(NamedTuple):
    """A value of an attribute and how likely it seems."""

    value: str
    probability: float


def open_classifier(run: Run, device: torch.device, cache: Path) -> Vision:
    """A run's best model in fp32; the images that it learned from may be gone.

    Raises:
        CheckpointError: the run has no whole model yet.
    """
    return open_trained(Vision, run, device=device, cache=cache)


def classify_file(path: Path, vision: Vision, *, captions: Sequence[str] = (), most: int = 3) -> dict[str, list[Guess]]:
    """The likeliest values of each attribute of an image, likeliest first.

    Args:
        path: an image file.
        vision: the model.
        captions: what to choose from, of a contrastive model; none: the classes of its data.
        most: so many values of each attribute.

    Raises:
        DataError: it cannot be read.
        UsageError: captions for a model that reads none, or none for one that knows no classes.
    """
    size = vision.view.size
    image = prepare(read_image(path, shorter=FINER * size), size, crop=1.0)
    if vision.reader is not None:
        name, values, prompts = _choices(vision, captions)
        with torch.no_grad():
            placed = vision.reader.place(image[None]).float().cpu().numpy()
        return {name: _likeliest(values, vision.reader.match(placed, prompts)[0], most)}
    if captions:
        raise UsageError(
            "this model names the classes it was trained on and reads no captions",
            where="--caption",
            fix="leave --caption out, or train with --set objective=contrastive",
        )
    named = vision.name_image(image)
    return {name: _likeliest(vision.image_labels.attributes[name], shares, most) for name, shares in named.items()}


def _choices(vision: Vision, captions: Sequence[str]) -> tuple[str, Sequence[str], Sequence[Sequence[str]]]:
    """What to choose among, what that is called, and what captions say of each."""
    if captions:
        return "caption", captions, [(caption,) for caption in captions]
    if not vision.image_labels.attributes:
        raise UsageError(
            "this model knows captions and no classes",
            where="--caption",
            fix="say what to choose from: --caption 'a cat' --caption 'a dog'",
        )
    return "class", vision.image_labels.classes.names, vision.prompts()


def _likeliest(values: Sequence[str], shares: Float32, most: int) -> list[Guess]:
    return [Guess(values[index], float(shares[index])) for index in np.argsort(-shares, kind="stable")[:most]]
