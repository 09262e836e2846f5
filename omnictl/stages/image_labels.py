"""What a vision model can name, as its model folder keeps it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import TypeAdapter, ValidationError

from omnictl.errors import CheckpointError, ConfigError
from omnictl.evaluation.vision import Classes
from omnictl.runs.model_folder import read_description

_ATTRIBUTES: TypeAdapter[Mapping[str, tuple[str, ...]]] = TypeAdapter(Mapping[str, tuple[str, ...]])
_UNSEEN: TypeAdapter[frozenset[tuple[str, ...]]] = TypeAdapter(frozenset[tuple[str, ...]])
_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


class ImageLabels(NamedTuple):
    """What a model can name, fixed when it is made."""

    attributes: Mapping[str, tuple[str, ...]]
    patch_attributes: Mapping[str, tuple[str, ...]]
    classes: Classes
    source: str
    """Of the images, which says how captions speak of a class."""

    @classmethod
    def read(cls, folder: Path, stage: str, source: str) -> Self:
        """Those of a model folder.

        Raises:
            CheckpointError: it gives none, or something else.
        """
        described = read_description(folder, stage)
        try:
            attributes, patches = (_ATTRIBUTES.validate_python(described.get(key)) for key in ("attributes", "patch_attributes"))
            unseen, top1 = _UNSEEN.validate_python(described.get("unseen")), _NAMES.validate_python(described.get("top1"))
            return cls(attributes, patches, Classes.of(attributes, top1, unseen), source)
        except (ValidationError, ConfigError) as error:
            raise CheckpointError(
                f"{folder}/config.json does not say what the model names: {str(error)[:300]}",
                where=f"{folder}/config.json",
                fix="restore the file from where it came, or choose another run",
            ) from error

    def fields(self) -> dict[str, object]:
        """What a model folder keeps of them."""
        return {
            "attributes": self.attributes,
            "patch_attributes": self.patch_attributes,
            "top1": self.classes.attributes,
            "unseen": sorted(self.classes.unseen),
        }

    def name_the_same(self, other: "ImageLabels") -> bool:
        """Whether heads for these are heads for those."""
        return (self.attributes, self.patch_attributes) == (other.attributes, other.patch_attributes)
