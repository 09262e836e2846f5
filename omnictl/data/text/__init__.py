"""Text: files, corpora, tokenizer, token store, packing, batches; transcripts and what stands for them."""
