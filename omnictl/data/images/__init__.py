"""Images: files, corpora, labels, augmentation and batches."""
