"""Transcripts, text as it is read aloud, and the ids that stand for both."""
