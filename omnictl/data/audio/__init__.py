"""Sounds: files, their rates, log-mels and crops of them."""
