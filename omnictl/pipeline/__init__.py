"""Stages trained one after the other."""
