"""One file that says what all stages are trained on: reading it, and writing one for a folder of data."""
