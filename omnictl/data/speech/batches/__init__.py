"""Batches of speech: whole utterances, their codes, crops of them; and the order by length that they come in."""
