"""Corpora whose media lie inside of other files, and what becomes of them in the cache."""
