"""Trained models in the formats of other programs, each compared with its run before it is called done."""

from typing import Literal

Target = Literal["hf", "lora", "gguf", "onnx", "folder"]
"""What `--to` takes."""

Quantisation = Literal["f32", "f16", "q8_0", "q4_0", "q4_k"]
"""Number formats of GGUF."""
