"""How well images were classified: rates over a split, with a control; and the worst mistakes, for people to look at.

A class is a combination of the values of the attributes that `top1` wants right; its probability is the product of theirs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.data.images.batches import UNKNOWN
from omnictl.data.images.corpus import MOST_CLASSES, ImageRecord, Pixels
from omnictl.errors import ConfigError
from omnictl.metrics.classification import calibration, commonest_share, confusion_matrix, per_class, top_k
from omnictl.metrics.figures import Tile, calibration_image, confusion_image, contact_sheet
from omnictl.metrics.intervals import Estimate, certain, error_rate, rate_from
from omnictl.metrics.shuffled_control import shuffled_inputs
from omnictl.trainer.stage import Report

WORST_IMAGES = 36

SAMPLES = 6
"""Images of each validation whose prediction is kept."""

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Classes(NamedTuple):
    """All combinations of the values of some attributes."""

    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    unseen: frozenset[tuple[str, ...]]
    """Combinations that training never shows."""

    @classmethod
    def of(cls, attributes: Mapping[str, tuple[str, ...]], top1: Sequence[str], unseen: frozenset[tuple[str, ...]]) -> "Classes":
        """The combinations of the attributes named.

        Raises:
            ConfigError: there is no such attribute, or too many combinations.
        """
        fix = f"choose from {', '.join(attributes)}: --set data.top1={json.dumps(list(attributes)[:1])}"
        if missing := [name for name in top1 if name not in attributes]:
            raise ConfigError(f"there is no attribute {missing[0]!r}", where="data.top1", fix=fix)
        num_classes = prod(len(attributes[name]) for name in top1)
        if num_classes > MOST_CLASSES:
            raise ConfigError(
                f"{num_classes:,} combinations of {', '.join(top1)} are too many for top1", where="data.top1", fix=fix
            )
        return cls(tuple(top1), tuple(product(*(attributes[name] for name in top1))), unseen)

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each of them."""
        return tuple(" ".join(reversed(values)) for values in self.values)

    def number(self, labels: Mapping[str, str]) -> int:
        """The class of an image, -1 if one of the attributes is not known."""
        values = tuple(labels.get(name, "") for name in self.attributes)
        return self.values.index(values) if values in self.values else -1

    def is_unseen(self, number: int) -> bool:
        """Whether training never shows this class."""
        return number >= 0 and self.values[number] in self.unseen


class ClassificationResult(NamedTuple):
    """Images and how likely each class seemed."""

    rows: Sequence[ImageRecord]
    probabilities: Float32  # (N, C)
    targets: Int64  # (N,), -1 where it is not known


class ImagePredictions(NamedTuple):
    """A split as the heads named it."""

    classified: ClassificationResult
    probabilities: list[Float32]  # of each attribute, (N, V)
    labels: Int64  # (N, A)
    patches: Int64  # (N, P, A'), what each patch seemed to show
    shows: Int64  # (N, P, A'), what it does show
    loss: float


def joint(probabilities: Sequence[Float32]) -> Float32:
    """`(N, V1 × V2 …)` probabilities of combinations, from those `(N, V)` of each attribute, the last one changing fastest."""
    combined = probabilities[0]
    for other in probabilities[1:]:
        combined = (combined[:, :, None] * other[:, None, :]).reshape(len(other), -1)
    return combined


def class_rates(results: ClassificationResult, classes: Classes) -> dict[str, float]:
    """`top1` and `top5`; where some classes are new and some are not, these are of the known ones, and the new apart."""
    reported, unseen = _numbers(results, classes)
    rates = {f"top{k}": top_k(results.probabilities[reported], results.targets[reported], k) for k in (1, 5)}
    return (
        rates | {"top1_heldout_pairs": top_k(results.probabilities[unseen], results.targets[unseen], 1)} if unseen.any() else rates
    )


def class_estimates(results: ClassificationResult, classes: Classes) -> dict[str, Estimate]:
    """As `class_rates`, with intervals, those of a first guess compared with shuffled images or with chance."""
    reported, unseen = _numbers(results, classes)
    shuffled, floor = _controls(results)
    estimates = {}
    for name, value in class_rates(results, classes).items():
        estimate = rate_from(value, int((unseen if name == "top1_heldout_pairs" else reported).sum()))
        estimates[name] = estimate if name == "top5" else compared_with_chance(estimate, shuffled, floor)
    return estimates


def compared_with_chance(estimate: Estimate, shuffled: Estimate, floor: Estimate, name: str = "top1_shuffled") -> Estimate:
    """An estimate, to be compared with shuffled images, or with what needs no image if that is more often right."""
    if floor.value > shuffled.value:
        return estimate.against(f"{name}_floor", floor, "higher")
    return estimate.against(name, shuffled, "higher")


def _controls(results: ClassificationResult) -> tuple[Estimate, Estimate]:
    """How often the first guess is right with the images shuffled, and the commonest class without any."""
    num_labelled = int((results.targets >= 0).sum())
    shuffled = results.probabilities[shuffled_inputs(len(results.targets), seed=0)]
    return rate_from(top_k(shuffled, results.targets, 1), num_labelled), certain(commonest_share(results.targets), num_labelled)


