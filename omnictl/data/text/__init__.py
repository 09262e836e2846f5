"""Texts: files, corpora, tokenizer, token store, packing and batches."""
