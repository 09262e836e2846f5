"""Dialogues about images and recordings: corpora, ChatML and batches."""
