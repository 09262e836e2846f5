"""Utterances: corpora of speech, what is said in them, and batches."""
