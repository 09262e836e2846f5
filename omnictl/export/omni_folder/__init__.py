"""An omni model for `transformers`: what writes and compares it, and the modelling code that it carries with it."""
