"""The models themselves: plain modules from tensors to tensors, each with its config beside it."""
