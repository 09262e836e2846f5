"""Using trained models: chat, transcripts, speech, labels."""
