"""Judging trained models, planning what training will take, and timing this machine."""
