"""Commands that train, and what they will take."""
