"""TinyWorld's documents and lessons."""
