"""Pictures: files, corpora, labels, augmentation and batches."""
