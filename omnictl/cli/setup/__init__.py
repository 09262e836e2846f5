"""Commands that look at settings and data."""
