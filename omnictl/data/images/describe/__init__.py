"""Dialogues about images, made of their labels and captions by templates."""
