"""Text: files, corpora, tokenizer, token store, packing, batches."""
