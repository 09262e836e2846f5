"""What TinyWorld's texts are written in: the grammar, the words and the marks of a dialogue."""
