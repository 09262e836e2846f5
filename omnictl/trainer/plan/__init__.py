"""What is decided before and during a training from what it takes: micro-batches, number format, steps."""
