"""An omni model as ONNX graphs: what is traced, what is written, and whether it agrees."""
