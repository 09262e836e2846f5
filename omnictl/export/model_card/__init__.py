"""The README.md of an export: what the model is, what it was made from, how to use it, and its numbers."""
