"""What TinyWorld's texts are about, one module a topic."""
