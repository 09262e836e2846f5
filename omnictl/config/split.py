"""The splits of a corpus."""

from typing import Literal

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
