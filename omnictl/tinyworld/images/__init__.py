"""TinyWorld's images: what they show, and drawing it."""
