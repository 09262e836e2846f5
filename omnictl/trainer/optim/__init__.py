"""Gradient, optimizers and learning rate."""
