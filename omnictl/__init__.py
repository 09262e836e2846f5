"""Train a whole small omni model, every weight from scratch, on one small GPU or a laptop."""

__version__ = "0.1.0"
