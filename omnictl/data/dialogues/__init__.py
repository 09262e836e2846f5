"""Dialogues about images and sounds: corpora, ChatML and batches."""
