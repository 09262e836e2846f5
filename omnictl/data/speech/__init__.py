"""Speech: corpora of utterances, log-mels, crops, codes and batches."""
