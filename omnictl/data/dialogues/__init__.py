"""Dialogues about pictures and sounds: corpora, ChatML and batches."""
