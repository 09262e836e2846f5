"""TinyWorld's speech: who says what, the synthesiser, rooms and microphones."""
