"""Image files: what their headers say, their pixels, and a check of all of them before training."""
