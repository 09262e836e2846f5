"""Several processes: their exchange, and weights that are held in slices."""
