"""Data: text corpora, their tokenizer, the token store, and batches in a reproducible order."""
