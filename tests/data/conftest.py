"""Nothing of its own: that it lies here lets the tests of the folders below import `audio_files`, `corpus_files` and the like."""
