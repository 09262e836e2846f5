"""The Thinker as a Hugging Face folder, and its low-rank updates apart from it."""
