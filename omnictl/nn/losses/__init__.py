"""Losses, each a sum and a count."""
