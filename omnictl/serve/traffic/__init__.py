"""What comes in and goes out over HTTP: who may ask, how much, in which order, and the answers."""
