"""Rows of manifests, in whatever layout a corpus has, checked and divided into splits."""
