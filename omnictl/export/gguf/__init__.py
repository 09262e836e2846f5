"""The Thinker as a GGUF file, and its numbers in four bits each."""