def _numbers(results: ClassificationResult, classes: Classes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`(N,)` which images `class_rates` is of, and which show classes that training never does."""
    unseen = np.array([classes.is_unseen(int(target)) for target in results.targets])
    familiar = ~unseen & (results.targets >= 0)
    return (familiar if familiar.any() else unseen), unseen


def patch_rates(patches: Int64, truth: Int64) -> dict[str, float]:
    """Shares of patches `(N, P, A)` all of whose attributes are right: of those that show something, and of the background's."""
    if not truth.size:
        return {}
    right, covered = (patches == truth).all(-1), truth.any(-1)
    return {"patch_accuracy": float(right[covered].mean()), "patch_accuracy_background": float(right[~covered].mean())}


def patch_estimates(patches: Int64, truth: Int64) -> dict[str, Estimate]:
    """As `patch_rates`, with intervals over images."""
    if not truth.size:
        return {}
    right, covered = (patches == truth).all(-1), truth.any(-1)
    return {
        "patch_accuracy": error_rate((right & covered).sum(1), covered.sum(1)),
        "patch_accuracy_background": error_rate((right & ~covered).sum(1), (~covered).sum(1)),
    }


def named_rates(judged: ImagePredictions, classes: Classes, names: Sequence[str]) -> dict[str, float]:
    """The metrics of a split whose attributes, `names`, and patches were named by heads."""
    metrics = class_rates(judged.classified, classes)
    for name, probabilities, numbers in zip(names, judged.probabilities, judged.labels.T, strict=True):
        if (numbers != UNKNOWN).any():
            metrics[f"accuracy_{name}"] = top_k(probabilities, numbers, 1)
    return metrics | patch_rates(judged.patches, judged.shows) | {"loss": judged.loss}


def validation_report(judged: ImagePredictions, classes: Classes, names: Sequence[str], images: Sequence[Pixels]) -> Report:
    """The report of a validation: rates, and what the first images seem to show.

    Args:
        judged: the whole split.
        classes: of `top1`.
        names: of the attributes.
        images: the first few of the split.
    """
    likeliest = judged.classified.probabilities.argmax(-1)
    samples = []
    for number, target in enumerate(judged.classified.targets[: len(images)].tolist()):
        sample = {"image": f"{number}.png", "prediction": classes.names[int(likeliest[number])]}
        samples.append(sample | ({"reference": classes.names[target]} if target >= 0 else {}))
    return Report(
        "top1",
        "higher",
        named_rates(judged, classes, names),
        len(judged.classified.targets),
        predictions=samples,
        images={
            f"{number}.png": contact_sheet([Tile(image.transpose(1, 2, 0), ())], columns=1) for number, image in enumerate(images)
        },
    )


def attribute_estimates(judged: ImagePredictions, names: Sequence[str]) -> dict[str, Estimate]:
    """How often each attribute is right, compared with always naming its commonest value."""
    estimates = {}
    for name, probabilities, numbers in zip(names, judged.probabilities, judged.labels.T, strict=True):
        known = int((numbers != UNKNOWN).sum())
        if known:
            commonest = certain(commonest_share(numbers), known)
            right = rate_from(top_k(probabilities, numbers, 1), known)
            estimates[f"accuracy_{name}"] = right.against(f"accuracy_{name}_commonest", commonest, "higher")
    return estimates


def classification_report(
    results: ClassificationResult,
    classes: Classes,
    metrics: Mapping[str, float],
    show: Callable[[int], Pixels],
    further: Mapping[str, Estimate],
) -> Report:
    """The report of a split: `metrics`, the control with the images shuffled, every prediction, each class, the worst mistakes.

    Args:
        results: the images and what they were taken for.
        classes: the classes.
        metrics: what was measured, the headline among it.
        show: `(3, S, S)` pixels of an image by its place in `results`.
        further: estimates of what was measured beside the classes.
    """
    best = results.probabilities.argmax(1)
    matrix = confusion_matrix(best, results.targets, len(classes.values))
    correct = best == results.targets
    calibrated = calibration(results.probabilities.max(1)[results.targets >= 0], correct[results.targets >= 0])
    shuffled, floor = _controls(results)
    names = classes.names
    rates = zip(names, per_class(matrix), strict=True)
    return Report(
        "top1",
        "higher",
        {**metrics, "calibration_error": calibrated.error},
        len(results.rows),
        controls={"top1_shuffled": shuffled.value, "top1_shuffled_floor": floor.value},
        predictions=[_prediction(*each, names) for each in zip(results.rows, results.probabilities, results.targets, strict=True)],
        groups={
            name: {"top1": each.accuracy, "precision": each.precision, "pictures": each.count} for name, each in rates if each.count
        },
        images={
            "confusion.png": confusion_image(matrix, names),
            "calibration.png": calibration_image(calibrated),
            "worst.png": contact_sheet(_worst(results, names, show)),
        },
        estimates={**class_estimates(results, classes), **further},
    )


def _prediction(row: ImageRecord, probabilities: Float32, target: int, names: Sequence[str]) -> dict[str, object]:
    best = int(probabilities.argmax())
    line: dict[str, object] = {
        "id": row.id,
        "task": "classify",
        "reference": names[target] if target >= 0 else None,
        "prediction": names[best],
        "probability": round(float(probabilities[best]), 4),
    }
    if row.image is not None:
        line["image"] = str(row.image)
    return line


def _worst(results: ClassificationResult, names: Sequence[str], show: Callable[[int], Pixels]) -> list[Tile]:
    """The mistakes that the model was surest of; the images it was least sure of if it made none."""
    best, confidence = results.probabilities.argmax(1), results.probabilities.max(1)
    labelled = np.flatnonzero(results.targets >= 0)
    wrong = labelled[best[labelled] != results.targets[labelled]]
    order = (
        wrong[np.argsort(-confidence[wrong], kind="stable")]
        if len(wrong)
        else labelled[np.argsort(confidence[labelled], kind="stable")]
    )
    return [
        Tile(
            show(int(index)).transpose(1, 2, 0),
            (f"{names[best[index]]} {confidence[index]:.2f}", f"is {names[results.targets[index]]}", results.rows[index].id),
        )
        for index in order[:WORST_IMAGES]
    ]
