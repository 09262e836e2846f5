"""Audio files: what their containers claim, their samples, other sample rates."""
